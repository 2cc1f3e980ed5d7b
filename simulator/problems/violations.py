"""Find the drops whose solution violates a limit of its problem, or falls below the textbook."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.precoding import Precoding
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution

TOLERANCE = 1e-5
"""Relative excess of a power, or difference of an entry, from which a limit counts as violated."""

_PHASE_TOLERANCE = 1e-4  # of a step of the phase shifters
_ROUNDING = 1e-6  # relative difference of objectives in single precision


def violates_limits(solution: Precoding, budget: LinkBudget, problem: PrecodingProblem) -> Tensor:
    """Find the drops whose precoder, as it is returned, violates a limit.

    Limits are those of the powers (total, antennas, groups, near-field users' share) and of the hardware (phases of
    modulus 1 / sqrt(N) and of the given bits, W = F D).

    Parameters
    ----------
    solution : Precoding
        Solution of every drop.
    budget : LinkBudget
        Link budget.
    problem : PrecodingProblem
        Problem.

    Returns
    -------
    Tensor
        Bool (drops,).
    """
    power = solution.power
    beams = solution.precoder.to(torch.complex128) * power.clamp(min=0).sqrt().unsqueeze(-1)
    per_antenna = beams.real.square().sum(1) + beams.imag.square().sum(1)
    bad = (power < 0).any(-1) | ~power.isfinite().all(-1)
    total = per_drop(budget.power, per_antenna).expand(len(bad))
    if problem.total_power:
        together = problem.subcarriers if "subcarrier power" in problem.parts else 1
        used = per_antenna.sum(-1).reshape(-1, together).sum(-1).repeat_interleave(together)
        bad = bad | (used > total * (1 + TOLERANCE))
    if problem.antenna_power is not None:
        size = problem.antenna_groups or 1
        limits = torch.as_tensor(problem.antenna_power, device=power.device).expand(per_antenna.shape[-1])
        loads = per_antenna.reshape(len(bad), -1, size).sum(-1)
        bad = bad | (loads > limits.reshape(-1, size).sum(-1) * (1 + TOLERANCE)).any(-1)
    if budget.constrains_near_field:
        share = (power * solution.near_field).sum(-1)
        bad = bad | (share > per_drop(budget.alpha_c, share) * total * (1 + TOLERANCE))
    if isinstance(solution, ProblemSolution) and solution.analog is not None:
        bad = bad | _violates_hardware(solution, problem)
    return bad


def _violates_hardware(solution: ProblemSolution, problem: PrecodingProblem) -> Tensor:
    assert solution.analog is not None
    assert solution.digital is not None
    analog = solution.analog.to(torch.complex128)
    antennas, chains = analog.shape[-2:]
    block = torch.arange(antennas, device=analog.device) // max(antennas // chains, 1)
    connected = torch.ones(antennas, chains, dtype=torch.bool, device=analog.device)
    if problem.connection == "sub":
        connected = block.unsqueeze(-1) == torch.arange(chains, device=analog.device)
    wrong = (analog.abs() * math.sqrt(antennas) - connected.double()).abs() > TOLERANCE
    if problem.phase_bits is not None:
        steps = torch.angle(analog) * 2**problem.phase_bits / (2 * math.pi)
        wrong = wrong | (connected & ((steps - steps.round()).abs() > _PHASE_TOLERANCE))
    formed = (analog @ solution.digital.to(torch.complex128)).transpose(-1, -2)
    unequal = (formed - solution.precoder).abs() > TOLERANCE
    return wrong.flatten(1).any(-1) | unequal.flatten(1).any(-1)


def is_below(solution: ProblemSolution, textbook: ProblemSolution) -> Tensor:
    """Find the drops on which a solution is worse than the textbook, by more than rounding.

    Parameters
    ----------
    solution, textbook : ProblemSolution
        Solutions of the same drops and the same problem.

    Returns
    -------
    Tensor
        Bool (drops,): the textbook meets the minimum rate alone, or both or none do and it has the larger objective.
    """
    higher = textbook.objective > solution.objective + _ROUNDING * textbook.objective.abs()
    return (textbook.feasible & ~solution.feasible) | ((textbook.feasible == solution.feasible) & higher)
