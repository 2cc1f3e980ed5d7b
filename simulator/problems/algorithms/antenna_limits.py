"""Maximise the sum rate under power limits of antennas or groups of antennas, with or without a total power.

Let g_l be the power of the antennas of group l. The problem is max sum_k a_k log2(1 + SINR_k), a_k = 1 or given
weights, subject to g_l <= c_l and, where a total holds, sum_l g_l <= P. Prices q_l merge these limits into the single
one sum_l q_l g_l <= B with B = sum_l q_l c_l, or, with a total, q_l >= 1 and B = P + sum_l (q_l - 1) c_l. With
Q = diag(q) and x' = Q^(1/2) x that is a total power for the channels h'_k = Q^(-1/2) h_k, and the optimal structure
holds for these (duality with an uplink of noise covariance Q).

The inner scheme solves q = 1. Each round then performs one WMMSE step on the K x K Gram matrix of h' and updates
q_l <- q_l (g_l / c_l)^(1/2). Every round gives two precoders that meet the limits: antennas above their limit scaled
down to it, and all antennas scaled up until the limits or the total bind. The best of all rounds is the result.

References
----------
* W. Yu, T. Lan, "Transmitter optimization for the multi-antenna downlink with per-antenna power constraints", IEEE
  Transactions on Signal Processing, 2007.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algebra import (
    TINY,
    Beams,
    Complex,
    Real,
    exact_gram,
    rates,
    sinr,
    squares,
    structured_beams,
)
from simulator.problems.algorithms.power_limits import PowerLimits
from simulator.problems.algorithms.weights import optional_weights, textbook_allocation, weighted_start, weighted_sum
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution
from simulator.problems.structured import Allocation, per_drop_column
from simulator.problems.user_gram import UserGram
from simulator.problems.wmmse import wmmse_step
from simulator.schemes.options import Between

ROUNDS = 2
RIVAL_ROUNDS = 60
_EXPONENT = 0.5
_LEAST_LOAD = 1e-6
_LEAST_PRICE = 1e-6  # of the mean: an antenna without use would have none
_CLOSE = 0.8
_NO_POWER = 1e-24  # of the total: a vector has no digits for its direction
_ROUNDING = 1e-6


@dataclass(frozen=True)
class _Point:
    """Hold beams x_k in rows, and the gains of antennas that move them onto the limits.

    Beams are sqrt(P_k) w_k = x_k times an amplitude per antenna, complex (drops, users, antennas), in units of the root
    of the usable power; F holds the gains of the products.
    """

    beams: Complex
    amplitudes: npt.NDArray[Any]
    gains: Real
    sum_rate: Real

    def where(self, drops: npt.NDArray[np.bool_], other: _Point) -> _Point:
        """Take another point on some drops."""

        def pick(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.where(drops.reshape(-1, *[1] * (ours.ndim - 1)), theirs, ours)

        if not drops.any():
            return self
        if drops.all():
            return other
        names = [field.name for field in fields(self)]
        return _Point(*(pick(getattr(self, name), getattr(other, name)) for name in names))


@dataclass(frozen=True)
class _Case:
    """Hold a problem with its limits; channels h_k in single precision where that suffices."""

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    limits: PowerLimits
    users: UserGram
    weights: Real | None
    channels: Complex
    conjugate: Complex
    snr: Real

    @classmethod
    def of(cls, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> _Case:
        channels = batch.channels.resolve_conj().cpu().numpy()
        limits = PowerLimits.of(problem, budget, channels.shape[-1])
        snr = limits.usable / per_drop_column(budget.noise_power)
        users = UserGram.of(channels, snr)
        if users.needs_float64 is not None:
            channels = channels.astype(np.complex128)
        weights = optional_weights(problem, users)
        return cls(batch, budget, problem, limits, users, weights, channels, channels.conj(), snr)

    def points(self, start: Allocation, rounds: int) -> Iterator[_Point]:
        """Yield the points of the start and of every round: clipped to the limits, and filled up to them."""
        limits = self.limits
        dual, power, beams = start.dual, start.power, None
        binds, together = limits.total_binds, limits.groups.sum(1, keepdims=True)
        price = np.broadcast_to(np.ones_like(limits.groups), (len(dual), limits.groups.shape[1]))
        channels, gram, total = self.channels, self.users.gram, together
        for index in range(rounds + 1):
            root = np.ones((1, 1, 1), np.float32)
            if index:
                root = limits.per_antenna(price**-0.5)
                priced = (price * limits.groups).sum(1, keepdims=True)
                total = np.where(binds, 1 + priced - together, priced)
                channels = self.channels * root
                gram = self._gram(channels, self.snr * total)
            else:
                total = np.where(binds, 1.0, together)
            beams = structured_beams(gram, dual)
            if index:
                dual, beams, power = wmmse_step(gram, beams, power, self.weights)
            formed = self._formed(channels, beams, power * total, self.snr * total)
            powers = limits.group_powers(formed, root)
            if index or not rounds:
                yield self._point(formed, root * limits.per_antenna(limits.clipping_gain(powers) ** 0.5))
                yield self._point(formed, root * limits.per_antenna(limits.filling_gain(powers) ** 0.5))
            if index < rounds:
                load = np.maximum(powers / limits.groups, _LEAST_LOAD)
                price = price * load**_EXPONENT
                mean = (price * limits.groups).sum(1, keepdims=True) / together
                price = np.maximum(np.where(binds, price, price / mean), np.where(binds, 1.0, _LEAST_PRICE))

    def textbook(self, highest: Real | None = None) -> Iterator[_Point]:
        """Yield regularised zero forcing, scaled and clipped, unless it is far below a sum rate on every drop."""
        equal = textbook_allocation(self.users.gram, self.weights)
        beams = structured_beams(self.users.gram, equal.dual)
        if highest is not None:
            reached = weighted_sum(rates(sinr(beams.effective_gains, equal.power)), self.weights)
            if not (reached > _CLOSE * highest).any():
                return
        formed = self._formed(self.channels, beams, equal.power, self.snr)
        root = np.ones((1, 1, 1), np.float32)
        powers = self.limits.group_powers(formed, root)
        excess = np.maximum(self.limits.excess(powers), TINY)
        yield self._point(formed, root * (excess**-0.5).astype(np.float32)[..., None])
        yield self._point(formed, root * self.limits.per_antenna(self.limits.clipping_gain(powers) ** 0.5))

    def _gram(self, channels: Complex, snr: Real) -> Complex:
        if channels.dtype == np.complex128:
            return exact_gram(channels, snr[..., None])
        product: Complex = channels.conj() @ channels.transpose(0, 2, 1)
        return product.astype(np.complex128) * snr[..., None]

    def _formed(self, channels: Complex, beams: Beams, power: Real, snr: Real) -> Complex:
        """Form beams of given powers, complex (drops, users, antennas)."""
        scale = np.sqrt(power * snr / np.maximum(beams.energy, TINY))
        formed: Complex = (beams.coefficients * scale[:, None]).astype(channels.dtype).transpose(0, 2, 1) @ channels
        return formed

    def _point(self, formed: Complex, amplitudes: npt.NDArray[Any]) -> _Point:
        gains = squares(self.conjugate @ (formed * amplitudes).transpose(0, 2, 1)) * self.snr[..., None]
        reached = weighted_sum(rates(sinr(gains.astype(np.float64), np.ones(gains.shape[:2]))), self.weights)
        return _Point(formed, amplitudes, gains, reached)

    def best(self, points: Iterator[_Point]) -> _Point | None:
        """Return per drop the point of the highest sum rate."""
        best = None
        for point in points:
            best = point if best is None else best.where(point.sum_rate > best.sum_rate, point)
        return best

    def solution(self, found: _Point, textbook: _Point | None) -> ProblemSolution:
        """Form the solution of the better point of every drop; those of the textbook are marked as fallback."""
        fallback = np.zeros(len(self.channels), np.bool_)
        if textbook is not None:
            # What wins by the last digits alone may lose when its beams have unit norm in single precision.
            fallback = textbook.sum_rate > found.sum_rate * (1 - _ROUNDING)
            found = found.where(fallback, textbook)
        rows = found.beams * found.amplitudes
        parts = rows.view(rows.real.dtype)
        power: Real = np.vecdot(parts, parts).astype(np.float64)
        silent = power <= _NO_POWER * power.sum(1, keepdims=True)
        if silent.any():
            rows[silent], power[silent] = self.channels[silent], 0
        norm = np.sqrt(np.vecdot(parts, parts))[..., None]
        parts /= np.maximum(norm, np.finfo(norm.dtype).tiny)
        precoder = rows.astype(np.complex64, copy=False)
        exact = precoder.view(np.float32).astype(np.float64)
        entries = np.matvec(np.swapaxes(exact * exact, 1, 2), power)
        powers = entries.reshape(len(entries), -1, 2 * self.limits.size).sum(2)
        power /= np.maximum(self.limits.excess(powers), 1)
        received = self.conjugate.astype(np.complex128) @ precoder.astype(np.complex128).transpose(0, 2, 1)
        reached = sinr(squares(received) * self.snr[..., None], power)
        device = self.batch.channels.device
        solution = make_solution(
            self.batch,
            self.budget,
            self.problem,
            torch.from_numpy(precoder).to(device),
            torch.from_numpy(power * self.limits.usable).to(device),
            sinr=torch.from_numpy(reached).to(device),
        )
        return replace(solution, fallback=torch.from_numpy(fallback).to(device))


def precode_antenna_limited(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    rounds: Annotated[int, Between(0, 1000)] = ROUNDS,
) -> ProblemSolution:
    """Maximise the sum rate under power limits of antennas, from the allocation of an inner scheme.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with power limits of antennas.
    inner : Scheme
        Scheme of the sum rate under the total power.
    rounds : int
        Number of rounds.

    Returns
    -------
    ProblemSolution
        Never below regularised zero forcing scaled or clipped to the limits; `fallback` marks the drops where that is
        better.
    """
    case = _Case.of(batch, budget, problem)
    start = weighted_start(case.users.gram, case.weights, inner, antennas=case.channels.shape[-1])
    found = case.best(case.points(start, rounds))
    assert found is not None
    return case.solution(found, case.best(case.textbook(found.sum_rate)))


def antenna_limited_wmmse(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = RIVAL_ROUNDS,
) -> ProblemSolution:
    """Perform WMMSE with prices of the antennas' power from regularised zero forcing.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with power limits of antennas.
    iterations : int
        Number of rounds, each a WMMSE iteration and an update of the prices.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    case = _Case.of(batch, budget, problem)
    found = case.best(case.points(textbook_allocation(case.users.gram, case.weights), iterations))
    assert found is not None
    return case.solution(found, None)


def antenna_limited_rzf(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Regularise zero forcing with equal powers, and scale all beams or clip the antennas to the limits.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with power limits of antennas.

    Returns
    -------
    ProblemSolution
        The better of the two for every drop.
    """
    case = _Case.of(batch, budget, problem)
    found = case.best(case.textbook())
    assert found is not None
    return case.solution(found, None)
