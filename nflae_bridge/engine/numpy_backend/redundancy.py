"""Find users with nearly parallel channels, only one of which is worth a beam, where no user counts under C3."""

from __future__ import annotations

import math
from cmath import phase

import numpy as np

from nflae_bridge.engine.near_parallel import COHERENCE, SAME_GAIN, SAME_PHASE_STEP, SAME_POWER
from simulator.problems.algebra import Complex, Real
from simulator.problems.user_gram import UserGram


def redundant_users(drops: UserGram, power_fractions: Real) -> list[int]:
    """Return the users that `nflae_bridge.engine.near_parallel.redundant_users` marks.

    Few users are nearly parallel: pairs one by one as numbers take less time than operations on arrays.

    Parameters
    ----------
    drops
        The drops.
    power_fractions
        P_k / P, real (drops, users).

    Returns
    -------
    list of int
        Indices in (drops, users), flattened; some may recur.
    """
    if drops.largest_coherence <= COHERENCE:
        return []
    users = power_fractions.shape[1]
    places = (drops.coherence.reshape(-1) > _COHERENCE).nonzero()[0]  # of one axis in a tenth of the time
    power, gain = power_fractions.reshape(-1).item, drops.gains.reshape(-1).item
    redundant, tied = [], []
    for place in places.tolist():
        first, column = divmod(place, users)
        second = first - first % users + column
        if second < first:
            continue
        lead = _lead(power(first), power(second), _SAME_POWER) or _lead(gain(first), gain(second), _SAME_GAIN)
        if lead:
            redundant.append(second if lead > 0 else first)
        else:
            tied.append((first, second))
    return redundant + _later_by_phase_step(drops, tied) if tied else redundant


_COHERENCE = np.array(COHERENCE, np.float32)
_SAME_POWER, _SAME_GAIN, _LEAST = math.exp(SAME_POWER), math.exp(SAME_GAIN), 1e-30


def _lead(first: float, second: float, same: float) -> int:
    """Return 1 where the first number is larger, -1 where the second is, 0 where their ratio is up to ``same``."""
    first, second = max(first, _LEAST), max(second, _LEAST)
    return 1 if first > second * same else -1 if second > first * same else 0


def _later_by_phase_step(drops: UserGram, pairs: list[tuple[int, int]]) -> list[int]:
    """Return the users that come second by their mean phase steps, of identical users those of larger index."""
    channels = drops.channels
    if channels is None:
        return [second for _, second in pairs]
    rows = channels.reshape(-1, channels.shape[2])
    # Sums in single precision take a fraction of the time, and suffice for nearly all pairs; zeros leave all unclear.
    rough = rows[pairs] if drops.is_single else np.zeros((len(pairs), 2, 2), np.complex64)
    later = []
    for (first, second), products in zip(pairs, np.vecdot(rough[..., :-1], rough[..., 1:]).tolist(), strict=True):
        difference = phase(products[1]) - phase(products[0])
        if abs(difference) <= _UNCLEAR_PHASE_STEP:
            difference = _phase_step(rows[second]) - _phase_step(rows[first])
        later.append(first if difference > SAME_PHASE_STEP else second)
    return later


def _phase_step(channel: Complex) -> float:
    """Return the mean phase step of a channel in double precision, rad."""
    exact = channel.astype(np.complex128)
    return phase(np.vdot(exact[:-1], exact[1:]))


_UNCLEAR_PHASE_STEP = 1e-4
"""Difference of mean phase steps, rad, up to which rounding of sums in single precision may decide."""
