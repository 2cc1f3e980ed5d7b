"""Maximise the weighted sum rate sum_k a_k R_k under one total power.

To first order a weight changes a rate as a gain does: with h'_k = sqrt(a_k / c) h_k the plain sum rate of h' has nearly
the powers of the weighted one of h, for c a mean of the weights: first the plain mean, then the mean weighted by the
powers found. A few WMMSE iterations with the weights themselves follow, from there and from weighted
regularised zero forcing, lambda = p = P a / sum a.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from simulator.downlink.balancing import max_min_dual_powers
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import rates
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded, problem_weights
from simulator.problems.structured import (
    Allocation,
    best_allocation,
    inner_allocation,
    stacked,
    structured_solution,
)
from simulator.problems.wmmse_steps import normalised, wmmse_steps
from simulator.schemes.options import Between

_FOLDS = 2
_LEAST_WEIGHT = 1e-9  # of the largest: a channel of zeros has no direction


def precode_weighted(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    steps: Annotated[int, Between(0, 1000)] = 3,
) -> ProblemSolution:
    """Maximise the weighted sum rate by an inner scheme on folded channels and weighted WMMSE iterations.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with weights.
    inner : Scheme
        Scheme of the plain sum rate.
    steps : int
        WMMSE iterations from every start.

    Returns
    -------
    ProblemSolution
        Never below weighted regularised zero forcing in the weighted sum rate; `fallback` marks the drops that start
        from it.
    """
    gram = normalised_gram(batch.channels, budget)
    weights = _weights(problem, gram)
    folded = fold_weights(batch.channels, budget, weights, inner)
    textbook = _weighted_rzf(weights)
    starts = [*folded, textbook]
    found = _stepped(gram.repeat(len(starts), 1, 1), stacked(starts), steps, weights.repeat(len(starts), 1))
    candidates = [*found.split(len(gram)), textbook, _best_user(gram, weights)]
    if budget.demands_rates:
        candidates.append(Allocation(max_min_dual_powers(gram), textbook.power))
    chosen, index = best_allocation(batch, budget, gram, candidates, lambda sinr: (weights * rates(sinr)).sum(-1))
    solution = structured_solution(batch, budget, problem, gram, chosen)
    solution = replace(solution, fallback=index >= len(folded))
    return guarded(solution, structured_solution(batch, budget, problem, gram, textbook))


def fold_weights(channels: Tensor, budget: LinkBudget, weights: Tensor, inner: Scheme) -> list[Allocation]:
    """Compute allocations for the weighted sum rate from those of the plain one on folded channels.

    Parameters
    ----------
    channels : Tensor
        Channels, complex64 (drops, users, antennas).
    budget : LinkBudget
        Link budget.
    weights : Tensor
        a, float64 (drops, users).
    inner : Scheme
        Scheme of the plain sum rate.

    Returns
    -------
    list of Allocation
        One per fold: lambda and p of the folded channels times a, scaled to the total power.
    """
    found = []
    least = _LEAST_WEIGHT * weights.amax(-1, keepdim=True)
    mean = weights.mean(-1, keepdim=True)
    for _ in range(_FOLDS):
        folded = torch.maximum(weights, least) / mean
        allocation = inner_allocation(inner, channels * torch.sqrt(folded).float().unsqueeze(-1), budget)
        found.append(Allocation(normalised(allocation.dual * weights), normalised(allocation.power * weights)))
        mean = (weights * allocation.power).sum(-1, keepdim=True)
    return found


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
    gram = normalised_gram(batch.channels, budget)
    weights = _weights(problem, gram)
    found = _stepped(gram, _weighted_rzf(weights), iterations, weights)
    return structured_solution(batch, budget, problem, gram, found)


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
    gram = normalised_gram(batch.channels, budget)
    return structured_solution(batch, budget, problem, gram, _weighted_rzf(_weights(problem, gram)))


def _weights(problem: PrecodingProblem, gram: Tensor) -> Tensor:
    weights = problem_weights(problem, gram.real)
    assert weights is not None
    return weights.expand(gram.shape[:2])


def _weighted_rzf(weights: Tensor) -> Allocation:
    fractions = normalised(weights)
    return Allocation(fractions, fractions)


def _best_user(gram: Tensor, weights: Tensor) -> Allocation:
    """Return the allocation of all power to the user with the largest weighted rate alone."""
    alone = weights * rates(gram.diagonal(dim1=-2, dim2=-1).real)
    fractions = one_hot(alone.argmax(-1), alone.shape[-1]).to(alone.dtype)
    return Allocation(fractions, fractions)


def _stepped(gram: Tensor, start: Allocation, steps: int, weights: Tensor) -> Allocation:
    dual, _, power = wmmse_steps(gram, start.dual, start.power, steps, weights)
    return Allocation(dual, power)
