"""Encode channels into reports and decode reports into CSI, with the state of each end.

A report of a codec with memory is a sequence number of 3 bits and a number of the other B - 3 bits. The decoder derives
everything from the reports and `FeedbackFormat`; its CSI equals the encoder's reconstruction bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import to_antennas, to_beams
from simulator.csi.feedback.codec import FeedbackFormat
from simulator.csi.feedback.digits import pack_reports, unpack_reports
from simulator.csi.feedback.loop import SEQUENCE_BITS, SharedState, align, decode_rest, encode_rest

Reports: TypeAlias = npt.NDArray[np.uint8]
_DOUBTFUL = 0.1  # share of a channel's power that the closed loop misses, above which a reset is tried


class FeedbackOutOfStep(NflaeError):
    """Report that the sequence number of a report is not the expected one."""


class FeedbackEncoder:
    """Code the successive channels of several users; the end of the receivers.

    Parameters
    ----------
    link
        Parameters of the link.
    users
        Number of users.
    """

    def __init__(self, link: FeedbackFormat, users: int) -> None:
        self.link = link
        self.users = users
        self._codecs = link.snapshot_codecs()
        self._state = SharedState(users, link.antennas, link.geometry, link.predictor)

    def reset(self, users: Sequence[int] | None = None) -> None:
        """Make the next reports resets, from which a decoder out of step recovers.

        Parameters
        ----------
        users
            Numbers of the users, counted from 0; None: all.
        """
        self._state.known[list(range(self.users)) if users is None else list(users)] = 0

    def encode(self, channels: Tensor) -> tuple[Reports, Tensor]:
        """Code the next channel of every user.

        Parameters
        ----------
        channels
            h_k, complex (users, antennas); neither zero nor NaN.

        Returns
        -------
        reports : ndarray
            uint8 (users, ceil(B / 8)), the first bit of a report highest.
        reconstructed : Tensor
            The decoder's CSI, complex64 (users, antennas).

        Raises
        ------
        NflaeError
            If the shape does not fit, or a channel is zero, NaN or infinite.
        """
        if channels.shape != (self.users, self.link.antennas):
            raise NflaeError(
                f"feedback of {self.users} users and {self.link.antennas} antennas got channels of shape"
                f" {tuple(channels.shape)}; expected (users, antennas)"
            )
        exact = channels.to(torch.complex128)
        norms = torch.linalg.vector_norm(exact, dim=1)
        bad = (~(torch.isfinite(norms) & (norms > 0))).nonzero().flatten().tolist()
        if bad:
            raise NflaeError(f"feedback: the channel of user {bad[0] + 1} is zero, NaN or infinite")
        if not self.link.has_memory:
            numbers, decoded = self._encode_snapshots(exact)
        else:
            numbers, decoded = self._encode_loop(exact)
        return pack_reports(numbers, self.link.bits), decoded.to(torch.complex64)

    def _encode_snapshots(self, channels: Tensor) -> tuple[list[int], Tensor]:
        """Code channels by the better of the snapshot codecs for each user."""
        best_numbers, best, best_loss = (
            [0] * len(channels),
            torch.zeros_like(channels),
            torch.full((len(channels),), 2.0),
        )
        best_loss = best_loss.double()
        body = self.link.bits - (SEQUENCE_BITS if self.link.has_memory else 0) - (len(self._codecs) - 1)
        for place, codec in enumerate(self._codecs):
            numbers = codec.encode(channels)
            decoded = codec.decode(numbers)
            loss = missed_share(channels, decoded)
            for user in (loss < best_loss).nonzero().flatten().tolist():
                best_numbers[user] = (place << body) + numbers[user]
            best = torch.where((loss < best_loss).unsqueeze(1), decoded, best)
            best_loss = torch.minimum(loss, best_loss)
        return best_numbers, best

    def _encode_loop(self, channels: Tensor) -> tuple[list[int], Tensor]:
        state, body = self._state, self.link.bits - SEQUENCE_BITS
        rows = torch.arange(self.users)
        going = (state.known > 0).nonzero().flatten()
        numbers, beams = [0] * self.users, torch.zeros_like(channels)
        sequence = torch.zeros(self.users, dtype=torch.int64)
        loss = torch.full((self.users,), 2.0, dtype=torch.float64)
        sides = state.side.take(rows)
        if len(going):
            found, beams[going], side = encode_rest(channels[going], state, going, body)
            sequence[going] = state.next_sequence(going)
            for user, number in zip(going.tolist(), found, strict=True):
                numbers[user] = (int(sequence[user]) << body) + number
            loss[going] = missed_share(to_beams(channels[going], self.link.geometry), beams[going])
            sides.put(going, side)
        doubtful = (loss > _DOUBTFUL).nonzero().flatten()
        if len(doubtful):
            found, decoded = self._encode_snapshots(channels[doubtful])
            better = missed_share(channels[doubtful], decoded) < loss[doubtful]
            for user, number, wins in zip(doubtful.tolist(), found, better.tolist(), strict=True):
                numbers[user] = number if wins else numbers[user]
            sequence[doubtful] = torch.where(better, 0, sequence[doubtful])
            beams[doubtful] = torch.where(better.unsqueeze(1), to_beams(decoded, self.link.geometry), beams[doubtful])
        state.side.put(rows, sides)
        state.append(rows, beams, sequence)
        return numbers, to_antennas(beams, self.link.geometry)


LossRule: TypeAlias = Literal["error", "hold"]


class FeedbackDecoder:
    """Decode the successive reports of several users; the end of the base station.

    Parameters
    ----------
    link
        Parameters of the link, those of the encoder.
    users
        Number of users.
    on_loss
        ``error``: raise `FeedbackOutOfStep` where a report is missing before one that depends on it; ``hold``: keep
        the user's last CSI until its next reset.
    """

    def __init__(self, link: FeedbackFormat, users: int, on_loss: LossRule = "error") -> None:
        self.link = link
        self.users = users
        self.on_loss = on_loss
        self._codecs = link.snapshot_codecs()
        self._state = SharedState(users, link.antennas, link.geometry, link.predictor)
        self._csi = torch.zeros(users, link.antennas, dtype=torch.complex64)

    @property
    def out_of_step(self) -> Tensor:
        """Users whose next report has to be a reset, bool (users,); none without memory."""
        return (self._state.known == 0) & self.link.has_memory

    def decode(self, reports: Reports, received: npt.NDArray[np.bool_] | None = None) -> Tensor:
        """Decode the next report of every user.

        Parameters
        ----------
        reports
            uint8 (users, ceil(B / 8)).
        received
            Users whose report has arrived, bool (users,); None: all. The others keep their last CSI.

        Returns
        -------
        Tensor
            CSI, complex64 (users, antennas); zero for a user without any decoded report.

        Raises
        ------
        NflaeError
            If the shape or type of the reports does not fit.
        FeedbackOutOfStep
            If a report is missing and ``on_loss`` is ``error``; the state is then as before.
        """
        if reports.shape != (self.users, self.link.bytes) or reports.dtype != np.uint8:
            raise NflaeError(
                f"reports of {self.users} users of {self.link.bits} bits must be uint8 of shape"
                f" {(self.users, self.link.bytes)}, got {reports.dtype} of shape {reports.shape}"
            )
        rows = torch.arange(self.users) if received is None else torch.from_numpy(np.flatnonzero(received))
        numbers = [unpack_reports(reports[row : row + 1], self.link.bits)[0] for row in rows.tolist()]
        if not self.link.has_memory:
            if numbers:
                self._csi[rows] = self._codecs[0].decode(numbers).to(torch.complex64)
            return self._csi.clone()
        self._decode_loop(rows, numbers)
        return self._csi.clone()

    def _decode_loop(self, rows: Tensor, numbers: list[int]) -> None:
        state, body = self._state, self.link.bits - SEQUENCE_BITS
        sequence = torch.tensor([number >> body for number in numbers], dtype=torch.int64)
        expected = state.next_sequence(rows)
        lost = (sequence != 0) & ((sequence != expected) | (state.known[rows] == 0))
        if lost.any() and self.on_loss == "error":
            first = int(lost.nonzero()[0])
            wanted = int(expected[first]) if state.known[rows[first]] else 0
            raise FeedbackOutOfStep(
                f"feedback of user {int(rows[first]) + 1} is out of step: its report has the sequence number"
                f" {int(sequence[first])}, expected {wanted}{' or 0' if wanted else ''}; reset the encoder of this user"
            )
        state.known[rows[lost]] = 0
        rest = (1 << body) - 1
        for kind in (sequence == 0, (sequence != 0) & ~lost):
            chosen = kind.nonzero().flatten()
            if not len(chosen):
                continue
            found, users = [numbers[place] & rest for place in chosen.tolist()], rows[chosen]
            if sequence[chosen[0]] == 0:
                beams = to_beams(self._decode_snapshots(found), self.link.geometry)
            else:
                beams = decode_rest(found, state, users, body)
            state.append(users, beams, sequence[chosen])
            self._csi[users] = to_antennas(beams, self.link.geometry).to(torch.complex64)

    def _decode_snapshots(self, numbers: list[int]) -> Tensor:
        """Decode resets, complex128 (rows, antennas)."""
        if len(self._codecs) == 1:
            return self._codecs[0].decode(numbers)
        body = self.link.bits - SEQUENCE_BITS - 1
        both = [codec.decode([number & ((1 << body) - 1) for number in numbers]) for codec in self._codecs]
        second = torch.tensor([bool(number >> body) for number in numbers]).unsqueeze(1)
        return torch.where(second, both[1], both[0])


def missed_share(channels: Tensor, decoded: Tensor) -> Tensor:
    """Compute the share of power in the channel outside the direction of the CSI, 1 - |g^H h|^2 / (||g||^2 ||h||^2).

    Parameters
    ----------
    channels, decoded
        h and g, complex (users, antennas).

    Returns
    -------
    Tensor
        Share, float64 (users,).
    """
    exact, found = channels.to(torch.complex128), decoded.to(torch.complex128)
    inner = (found.conj() * exact).sum(1).abs().square()
    product = found.abs().square().sum(1) * exact.abs().square().sum(1)
    share: Tensor = 1 - inner / product.clamp(min=torch.finfo(product.dtype).tiny)
    return share.clamp(min=0)


def csi_error_db(channels: Tensor, decoded: Tensor) -> Tensor:
    """Compute the energy of the CSI's error over that of the channel, the common phase removed.

    Parameters
    ----------
    channels, decoded
        h and g, complex (users, antennas).

    Returns
    -------
    Tensor
        10 log10 of min over phi of ||h - exp(j phi) g||^2 / ||h||^2, float64 (users,), dB.
    """
    exact = channels.to(torch.complex128)
    error = (exact - align(decoded.to(torch.complex128), exact)).abs().square().sum(1)
    power = exact.abs().square().sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    decibels: Tensor = 10 * torch.log10((error / power).clamp(min=1e-30))
    return decibels


def is_reset(reports: Reports, link: FeedbackFormat) -> npt.NDArray[np.bool_]:
    """Find the reports that hold a snapshot by itself.

    Parameters
    ----------
    reports
        uint8 (users, ceil(B / 8)).
    link
        Parameters of the link.

    Returns
    -------
    ndarray
        bool (users,); all of them without memory.
    """
    resets: npt.NDArray[np.bool_] = (reports[:, 0] >> (8 - SEQUENCE_BITS) == 0) | (not link.has_memory)
    return resets
