"""Schemes side by side on the same drops: sum rate, share of the dirty-paper capacity, feasibility, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.files.blocks import Block
from nflae_bridge.studies.cluster import ClusterLost, run_units
from simulator.downlink.budget import LinkBudget
from simulator.downlink.capacity import dirty_paper_capacity
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import ChannelBatch, Scheme

OPTIMISER = "optimiser"
# A block this large shows the cost of a drop in batch; a larger one would only make the waiting longer.
BLOCK_DROPS = 256
_REPEATS = 5


@dataclass(frozen=True)
class Comparison:
    """Who competes under what rules: all that a worker has to know beside the channels.

    schemes: by name. optimiser: also the per-drop optimiser, too slow to be timed.
    model, device, refine: see `engine.load_scheme`; the model labels the users, whichever schemes compete.
    """

    schemes: tuple[str, ...]
    optimiser: bool
    model: str
    device: str
    refine: int
    budget: LinkBudget

    def engine(self) -> Engine:
        """The network. Raises NflaeError if its model or the device can't be had."""
        return _engine(self.model, self.device, self.refine)

    def schemes_by_name(self) -> dict[str, Scheme]:
        """Every scheme by its name, the optimiser last."""
        chosen = {name: self.engine() if name == "nflae" else load_scheme(name) for name in self.schemes}
        return {**chosen, OPTIMISER: optimise} if self.optimiser else chosen


@dataclass(frozen=True)
class BlockScore:
    """What came out on one block: of its drops, of its good drops and of each scheme.

    capacity: bps/Hz a good drop. sum_rates: the same by scheme. infeasible, fallback: counts by scheme.
    """

    drops: int
    skipped: int
    users: int
    near_users: int
    capacity: list[float]
    sum_rates: dict[str, list[float]]
    infeasible: dict[str, int]
    fallback: dict[str, int]


@dataclass(frozen=True)
class Score:
    """A scheme on all drops. mean_sum_rate: bps/Hz. infeasible, fallback: shares of the drops.

    seconds_a_drop: median of five runs on a block after one to warm up; None if it was not timed.
    """

    scheme: str
    mean_sum_rate: float
    infeasible: float
    fallback: float
    seconds_per_drop: float | None


@dataclass(frozen=True)
class Evaluation:
    """scores: by rising mean sum rate. capacity: mean dirty-paper capacity under C1 alone, bps/Hz.

    drops, skipped: all of them, and the bad among them. timed_drops: size of the block timed.
    lost: why these are not all the drops asked for, None if they are.
    """

    scores: list[Score]
    capacity: float
    drops: int
    skipped: int
    near_field_share: float
    timed_drops: int
    lost: ClusterLost | None = None


def evaluate(
    blocks: Iterable[Block], comparison: Comparison, advance: Callable[[int, str], None], cluster: str | None = None
) -> Evaluation:
    """Run every scheme on every drop, all with the near-field labels of one network, so that C3 is the same.

    blocks: see `pipeline.blocks`; the units of work on a ``cluster`` (see `cluster.run_units`). The times are taken
    here, whoever did the rest. advance(done, note): after each block, and here after each scheme.

    A cluster that is lost half-way leaves the figures of the blocks it gave, see `Evaluation.lost`.
    Raises NflaeError if no drop is good or an answer is not finite, and `ClusterLost` if there is not one block.
    """
    done, scored, lost = 0, {}, None
    timed: list[ChannelBatch] = []

    def seen() -> Iterator[Block]:
        for block in blocks:
            if not timed and block.good.any():
                channels = torch.from_numpy(block.channels[:BLOCK_DROPS])
                timed.append(ChannelBatch(channels.to(choose_device(comparison.device))))
            yield block

    note = (lambda name: advance(done, name)) if cluster is None else None
    try:
        with closing(run_units(partial(score_block, comparison, note=note), seen(), cluster)) as outcomes:
            for index, score in outcomes:
                scored[index] = score
                done += score.drops
                advance(done, "")
    except ClusterLost as error:
        if not scored:
            raise
        lost = error
    scores = [scored[index] for index in sorted(scored)]
    skipped = sum(score.skipped for score in scores)
    if skipped == done or not timed:
        raise NflaeError("no drop of the file can be precoded for: every one is bad")
    seconds = _times(comparison, timed[0], lambda name: advance(done, f"timing {name}"))
    return Evaluation(
        sorted(
            (_total(name, scores, seconds.get(name)) for name in comparison.schemes_by_name()),
            key=lambda score: score.mean_sum_rate,
        ),
        statistics.fmean(value for score in scores for value in score.capacity),
        done,
        skipped,
        sum(score.near_users for score in scores) / sum(score.users for score in scores),
        len(timed[0].channels),
        lost,
    )


def score_block(comparison: Comparison, block: Block, note: Callable[[str], None] | None = None) -> BlockScore:
    """Every scheme on one block. note(name): before each scheme."""
    good = len(block.channels)
    rates: dict[str, list[float]] = {}
    infeasible, fallback = {}, {}
    capacity: list[float] = []
    users = near_users = 0
    if good:
        channels = torch.from_numpy(block.channels).to(choose_device(comparison.device))
        near = comparison.engine().near_field(channels)
        users, near_users = near.numel(), int(near.sum())
        capacity = dirty_paper_capacity(channels, comparison.budget).tolist()
        for name, scheme in comparison.schemes_by_name().items():
            if note is not None:
                note(name)
            answer = scheme(ChannelBatch(channels, near), comparison.budget)
            rates[name] = answer.sum_rate.tolist()
            infeasible[name] = int((~answer.feasible).sum())
            fallback[name] = int(answer.fallback.sum())
    drops = len(block.good)
    return BlockScore(drops, drops - good, users, near_users, capacity, rates, infeasible, fallback)


def _total(name: str, scores: list[BlockScore], seconds: float | None) -> Score:
    rates = [rate for score in scores for rate in score.sum_rates.get(name, [])]
    if not np.isfinite(rates).all():
        raise NflaeError(f"{name}: the rates are not finite numbers; are the channels scaled beyond reason?")
    infeasible = sum(score.infeasible.get(name, 0) for score in scores)
    fallback = sum(score.fallback.get(name, 0) for score in scores)
    return Score(name, statistics.fmean(rates), infeasible / len(rates), fallback / len(rates), seconds)


def _times(comparison: Comparison, batch: ChannelBatch, note: Callable[[str], None]) -> dict[str, float]:
    """`seconds_per_drop` by scheme, of all but the optimiser."""
    labelled = ChannelBatch(batch.channels, comparison.engine().near_field(batch.channels))
    seconds = {}
    for name, scheme in comparison.schemes_by_name().items():
        if name != OPTIMISER:
            note(name)
            seconds[name] = seconds_per_drop(scheme, labelled, comparison.budget)
    return seconds


@lru_cache(maxsize=1)
def _engine(model: str, device: str, refine: int) -> Engine:
    """A worker loads its network once."""
    engine = load_scheme("nflae", model, device, refine)
    assert isinstance(engine, Engine)
    return engine


def seconds_per_drop(scheme: Scheme, batch: ChannelBatch, budget: LinkBudget) -> float:
    """Median time of five runs on the batch after one to warm up, divided by its drops; s."""

    def run() -> float:
        _wait(batch.channels.device)
        began = time.perf_counter()
        scheme(batch, budget)
        _wait(batch.channels.device)
        return time.perf_counter() - began

    run()
    return statistics.median(run() for _ in range(_REPEATS)) / len(batch.channels)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
