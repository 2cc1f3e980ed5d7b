"""Hold channels of users with several receive antennas, their virtual users, and the solution of given beams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.algebra import (
    TINY,
    Bool,
    Complex,
    exact_gram,
    sinr,
    squares,
    structured_beams,
)
from simulator.problems.algorithms.receive_antennas.block_wmmse import filtered_streams
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution
from simulator.problems.structured import Allocation, inner_allocation, per_drop_column

_LEAST_AMPLITUDE = 1e-12  # of the largest: a stream below it has no power
_LEAST_GAIN = 1e-12  # of a user's strongest stream: below it h' is rounding
_NO_POWER = 1e-24  # of the total: a vector has no digits for its direction
_LEAST_ENERGY = 1e-200  # of a beam: that of a channel of zeros would have an infinite length


@dataclass(frozen=True)
class ReceiveArrays:
    """Hold a problem with joint receivers, with channels in double precision and in units of the noise.

    Amplitudes, coefficients C and Gamma are those of `block_wmmse`; streams of all users are numbered user by user.

    Parameters
    ----------
    batch, budget, problem
        Channels, complex64 (drops, users, receive antennas, antennas), link budget and problem.
    channels : ndarray
        sqrt(P / sigma^2) h of every receive antenna, complex128 (drops, users x receive antennas, antennas).
    gram : ndarray
        Gamma, complex128 (drops, users x receive antennas, users x receive antennas).
    eigen : ndarray
        Unit-norm combiners of the channels' strongest left singular vectors, complex128 (drops, users, receive
        antennas, streams).
    """

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    channels: Complex
    gram: Complex
    eigen: Complex

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
        given = batch.channels.resolve_conj().cpu().numpy()
        drops, users, receive, antennas = given.shape
        snr = np.reshape(per_drop_column(budget.power) / per_drop_column(budget.noise_power), (-1, 1, 1))
        channels = given.reshape(drops, users * receive, antennas) * np.sqrt(snr).astype(np.complex128)
        gram = exact_gram(channels, np.ones((1, 1, 1)))
        index = np.arange(users)
        own = gram.reshape(drops, users, receive, users, receive)[:, index, :, index].swapaxes(0, 1)
        level = np.abs(own).max((-1, -2), keepdims=True)
        vectors = np.linalg.eigh(own / np.maximum(level, TINY))[1]
        streams = problem.streams or min(receive, antennas)
        return cls(batch, budget, problem, channels, gram, vectors[..., ::-1][..., :streams])

    @property
    def streams(self) -> int:
        """Streams per user."""
        return int(self.eigen.shape[-1])

    @property
    def owner(self) -> Bool:
        """The stream is the user's own, bool (1, users, streams of all users)."""
        users = self.eigen.shape[1]
        return np.repeat(np.eye(users, dtype=np.bool_), self.streams, 1)[None]

    def spread(self, combiners: Complex) -> Complex:
        """Return combiners of the users as columns over all receive antennas, (drops, antennas, streams of all)."""
        drops, users, receive, streams = combiners.shape
        columns = np.zeros((drops, users, receive, users, streams), np.complex128)
        index = np.arange(users)
        columns[:, index, :, index] = combiners.swapaxes(0, 1)
        return columns.reshape(drops, users * receive, users * streams)

    def amplitudes(self, coefficients: Complex) -> Complex:
        """Compute the amplitudes of beams at every receive antenna, see `block_wmmse.filtered_streams`."""
        received: Complex = self.gram @ coefficients
        return received.reshape(*self.eigen.shape[:3], -1)

    def virtual_gram(self) -> Complex:
        """Gamma of the virtual users behind the eigen-combiners, complex128 (drops, streams of all, streams of all).

        Streams of no gain, which have no direction, are left out by zeros.
        """
        columns = self.spread(self.eigen)
        gram: Complex = columns.conj().transpose(0, 2, 1) @ self.gram @ columns
        return gram

    def precoded(self, chosen: npt.NDArray[np.intp], inner: Scheme, gram: Complex) -> Complex:
        """Precode for some of the streams behind eigen-combiners by a scheme for single-antenna users.

        Parameters
        ----------
        chosen : ndarray
            Streams, int64 (drops, chosen streams).
        inner : Scheme
            Scheme.
        gram : ndarray
            As from `virtual_gram`.

        Returns
        -------
        ndarray
            Coefficients C of total power 1, complex128 (drops, users x receive antennas, chosen streams).
        """
        rows = np.arange(len(chosen))[:, None]
        part = gram[rows[..., None], chosen[:, :, None], chosen[:, None]]
        return self._weighted(
            self.spread(self.eigen).transpose(0, 2, 1)[rows, chosen], part, inner_allocation(inner, part)
        )

    def eigen_rzf(self, gram: Complex) -> Complex:
        """Return coefficients of regularised zero forcing for all eigen-combiners, of equal powers."""
        return self._weighted(self.spread(self.eigen).transpose(0, 2, 1), gram, Allocation.equal(gram))

    def _weighted(self, combiners: Complex, gram: Complex, allocation: Allocation) -> Complex:
        beams = structured_beams(gram, allocation.dual)
        present = beams.energy > _LEAST_ENERGY  # a user of rank one has no second stream
        scale = np.sqrt(np.where(present, allocation.power / np.maximum(beams.energy, TINY), 0))
        coefficients: Complex = combiners.transpose(0, 2, 1) @ (beams.coefficients * scale[:, None])
        return coefficients

    def placed(self, coefficients: Complex, chosen: npt.NDArray[np.intp]) -> Complex:
        """Place coefficients of chosen streams among those of all.

        Parameters
        ----------
        coefficients : ndarray
            C, complex128 (drops, users x receive antennas, chosen streams).
        chosen : ndarray
            Streams, int64 (drops, chosen streams).

        Returns
        -------
        ndarray
            complex128 (drops, users x receive antennas, streams of all users), zeros for streams that are not chosen.
        """
        every = np.zeros((*coefficients.shape[:2], self.eigen.shape[1] * self.streams), np.complex128)
        np.put_along_axis(every, np.broadcast_to(chosen[:, None], coefficients.shape), coefficients, 2)
        return every

    def solution(self, coefficients: Complex) -> ProblemSolution:
        """Form the solution of beams: streams in their own basis, MMSE combiners, and the SINRs behind these."""
        drops, users, _, streams = self.eigen.shape
        _, inverse_errors = filtered_streams(self.amplitudes(coefficients), self.owner)
        index = np.arange(users)
        blocks = inverse_errors.reshape(drops, users, streams, users, streams)[:, index, :, index].swapaxes(0, 1)
        rotation = np.linalg.eigh(blocks)[1][..., ::-1]
        by_user = coefficients.reshape(drops, -1, users, streams).swapaxes(1, 2) @ rotation
        rows = by_user.transpose(0, 1, 3, 2).reshape(drops, users * streams, -1) @ self.channels
        return self.beams_solution(rows)

    def beams_solution(self, rows: Complex) -> ProblemSolution:
        """Form the solution of beams of any total power in the streams' own basis.

        Parameters
        ----------
        rows : ndarray
            Beams, complex128 (drops, streams of all users, antennas).

        Returns
        -------
        ProblemSolution
        """
        drops, users, receive, streams = self.eigen.shape
        power = squares(rows).sum(2)
        power[power <= _NO_POWER * power.sum(1, keepdims=True)] = 0
        power /= np.maximum(power.sum(1, keepdims=True), TINY)
        vectors = np.where((power > 0)[..., None], rows, self._spare_directions())
        norm = np.sqrt(squares(vectors).sum(2, keepdims=True))
        precoder = (vectors / np.maximum(norm, TINY)).astype(np.complex64)
        weighted = precoder * np.sqrt(power)[..., None]
        received = (self.channels.conj() @ weighted.transpose(0, 2, 1)).reshape(drops, users, receive, -1)
        combiners = self._mmse_combiners(received)
        adjoint = self.spread(combiners.astype(np.complex128)).conj().transpose(0, 2, 1)
        behind = adjoint @ received.reshape(drops, users * receive, -1)
        near = self.batch.near_field
        labels = None if near is None else near.repeat_interleave(streams, -1)
        device = self.batch.channels.device
        by_stream = np.ascontiguousarray(combiners.transpose(0, 1, 3, 2))
        virtual = (by_stream @ self.batch.channels.cpu().numpy()).reshape(drops, users * streams, -1)
        return make_solution(
            ChannelBatch(torch.from_numpy(virtual).to(device), labels),
            self.budget,
            self.problem,
            torch.from_numpy(precoder).to(device),
            torch.from_numpy(power * per_drop_column(self.budget.power)).to(device),
            sinr=torch.from_numpy(sinr(squares(behind), np.ones(power.shape))).to(device),
            streams=streams,
            receive_combiner=torch.from_numpy(by_stream.reshape(drops, users * streams, receive)).to(device),
        )

    def _mmse_combiners(self, received: Complex) -> npt.NDArray[np.complex64]:
        """Return unit-norm MMSE combiners of own streams; eigen-combiners for those without power."""
        drops, users, receive, streams = self.eigen.shape
        filters, _ = filtered_streams(received, self.owner)
        index = np.arange(users)
        own = filters.reshape(drops, users, receive, users, streams)[:, index, :, index].swapaxes(0, 1)
        size = np.sqrt(squares(own).sum(2, keepdims=True))
        silent = size <= _LEAST_AMPLITUDE * size.max((1, 2, 3), keepdims=True)
        combiners: npt.NDArray[np.complex64] = np.where(silent, self.eigen, own / np.maximum(size, TINY)).astype(
            np.complex64
        )
        return combiners

    def _spare_directions(self) -> Complex:
        """Return h' behind eigen-combiners for beams without power; the user's strongest one for those of no gain."""
        streams = self.streams
        virtual = self.spread(self.eigen).transpose(0, 2, 1) @ self.channels
        strongest = np.repeat(virtual[:, ::streams], streams, 1)
        weak = squares(virtual).sum(2) <= _LEAST_GAIN * squares(strongest).sum(2)
        return np.where(weak[..., None], strongest, virtual)
