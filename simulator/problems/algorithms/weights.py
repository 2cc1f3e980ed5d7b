"""Maximise the weighted sum rate sum_k a_k R_k under one total power.

To first order a weight changes a rate as a gain does: with h'_k = sqrt(a_k / c) h_k the plain sum rate of h' has nearly
the powers of the weighted one of h, for c the mean of the weights over the powers. A few WMMSE iterations from weighted
regularised zero forcing, lambda = p = P a / sum a, give the powers for c; then the scheme inside precodes for h', and
WMMSE iterations with the weights themselves follow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch

from simulator.downlink.balancing import max_min_dual_powers
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algebra import (
    Beams,
    Complex,
    Real,
    diagonal,
    normalised,
    rates,
    sinr,
    structured_beams,
)
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded
from simulator.problems.structured import (
    NEGLIGIBLE,
    Allocation,
    constrained_powers,
    inner_allocation,
    structured_solution,
    user_gram,
)
from simulator.problems.user_gram import UserGram
from simulator.problems.wmmse import wmmse_steps
from simulator.schemes.options import Between

_FIRST_STEPS = 4  # from regularised zero forcing; they decide the power-weighted mean of the weights
_LEAST_WEIGHT = 1e-9  # of the largest: a channel of zeros has no direction


def precode_weighted(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    steps: Annotated[int, Between(0, 1000)] = 5,
) -> ProblemSolution:
    """Maximise the weighted sum rate by an inner scheme on folded channels and weighted WMMSE iterations.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with weights.
    inner : Scheme
        Scheme of the plain sum rate.
    steps : int
        WMMSE iterations after the inner scheme.

    Returns
    -------
    ProblemSolution
        Never below weighted regularised zero forcing in the weighted sum rate; `fallback` marks the drops that start
        from it.
    """
    users = user_gram(batch, budget)
    weights = weights_per_drop(problem, users)
    gram, textbook = users.gram, _weighted_rzf(weights)
    first = _stepped(users, textbook, max(steps, _FIRST_STEPS), weights)
    folded = fold_weights(gram, weights, first[0].power, inner, batch.channels.shape[-1])
    found = [_stepped(users, folded, steps, weights), first]
    rivals = [_best_user(users, weights)]
    if budget.demands_rates:
        rivals.append(Allocation(max_min_dual_powers(torch.from_numpy(gram)).numpy(), textbook.power))
    constrained = budget.demands_rates or budget.constrains_near_field
    found += [(each, structured_beams(gram, each.dual)) for each in rivals]
    chosen, chosen_beams, index = _best(batch, budget, weights, found)
    solution = structured_solution(batch, budget, problem, users, chosen, chosen_beams)
    solution = replace(solution, fallback=torch.from_numpy(index > 0).to(solution.fallback.device))
    if not constrained and users.needs_float64 is None:
        return solution  # WMMSE from the textbook is among the candidates, and never falls
    return guarded(solution, structured_solution(batch, budget, problem, users, textbook))


def fold_weights(gram: Complex, weights: Real, power: Real, inner: Scheme, antennas: int | None = None) -> Allocation:
    """Compute the allocation for the weighted sum rate from that of the plain one on folded channels.

    Parameters
    ----------
    gram : ndarray
        Gamma, complex128 (drops, users, users).
    weights : ndarray
        a, float64 (drops, users).
    power : ndarray
        q near those of the solution, float64 (drops, users).
    inner : Scheme
        Scheme of the plain sum rate.
    antennas : int, optional
        N, as for `structured.inner_allocation`.

    Returns
    -------
    Allocation
        lambda and p of the folded channels times a, scaled to the total power.
    """
    least = _LEAST_WEIGHT * weights.max(1, keepdims=True)
    scale = np.sqrt(np.maximum(weights, least) / np.vecdot(weights, power)[:, None])
    allocation = inner_allocation(inner, gram * (scale[:, :, None] * scale[:, None]), antennas)
    return Allocation(normalised(allocation.dual * weights), normalised(allocation.power * weights))


def weighted_wmmse(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = 200,
) -> ProblemSolution:
    """Maximise the weighted sum rate by WMMSE from weighted regularised zero forcing.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with weights.
    iterations : int
        Number of iterations.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    users = user_gram(batch, budget)
    weights = weights_per_drop(problem, users)
    found, beams = _stepped(users, _weighted_rzf(weights), iterations, weights)
    return structured_solution(batch, budget, problem, users, found, beams)


def weighted_rzf(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Regularise zero forcing with lambda = p = P a / sum a.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with weights.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    users = user_gram(batch, budget)
    return structured_solution(batch, budget, problem, users, _weighted_rzf(weights_per_drop(problem, users)))


def weighted_start(
    gram: Complex, weights: Real | None, inner: Scheme, steps: int = 5, antennas: int | None = None
) -> Allocation:
    """Compute the allocation of a scheme for the sum rate, weighted where there are weights.

    Parameters
    ----------
    gram : ndarray
        Gamma, complex128 (drops, users, users).
    weights : ndarray, optional
        a, float64 (drops, users).
    inner : Scheme
        Scheme of the plain sum rate.
    steps : int
        Weighted WMMSE iterations after the scheme.
    antennas : int, optional
        N, as for `structured.inner_allocation`.

    Returns
    -------
    Allocation
        Allocation under the total power alone.
    """
    if weights is None:
        return inner_allocation(inner, gram, antennas)
    textbook = textbook_allocation(gram, weights)
    _, _, power = wmmse_steps(gram, textbook.dual, textbook.power, _FIRST_STEPS, weights)
    folded = fold_weights(gram, weights, power, inner, antennas)
    dual, _, power = wmmse_steps(gram, folded.dual, folded.power, steps, weights)
    return Allocation(dual, power)


def textbook_allocation(gram: Complex, weights: Real | None) -> Allocation:
    """Return the allocation of regularised zero forcing, lambda = p = P a / sum a, or P / K without weights.

    Parameters
    ----------
    gram : ndarray
        Gamma, complex128 (drops, users, users).
    weights : ndarray, optional
        a, float64 (drops, users).

    Returns
    -------
    Allocation
    """
    return Allocation.equal(gram) if weights is None else _weighted_rzf(weights)


def weighted_sum(rate: Real, weights: Real | None) -> Real:
    """Sum the rates of the users, weighted where there are weights.

    Parameters
    ----------
    rate : ndarray
        bps/Hz, float64 (drops, users).
    weights : ndarray, optional
        a, float64 (drops, users).

    Returns
    -------
    ndarray
        float64 (drops,).
    """
    result: Real = rate.sum(1) if weights is None else np.vecdot(weights, rate)
    return result


def optional_weights(problem: PrecodingProblem, users: UserGram) -> Real | None:
    """Return the weights of every drop as `weights_per_drop` does, None for a problem without.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.
    users : UserGram
        Inner products of every drop.

    Returns
    -------
    ndarray or None
        a, float64 (drops, users).
    """
    return None if problem.weights is None else weights_per_drop(problem, users)


def weights_per_drop(problem: PrecodingProblem, users: UserGram) -> Real:
    """Return the weights a of a problem for every drop.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem with weights.
    users : UserGram
        Inner products of every drop.

    Returns
    -------
    ndarray
        a, float64 (drops, users).
    """
    assert problem.weights is not None
    return np.broadcast_to(problem.weights, users.gains.shape)


def _weighted_rzf(weights: Real) -> Allocation:
    fractions = normalised(weights)
    return Allocation(fractions, fractions)


def _best_user(users: UserGram, weights: Real) -> Allocation:
    """Return the allocation of all power to the user with the largest weighted rate alone."""
    fractions = np.zeros(weights.shape)
    fractions[np.arange(len(weights)), (weights * rates(diagonal(users.gram).real)).argmax(1)] = 1
    return Allocation(fractions, fractions)


def _stepped(users: UserGram, start: Allocation, steps: int, weights: Real) -> tuple[Allocation, Beams]:
    in_range = users.needs_float64 is None
    dual, beams, power = wmmse_steps(users.gram, start.dual, start.power, steps, weights, in_range=in_range)
    return Allocation(dual, power), beams


def _best(
    batch: ChannelBatch, budget: LinkBudget, weights: Real, found: list[tuple[Allocation, Beams]]
) -> tuple[Allocation, Beams, npt.NDArray[np.intp]]:
    """Choose per drop the candidate of the largest weighted sum rate, feasible ones first; also its index.

    The earliest one of those that differ by less than `NEGLIGIBLE` is chosen.
    """
    values, missed = np.empty((2, len(found), len(weights)))
    for row, (allocation, beams) in enumerate(found):
        power, feasible = constrained_powers(batch, budget, beams.effective_gains, allocation.power)
        values[row] = (weights * rates(sinr(beams.effective_gains, power))).sum(1)
        missed[row] = 0 if feasible is None else ~feasible
    values[np.isnan(values) | (missed > missed.min(0))] = -np.inf
    highest = values.max(0)
    index = np.argmax(values >= highest - NEGLIGIBLE * np.abs(highest), 0)
    if not index.any():
        return *found[0], index
    rows = np.arange(len(index))

    def pick(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        chosen: npt.NDArray[Any] = np.stack(parts)[index, rows]
        return chosen

    allocation = Allocation(pick([each.dual for each, _ in found]), pick([each.power for each, _ in found]))
    beams = Beams(
        pick([each.coefficients for _, each in found]),
        pick([each.effective_gains for _, each in found]),
        pick([each.energy for _, each in found]),
    )
    return allocation, beams, index
