"""Maximise the sum of logarithms of the users' mean rates over windows of consecutive drops.

The gradient of sum_k ln R_k, R_k the mean rate of user k over a window, is that of a weighted sum rate with weights
a_k = 1 / R_k on every drop of the window. WMMSE iterations take these weights anew from the rates of each iterate; they
start from the scheme inside, once with equal weights and once on channels folded with the weights that follow, and from
regularised zero forcing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algebra import TINY, Bool, Complex, Real, rates, sinr, structured_beams
from simulator.problems.algorithms.weights import fold_weights
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded
from simulator.problems.structured import (
    NEGLIGIBLE,
    Allocation,
    inner_allocation,
    structured_solution,
    user_gram,
)
from simulator.problems.wmmse import wmmse_step
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
    users = user_gram(batch, budget)
    gram, window = users.gram, problem.window
    equal, plain = Allocation.equal(gram), inner_allocation(inner, gram, batch.channels.shape[-1])
    rate = rates(sinr(structured_beams(gram, plain.dual).effective_gains, plain.power))
    best, reached = _ascend(gram, window, plain, steps)
    start = fold_weights(gram, fair_weights(rate, window), plain.power, inner, batch.channels.shape[-1])
    best, reached, _ = _better(best, reached, *_ascend(gram, window, start, steps))
    best, reached, from_equal = _better(best, reached, *_ascend(gram, window, equal, steps))
    solution = structured_solution(batch, budget, problem, users, best)
    solution = replace(solution, fallback=torch.from_numpy(from_equal).to(solution.fallback.device))
    return guarded(solution, structured_solution(batch, budget, problem, users, equal))


def fair_weights(rate: Real, window: int) -> Real:
    """Compute a_k = 1 / R_k, R_k the mean rate over a window.

    Parameters
    ----------
    rate : ndarray
        Rates, float64 (drops, users).
    window : int
        Consecutive drops per mean.

    Returns
    -------
    ndarray
        a, float64 (drops, users); bounded where a user has next to no rate.
    """
    mean = rate.reshape(-1, window, rate.shape[-1]).mean(1)
    least = _LEAST_RATE * mean.max(1, keepdims=True)
    return np.repeat(1 / np.maximum(np.maximum(mean, least), TINY), window, 0)


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
    users = user_gram(batch, budget)
    best, _ = _ascend(users.gram, problem.window, Allocation.equal(users.gram), iterations)
    return structured_solution(batch, budget, problem, users, best)


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
    users = user_gram(batch, budget)
    return structured_solution(batch, budget, problem, users, Allocation.equal(users.gram))


def _ascend(gram: Complex, window: int, start: Allocation, steps: int) -> tuple[Allocation, Real]:
    """Iterate from a start; return the best iterate of every window and its objective."""
    dual, power = start.dual, start.power
    beams = structured_beams(gram, dual)
    rate = rates(sinr(beams.effective_gains, power))
    best, reached = start, _fairness(rate, window)
    for _ in range(steps):
        dual, beams, power = wmmse_step(gram, beams, power, fair_weights(rate, window))
        rate = rates(sinr(beams.effective_gains, power))
        better = _fairness(rate, window)
        wins = (better > reached)[:, None]
        reached = np.maximum(better, reached)
        best = Allocation(np.where(wins, dual, best.dual), np.where(wins, power, best.power))
    return best, reached


def _fairness(rate: Real, window: int) -> Real:
    """Return the sum of logarithms of mean rates of the window of every drop, float64 (drops,)."""
    mean = rate.reshape(-1, window, rate.shape[-1]).mean(1)
    return np.repeat(np.log(np.maximum(mean, TINY)).sum(1), window)


def _better(one: Allocation, value: Real, two: Allocation, other: Real) -> tuple[Allocation, Real, Bool]:
    """Choose the second where it is more than negligibly better; the objective is a logarithm."""
    wins = other > value + NEGLIGIBLE
    pick = wins[:, None]
    chosen = Allocation(np.where(pick, two.dual, one.dual), np.where(pick, two.power, one.power))
    return chosen, np.where(wins, other, value), wins
