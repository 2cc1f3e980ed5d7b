"""Find users with nearly parallel channels, only one of which is worth a beam, where no user counts under C3."""

from __future__ import annotations

import numpy as np

from nflae_bridge.engine.near_parallel import COHERENCE, SAME_GAIN, SAME_PHASE_STEP, SAME_POWER
from simulator.problems.algebra import Bool, Real
from simulator.problems.user_gram import UserGram


def redundant_users(drops: UserGram, power_fractions: Real) -> Bool | None:
    """Mark users as `nflae_bridge.engine.near_parallel.redundant_users`, from the list of nearly parallel pairs.

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
    pairs = np.flatnonzero(drops.coherence > COHERENCE)
    if not len(pairs):
        return None
    count, users = drops.gains.shape
    first, second = np.divmod(pairs, users)
    if count > 1:
        second += first // users * users
    redundant = np.zeros(count * users, np.bool_)
    power = np.log(np.maximum(power_fractions, 1e-30)).reshape(-1)
    difference = power[first] - power[second]
    redundant[second[difference > SAME_POWER]] = True
    tied = np.abs(difference) <= SAME_POWER
    if np.logical_or.reduce(tied):
        _rank_equals(drops, first[tied], second[tied], redundant)
    return redundant.reshape(count, users)


def _rank_equals(drops: UserGram, first: Real, second: Real, redundant: Bool) -> None:
    """Mark the users that come second in pairs of equal power: by gain, mean phase step, and index."""
    gain = np.log(drops.gains).reshape(-1)
    difference = gain[first] - gain[second]
    redundant[second[difference > SAME_GAIN]] = True
    tied = np.abs(difference) <= SAME_GAIN
    if not np.logical_or.reduce(tied):
        return
    first, second = first[tied], second[tied]
    difference = np.zeros(len(first))
    if drops.channels is not None:
        channels = drops.channels.reshape(-1, drops.channels.shape[2])
        difference = _mean_phase_step(channels[first]) - _mean_phase_step(channels[second])
    redundant[second[difference > SAME_PHASE_STEP]] = True
    redundant[second[(np.abs(difference) <= SAME_PHASE_STEP) & (first < second)]] = True


def _mean_phase_step(channels: Real) -> Real:
    exact = channels.astype(np.complex128)
    result: Real = np.angle(np.vecdot(exact[:, :-1], exact[:, 1:]))
    return result
