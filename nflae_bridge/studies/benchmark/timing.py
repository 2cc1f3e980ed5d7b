"""Time the competitors in turns, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.studies.benchmark.competitors import WITHOUT_OBJECTIVE, Competitor
from nflae_bridge.studies.benchmark.setup import SMALL_BATCH
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import measure_objective

_WARM_UP = 3
_CALLS_PER_TURN = 10


@dataclass(frozen=True)
class Timing:
    """Time per drop, s.

    Parameters
    ----------
    median
        That of the median call.
    p99
        The 99th percentile over calls.
    """

    median: float
    p99: float


def cyclic_batches(channels: Tensor, batch: int) -> list[Tensor]:
    """Split drops into batches of equal size.

    Parameters
    ----------
    channels
        Channels, (drops, ...).
    batch
        Drops per batch; where there are fewer drops, they repeat from the first.

    Returns
    -------
    list of Tensor
        Each (batch, ...); drops beyond the last whole batch are left out.
    """
    if batch > len(channels):
        channels = channels[torch.arange(batch) % len(channels)]
    return [channels[start : start + batch] for start in range(0, len(channels) - batch + 1, batch)]


def time_interleaved(
    competitors: Sequence[Competitor],
    batches: Sequence[Tensor],
    calls: int,
    around_call: Callable[[int], AbstractContextManager[None]],
    advance: Callable[[], None],
) -> list[Timing]:
    """Time calls of all competitors in turns, after three calls each to warm up.

    A turn is one call; for small batches it is one call to warm the caches again and ten that are timed, as in a loop
    that precodes for one drop after another.

    Parameters
    ----------
    competitors
        The competitors.
    batches
        Channels of each call, used cyclically.
    calls
        Calls timed per competitor.
    around_call
        Context of a turn by the drops per call, not timed itself; see `Setup.worker_threads`.
    advance
        Called after every round of calls, outside the timed sections.

    Returns
    -------
    list of Timing
        One per competitor.
    """
    seconds = np.empty((len(competitors), calls))
    order = np.random.default_rng(0)
    with _garbage_collection_off():
        for competitor in competitors:
            for call in range(_WARM_UP):
                competitor.solve(batches[call % len(batches)])
        is_small = len(batches[0]) <= SMALL_BATCH
        for start in range(0, calls, _CALLS_PER_TURN if is_small else 1):
            turn = range(start, min(calls, start + (_CALLS_PER_TURN if is_small else 1)))
            # The order is drawn anew each round: caches are warm or cold by what ran before.
            for index in order.permutation(len(competitors)):
                solve = competitors[index].solve
                with around_call(len(batches[0])):
                    if is_small:
                        solve(batches[start % len(batches)])
                    for call in turn:
                        channels = batches[call % len(batches)]
                        began = time.perf_counter()
                        solve(channels)
                        seconds[index, call] = time.perf_counter() - began
            for _ in turn:
                advance()
    seconds /= len(batches[0])
    return [Timing(float(np.median(row)), float(np.quantile(row, 0.99))) for row in seconds]


def mean_objective(
    competitor: Competitor, channels: Tensor, noise_power: float, batch: int, problem: PrecodingProblem
) -> float:
    """Compute the mean objective from precoders and powers alone.

    Parameters
    ----------
    competitor
        The competitor.
    channels
        Complex64 (drops, users, antennas).
    noise_power
        sigma^2, W.
    batch
        Drops per call, as when timed.
    problem
        Problem of single-antenna users, each drop alone.

    Returns
    -------
    float
        Mean over drops of the problem's objective of the rates log2(1 + SINR_k), of the plain problem their sum,
        bps/Hz; NaN for a competitor that does not solve the problem.
    """
    if competitor.scheme in WITHOUT_OBJECTIVE:
        return float("nan")
    total = 0.0
    for part in torch.split(channels, batch):
        precoder, power = competitor.solve(part)
        rate = rates(achieved_sinr(part, precoder, power, noise_power))
        total += float(measure_objective(problem, rate).sum())
    return total / len(channels)


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
