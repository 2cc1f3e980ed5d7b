"""Maximise the sum rate under power limits of antennas or groups of antennas, with or without a total power.

Let g_l be the power of the antennas of group l. The problem is max sum_k log2(1 + SINR_k) subject to g_l <= c_l and,
where a total holds, sum_l g_l <= P. Prices q_l merge these limits into the single one sum_l q_l g_l <= B with
B = sum_l q_l c_l, or, with a total, q_l >= 1 and B = P + sum_l (q_l - 1) c_l. With Q = diag(q) and x' = Q^(1/2) x that
is a total power for the channels h'_k = Q^(-1/2) h_k, and the optimal structure holds for these (duality with an uplink
of noise covariance Q).

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
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.candidates import form_beams
from simulator.downlink.gram import mixed_precision_gram, squared_magnitude
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import rates, sinr
from simulator.downlink.structure import structured_beams, wmmse_step
from simulator.problems.algorithms.power_limits import PowerLimits
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution, split_powers
from simulator.problems.structured import Allocation, inner_allocation
from simulator.schemes.options import Between
from simulator.schemes.rzf import rzf

ROUNDS = 2
RIVAL_ROUNDS = 60
_EXPONENT = 0.5
_LEAST_LOAD = 1e-6
_LEAST_PRICE = 1e-6  # of the mean: an antenna without use would have none
_ROUNDING = 1e-6
_TOGETHER = 16  # candidates that are compared at once


def dual_rounds(
    channels: Tensor, noise_power: Tensor, limits: PowerLimits, start: Allocation, rounds: int
) -> Iterator[Tensor]:
    """Yield the beams of the start and of every round, before they are scaled onto the limits.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex64 (drops, users, antennas).
    noise_power : Tensor
        sigma^2, float64 (drops or 1,), W.
    limits : PowerLimits
        Limits.
    start : Allocation
        Allocation to start from.
    rounds : int
        Number of rounds.

    Yields
    ------
    Tensor
        sqrt(P_k) w_k, complex64 (drops, users, antennas), in units of the root of the usable power.
    """
    dual, power = start.dual, start.power
    binds, together = limits.total_binds, limits.groups.sum(-1, keepdim=True)
    price = torch.ones_like(limits.groups).expand(len(channels), -1)
    for index in range(rounds + 1):
        root = limits.per_antenna(price.rsqrt().float())
        whitened = channels * root
        priced = (price * limits.groups).sum(-1, keepdim=True)
        budget = torch.where(binds, 1 + priced - together, priced)
        total = budget.squeeze(-1) * limits.usable
        gram, needs_float64 = mixed_precision_gram(whitened, LinkBudget(total, noise_power.expand_as(total)))
        beams = structured_beams(gram, dual)
        if index:
            dual, beams, power = wmmse_step(gram, beams, power)
        directions = form_beams(whitened, beams.coefficients, needs_float64)
        weighted = directions * (power * budget).sqrt().float().unsqueeze(-1) * root
        yield weighted
        if index < rounds:
            load = (limits.group_powers(weighted) / limits.groups).clamp(min=_LEAST_LOAD)
            price = price * load**_EXPONENT
            mean = (price * limits.groups).sum(-1, keepdim=True) / together
            price = torch.where(binds, price, price / mean).clamp(min=torch.where(binds, 1.0, _LEAST_PRICE))


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
    start = inner_allocation(inner, batch.channels, case.usable_budget)
    return case.solution(case.textbook(), case.rounds(start, rounds))


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
    start = Allocation.equal(mixed_precision_gram(batch.channels, case.usable_budget)[0])
    return case.solution([], case.rounds(start, iterations))


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
    return case.solution([], iter(case.textbook()))


@dataclass(frozen=True)
class _Case:
    """Hold a problem with its limits."""

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    limits: PowerLimits

    @classmethod
    def of(cls, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> _Case:
        return cls(batch, budget, problem, PowerLimits.of(problem, budget, batch.channels))

    @property
    def usable_budget(self) -> LinkBudget:
        usable = self.limits.usable
        return LinkBudget(float(usable) if usable.numel() == 1 else usable, self.budget.noise_power)

    def rounds(self, start: Allocation, rounds: int) -> Iterator[Tensor]:
        """Yield the beams of every round, scaled onto the limits."""
        noise_power = per_drop(self.budget.noise_power, start.power)
        for weighted in dual_rounds(self.batch.channels, noise_power, self.limits, start, rounds):
            yield self.limits.clipped(weighted)
            yield self.limits.filled(weighted)

    def textbook(self) -> list[Tensor]:
        """Return the beams of regularised zero forcing, scaled and clipped."""
        answer = rzf(self.batch, self.usable_budget)
        fractions = answer.power / self.limits.usable.unsqueeze(-1)
        weighted = answer.precoder * fractions.sqrt().float().unsqueeze(-1)
        return [self.limits.scaled(weighted), self.limits.clipped(weighted)]

    def solution(self, textbook: list[Tensor], found: Iterator[Tensor]) -> ProblemSolution:
        """Form the solution of the best beams of every drop; those of the textbook are marked as fallback."""
        best, highest = self._best(found)
        fallback = torch.zeros_like(highest, dtype=torch.bool)
        if textbook:
            guard, reached = self._best(iter(textbook))
            # What wins by the last digits alone may lose when its beams have unit norm in single precision.
            fallback = reached > highest * (1 - _ROUNDING)
            best = torch.where(fallback.reshape(-1, 1, 1), guard, best)
        precoder, power = split_powers(best.to(torch.complex128), self.batch.channels)
        power = power / self.limits.excess(precoder * power.sqrt().unsqueeze(-1)).clamp(min=1)
        watts = power * self.limits.usable.unsqueeze(-1)
        return replace(make_solution(self.batch, self.budget, self.problem, precoder, watts), fallback=fallback)

    def _best(self, candidates: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """Return per drop the beams of the highest sum rate, and that rate."""
        channels = self.batch.channels
        snr = (self.limits.usable / per_drop(self.budget.noise_power, channels.to(torch.complex128))).reshape(-1, 1, 1)
        best = torch.zeros_like(channels)
        highest = torch.full(channels.shape[:1], -torch.inf, dtype=torch.float64, device=channels.device)
        while group := list(islice(candidates, _TOGETHER)):
            stacked = torch.stack(group)
            gains = squared_magnitude(channels.conj() @ stacked.transpose(-1, -2)).double() * snr
            reached, index = rates(sinr(gains, torch.ones_like(gains[..., 0]))).sum(-1).max(0)
            chosen = stacked[index, torch.arange(len(channels), device=channels.device)]
            best = torch.where((reached > highest).reshape(-1, 1, 1), chosen, best)
            highest = torch.maximum(highest, reached)
        return best, highest
