"""Close the loop between encoder and decoder: code what a prediction from the shared CSI leaves over.

Both ends keep the last 12 reconstructed channels of every user, in beams, with phases aligned: the phase of a channel
common to its antennas is not fed back, as no precoder depends on it. From them follow the prediction, the last one held
or a vector autoregression, and the spread of the difference. A report begins with a sequence number of 3 bits: 1 to 7
in turn, or 0 for a reset, whose other bits hold a snapshot by itself and with which the shared history starts anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry, to_beams
from simulator.csi.feedback.innovation import SideState, decode_difference, encode_difference
from simulator.csi.prediction.autoregressive import autoregressive
from simulator.csi.prediction.temporal import temporal_gram

PredictorName: TypeAlias = Literal["hold", "ar"]
SEQUENCE_BITS = 3
_CYCLE = (1 << SEQUENCE_BITS) - 1
_DEPTH = 12
_QUANTISATION_NOISE = 0.001  # of the mean power: the ridge of the autoregression
_FORGETTING = 0.7
_FLOOR = 1e-3  # of the mean power of a beam


class SharedState:
    """Hold what encoder and decoder share, per user.

    Parameters
    ----------
    users, antennas
        Numbers of users and antennas.
    geometry
        Line or panel.
    predictor
        ``hold`` or ``ar``.
    """

    def __init__(self, users: int, antennas: int, geometry: ArrayGeometry, predictor: PredictorName) -> None:
        self.sequence = torch.zeros(users, dtype=torch.int64)  # of the last report
        self.known = torch.zeros(users, dtype=torch.int64)  # snapshots in the history, 0: a reset is due
        self.history = torch.zeros(users, _DEPTH, antennas, dtype=torch.complex128)  # newest last
        self.side = SideState.initial(users, antennas)
        self.geometry = geometry
        self.predictor = predictor

    def next_sequence(self, rows: Tensor) -> Tensor:
        """Return the sequence numbers of the next reports that are no resets.

        Parameters
        ----------
        rows
            Numbers of the users, int64 (rows,).

        Returns
        -------
        Tensor
            From 1 to 7, int64 (rows,).
        """
        return self.sequence[rows] % _CYCLE + 1

    def expectation(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the next channels from the shared history.

        Parameters
        ----------
        rows
            Numbers of the users, int64 (rows,); each has a history.

        Returns
        -------
        prediction : Tensor
            Beams, complex128 (rows, antennas).
        power : Tensor
            Expected power of the channel, spread to neighbouring beams, float64 (rows, antennas).
        """
        antennas = self.history.shape[2]
        prediction = torch.zeros(len(rows), antennas, dtype=torch.complex128)
        spread = torch.zeros(len(rows), antennas, dtype=torch.float64)
        for length in sorted(set(self.known[rows].tolist())):
            group = (self.known[rows] == length).nonzero().flatten()
            history = self.history[rows[group], _DEPTH - length :]
            prediction[group] = _predict(history, self.predictor)
            weight = _FORGETTING ** torch.arange(length - 1, -1, -1, dtype=torch.float64)
            power = (history.abs().square() * weight.unsqueeze(1)).sum(1) / weight.sum()
            spread[group] = _smooth(power, self.geometry) + _FLOOR * power.mean(1, keepdim=True)
        return prediction, spread.clamp(min=1e-300)

    def append(self, rows: Tensor, beams: Tensor, sequence: Tensor) -> None:
        """Enter reconstructed channels into the history; a sequence number of 0 clears it first.

        Parameters
        ----------
        rows
            Numbers of the users, int64 (rows,).
        beams
            complex128 (rows, antennas).
        sequence
            Sequence numbers of the reports, int64 (rows,).
        """
        fresh = sequence == 0
        self.side.put(rows[fresh], SideState.initial(int(fresh.sum()), self.history.shape[2]))
        self.known[rows] = torch.where(fresh, 1, (self.known[rows] + 1).clamp(max=_DEPTH))
        self.history[rows] = torch.cat([self.history[rows, 1:], beams.unsqueeze(1)], 1)
        self.sequence[rows] = sequence


def encode_rest(channels: Tensor, state: SharedState, rows: Tensor, bits: int) -> tuple[list[int], Tensor, SideState]:
    """Code channels by their difference from the prediction; the history stays as it is.

    Parameters
    ----------
    channels
        complex128 (rows, antennas).
    state
        State of the encoder; its side information is not updated, see the third result.
    rows
        Numbers of the users, int64 (rows,).
    bits
        Bits after the sequence number.

    Returns
    -------
    numbers : list of int
        One below 2^bits per row.
    beams : Tensor
        Reconstructed, complex128 (rows, antennas).
    side : SideState
        Side information after these reports.
    """
    prediction, power = state.expectation(rows)
    beams = align(to_beams(channels, state.geometry), prediction)
    side = state.side.take(rows)
    numbers, decoded = encode_difference(beams, prediction, power, side, bits)
    return numbers, decoded, side


def decode_rest(numbers: Sequence[int], state: SharedState, rows: Tensor, bits: int) -> Tensor:
    """Invert `encode_rest` and update the side information.

    Parameters
    ----------
    numbers
        One per row.
    state
        State of the decoder.
    rows
        Numbers of the users, int64 (rows,).
    bits
        Bits after the sequence number.

    Returns
    -------
    Tensor
        Beams, complex128 (rows, antennas).
    """
    prediction, power = state.expectation(rows)
    side = state.side.take(rows)
    beams = decode_difference(numbers, prediction, power, side, bits)
    state.side.put(rows, side)
    return beams


def align(values: Tensor, reference: Tensor) -> Tensor:
    """Turn each channel's common phase so that its correlation with a reference is real and not negative.

    Parameters
    ----------
    values, reference
        complex128 (users, antennas).

    Returns
    -------
    Tensor
        ``values`` times a phase per user.
    """
    correlation = (reference.conj() * values).sum(1, keepdim=True)
    size = correlation.abs()
    return values * torch.where(size > 0, correlation.conj() / size.clamp(min=1e-300), 1.0)


def _predict(history: Tensor, predictor: PredictorName) -> Tensor:
    """Predict one snapshot from histories of one length, complex128 (users, antennas)."""
    if predictor == "hold" or history.shape[1] < 3:
        return history[:, -1]
    gram = temporal_gram(history)
    level = gram.diagonal(dim1=1, dim2=2).real.mean(1).clamp(min=torch.finfo(torch.float64).tiny)
    noise = torch.full_like(level, _QUANTISATION_NOISE)
    taps = autoregressive(gram / level[:, None, None], noise, 1)[:, :, 0]
    return (taps.unsqueeze(1) @ history).squeeze(1)


def _smooth(power: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Spread power to neighbouring beams with the weights 1/4, 1/2, 1/4 on every axis, cyclically."""
    sizes = geometry.grid(power.shape[-1])
    grid = power.reshape(-1, *sizes)
    for axis in range(1, len(sizes) + 1):
        grid = grid / 2 + (grid.roll(1, axis) + grid.roll(-1, axis)) / 4
    return grid.reshape(power.shape)
