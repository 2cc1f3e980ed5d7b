"""Hold channels of users with several receive antennas, their virtual users, and the solution of given beams."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.gram import compute_amplitude_scale, scaled_gram
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr
from simulator.downlink.structure import structured_coefficients
from simulator.problems.algorithms.receive_antennas.block_wmmse import interference, own_basis, own_streams
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution, split_powers

_LEAST_AMPLITUDE = 1e-12  # of the largest: a stream below it has no power
_LEAST_GAIN = 1e-6  # of a user's strongest stream: below it h' is rounding


@dataclass(frozen=True)
class ReceiveArrays:
    """Hold a problem with joint receivers, with channels in double precision.

    Beams are in rows, complex128 (drops, users x streams, antennas), of total power 1; amplitudes and Gamma are those
    of `block_wmmse`.

    Parameters
    ----------
    batch, budget, problem
        Channels, complex64 (drops, users, receive antennas, antennas), link budget and problem.
    scale : Tensor
        sqrt(P / sigma^2), float64 (drops or 1, 1, 1).
    channels : Tensor
        h of every receive antenna, complex128 (drops, users, receive antennas, antennas).
    streams : int
        Streams per user.
    """

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    scale: Tensor
    channels: Tensor
    streams: int

    @classmethod
    def of(cls, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ReceiveArrays:
        """Return the problem of a batch.

        Parameters
        ----------
        batch, budget, problem
            Channels, link budget and problem.

        Returns
        -------
        ReceiveArrays
            Problem with channels in double precision.
        """
        channels = batch.channels.to(torch.complex128)
        scale = compute_amplitude_scale(budget, channels.device).reshape(-1, 1, 1)
        return cls(batch, budget, problem, scale, channels, problem.streams or min(channels.shape[-2:]))

    @property
    def gram(self) -> Tensor:
        """Gamma of all receive antennas, complex128 (drops, users x receive antennas, users x receive antennas)."""
        return scaled_gram(self.scale, self.channels.flatten(1, 2))

    def amplitudes(self, beams: Tensor) -> Tensor:
        """Compute the amplitudes of beams at every receive antenna, see `block_wmmse.own_streams`."""
        received: Tensor = self.channels.conj() @ beams.transpose(-1, -2).unsqueeze(1)
        return received * self.scale.unsqueeze(-1)

    def beams(self, coefficients: Tensor) -> Tensor:
        """Form the beams of coefficients C, see `block_wmmse`."""
        combined: Tensor = coefficients.transpose(-1, -2) @ self.channels.flatten(1, 2)
        return combined * self.scale

    def eigen_combiners(self) -> Tensor:
        """Return the strongest left singular vectors, complex128 (drops, users, receive antennas, streams)."""
        largest = self.channels.abs().amax((-1, -2), keepdim=True)
        unit = self.channels / largest.clamp(min=torch.finfo(largest.dtype).tiny)
        vectors: Tensor = torch.linalg.eigh(unit.conj() @ unit.transpose(-1, -2))[1]
        return vectors.flip(-1)[..., : self.streams]

    def mmse_combiners(self, amplitudes: Tensor) -> Tensor:
        """Return unit-norm MMSE combiners of the streams in their own basis, as `eigen_combiners` does."""
        own = own_streams(amplitudes) @ own_basis(amplitudes)[0]
        return self._filtered(amplitudes, own, self.eigen_combiners())

    def virtual_channels(self, combiners: Tensor) -> Tensor:
        """Return h' = sum_m u_m h_m of every stream, complex128 (drops, users x streams, antennas)."""
        return (combiners.transpose(-1, -2) @ self.channels).flatten(1, 2)

    def virtual_beams(self, combiners: Tensor, inner: Scheme) -> Tensor:
        """Precode for the streams behind combiners by a scheme for single-antenna users, under the total power.

        Parameters
        ----------
        combiners : Tensor
            Unit-norm u, complex128 (drops, users, receive antennas, streams).
        inner : Scheme
            Scheme.

        Returns
        -------
        Tensor
            Beams.
        """
        virtual = self._with_spare(self.virtual_channels(combiners), _LEAST_GAIN)
        answer = inner(
            ChannelBatch(virtual.to(torch.complex64)), LinkBudget(self.budget.power, self.budget.noise_power)
        )
        fractions = answer.power / answer.power.sum(-1, keepdim=True)
        return answer.precoder.to(torch.complex128) * torch.sqrt(fractions).unsqueeze(-1)

    def eigen_rzf(self) -> Tensor:
        """Form the beams of regularised zero forcing for the eigen-combiners, of equal powers."""
        virtual = self.virtual_channels(self.eigen_combiners())
        gram = scaled_gram(self.scale, virtual)
        equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
        beams = _unit(structured_coefficients(gram, equal).transpose(-1, -2) @ virtual, -1)
        unit: Tensor = beams / torch.linalg.vector_norm(beams, dim=(-2, -1), keepdim=True)
        return unit

    def solution(self, beams: Tensor) -> ProblemSolution:
        """Form the solution of beams: streams in their own basis, MMSE combiners, and the SINRs behind these."""
        users = self.channels.shape[1]
        rotation = own_basis(self.amplitudes(beams))[0].transpose(-1, -2)
        rotated = (rotation @ beams.reshape(len(beams), users, self.streams, -1)).flatten(1, 2)
        total = torch.linalg.vector_norm(rotated, dim=(-2, -1), keepdim=True)
        watts = rotated / total * per_drop(self.budget.power, rotated).sqrt().reshape(-1, 1, 1)
        eigen = self.eigen_combiners()
        precoder, power = split_powers(watts, self._with_spare(self.virtual_channels(eigen), 1.0))
        fractions = power / per_drop(self.budget.power, power).unsqueeze(-1)
        amplitudes = self.amplitudes(precoder.to(torch.complex128) * fractions.sqrt().unsqueeze(-1))
        combiners = self._filtered(amplitudes, own_streams(amplitudes), eigen).to(torch.complex64)
        virtual = self.virtual_channels(combiners.to(torch.complex128))
        return make_solution(
            ChannelBatch(virtual.to(torch.complex64), self._labels()),
            self.budget,
            self.problem,
            precoder,
            power,
            sinr=achieved_sinr(virtual, precoder, power, self.budget.noise_power),
            streams=self.streams,
            receive_combiner=combiners.transpose(-1, -2).flatten(1, 2),
        )

    def _with_spare(self, virtual: Tensor, gain: float) -> Tensor:
        """Replace h' of no gain, which has no direction, by the user's strongest one times a gain."""
        strongest = virtual[:, :: self.streams].repeat_interleave(self.streams, 1)
        norm, largest = (torch.linalg.vector_norm(each, dim=-1, keepdim=True) for each in (virtual, strongest))
        return torch.where(norm > _LEAST_GAIN * largest, virtual, gain * strongest)

    def _labels(self) -> Tensor | None:
        given = self.batch.near_field
        return None if given is None else given.repeat_interleave(self.streams, -1)

    def _filtered(self, amplitudes: Tensor, own: Tensor, spare: Tensor) -> Tensor:
        """Return unit-norm R^-1 times the amplitudes of own streams, R of noise and other users; spare for silence."""
        size = own.abs().amax(-2, keepdim=True)
        silent = size <= _LEAST_AMPLITUDE * size.amax((1, 2, 3), keepdim=True)
        return torch.where(silent, spare, _unit(torch.linalg.solve_ex(interference(amplitudes), own)[0], -2))


def _unit(vectors: Tensor, axis: int) -> Tensor:
    """Scale vectors to unit norm; zero stays zero."""
    norm = torch.linalg.vector_norm(vectors, dim=axis, keepdim=True)
    unit: Tensor = vectors / norm.clamp(min=torch.finfo(norm.dtype).tiny)
    return unit
