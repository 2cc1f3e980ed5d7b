"""Estimate the computation time of requests before they are accepted."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from itertools import filterfalse

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.server.computation.micro_batches import BatchKey, ProblemKey, TrackKey
from nflae_bridge.live.server.computation.problems import (
    growth_of,
    problem_growth,
    problem_work,
    trial_name,
)
from simulator.schemes.options import split_spec
from simulator.schemes.registry import known_options

# Users and antennas of the two trial batches from which the times of all other sizes are extrapolated.
SMALL_TRIAL = (4, 32)
LARGE_TRIAL = (32, 256)
TRACK = "track"  # name of the trials of tracks
PREDICTION = "predict"  # name of the trials of predictions, with the default history and horizon
_TRIAL_WORK = LARGE_TRIAL[0] * LARGE_TRIAL[1] + 8 * LARGE_TRIAL[0] ** 2
TRIAL_HISTORY, TRIAL_AHEAD = 16, 4
_PER_USER = 256  # antennas whose Gram matrices take as long as solving with them
_CUBIC_SHARE = 0.1  # of the trial's time: matrices of the size of the history, which are solved
UNKNOWN_SECONDS = 1e-3  # of the trials of a scheme that have failed or have not been made
_SHORTEST = 1e-6  # s
_MAX_TRIALS = 4  # modules are loaded and networks compiled at the first ones
_MAX_KEYS = 1024
_WEIGHT = 0.3  # of the last batch in the mean of a key


class CostModel:
    """Estimate times from trial batches of each scheme, corrected by the batches of the same kind that were answered.

    A batch takes the time of the small trial, and each of its drops a time proportional to K N + 8 K^2 in addition, the
    shares of the channels and of the pairs of users; one of a precoding problem, with trials of its own, as
    `problem_work` has it. A prediction takes a time proportional to K (N + c), which grows with the history
    as `prediction_work` has it.
    """

    def __init__(self) -> None:
        self._trials: dict[str, tuple[float, float]] = {}  # time of a batch, and of a large drop in addition
        self._ratios: OrderedDict[BatchKey, float] = OrderedDict()  # measured over estimated
        self._terms = lru_cache(_MAX_KEYS)(self._extrapolate)

    def calibrate(self, scheme: str, small: float, large: float) -> None:
        """Set the times of the trial batches of a scheme.

        Parameters
        ----------
        scheme : str
            Name of the scheme, without options.
        small, large : float
            Time of one drop of `SMALL_TRIAL` and of `LARGE_TRIAL`, s.
        """
        self._trials[scheme] = max(small, _SHORTEST), max(large - small, large / 8, _SHORTEST)
        self._terms.cache_clear()

    def learn(self, key: BatchKey, drops: int, seconds: float) -> None:
        """Take the time of an answered batch into account.

        Parameters
        ----------
        key : BatchKey
            Key of its jobs.
        drops : int
            Number of drops.
        seconds : float
            Time, s.
        """
        fixed, slope = self._terms(key)
        ratio = seconds / (fixed + drops * slope)
        last = self._ratios.pop(key, None)
        self._ratios[key] = ratio if last is None else last + _WEIGHT * (ratio - last)
        if len(self._ratios) > _MAX_KEYS:
            self._ratios.popitem(last=False)

    def untried(self, key: BatchKey) -> list[str]:
        """Return the names under which the trial batches for the estimates of a key are missing."""
        return list(filterfalse(self._trials.__contains__, _trials_of(key)))

    def check(self, key: BatchKey, drops: int, limit: float) -> None:
        """Check the estimated time of a request; that of a scheme without trial batches is checked after them.

        Parameters
        ----------
        key : BatchKey
            Key of its job.
        drops : int
            Number of drops.
        limit : float
            Longest time, s.

        Raises
        ------
        WireError
            ``too_large`` with the estimate, if it is above the limit.
        """
        if self.untried(key):
            return
        seconds = self.estimate(key, drops)
        if seconds > limit:
            remedy = "send fewer drops at a time" if drops > 1 else "choose a faster scheme or fewer iterations"
            if isinstance(key[5], tuple):
                remedy = "send a shorter history or fewer users at a time"
            raise WireError(
                "too_large",
                f"the computation is estimated to take {seconds:.3g} s: the limit of this server is {limit:g} s per"
                f" request (--max-seconds); {remedy}",
            )

    def is_known(self, key: BatchKey) -> bool:
        """Return whether a batch of the key has been answered."""
        return key in self._ratios

    def estimate(self, key: BatchKey, drops: int) -> float:
        """Estimate the time of a batch.

        Parameters
        ----------
        key : BatchKey
            Key of its jobs.
        drops : int
            Number of drops.

        Returns
        -------
        float
            Time, s.
        """
        fixed, slope = self._terms(key)
        return self._ratios.get(key, 1.0) * (fixed + drops * slope)

    def drops_within(self, key: BatchKey, seconds: float) -> int:
        """Return the largest number of drops that are estimated to take at most a time, at least 1.

        Parameters
        ----------
        key : BatchKey
            Key of the jobs.
        seconds : float
            Time, s.

        Returns
        -------
        int
            Number of drops.
        """
        fixed, slope = self._terms(key)
        return max(1, int((seconds / self._ratios.get(key, 1.0) - fixed) / slope))

    def _extrapolate(self, key: BatchKey) -> tuple[float, float]:
        """Return the time of a batch, and that of each of its drops in addition, s."""
        users, antennas, spec, refine, _, prediction, _ = key
        before = 0.0
        if isinstance(prediction, ProblemKey):
            batch, drop = self._trials.get(trial_name(prediction, spec or ""), (UNKNOWN_SECONDS, UNKNOWN_SECONDS))
            growth = problem_growth(prediction, spec or "") * (2 + refine / 4 if refine else 1)  # solved without, too
            return growth * batch, growth * problem_work(prediction, users, antennas) * drop
        if isinstance(prediction, TrackKey):  # the grid of curvatures grows with the antennas
            batch, drop = self._trials.get(TRACK, (UNKNOWN_SECONDS, UNKNOWN_SECONDS))
            return batch, drop * users / LARGE_TRIAL[0] * (antennas / LARGE_TRIAL[1]) ** 2
        if prediction is not None:
            batch, drop = self._trials.get(PREDICTION, (UNKNOWN_SECONDS, UNKNOWN_SECONDS))
            before = batch + prediction_work(users, antennas, *prediction[:2]) * drop
        if spec is None:
            return before, _SHORTEST
        name, options = split_spec(spec)
        batch, drop = self._trials.get(name, (UNKNOWN_SECONDS, UNKNOWN_SECONDS))
        work = (users * antennas + 8 * users**2) / _TRIAL_WORK
        growth = growth_of(options, known_options(name)) * (1 + refine / 4 if name == "nflae" else 1)
        return before + growth * batch, growth * work * drop


@lru_cache(_MAX_KEYS)
def _trials_of(key: BatchKey) -> tuple[str, ...]:
    """Return the names of the trial batches for the estimates of a key."""
    if isinstance(key[5], ProblemKey):
        return (trial_name(key[5], key[2] or ""),)
    if isinstance(key[5], TrackKey):
        return (TRACK,)
    predicted = () if key[5] is None else (PREDICTION,)
    return (*predicted, split_spec(key[2])[0]) if key[2] else predicted


def prediction_work(users: int, antennas: int, history: int, ahead: int) -> float:
    """Return the work of a prediction relative to that of the large trial.

    Parameters
    ----------
    users, antennas : int
        K and N.
    history, ahead : int
        Snapshots known and predicted.

    Returns
    -------
    float
        Work.
    """
    size = users * (antennas + _PER_USER) / (LARGE_TRIAL[0] * (LARGE_TRIAL[1] + _PER_USER))
    longer = max(1.0, history / TRIAL_HISTORY)
    return size * (longer + _CUBIC_SHARE * (longer**3 - 1)) * max(1.0, ahead / TRIAL_AHEAD)


def measure(seconds_of: Callable[[int, int], float]) -> tuple[float, float]:
    """Return the times of the trial batches; the small one is repeated until it becomes no faster.

    Parameters
    ----------
    seconds_of : callable
        Computes a drop of a number of users and antennas and returns its time, s.

    Returns
    -------
    small, large : float
        Times, s.
    """
    small = math.inf
    for _ in range(_MAX_TRIALS):
        last, small = small, min(small, seconds_of(*SMALL_TRIAL))
        if 1.5 * small > last:
            break
    return small, seconds_of(*LARGE_TRIAL)
