"""Maximise the smallest rate under one total power, exactly.

In the virtual uplink with MMSE receivers SINR_k = mu_k d_k, d_k = s_k / (1 - mu_k s_k), with T = Gamma (I + diag(mu)
Gamma)^-1 and s_k = T_kk. All SINRs are equal where x_k + ln d_k is, x = ln mu. Newton's method solves that with
sum mu = 1; the derivative of ln d_k with respect to x_j is -mu_j |T_kj|^2 / (s_k (1 - mu_k s_k)) beside the diagonal.
By duality the downlink has the uplink's SINRs over the same directions and total power: its powers solve a linear
system.

Over other directions, as on drops without convergence, the largest balanced SINR is that of a Perron vector: with
D = diag(1 / F_kk) and Psi the gains without the diagonal, all SINRs equal 1 / rho, rho and q the dominant eigenvalue
and vector of the extended coupling matrix [[D Psi, D 1], [1' D Psi, 1' D 1]], q scaled to the last element 1.

References
----------
* M. Schubert, H. Boche, "Solution of the multiuser downlink beamforming problem with individual SINR constraints", IEEE
  Transactions on Vehicular Technology, 2004.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.interruption import check_interrupt
from simulator.problems.algebra import (
    TINY,
    Beams,
    Complex,
    Real,
    diagonal,
    formed_beams,
    normalised,
    sinr,
    squares,
    structured_beams,
    structured_coefficients,
)
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded
from simulator.problems.structured import Allocation, structured_solution, user_gram
from simulator.schemes.options import Between

_CONVERGED = 1e-9  # of the logarithms of the SINRs: the smallest is as close to the largest possible
_LARGEST_STEP = 3.0  # of ln mu
_RIDGE = 1e-12  # beside 1: users of equal channels have a system that rounding makes singular


def precode_max_min(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = 20,
) -> ProblemSolution:
    """Maximise the smallest rate; no network takes part.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with the objective ``max-min``.
    iterations : int
        Largest number of Newton iterations.

    Returns
    -------
    ProblemSolution
        All users have the same rate.
    """
    users = user_gram(batch, budget)
    dual, beams, converged = balanced_uplink(users.gram, iterations)
    power = _dual_downlink_powers(dual, beams) if converged else balancing_power_fractions(beams.effective_gains)
    solution = structured_solution(batch, budget, problem, users, Allocation(dual, power), beams)
    if converged and users.needs_float64 is None:
        return solution
    return guarded(solution, balanced_rzf(batch, budget, problem))


def balanced_rzf(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Give regularised zero forcing the powers that balance the SINRs.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with the objective ``max-min``.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    users = user_gram(batch, budget)
    dual = Allocation.equal(users.gram).dual
    beams = structured_beams(users.gram, dual)
    found = Allocation(dual, balancing_power_fractions(beams.effective_gains))
    return structured_solution(batch, budget, problem, users, found, beams)


def balanced_uplink(gram: Complex, iterations: int) -> tuple[Real, Beams, bool]:
    """Compute the lambda / P that give all users of the virtual uplink the same SINR.

    Parameters
    ----------
    gram : ndarray
        Gamma, complex128 (drops, users, users).
    iterations : int
        Largest number of iterations.

    Returns
    -------
    dual : ndarray
        mu, float64 (drops, users), of sum 1.
    beams : Beams
        Its beams.
    converged : bool
        The SINRs of every drop are equal but for rounding.
    """
    dual = Allocation.equal(gram).dual
    right = np.ones((*dual.shape, 2))
    for iteration in range(iterations + 1):
        check_interrupt()
        coefficients, received = structured_coefficients(gram, dual)
        gain = np.maximum(diagonal(received).real, TINY)
        rest = np.maximum(diagonal(coefficients).real, TINY)  # 1 - mu_k s_k
        level = np.log(np.maximum(dual * gain / rest, TINY))
        spread = np.maximum.reduce(level, 1) - np.minimum.reduce(level, 1)
        converged = bool(np.maximum.reduce(spread) <= _CONVERGED)
        if converged or iteration == iterations:
            break
        slope = squares(received) * dual[:, None]
        slope /= -(gain * rest)[:, :, None]
        diagonal(slope)[:] = 1 + _RIDGE
        right[..., 1] = level
        ones, levels = np.moveaxis(np.linalg.solve(slope, right), -1, 0)
        step = (np.vecdot(dual, levels) / np.vecdot(dual, ones))[:, None] * ones - levels
        dual = normalised(dual * np.exp(np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)))
    return dual, formed_beams(gram, coefficients, received), converged


def balancing_power_fractions(effective_gains: Real) -> Real:
    """Compute the power fractions that maximise the smallest SINR over fixed directions.

    Parameters
    ----------
    effective_gains : ndarray
        F, float64 (drops, users, users), of positive diagonal.

    Returns
    -------
    ndarray
        q, float64 (drops, users), of sum 1.
    """
    own = np.maximum(diagonal(effective_gains), TINY)[:, :, None]
    coupling = effective_gains / own
    diagonal(coupling)[:] = 0
    upper = np.concatenate([coupling, 1 / own], -1)
    values, vectors = np.linalg.eig(np.concatenate([upper, upper.sum(1, keepdims=True)], 1))
    dominant = vectors[np.arange(len(values)), :, values.real.argmax(1)]
    return normalised(np.abs(dominant[:, :-1]).astype(np.float64, copy=False))


def _dual_downlink_powers(dual: Real, beams: Beams) -> Real:
    """Return the q of sum 1 for which the downlink has the SINRs of the uplink with mu."""
    gains = beams.effective_gains
    target = sinr(gains.transpose(0, 2, 1).copy(), dual)
    system = -gains
    diagonal(system)[:] = diagonal(gains) / target
    return normalised(np.linalg.solve(system, np.ones((*dual.shape, 1)))[..., 0].astype(np.float64, copy=False))
