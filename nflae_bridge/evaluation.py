"""Schemes side by side on the same drops: sum rate, share of the dirty-paper capacity, feasibility, time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from nflae_bridge.errors import NflaeError
from nflae_bridge.pipeline import Block
from simulator.capacity import dirty_paper_capacity
from simulator.link import ChannelBatch, LinkBudget
from simulator.precoding import Scheme

_REPEATS = 5
# A block this large shows the cost of a drop in batch; a larger one would only make the waiting longer.
_TIMED_DROPS = 256


@dataclass(frozen=True)
class Score:
    """A scheme on all drops. mean_sum_rate: bps/Hz. infeasible, fallback: shares of the drops.

    seconds_a_drop: median of five runs on a block after one to warm up; None if it was not timed.
    """

    scheme: str
    mean_sum_rate: float
    infeasible: float
    fallback: float
    seconds_a_drop: float | None


@dataclass(frozen=True)
class Evaluation:
    """scores: by rising mean sum rate. capacity: mean dirty-paper capacity under C1 alone, bps/Hz.

    drops, skipped: all of them, and the bad among them. timed_drops: size of the block timed.
    """

    scores: list[Score]
    capacity: float
    drops: int
    skipped: int
    near_field_share: float
    timed_drops: int


def evaluate(
    blocks: Iterable[Block],
    schemes: Mapping[str, Scheme],
    untimed: Mapping[str, Scheme],
    label: Callable[[torch.Tensor], torch.Tensor],
    budget: LinkBudget,
    device: torch.device,
    advance: Callable[[int, str], None],
) -> Evaluation:
    """Run every scheme on every drop, all with the near-field labels that ``label`` gives, so that C3 is the same.

    blocks: see `pipeline.blocks`. untimed: schemes too slow to run five times. advance(done, note): after each
    scheme and block. Raises NflaeError if no drop is good or an answer is not finite.
    """
    every = {**schemes, **untimed}
    sums: dict[str, list[float]] = {name: [] for name in every}
    infeasible, fallback = dict.fromkeys(every, 0), dict.fromkeys(every, 0)
    capacity: list[float] = []
    drops = skipped = near_users = users = 0
    timed: ChannelBatch | None = None
    for block in blocks:
        drops, skipped = drops + len(block.good), skipped + int((~block.good).sum())
        if not block.good.any():
            continue
        channels = torch.from_numpy(block.channels).to(device)
        batch = ChannelBatch(channels, label(channels))
        assert batch.near_field is not None
        users, near_users = users + batch.near_field.numel(), near_users + int(batch.near_field.sum())
        capacity += dirty_paper_capacity(channels, budget).tolist()
        for name, scheme in every.items():
            answer = scheme(batch, budget)
            sums[name] += answer.sum_rate.tolist()
            infeasible[name] += int((~answer.feasible).sum())
            fallback[name] += int(answer.fallback.sum())
            advance(block.start, name)
        if timed is None:
            timed = ChannelBatch(channels[:_TIMED_DROPS], batch.near_field[:_TIMED_DROPS])
        advance(drops, "")
    if timed is None:
        raise NflaeError("no drop of the file can be precoded for: every one is bad")
    for name, values in sums.items():
        if not np.isfinite(values).all():
            raise NflaeError(f"{name}: the rates come out as no finite numbers; are the channels scaled beyond reason?")
    seconds: dict[str, float] = {}
    for name, scheme in schemes.items():
        advance(drops, f"timing {name}")
        seconds[name] = seconds_a_drop(scheme, timed, budget)
    good = drops - skipped
    scores = [
        Score(name, statistics.fmean(sums[name]), infeasible[name] / good, fallback[name] / good, seconds.get(name))
        for name in every
    ]
    return Evaluation(
        sorted(scores, key=lambda score: score.mean_sum_rate),
        statistics.fmean(capacity),
        drops,
        skipped,
        near_users / users,
        len(timed.channels),
    )


def seconds_a_drop(scheme: Scheme, batch: ChannelBatch, budget: LinkBudget) -> float:
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
