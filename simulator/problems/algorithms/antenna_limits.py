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
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.gram import scaled_gram, squared_magnitude
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import rates, sinr
from simulator.downlink.structure import structured_beams, wmmse_step
from simulator.problems.algorithms.power_limits import PowerLimits
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded, make_solution, split_powers
from simulator.problems.structured import Allocation, inner_allocation
from simulator.schemes.options import Between
from simulator.schemes.rzf import rzf

ROUNDS = 2
RIVAL_ROUNDS = 60
_EXPONENT = 0.5
_LEAST_LOAD = 1e-6


def dual_rounds(
    channels: Tensor, noise_power: Tensor, limits: PowerLimits, start: Allocation, rounds: int
) -> Iterator[Tensor]:
    """Yield the weighted beams of the start and of every round, before they are scaled onto the limits.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex128 (drops, users, antennas).
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
        sqrt(P_k) w_k, complex128 (drops, users, antennas).
    """
    dual, power = start.dual, start.power
    bound = limits.total_binds.unsqueeze(-1)
    price = torch.ones(len(channels), len(limits.groups), dtype=torch.float64, device=channels.device)
    for index in range(rounds + 1):
        root = limits.per_antenna(price.rsqrt())
        whitened = channels * root
        priced = (price * limits.groups).sum(-1)
        budget = torch.where(limits.total_binds, limits.total + priced - limits.groups.sum(), priced)
        gram = scaled_gram((budget / noise_power).sqrt(), whitened)
        beams = structured_beams(gram, dual)
        if index:
            dual, beams, power = wmmse_step(gram, beams, power)
        directions = beams.coefficients.transpose(-1, -2) @ whitened
        norm = torch.linalg.vector_norm(directions, dim=-1).clamp(min=torch.finfo(power.dtype).tiny)
        weighted = directions * ((power * budget.unsqueeze(-1)).sqrt() / norm).unsqueeze(-1) * root
        yield weighted
        load = (limits.group_powers(weighted) / limits.groups).clamp(min=_LEAST_LOAD)
        price = price * load**_EXPONENT
        mean = (price * limits.groups).sum(-1, keepdim=True) / limits.groups.sum()
        price = torch.where(bound, price.clamp(min=1), price / mean)


def sum_rates(channels: Tensor, noise_power: Tensor, weighted: Tensor) -> Tensor:
    """Compute the sum rates of weighted beams.

    Parameters
    ----------
    channels, noise_power : Tensor
        As in `dual_rounds`.
    weighted : Tensor
        sqrt(P_k) w_k, complex128 (drops, users, antennas).

    Returns
    -------
    Tensor
        float64 (drops,), bps/Hz.
    """
    gains = squared_magnitude(channels.conj() @ weighted.transpose(-1, -2)) / noise_power.reshape(-1, 1, 1)
    return rates(sinr(gains, torch.ones_like(gains[..., 0]))).sum(-1)


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
    start = inner_allocation(inner, batch.channels, LinkBudget(case.usable_power, budget.noise_power))
    found = case.best(dual_rounds(case.channels, case.noise_power, case.limits, start, rounds), scaled=False)
    return guarded(case.solution(found), antenna_limited_rzf(batch, budget, problem))


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
    start = Allocation.equal(scaled_gram(case.noise_power.rsqrt(), case.channels))
    weighted = dual_rounds(case.channels, case.noise_power, case.limits, start, iterations)
    return case.solution(case.best(weighted, scaled=False))


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
    answer = rzf(batch, LinkBudget(case.usable_power, budget.noise_power))
    weighted = answer.precoder.to(torch.complex128) * answer.power.sqrt().unsqueeze(-1)
    return case.solution(case.best(iter([weighted]), scaled=True))


@dataclass(frozen=True)
class _Case:
    """Hold a problem with its channels in double precision."""

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    channels: Tensor
    noise_power: Tensor
    limits: PowerLimits

    @classmethod
    def of(cls, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> _Case:
        channels = batch.channels.to(torch.complex128)
        return cls(
            batch,
            budget,
            problem,
            channels,
            per_drop(budget.noise_power, channels),
            PowerLimits.of(problem, budget, channels),
        )

    @property
    def usable_power(self) -> float | Tensor:
        usable = self.limits.usable
        return float(usable) if usable.numel() == 1 else usable

    def best(self, rounds: Iterator[Tensor], scaled: bool) -> Tensor:
        """Return per drop the best of all rounds' weighted beams after clipping, and filling or scaling."""
        other = self.limits.scaled if scaled else self.limits.filled
        best = torch.zeros_like(self.channels)
        highest = torch.full(best.shape[:1], -torch.inf, dtype=torch.float64, device=best.device)
        for weighted in rounds:
            for within in (self.limits.clipped(weighted), other(weighted)):
                reached = sum_rates(self.channels, self.noise_power, within)
                better = reached > highest
                highest = torch.where(better, reached, highest)
                best = torch.where(better.reshape(-1, 1, 1), within, best)
        return best

    def solution(self, weighted: Tensor) -> ProblemSolution:
        """Form the solution of weighted beams; its limits hold for the beams in single precision."""
        precoder, power = split_powers(weighted, self.channels)
        rounded = precoder.to(torch.complex128) * power.sqrt().unsqueeze(-1)
        excess = self.limits.excess(rounded).clamp(min=1).unsqueeze(-1)
        return make_solution(self.batch, self.budget, self.problem, precoder, power / excess)
