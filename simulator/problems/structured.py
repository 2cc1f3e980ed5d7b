"""Form solutions of the optimal structure from allocations (mu, q) = (lambda / P, P_k / P)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.candidates import form_beams
from simulator.downlink.powers import project_power_fractions
from simulator.downlink.precoding import ChannelBatch, Scheme, constrained_labels
from simulator.downlink.sinr import effective_gain_matrix, sinr
from simulator.downlink.structure import structured_coefficients
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution

NEGLIGIBLE = 1e-5
"""Relative difference of objectives that may be rounding, or two ways to the same optimum."""


@dataclass(frozen=True)
class Allocation:
    """Hold the parameters of the optimal structure.

    Parameters
    ----------
    dual : Tensor
        mu = lambda / P, float64 (drops, users), of sum 1.
    power : Tensor
        q = P_k / P, float64 (drops, users), of sum 1.
    """

    dual: Tensor
    power: Tensor

    def split(self, drops: int) -> list[Allocation]:
        """Split a stack of allocations of `drops` drops each."""
        parts = torch.split(self.dual, drops), torch.split(self.power, drops)
        return [Allocation(*each) for each in zip(*parts, strict=True)]

    @classmethod
    def equal(cls, gram: Tensor) -> Allocation:
        """Return the allocation of regularised zero forcing, mu = q = 1 / K."""
        fractions = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
        return cls(fractions, fractions)


def inner_allocation(inner: Scheme, channels: Tensor, budget: LinkBudget) -> Allocation:
    """Compute the allocation of a scheme under the total power alone.

    Parameters
    ----------
    inner : Scheme
        Scheme; where it has no lambda, its powers take their place.
    channels : Tensor
        Channels, complex64 (drops, users, antennas).
    budget : LinkBudget
        Link budget; C3 and C4 are left out.

    Returns
    -------
    Allocation
        Allocation of every drop.
    """
    precoding = inner(ChannelBatch(channels), LinkBudget(budget.power, budget.noise_power))
    total = per_drop(budget.power, precoding.power).unsqueeze(-1)
    power = precoding.power / total
    dual = precoding.uplink_power / total
    return Allocation(torch.where(dual.isfinite().all(-1, keepdim=True), dual, power), power)


def stacked(allocations: Sequence[Allocation]) -> Allocation:
    """Stack allocations of the same drops to one batch.

    Parameters
    ----------
    allocations : sequence of Allocation
        Allocations of the same drops.

    Returns
    -------
    Allocation
        Drops of the first, then those of the second, and so on; `Allocation.split` separates them.
    """
    return Allocation(torch.cat([each.dual for each in allocations]), torch.cat([each.power for each in allocations]))


def best_allocation(
    batch: ChannelBatch,
    budget: LinkBudget,
    gram: Tensor,
    allocations: Sequence[Allocation],
    value: Callable[[Tensor], Tensor],
) -> tuple[Allocation, Tensor]:
    """Choose per drop the allocation of the largest value, feasible ones first, in K x K matrices.

    Parameters
    ----------
    batch, budget
        Channels and link budget.
    gram : Tensor
        Gamma of the batch under the budget, complex128 (drops, users, users).
    allocations : sequence of Allocation
        Allocations of every drop.
    value : callable
        Function from SINRs, float64 (drops, users), to the objective, (drops,).

    Returns
    -------
    allocation : Allocation
        Best allocation of every drop; the earliest one of those that differ by less than `NEGLIGIBLE`.
    index : Tensor
        Its place among the given ones, int64 (drops,).
    """
    scores = []
    for each in allocations:
        gains = effective_gain_matrix(gram, structured_coefficients(gram, each.dual))
        power, feasible = _constrained(batch, budget, gains, each.power)
        reached = value(sinr(gains, power))
        missed = torch.zeros_like(reached) if feasible is None else (~feasible).double()
        scores.append(torch.stack([reached.nan_to_num(-torch.inf), missed]))
    values, missed = torch.stack(scores, 1)
    values = torch.where(missed > missed.amin(0), -torch.inf, values)
    highest = values.amax(0)
    index = torch.argmax((values >= highest - NEGLIGIBLE * highest.abs()).to(torch.uint8), 0)
    rows = torch.arange(len(index), device=index.device)
    chosen = [torch.stack([getattr(each, name) for each in allocations])[index, rows] for name in ("dual", "power")]
    return Allocation(*chosen), index


def _constrained(batch: ChannelBatch, budget: LinkBudget, gains: Tensor, power: Tensor) -> tuple[Tensor, Tensor | None]:
    """Move power fractions onto C3 and C4, and return whether they are met; None where neither binds."""
    if not (budget.constrains_near_field or budget.demands_rates):
        return power, None
    limits = budget.limits(power)
    return project_power_fractions(gains, power, constrained_labels(batch, budget), limits.alpha_c, limits.min_rate)


def structured_solution(
    batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem, gram: Tensor, allocation: Allocation
) -> ProblemSolution:
    """Form the solution of an allocation, with powers moved onto C3 and C4 where they bind.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget and problem.
    gram : Tensor
        Gamma of the batch under the budget, complex128 (drops, users, users), see `gram.normalised_gram`.
    allocation : Allocation
        Allocation of every drop.

    Returns
    -------
    ProblemSolution
        Solution of every drop, with the SINRs of the beams as they are returned.
    """
    coefficients = structured_coefficients(gram, allocation.dual)
    power, feasible = allocation.power, None
    if budget.constrains_near_field or budget.demands_rates:
        power, feasible = _constrained(batch, budget, effective_gain_matrix(gram, coefficients), power)
    total = per_drop(budget.power, power).unsqueeze(-1)
    return make_solution(
        batch,
        budget,
        problem,
        form_beams(batch.channels, coefficients),
        power * total,
        uplink_power=allocation.dual * total,
        feasible=feasible,
    )
