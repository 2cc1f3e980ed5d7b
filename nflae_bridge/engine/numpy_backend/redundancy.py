"""Find users with nearly parallel channels, only one of which is worth a beam, where no user counts under C3."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nflae_bridge.engine.near_parallel import COHERENCE, SAME_GAIN, SAME_PHASE_STEP, SAME_POWER
from simulator.problems.algebra import Bool, Complex, Real
from simulator.problems.user_gram import UserGram

Index = npt.NDArray[np.intp]


def redundant_users(drops: UserGram, power_fractions: Real) -> Bool | None:
    """Mark users as `nflae_bridge.engine.near_parallel.redundant_users` does.

    Parameters
    ----------
    drops
        The drops.
    power_fractions
        P_k / P, real (drops, users).

    Returns
    -------
    ndarray or None
        bool (drops, users); None where no users of any drop are nearly parallel.
    """
    if drops.largest_coherence <= COHERENCE:
        return None
    parallel = drops.coherence > COHERENCE
    power = np.maximum(power_fractions, _LEAST_POWER)
    ahead = power[:, :, None] > (power * _POWER_RATIO)[:, None]
    ahead &= parallel
    redundant: Bool = np.logical_or.reduce(ahead, 1)
    if 2 * np.count_nonzero(ahead) != np.count_nonzero(parallel):  # of each other pair neither is ahead
        tied = parallel ^ ahead
        tied &= ~ahead.transpose(0, 2, 1)
        drop, first, second = np.nonzero(tied)
        _rank_equals(drops, drop, first, second, redundant)
    return redundant


_POWER_RATIO, _LEAST_POWER = math.exp(SAME_POWER), 1e-30


def _rank_equals(drops: UserGram, drop: Index, first: Index, second: Index, redundant: Bool) -> None:
    """Mark the users that come second in pairs of equal power: by gain, mean phase step, and index."""
    gain = np.log(drops.gains)
    difference = gain[drop, first] - gain[drop, second]
    ahead = difference > SAME_GAIN
    redundant[drop[ahead], second[ahead]] = True
    tied = np.abs(difference) <= SAME_GAIN
    if not np.logical_or.reduce(tied):
        return
    drop, first, second = drop[tied], first[tied], second[tied]
    difference = np.zeros(len(drop))
    if drops.channels is not None:
        difference = _mean_phase_step(drops.channels[drop, first]) - _mean_phase_step(drops.channels[drop, second])
    ahead = (difference > SAME_PHASE_STEP) | ((np.abs(difference) <= SAME_PHASE_STEP) & (first < second))
    redundant[drop[ahead], second[ahead]] = True


def _mean_phase_step(channels: Complex) -> Real:
    exact = channels.astype(np.complex128)
    result: Real = np.angle(np.vecdot(exact[:, :-1], exact[:, 1:]))
    return result
