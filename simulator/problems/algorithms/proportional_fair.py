"""Maximise the sum of logarithms of the users' mean rates over windows of consecutive drops.

The gradient of sum_k ln R_k, R_k the mean rate of user k over a window, is that of a weighted sum rate with weights
a_k = 1 / R_k on every drop of the window. WMMSE iterations take these weights anew from the rates of each iterate; they
start from the scheme inside, once with equal weights and once on channels folded with the weights that follow, and from
regularised zero forcing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import rates, sinr
from simulator.downlink.structure import structured_beams, wmmse_step
from simulator.problems.algorithms.weights import fold_weights
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded, measure_objective
from simulator.problems.structured import (
    NEGLIGIBLE,
    Allocation,
    inner_allocation,
    structured_solution,
)
from simulator.schemes.options import Between

_LEAST_RATE = 1e-3  # of the largest mean rate: a user without power is worth serving, not worth everything


def precode_proportional_fair(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    steps: Annotated[int, Between(0, 1000)] = 8,
) -> ProblemSolution:
    """Maximise the sum of logarithms of mean rates, with a scheme inside.

    Parameters
    ----------
    batch : ChannelBatch
        Channels; the drops of a window are consecutive.
    budget : LinkBudget
        Link budget.
    problem : PrecodingProblem
        Problem with the objective ``proportional-fair`` and its `window`.
    inner : Scheme
        Scheme of the plain sum rate.
    steps : int
        WMMSE iterations from every start.

    Returns
    -------
    ProblemSolution
        Never below regularised zero forcing at equal powers; `fallback` marks the windows that start from it.
    """
    gram = normalised_gram(batch.channels, budget)
    equal = Allocation.equal(gram)
    plain = inner_allocation(inner, batch.channels, budget)
    rate = rates(sinr(structured_beams(gram, plain.dual).effective_gains, plain.power))
    folded = fold_weights(batch.channels, budget, fair_weights(rate, problem.window), inner)
    best, reached = _ascend(gram, problem, plain, steps)
    for start in folded:
        best, reached, _ = _better(best, reached, *_ascend(gram, problem, start, steps))
    best, reached, fallback = _better(best, reached, *_ascend(gram, problem, equal, steps))
    solution = replace(structured_solution(batch, budget, problem, gram, best), fallback=fallback)
    return guarded(solution, structured_solution(batch, budget, problem, gram, equal))


def fair_weights(rate: Tensor, window: int) -> Tensor:
    """Compute a_k = 1 / R_k, R_k the mean rate over a window.

    Parameters
    ----------
    rate : Tensor
        Rates, float64 (drops, users).
    window : int
        Consecutive drops per mean.

    Returns
    -------
    Tensor
        a, float64 (drops, users); bounded where a user has next to no rate.
    """
    mean = rate.reshape(-1, window, rate.shape[-1]).mean(1)
    least = _LEAST_RATE * mean.amax(-1, keepdim=True)
    return (1 / torch.maximum(mean, least).clamp(min=torch.finfo(rate.dtype).tiny)).repeat_interleave(window, 0)


def fair_wmmse(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = 200,
) -> ProblemSolution:
    """Maximise the sum of logarithms of mean rates by WMMSE from regularised zero forcing.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_proportional_fair`.
    iterations : int
        Number of iterations.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    gram = normalised_gram(batch.channels, budget)
    best, _ = _ascend(gram, problem, Allocation.equal(gram), iterations)
    return structured_solution(batch, budget, problem, gram, best)


def fair_rzf(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Regularise zero forcing with equal powers.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_proportional_fair`.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    gram = normalised_gram(batch.channels, budget)
    return structured_solution(batch, budget, problem, gram, Allocation.equal(gram))


def _ascend(gram: Tensor, problem: PrecodingProblem, start: Allocation, steps: int) -> tuple[Allocation, Tensor]:
    """Iterate from a start; return the best iterate of every window and its objective."""
    dual, power = start.dual, start.power
    beams = structured_beams(gram, dual)
    rate = rates(sinr(beams.effective_gains, power))
    best, reached = start, measure_objective(problem, rate)
    for _ in range(steps):
        dual, beams, power = wmmse_step(gram, beams, power, fair_weights(rate, problem.window))
        rate = rates(sinr(beams.effective_gains, power))
        better = measure_objective(problem, rate)
        wins = (better > reached).unsqueeze(-1)
        reached = torch.maximum(better, reached)
        best = Allocation(torch.where(wins, dual, best.dual), torch.where(wins, power, best.power))
    return best, reached


def _better(one: Allocation, value: Tensor, two: Allocation, other: Tensor) -> tuple[Allocation, Tensor, Tensor]:
    """Choose the second where it is more than negligibly better; the objective is a logarithm."""
    wins = other > value + NEGLIGIBLE
    pick = wins.unsqueeze(-1)
    chosen = Allocation(torch.where(pick, two.dual, one.dual), torch.where(pick, two.power, one.power))
    return chosen, torch.where(wins, other, value), wins
