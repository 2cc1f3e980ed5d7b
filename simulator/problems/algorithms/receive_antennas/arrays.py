"""Hold channels of users with several receive antennas, their virtual users, and the solution of given beams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.algebra import (
    TINY,
    Bool,
    Complex,
    exact_gram,
    sinr,
    squares,
    structured_beams,
)
from simulator.problems.algorithms.receive_antennas.block_wmmse import own_filters
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, make_solution
from simulator.problems.structured import Allocation, per_drop_column

_LEAST_AMPLITUDE = 1e-12  # of the largest: a stream below it has no power
_LEAST_GAIN = 1e-12  # of a user's strongest stream: below it h' is rounding
_NO_POWER = 1e-24  # of the total: a vector has no digits for its direction
_LEAST_ENERGY = 1e-200  # of a beam: that of a channel of zeros would have an infinite length


@dataclass(frozen=True)
class ReceiveArrays:
    """Hold a problem with joint receivers, with channels in double precision and in units of the noise.

    Amplitudes, coefficients C and Gamma are those of `block_wmmse`, with each user's receive antennas in the basis of
    its channel's left singular vectors, strongest first: an antenna m of this basis is what the eigen-combiner u_m
    receives. Streams of all users are numbered user by user.

    Parameters
    ----------
    batch, budget, problem
        Channels, complex64 (drops, users, receive antennas, antennas), link budget and problem.
    basis : ndarray
        The left singular vectors as columns, complex128 (drops, users, receive antennas, receive antennas).
    channels : ndarray
        sqrt(P / sigma^2) h' of every receive antenna of the basis, complex128 (drops, users x receive antennas,
        antennas).
    gram : ndarray
        Gamma, complex128 (drops, users x receive antennas, users x receive antennas).
    """

    batch: ChannelBatch
    budget: LinkBudget
    problem: PrecodingProblem
    basis: Complex
    channels: Complex
    gram: Complex

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
        snr = np.reshape(per_drop_column(budget.power) / per_drop_column(budget.noise_power), (-1, 1, 1, 1))
        scaled = given * np.sqrt(snr).astype(np.complex128)
        own = scaled.conj() @ scaled.swapaxes(2, 3)
        level = np.abs(own).max((2, 3), keepdims=True)
        basis = np.linalg.eigh(own / np.maximum(level, TINY))[1][..., ::-1]
        channels = (basis.swapaxes(2, 3) @ scaled).reshape(drops, users * receive, antennas)
        return cls(batch, budget, problem, basis, channels, exact_gram(channels, np.ones((1, 1, 1))))

    @property
    def streams(self) -> int:
        """Streams per user."""
        return self.problem.streams or min(self.basis.shape[2], self.channels.shape[2])

    @property
    def owner(self) -> Bool:
        """The stream is the user's own, bool (1, users, streams of all users)."""
        users = self.basis.shape[1]
        return np.repeat(np.eye(users, dtype=np.bool_), self.streams, 1)[None]

    @property
    def places(self) -> npt.NDArray[np.intp]:
        """Receive antennas of the basis whose streams are those of all users, int64 (streams of all users,)."""
        users, receive = self.basis.shape[1:3]
        places: npt.NDArray[np.intp] = receive * np.arange(users)[:, None] + np.arange(self.streams)
        return places.ravel()

    def amplitudes(self, coefficients: Complex) -> Complex:
        """Compute the amplitudes of beams at every receive antenna, see `block_wmmse.sum_rates`."""
        received: Complex = self.gram @ coefficients
        return received.reshape(*self.basis.shape[:3], -1)

    def virtual_gram(self) -> Complex:
        """Gamma of the virtual users behind the eigen-combiners, complex128 (drops, streams of all, streams of all)."""
        places = self.places
        return self.gram if len(places) == self.gram.shape[1] else self.gram[:, places[:, None], places]

    def precoded(
        self, gram: Complex, chosen: npt.NDArray[np.intp], allocate: Callable[[Complex], Allocation]
    ) -> Complex:
        """Precode for some of the streams behind eigen-combiners as for single-antenna users.

        Parameters
        ----------
        gram : ndarray
            As from `virtual_gram`.
        chosen : ndarray
            Streams, int64 (drops, chosen streams).
        allocate : callable
            Function that returns the allocation for Gamma of the chosen streams.

        Returns
        -------
        ndarray
            Coefficients C of total power 1, complex128 (drops, users x receive antennas, chosen streams).
        """
        rows = np.arange(len(chosen))[:, None]
        part = gram[rows[..., None], chosen[:, :, None], chosen[:, None]]
        allocation = allocate(part)
        beams = structured_beams(part, allocation.dual)
        present = beams.energy > _LEAST_ENERGY  # a user of rank one has no second stream
        scale = np.sqrt(np.where(present, allocation.power / np.maximum(beams.energy, TINY), 0))
        coefficients = np.zeros((len(chosen), self.gram.shape[1], chosen.shape[1]), np.complex128)
        coefficients[rows, self.places[chosen]] = beams.coefficients * scale[:, None]
        return coefficients

    def eigen_rzf(self, gram: Complex) -> Complex:
        """Return coefficients of regularised zero forcing for all eigen-combiners, of equal powers."""
        return self.precoded(gram, self.every_stream, Allocation.equal)

    @property
    def every_stream(self) -> npt.NDArray[np.intp]:
        """All streams of all users, int64 (drops, streams)."""
        count = self.basis.shape[1] * self.streams
        return np.broadcast_to(np.arange(count), (len(self.basis), count))

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
        every = np.zeros((*coefficients.shape[:2], self.basis.shape[1] * self.streams), np.complex128)
        np.put_along_axis(every, np.broadcast_to(chosen[:, None], coefficients.shape), coefficients, 2)
        return every

    def solution(self, coefficients: Complex) -> ProblemSolution:
        """Form the solution of beams: streams in their own basis, MMSE combiners, and the SINRs behind these."""
        drops, users = self.basis.shape[:2]
        inverse_errors = own_filters(self.amplitudes(coefficients))[1]
        rotation = np.linalg.eigh(inverse_errors)[1][..., ::-1]
        by_user = coefficients.reshape(drops, -1, users, self.streams).swapaxes(1, 2) @ rotation
        rows = by_user.transpose(0, 1, 3, 2).reshape(drops, users * self.streams, -1) @ self.channels
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
        drops, users, receive, _ = self.basis.shape
        streams = self.streams
        power = squares(rows).sum(2)
        power[power <= _NO_POWER * power.sum(1, keepdims=True)] = 0
        power /= np.maximum(power.sum(1, keepdims=True), TINY)
        vectors = np.where((power > 0)[..., None], rows, self._spare_directions())
        norm = np.sqrt(squares(vectors).sum(2, keepdims=True))
        precoder = (vectors / np.maximum(norm, TINY)).astype(np.complex64)
        weighted = precoder * np.sqrt(power)[..., None]
        received = (self.channels.conj() @ weighted.transpose(0, 2, 1)).reshape(drops, users, receive, -1)
        combiners = (self.basis @ self._mmse_combiners(received)).astype(np.complex64)
        rounded = self.basis.conj().swapaxes(2, 3) @ combiners
        behind = (rounded.conj().swapaxes(2, 3) @ received).reshape(drops, users * streams, -1)
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

    def _mmse_combiners(self, received: Complex) -> Complex:
        """Return unit-norm MMSE combiners of own streams in the basis; eigen-combiners for those without power."""
        own = own_filters(received)[0]
        size = np.sqrt(squares(own).sum(2, keepdims=True))
        silent = size <= _LEAST_AMPLITUDE * size.max((1, 2, 3), keepdims=True)
        return np.where(silent, np.eye(*own.shape[2:]), own / np.maximum(size, TINY))

    def _spare_directions(self) -> Complex:
        """Return h' behind eigen-combiners for beams without power; the user's strongest one for those of no gain."""
        streams = self.streams
        virtual = self.channels[:, self.places]
        strongest = np.repeat(virtual[:, ::streams], streams, 1)
        weak = squares(virtual).sum(2) <= _LEAST_GAIN * squares(strongest).sum(2)
        return np.where(weak[..., None], strongest, virtual)
