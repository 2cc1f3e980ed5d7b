"""Compute the best of the network's answer, of the same without redundant users, and of regularised zero forcing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from nflae_bridge.engine.numpy_backend import single
from nflae_bridge.engine.numpy_backend.answer import Answer
from nflae_bridge.engine.numpy_backend.networks import KernelNetwork, Network, Regularised
from nflae_bridge.engine.numpy_backend.redundancy import redundant_users
from nflae_bridge.engine.numpy_backend.solution import Solution, sum_rate
from nflae_bridge.engine.user_selection import is_overloaded, select_users
from simulator.downlink.gram import MAX_FP32_SNR
from simulator.downlink.rounding import MAX_ALGEBRA_SNR, MAX_CANCELLATION
from simulator.problems.algebra import (
    Beams,
    Bool,
    Complex,
    Real,
    beams_in_range,
    diagonal,
    formed_beams,
    sinr,
    squares,
    structured_beams,
    sums,
)
from simulator.problems.user_gram import UserGram, in_single_precision
from simulator.problems.wmmse import wmmse_steps

DROPS_AT_ONCE = 64
"""Drops whose matrices in double precision stay in a core's cache; in single precision twice as many."""


def precode(
    network: Network, channels: npt.NDArray[np.complex64], snr: float | Real, refinements: int, negligible: float
) -> Answer:
    """Compute the answer to any number of drops, as many at a time as stay in the cache.

    Parameters
    ----------
    network, refinements, negligible
        As in `solve`.
    channels, snr
        As in `in_single_precision`.

    Returns
    -------
    Answer
    """
    at_once = 2 * DROPS_AT_ONCE if isinstance(network, KernelNetwork) else DROPS_AT_ONCE
    precoder = np.empty_like(channels)
    parts: list[tuple[slice | npt.NDArray[np.intp], Answer]] = []
    left: list[npt.NDArray[np.intp]] = []
    for start in range(0, len(channels), at_once):
        part = slice(start, start + at_once)
        drops, exact = in_single_precision(channels[part], _select(snr, part))
        if drops is not None:
            parts.append((part, _solved(network, drops, refinements, negligible, precoder[part])))
        if exact is not None:
            left.append(start + np.flatnonzero(exact))
    if len(parts) == 1 and not left:
        return parts[0][1]
    # Drops in double precision take less time together; their answers replace those above.
    places = np.concatenate(left) if left else np.empty(0, np.intp)
    for start in range(0, len(places), DROPS_AT_ONCE):
        some = places[start : start + DROPS_AT_ONCE]
        answer = _solved(network, UserGram.exact(channels[some], _select(snr, some)), refinements, negligible)
        precoder[some] = answer.precoder
        parts.append((some, answer))
    return _joined(precoder, parts)


def _select(snr: float | Real, drops: slice | npt.NDArray[np.intp]) -> float | Real:
    return snr if isinstance(snr, float) or len(snr) == 1 else snr[drops]


def _joined(precoder: npt.NDArray[np.complex64], parts: list[tuple[slice | npt.NDArray[np.intp], Answer]]) -> Answer:
    """Return the answer to all drops from those to some, of which later ones hold where they overlap."""
    shape = precoder.shape[:2]
    fractions, flags = np.empty((2, *shape)), np.zeros((2, shape[0]), np.bool_)
    for where, answer in parts:
        fractions[:, where], flags[0, where] = answer.fractions, answer.fallback
        if answer.lossy is not None:
            flags[1, where] = answer.lossy

    def compute_sinr() -> Real:
        values = np.empty(shape)
        for where, answer in parts:
            values[where] = answer.compute_sinr()
        return values

    return Answer(precoder, fractions, flags[0], flags[1] if flags[1].any() else None, compute_sinr)


def _solved(
    network: Network,
    drops: UserGram,
    refinements: int,
    negligible: float,
    out: npt.NDArray[np.complex64] | None = None,
) -> Answer:
    """Return the answer to drops of one precision, with the beams in ``out`` if that is given."""
    if not isinstance(network, KernelNetwork):  # other models are documented to the digits of double precision
        drops = drops.in_double()
    best, fallback, lossy = solve(network, drops, refinements, negligible)
    precoder = drops.unit_beams(best.coefficients, out)
    fractions = np.empty((2, *best.power_fractions.shape))
    fractions[0], fractions[1] = best.power_fractions, best.dual_power_fractions
    fractions /= np.add.reduce(fractions, 2, keepdims=True)
    return Answer(precoder, fractions, fallback, lossy, lambda: _exact_sinr(drops, best, fractions[0]))


def _exact_sinr(drops: UserGram, best: Solution, power_fractions: npt.NDArray[np.float64]) -> Real:
    """Return the SINRs of these beams in double precision."""
    if not drops.is_single:
        return best.sinr
    gram, coefficients = drops.gram.astype(np.complex128), best.coefficients.astype(np.complex128)
    return sinr(formed_beams(gram, coefficients, gram @ coefficients).effective_gains, power_fractions)


def solve(
    network: Network, drops: UserGram, refinements: int, negligible: float, antennas: int | None = None
) -> tuple[Solution, Bool, Bool | None]:
    """Return the best of the network's answer, of the same without redundant users, and of regularised zero forcing.

    Regularised zero forcing serves all users, in overloaded cells also those of `user_selection.select_users`.

    Parameters
    ----------
    network
        The network.
    drops
        The drops.
    refinements
        WMMSE steps from the network's answer.
    negligible
        Relative gain in sum rate up to which redundant users are switched off.
    antennas
        N, where the channels are not known.

    Returns
    -------
    best : Solution
        The answer per drop.
    fallback : Bool
        bool (drops,), drops answered by regularised zero forcing.
    lossy : Bool or None
        bool (drops,), drops that `simulator.downlink.rounding.loses_digits` marks; None: none.
    """
    if drops.is_single:  # sums of few antennas, as in overloaded cells, are in double precision
        return *_solve_single(network, drops, refinements, negligible), None
    return _solve_double(network, drops, refinements, negligible, antennas)


_SAME_SINGLE, _SAME_DOUBLE = 2e-6, 1e-9
"""Relative difference of sum rates that may be rounding, by precision."""


def _solve_single(network: Network, drops: UserGram, refinements: int, negligible: float) -> tuple[Solution, Bool]:
    """Compute all answers to the drops together: each operation on arrays is called once."""
    count, users = drops.gains.shape
    shares = network(drops, None)
    redundant = redundant_users(drops, shares[1])
    tried = sorted({user // users for user in redundant})
    fractions = np.empty((2, 2 * count + len(tried), users), np.float32)
    fractions[:, :count] = 1
    fractions[:, count : 2 * count] = shares
    if tried:
        fractions[:, 2 * count :] = shares if len(tried) == count else shares[:, tried]
        places = {drop: place for place, drop in enumerate(tried, 2 * count)}
        for user in redundant:
            fractions[:, places[user // users], user % users] = 0
    rows = fractions.reshape(-1, users)
    rows /= np.maximum(rows.dot(single.constants(users).ones), _LEAST_SUM)
    gram = drops.gram if count == 1 else np.concatenate([drops.gram, drops.gram, drops.gram[tried]])
    found = single.answers(gram, fractions[0], fractions[1], refinements, count)
    # As numbers, which are quick to compare; false also where a sum rate is not a number.
    rate = found.sum_rate.tolist()
    chosen = list(range(count, 2 * count))
    for place, drop in enumerate(tried, 2 * count):
        if not rate[place] <= rate[count + drop] * (1 - negligible):
            chosen[drop] = place
    fallback = [not rate[drop] <= rate[place] * (1 + _SAME_SINGLE) for drop, place in enumerate(chosen)]
    if any(fallback):
        chosen = [drop if by_rival else chosen[drop] for drop, by_rival in enumerate(fallback)]
    return found.select(chosen), np.array(fallback)


def _solve_double(
    network: Network, drops: UserGram, refinements: int, negligible: float, antennas: int | None
) -> tuple[Solution, Bool, Bool | None]:
    rzf, regularised, lossy = _regularised(drops)
    shares = network(drops, regularised).astype(np.float64, copy=False)
    best = _pruned_or_not(drops, shares / sums(shares), refinements, negligible)
    rivals = [rzf]
    antennas = antennas if drops.channels is None else drops.channels.shape[2]
    if antennas is not None and is_overloaded(drops.gains.shape[1], antennas):
        share = select_users(torch.from_numpy(drops.gram), antennas).numpy()
        rivals.append(_refined(drops.gram, np.stack([share, share]), 0, drops.needs_float64 is None))
    fallback = np.zeros(len(drops.gains), np.bool_)
    for rival in rivals:
        bound = best.sum_rate * (1 + _SAME_DOUBLE)
        kept = (rival.sum_rate <= bound) & (bound < math.inf)  # false also where the sum rate is not a number
        if not np.logical_and.reduce(kept):
            best.put(~kept, rival)
            fallback |= ~kept
    return best, fallback, lossy


def _regularised(drops: UserGram) -> tuple[Solution, Regularised, Bool | None]:
    """Return regularised zero forcing, the network's inputs from it, and drops that lose digits."""
    gains, users = drops.gains, drops.gains.shape[1]
    equal = np.full(gains.shape, 1 / users)
    beams = (beams_in_range if drops.needs_float64 is None else structured_beams)(drops.gram, equal)
    found = sinr(beams.effective_gains, equal)
    rate = np.log2(1 + found)
    power = squares(beams.coefficients)
    regularised = Regularised(diagonal(beams.coefficients).real, power, beams.effective_gains, rate)
    lossy = None if drops.needs_float64 is None else _loses_digits(gains, beams)
    lossy = lossy if lossy is not None and lossy.any() else None
    return Solution(beams.coefficients, equal, equal, found, np.add.reduce(rate, 1)), regularised, lossy


def _loses_digits(gains: Real, beams: Beams) -> Bool:
    strongest = gains.max(1)
    cancels = (np.vecmat(gains, squares(beams.coefficients)) > MAX_CANCELLATION * beams.energy).any(1)
    result: Bool = (strongest > MAX_ALGEBRA_SNR) | (cancels & (strongest > MAX_FP32_SNR))
    return result


def _without(redundant: list[int], shares: Real) -> Real:
    """Switch redundant users off in lambda / P and P_k / P, (2, drops, users)."""
    kept = np.ones(shares.shape[1:], shares.dtype)
    kept.reshape(-1)[redundant] = 0
    pruned: Real = shares * kept
    pruned /= np.maximum(sums(pruned), _LEAST_SUM)
    return pruned


_LEAST_SUM = np.array(np.finfo(np.float32).tiny)


def _pruned_or_not(drops: UserGram, shares: Real, refinements: int, negligible: float) -> Solution:
    """Return the better of the answers with and without redundant users, per drop, in double precision.

    ``shares``: lambda / P, then P_k / P, (2, drops, users).
    """
    gram, in_range, count = drops.gram, drops.needs_float64 is None, len(drops.gram)
    redundant = redundant_users(drops, shares[1])
    if not redundant:
        return _refined(gram, shares, refinements, in_range)
    pruned, loudest = _without(redundant, shares), np.maximum.reduce(drops.gains, 1, initial=1)
    # Elsewhere the network has switched redundant users off itself: the answer without them suffices.
    matters = np.add.reduce(np.where(pruned, 0, shares), (0, 2)) * loudest > negligible
    tried = np.flatnonzero(matters)
    shares = np.where(matters[:, None], shares, pruned)
    if not len(tried):
        return _refined(gram, shares, refinements, in_range)
    # The two answers of all these drops in one computation.
    shares, gram = np.concatenate([shares, pruned[:, tried]], 1), np.concatenate([gram, gram[tried]])
    found = _refined(gram, shares, refinements, in_range)
    better = ~(found.sum_rate[count:] <= found.sum_rate[tried] * (1 - negligible))
    chosen = np.arange(count)
    chosen[tried[better]] = count + np.flatnonzero(better)
    return found.select(chosen)


def _refined(gram: Complex, shares: Real, refinements: int, in_range: bool) -> Solution:
    dual, beams, power_fractions = wmmse_steps(gram, shares[0], shares[1], refinements, in_range=in_range)
    found = sinr(beams.effective_gains, power_fractions)
    return Solution(beams.coefficients, power_fractions, dual, found, sum_rate(found))
