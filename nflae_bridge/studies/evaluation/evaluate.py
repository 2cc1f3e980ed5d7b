"""Compare schemes on the same drops: objective, fraction of the dirty-paper capacity, feasibility, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.files.blocks import Block
from nflae_bridge.studies.cluster import ClusterLost, run_units
from nflae_bridge.studies.evaluation.comparison import OPTIMISER, Comparison
from nflae_bridge.studies.evaluation.scores import Evaluation, Score
from nflae_bridge.studies.evaluation.scoring import BlockScore, labelled_drops, scheme_of_block, score_block
from nflae_bridge.studies.intervals import mean_interval
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme

_REPEATS = 5


def evaluate(
    blocks: Iterable[Block],
    comparison: Comparison,
    advance: Callable[[int, str], None],
    cluster: str | None = None,
    timed: bool = True,
) -> Evaluation:
    """Solve the same problem by every scheme on every drop, with the same near-field labels, so that C3 is the same.

    Parameters
    ----------
    blocks
        See `nflae_bridge.files.blocks.blocks`; the units of work on a cluster.
    comparison
        Schemes and rules.
    advance
        Called with the number of drops done and a note, after each block and, without a cluster, after each scheme.
    cluster
        See `run_units`; times are always measured on this machine.
    timed
        Measure the times of the schemes.

    Returns
    -------
    Evaluation
        Of the blocks completed, if the cluster is lost meanwhile, see `Evaluation.lost`.

    Raises
    ------
    NflaeError
        If no drop is good or a rate is not finite.
    ClusterLost
        If the cluster is lost before the first block is complete.
    """
    done, scored, lost = 0, {}, None
    first: list[Block] = []

    def keep_first() -> Iterator[Block]:
        for block in blocks:
            if not first and block.good.any():
                first.append(_head(block, comparison.timed_drops))
            yield block

    note = (lambda name: advance(done, name)) if cluster is None else None
    try:
        with closing(run_units(partial(score_block, comparison, note=note), keep_first(), cluster)) as outcomes:
            for index, score in outcomes:
                scored[index] = score
                done += score.drops
                advance(done, "")
    except ClusterLost as error:
        if not scored:
            raise
        lost = error
    scores = [scored[index] for index in sorted(scored)]
    if not first or all(score.skipped == score.drops for score in scores):
        raise NflaeError("no drop of the file can be precoded: every one is bad")
    seconds = _times(comparison, first[0], lambda name: advance(done, f"timing {name}")) if timed else {}
    return _summarise(comparison, scores, seconds, len(first[0].channels), lost)


def _summarise(
    comparison: Comparison,
    scores: list[BlockScore],
    seconds: dict[str, float],
    timed_drops: int,
    lost: ClusterLost | None,
) -> Evaluation:
    totals = [_total(name, scores, seconds.get(name)) for name in comparison.schemes_by_name()]
    capacity = [value for score in scores for value in score.capacity]
    return Evaluation(
        scores=sorted(totals, key=lambda score: score.mean),
        capacity=statistics.fmean(capacity) if capacity else None,
        drops=sum(score.drops for score in scores),
        skipped=sum(score.skipped for score in scores),
        users=sum(score.users for score in scores) // sum(score.drops - score.skipped for score in scores),
        near_field_share=sum(score.near_users for score in scores) / sum(score.users for score in scores),
        timed_drops=timed_drops,
        blocks=scores,
        lost=lost,
    )


def _head(block: Block, drops: int) -> Block:
    """Return a block up to its good drop of a number."""
    good = block.good[: int(np.flatnonzero(block.good)[:drops][-1]) + 1]
    labels = None if block.near_field is None else block.near_field[:drops]
    return replace(block, good=good, channels=block.channels[:drops], near_field=labels, true_channels=None)


def _total(name: str, scores: list[BlockScore], seconds: float | None) -> Score:
    values = [value for score in scores for value in score.values.get(name, [])]
    if not np.isfinite(values).all():
        raise NflaeError(f"{name}: the rates are not finite numbers; are the channels scaled beyond reason?")
    infeasible, fallback = (
        sum(sum(getattr(score, flags).get(name, [])) for score in scores) / len(values)
        for flags in ("infeasible", "fallback")
    )
    violated, below = (sum(getattr(score, count).get(name, 0) for score in scores) for count in ("violated", "below"))
    of = mean_interval(values)
    return Score(name, of.mean, of.low, of.high, of.block, infeasible, fallback, violated, below, seconds)


def _times(comparison: Comparison, block: Block, note: Callable[[str], None]) -> dict[str, float]:
    """Measure `seconds_per_drop` of every scheme but the optimiser."""
    seconds, batch = {}, labelled_drops(comparison, block)
    for name, scheme in comparison.schemes_by_name().items():
        if name != OPTIMISER:
            note(name)
            seconds[name] = seconds_per_drop(scheme_of_block(scheme, block), batch, comparison.budget)
    return seconds


def seconds_per_drop(scheme: Scheme, batch: ChannelBatch, budget: LinkBudget) -> float:
    """Measure the time of a scheme in batch.

    Parameters
    ----------
    scheme
        The scheme.
    batch
        Channels, on the device of the scheme.
    budget
        Link budget.

    Returns
    -------
    float
        Median time of five runs after one to warm up, divided by the drops, s.
    """

    def run() -> float:
        _synchronise(batch.channels.device)
        began = time.perf_counter()
        scheme(batch, budget)
        _synchronise(batch.channels.device)
        return time.perf_counter() - began

    run()
    return statistics.median(run() for _ in range(_REPEATS)) / len(batch.channels)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
