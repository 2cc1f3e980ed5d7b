"""Maximise the sum rate of a hybrid array: R RF chains behind phase shifters, W = F D with unit-modulus F.

The inner scheme precodes for a fully digital array. The phases F are those that represent its beams best, weighted by
their powers, see `analog.descend_phases`; then the inner scheme precodes for the channels projected on the range of F.
With F = Q S V^H, a total power of F D is one of S V^H D, so that the projected channels Q^H h have the plain problem of
R antennas. For R >= 2 K continuous phases the digital beams are represented exactly, see `analog.two_phase_form`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algorithms.hybrid_arrays.analog import (
    PhaseShifters,
    descend_phases,
    initial_phases,
    two_phase_form,
)
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded, make_solution
from simulator.schemes.options import Between
from simulator.schemes.rzf import rzf

SWEEPS = 10
_LEAST_SINGULAR_VALUE = 1e-3  # of the largest: directions below it would cost the digits of single precision


@dataclass(frozen=True)
class HybridArray:
    """Hold a problem with a hybrid array, with channels in double precision.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget and problem.
    channels : Tensor
        h_k, complex128 (drops, users, antennas).
    shifters : PhaseShifters
        Hardware.
    """

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    channels: Tensor
    shifters: PhaseShifters

    @classmethod
    def of(cls, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> HybridArray:
        """Return the problem of a batch.

        Parameters
        ----------
        batch, budget, problem
            Channels, link budget and problem.

        Returns
        -------
        HybridArray
            Problem with channels in double precision.
        """
        return cls(batch, budget, problem, batch.channels.to(torch.complex128), PhaseShifters.of(problem))

    def digital_target(self, scheme: Scheme) -> Tensor:
        """Compute a scheme's digital precoder, columns sqrt(P_k) w_k, complex128 (drops, antennas, users)."""
        answer = scheme(self.batch, self.budget)
        return (answer.precoder.to(torch.complex128) * answer.power.sqrt().unsqueeze(-1)).transpose(-1, -2)

    def user_phases(self) -> Tensor:
        """Take the phases of the users' channels, one user per chain in turn; F, complex128 (drops, antennas, R)."""
        users, antennas = self.channels.shape[1:]
        served = torch.arange(self.shifters.chains, device=self.channels.device) % users
        connected = self.shifters.connected(antennas, self.channels.device)
        return self.shifters.phases(self.channels[:, served].transpose(-1, -2)) * connected

    def precoded(self, analog: Tensor, scheme: Scheme) -> ProblemSolution:
        """Precode digitally behind given phases by a scheme for a fully digital array.

        Parameters
        ----------
        analog : Tensor
            F, complex128 (drops, antennas, R).
        scheme : Scheme
            Scheme for the projected channels.

        Returns
        -------
        ProblemSolution
            Solution of every drop.
        """
        basis, values, chains = torch.linalg.svd(analog, full_matrices=False)
        present = values > _LEAST_SINGULAR_VALUE * values[:, :1]
        projected = self.channels @ (basis * present.unsqueeze(-2)).conj()
        answer = scheme(ChannelBatch(projected.to(torch.complex64), self.batch.near_field), self.budget)
        directions = answer.precoder.to(torch.complex128).transpose(-1, -2)
        inverse = torch.where(present, 1 / values, 0).unsqueeze(-1)
        return self.solution(analog, chains.mH @ (inverse * directions), answer.power)

    def solution(self, analog: Tensor, digital: Tensor, power: Tensor) -> ProblemSolution:
        """Form the solution of an analog and a digital part.

        Parameters
        ----------
        analog : Tensor
            F, complex128 (drops, antennas, R).
        digital : Tensor
            D, complex128 (drops, R, users), of columns of any length but zero.
        power : Tensor
            P_k, float64 (drops, users), W.

        Returns
        -------
        ProblemSolution
            Solution of every drop.
        """
        antennas = analog.shape[-2]
        shifted = (analog / antennas**0.5).to(torch.complex64)
        rounded = digital.to(torch.complex64)
        columns = shifted.to(torch.complex128) @ rounded.to(torch.complex128)
        norm = torch.linalg.vector_norm(columns, dim=-2, keepdim=True).clamp(min=torch.finfo(power.dtype).tiny)
        return make_solution(
            self.batch,
            self.budget,
            self.problem,
            (columns / norm).transpose(-1, -2).to(torch.complex64),
            power,
            analog=shifted,
            digital=(rounded / norm).to(torch.complex64),
        )


def precode_hybrid(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    sweeps: Annotated[int, Between(0, 1000)] = SWEEPS,
) -> ProblemSolution:
    """Maximise the sum rate of a hybrid array from the digital precoder of an inner scheme.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with a hybrid array.
    inner : Scheme
        Scheme for fully digital arrays.
    sweeps : int
        Sweeps of the descent over the phases.

    Returns
    -------
    ProblemSolution
        Never below RZF behind the phases of the users' channels; `fallback` marks the drops where that is better.
    """
    array = HybridArray.of(batch, budget, problem)
    return guarded(_precoded(array, inner, sweeps), user_phases_rzf(batch, budget, problem))


def user_phases_rzf(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Steer each chain by the phases of a user's channel, and regularise zero forcing behind them.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget, and problem with a hybrid array.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    array = HybridArray.of(batch, budget, problem)
    return array.precoded(array.user_phases(), rzf)


def _precoded(array: HybridArray, inner: Scheme, sweeps: int) -> ProblemSolution:
    shifters = array.shifters
    users, antennas = array.channels.shape[1:]
    if shifters.bits is None and not shifters.sub_connected and shifters.chains >= 2 * users:
        answer = inner(array.batch, array.budget)
        analog, digital = two_phase_form(answer.precoder.to(torch.complex128).transpose(-1, -2))
        spare = shifters.chains - 2 * users
        analog = torch.cat([analog, torch.ones_like(analog[..., :1]).expand(-1, antennas, spare)], -1)
        digital = torch.cat([digital, torch.zeros_like(digital[:, :1]).expand(-1, spare, users)], -2)
        return array.solution(analog, digital, answer.power)
    target = array.digital_target(inner)
    analog = descend_phases(target, initial_phases(target, shifters), shifters, sweeps)
    return array.precoded(analog, inner)
