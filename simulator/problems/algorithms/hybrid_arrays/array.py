"""Hold the problem of a hybrid array, project channels on the range of its phases, and form solutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import rates, sinr
from simulator.downlink.structure import structured_beams
from simulator.problems.algorithms.hybrid_arrays.analog import PhaseShifters
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution

_LEAST_SINGULAR_VALUE = 3e-3  # of the largest: directions below it would cost the digits of single precision


@dataclass(frozen=True)
class HybridArray:
    """Hold a problem with a hybrid array.

    Parameters
    ----------
    batch, budget, problem
        Channels, link budget and problem.
    shifters : PhaseShifters
        Hardware.
    """

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
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
            Problem with its hardware.
        """
        return cls(batch, budget, problem, PhaseShifters.of(problem))

    @property
    def channels(self) -> Tensor:
        """Channels h_k, complex64 (drops, users, antennas)."""
        return self.batch.channels

    def user_phases(self) -> Tensor:
        """Take the phases of the users' channels, one user per chain in turn; F, complex64 (drops, antennas, R)."""
        users, antennas = self.channels.shape[1:]
        served = torch.arange(self.shifters.chains, device=self.channels.device) % users
        phases = self.shifters.phases(self.channels).transpose(-1, -2)[..., served]
        return phases * self.shifters.connected(antennas, phases)

    def rzf_sum_rate(self, analog: Tensor) -> Tensor:
        """Compute the sum rate of regularised zero forcing behind phases, without its beams.

        Parameters
        ----------
        analog : Tensor
            F, complex (drops, antennas, R).

        Returns
        -------
        Tensor
            float64 (drops,), bps/Hz.
        """
        gram = normalised_gram(self._projected(analog)[0], self.budget)
        equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
        return rates(sinr(structured_beams(gram, equal).effective_gains, equal)).sum(-1)

    def precoded(self, analog: Tensor, scheme: Scheme) -> ProblemSolution:
        """Precode digitally behind given phases by a scheme for a fully digital array.

        Parameters
        ----------
        analog : Tensor
            F, complex (drops, antennas, R).
        scheme : Scheme
            Scheme for the projected channels.

        Returns
        -------
        ProblemSolution
            Solution of every drop.
        """
        projected, inverse = self._projected(analog)
        answer = scheme(ChannelBatch(projected, self.batch.near_field), self.budget)
        return self.solution(analog, inverse @ answer.precoder.to(inverse.dtype).transpose(-1, -2), answer.power)

    def _projected(self, analog: Tensor) -> tuple[Tensor, Tensor]:
        """Return the channels Q^H h, complex64 (drops, users, R), and V S^-1, complex128 (drops, R, R)."""
        single = analog.to(torch.complex64)
        values, vectors = torch.linalg.eigh((single.mH @ single).to(torch.complex128))
        present = values > _LEAST_SINGULAR_VALUE**2 * values[:, -1:]
        inverse = vectors * torch.where(present, values.clamp(min=1e-300).rsqrt(), 0).unsqueeze(-2)
        steered = (self.channels @ single.conj()).to(torch.complex128)
        return (steered @ inverse.conj()).to(torch.complex64), inverse

    def solution(self, analog: Tensor, digital: Tensor, power: Tensor) -> ProblemSolution:
        """Form the solution of an analog and a digital part.

        Parameters
        ----------
        analog : Tensor
            F, complex (drops, antennas, R).
        digital : Tensor
            D, complex (drops, R, users), of columns of any length but zero.
        power : Tensor
            P_k, float64 (drops, users), W.

        Returns
        -------
        ProblemSolution
            Solution of every drop.
        """
        shifted = (analog / analog.shape[-2] ** 0.5).to(torch.complex64)
        rounded = digital.to(torch.complex64)
        # In double precision, so that F D is the precoder to its last digit whatever the condition of F.
        rows = (shifted.to(torch.complex128) @ rounded.to(torch.complex128)).transpose(-1, -2).contiguous()
        norm = torch.linalg.vector_norm(torch.view_as_real(rows).flatten(-2), dim=-1, keepdim=True)
        norm = norm.clamp(min=torch.finfo(norm.dtype).tiny)
        return make_solution(
            self.batch,
            self.budget,
            self.problem,
            (rows / norm).to(torch.complex64),
            power,
            analog=shifted,
            digital=(rounded / norm.transpose(-1, -2)).to(torch.complex64),
        )
