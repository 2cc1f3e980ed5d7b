"""Form solutions of the optimal structure from allocations (mu, q) = (lambda / P, P_k / P), in K x K matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.powers import project_power_fractions
from simulator.downlink.precoding import ChannelBatch, Scheme, constrained_labels
from simulator.problems.algebra import Beams, Bool, Complex, Real, sinr, structured_beams
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution
from simulator.problems.user_gram import UserGram

NEGLIGIBLE = 1e-5
"""Relative difference of objectives that may be rounding, or two ways to the same optimum."""


@dataclass(frozen=True)
class Allocation:
    """Hold the parameters of the optimal structure.

    Parameters
    ----------
    dual : ndarray
        mu = lambda / P, float64 (drops, users), of sum 1.
    power : ndarray
        q = P_k / P, float64 (drops, users), of sum 1.
    """

    dual: Real
    power: Real

    @classmethod
    def equal(cls, gram: Complex) -> Allocation:
        """Return the allocation of regularised zero forcing, mu = q = 1 / K."""
        fractions = np.full(gram.shape[:2], 1 / gram.shape[-1])
        return cls(fractions, fractions)

    @classmethod
    def stacked(cls, allocations: Sequence[Allocation]) -> Allocation:
        """Return the drops of the first of several allocations, then those of the second, and so on."""
        return cls(
            np.concatenate([each.dual for each in allocations]), np.concatenate([each.power for each in allocations])
        )


def user_gram(batch: ChannelBatch, budget: LinkBudget) -> UserGram:
    """Compute the inner products of a batch under its budget.

    Parameters
    ----------
    batch, budget
        Channels, complex64 (drops, users, antennas), and link budget.

    Returns
    -------
    UserGram
        Inner products of every drop, on the host.
    """
    channels = batch.channels.resolve_conj().cpu().numpy()
    return UserGram.of(channels, per_drop_column(budget.power) / per_drop_column(budget.noise_power))


def per_drop_column(value: float | torch.Tensor) -> float | Real:
    """Return a quantity of a budget as a number or as a column.

    Parameters
    ----------
    value : float or Tensor
        Quantity; a tensor holds one per drop.

    Returns
    -------
    float or ndarray
        Number, or float64 (drops or 1, 1).
    """
    if not isinstance(value, torch.Tensor):
        return float(value)
    numbers: Real = value.reshape(-1, 1).double().cpu().numpy()
    return numbers


def inner_allocation(inner: Scheme, gram: Complex, antennas: int | None = None) -> Allocation:
    """Compute the allocation of a scheme under the total power alone.

    Parameters
    ----------
    inner : Scheme
        Scheme. With a method ``allocation(gram, antennas)`` it precodes from Gamma alone; any other precodes for K
        antennas with channels of the same inner products, Gamma^(1/2), and one without gain, so that no scheme takes
        the cell for overloaded. Where it has no lambda, its powers take their place.
    gram : ndarray
        Gamma, complex128 (drops, users, users).
    antennas : int, optional
        N, for schemes that select users in overloaded cells.

    Returns
    -------
    Allocation
        Allocation of every drop.
    """
    allocate = getattr(inner, "allocation", None)
    found = None if allocate is None else allocate(gram, antennas)
    if found is not None:
        return Allocation(*found)
    values, vectors = np.linalg.eigh(gram)
    channels = np.pad(vectors.conj() * np.sqrt(np.maximum(values, 0))[:, None], ((0, 0), (0, 0), (0, 1)))
    precoding = inner(ChannelBatch(torch.from_numpy(channels.astype(np.complex64))), LinkBudget(1.0, 1.0))
    power, dual = precoding.power.cpu().numpy(), precoding.uplink_power.cpu().numpy()
    return Allocation(np.where(np.isfinite(dual).all(1, keepdims=True), dual, power), power)


def constrained_powers(batch: ChannelBatch, budget: LinkBudget, gains: Real, power: Real) -> tuple[Real, Bool | None]:
    """Move power fractions onto C3 and C4.

    Parameters
    ----------
    batch, budget
        Channels with labels, and link budget.
    gains : ndarray
        F of the directions, float64 (drops, users, users).
    power : ndarray
        q, float64 (drops, users).

    Returns
    -------
    power : ndarray
        q, float64 (drops, users).
    feasible : ndarray or None
        C3 and C4 are met, bool (drops,); None where neither binds.
    """
    if not (budget.constrains_near_field or budget.demands_rates):
        return power, None
    fractions = torch.from_numpy(power)
    limits = budget.limits(fractions)
    labels = constrained_labels(batch, budget).cpu()
    moved, feasible = project_power_fractions(
        torch.from_numpy(gains), fractions, labels, limits.alpha_c, limits.min_rate
    )
    return moved.numpy(), feasible.numpy()


def structured_solution(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    users: UserGram,
    allocation: Allocation,
    beams: Beams | None = None,
) -> ProblemSolution:
    """Form the solution of an allocation, with powers moved onto C3 and C4 where they bind.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget and problem.
    users : UserGram
        Inner products of the batch under the budget.
    allocation : Allocation
        Allocation of every drop.
    beams : Beams, optional
        Beams of the allocation's mu, where they are known.

    Returns
    -------
    ProblemSolution
        Solution of every drop. SINRs are those of the K x K matrices; where single precision does not suffice for
        these, of the beams as they are returned.
    """
    beams = structured_beams(users.gram, allocation.dual) if beams is None else beams
    power, feasible = constrained_powers(batch, budget, beams.effective_gains, allocation.power)
    reached = None if users.needs_float64 is not None else sinr(beams.effective_gains, power)
    total = per_drop_column(budget.power)
    device = batch.channels.device

    def moved(array: np.ndarray | None) -> torch.Tensor | None:
        return None if array is None else torch.from_numpy(array).to(device)

    return make_solution(
        batch,
        budget,
        problem,
        torch.from_numpy(users.unit_beams(beams.coefficients)).to(device),
        torch.from_numpy(power * total).to(device),
        uplink_power=moved(allocation.dual * total),
        sinr=moved(reached),
        feasible=moved(feasible),
    )
