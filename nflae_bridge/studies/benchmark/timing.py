"""The clock: competitors take turns, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.studies.benchmark.competitors import Competitor
from nflae_bridge.studies.benchmark.setup import FEW
from simulator.downlink.sinr import achieved_sinr, rates

_WARM_UP = 3
_RUN = 10


@dataclass(frozen=True)
class Timing:
    """Seconds a drop: the median call's and the one of a hundred that takes longest."""

    median: float
    p99: float


def cyclic_batches(channels: Tensor, batch: int) -> list[Tensor]:
    """``batch`` drops at a time, all drops in turn; repeated from the first where there are fewer than ``batch``."""
    if batch > len(channels):
        channels = channels[torch.arange(batch) % len(channels)]
    return [channels[start : start + batch] for start in range(0, len(channels) - batch + 1, batch)]


def time_interleaved(
    competitors: Sequence[Competitor],
    batches: Sequence[Tensor],
    calls: int,
    turn: Callable[[int], AbstractContextManager[None]],
    advance: Callable[[], None],
) -> list[Timing]:
    """Time ``calls`` calls of each, taking turns, after three to warm up; call n gets ``batches`` n, cyclically.

    A turn is one call; of a few drops one to warm the caches again and ten that are timed, as in a loop that precodes
    for one drop after the other and does little else.
    turn: what is around a call and not timed, see `field.Setup.turn`.
    ``advance()`` is called for every round of calls, outside of what is timed.
    """
    seconds = np.empty((len(competitors), calls))
    order = np.random.default_rng(0)
    with _no_collections():
        for competitor in competitors:
            for call in range(_WARM_UP):
                competitor.solve(batches[call % len(batches)])
        few = len(batches[0]) <= FEW
        for start in range(0, calls, _RUN if few else 1):
            run = range(start, min(calls, start + (_RUN if few else 1)))
            # Another order every round: nobody always runs in the same one's wake, with caches warm or cold.
            for index in order.permutation(len(competitors)):
                solve = competitors[index].solve
                with turn(len(batches[0])):
                    if few:
                        solve(batches[start % len(batches)])
                    for call in run:
                        channels = batches[call % len(batches)]
                        began = time.perf_counter()
                        solve(channels)
                        seconds[index, call] = time.perf_counter() - began
            for _ in run:
                advance()
    seconds /= len(batches[0])
    return [Timing(float(np.median(row)), float(np.quantile(row, 0.99))) for row in seconds]


def mean_sum_rate(competitor: Competitor, channels: Tensor, noise_power: float, batch: int) -> float:
    """Mean over all drops of sum_k log2(1 + SINR_k), bps/Hz, from the answers and nothing else; NaN for the floor.

    batch: how many drops are computed at a time, as they are when timed. noise_power: W.
    """
    total = 0.0
    for part in torch.split(channels, batch):
        precoder, power = competitor.solve(part)
        if not len(power):
            return float("nan")
        total += float(rates(achieved_sinr(part, precoder, power, noise_power)).sum())
    return total / len(channels)


@contextmanager
def _no_collections() -> Iterator[None]:
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
