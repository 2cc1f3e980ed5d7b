"""Maximise the smallest rate under one total power, exactly.

In the virtual uplink the balanced SINRs belong to the fixed point of `balancing.max_min_dual_powers`; the downlink has
them over the same directions with the powers of a Perron vector: with D = diag(1 / F_kk) and Psi the gains without the
diagonal, all SINRs equal 1 / rho, rho and q the dominant eigenvalue and vector of the extended coupling matrix
[[D Psi, D 1], [1' D Psi, 1' D 1]], q scaled to the last element 1.

References
----------
* M. Schubert, H. Boche, "Solution of the multiuser downlink beamforming problem with individual SINR constraints", IEEE
  Transactions on Vehicular Technology, 2004.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from simulator.downlink.balancing import max_min_dual_powers
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.structure import structured_beams
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded
from simulator.problems.structured import Allocation, structured_solution
from simulator.problems.wmmse_steps import normalised
from simulator.schemes.options import Between


def precode_max_min(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = 10,
) -> ProblemSolution:
    """Maximise the smallest rate; no network takes part.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with the objective ``max-min``.
    iterations : int
        Fixed-point iterations.

    Returns
    -------
    ProblemSolution
        All users have the same rate.
    """
    gram = normalised_gram(batch.channels, budget)
    solution = _balanced(batch, budget, problem, gram, max_min_dual_powers(gram, iterations))
    return guarded(solution, _balanced(batch, budget, problem, gram, Allocation.equal(gram).dual))


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
    gram = normalised_gram(batch.channels, budget)
    return _balanced(batch, budget, problem, gram, Allocation.equal(gram).dual)


def balancing_power_fractions(effective_gains: Tensor) -> Tensor:
    """Compute the power fractions that maximise the smallest SINR over fixed directions.

    Parameters
    ----------
    effective_gains : Tensor
        F, float64 (drops, users, users), of positive diagonal.

    Returns
    -------
    Tensor
        q, float64 (drops, users), of sum 1.
    """
    own = effective_gains.diagonal(dim1=-2, dim2=-1).clamp(min=torch.finfo(effective_gains.dtype).tiny).unsqueeze(-1)
    coupling = (effective_gains - torch.diag_embed(effective_gains.diagonal(dim1=-2, dim2=-1))) / own
    upper = torch.cat([coupling, 1 / own], -1)
    extended = torch.cat([upper, upper.sum(-2, keepdim=True)], -2)
    values, vectors = torch.linalg.eig(extended)
    dominant = values.real.argmax(-1).reshape(-1, 1, 1).expand(-1, extended.shape[-1], 1)
    return normalised(vectors.gather(-1, dominant).squeeze(-1).abs()[:, :-1])


def _balanced(
    batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem, gram: Tensor, dual: Tensor
) -> ProblemSolution:
    power = balancing_power_fractions(structured_beams(gram, dual).effective_gains)
    return structured_solution(batch, budget, problem, gram, Allocation(dual, power))
