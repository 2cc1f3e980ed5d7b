"""Predict the channels after given drops of a file whose drops are snapshots in order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.blocks import Block, OnBadDrop, describe_bad_drop, drop_name
from nflae_bridge.files.budget.user_noise import UserNoise
from nflae_bridge.files.csi.series import check_series
from nflae_bridge.files.slots import Indices, SlotAxis
from nflae_bridge.files.validation import Channels, fault_of, good_drops
from simulator.csi.prediction.paths import Paths
from simulator.csi.prediction.registry import METHODS
from simulator.csi.prediction.users import PredictionMethod, check_ahead, paths_of_users, predict_users
from simulator.csi.sequences.history import Snapshots, check_gaps, spacing_of, take_snapshots

__all__ = ["USED_METHODS", "FilePredictor", "PredictedDrops"]

_MOST_SUBCARRIERS = 64  # from the middle of the band, for paths
USED_METHODS = tuple(name for name in METHODS if name != "auto")


@dataclass(frozen=True)
class PredictedDrops:
    """Hold what is predicted after each of several drops.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, ahead, users, antennas).
    csi_error_db : numpy.ndarray
        Estimated error of the CSI, dB, float64 (drops, ahead, users).
    method : numpy.ndarray
        Index into `USED_METHODS`, int64 (drops, users).
    notes : tuple of str
        Lines to be shown to the user: gaps that were filled and, where forced, faults of the sequence.
    paths : Paths, optional
        Paths of the histories, arrays of (slots, users, paths).
    """

    channels: Channels
    csi_error_db: npt.NDArray[np.float64]
    method: Indices
    notes: tuple[str, ...]
    paths: Paths | None = None


class FilePredictor:
    """Predict from the drops of a channel file.

    Parameters
    ----------
    file : ChannelFile
        Open file; its drops are snapshots in order, on each subcarrier.
    history : int
        Snapshots from which is predicted; fewer at the beginning of the file, where the last one is held until there
        are twice as many as to be predicted.
    method : PredictionMethod
        How to predict.
    force : bool
        Predict although the drops are not a sequence.
    times : numpy.ndarray, optional
        Times of the slots, s, float64 (slots,); by default they are evenly spaced. Histories at uneven times are
        resampled.
    paths : bool
        Find the paths of every user, from all subcarriers of each slot together; drops are then whole slots.

    Attributes
    ----------
    history : int
        Snapshots of the longest history, at most those of the file.
    ahead : int
        Snapshots predicted.
    axis : SlotAxis
        Drop axes of the file.
    spacing : float or None
        Time between slots by `times`, s.
    finds_paths : bool
        Paths are found, too.
    notes : dict of str to None
        Lines to be shown to the user, of the blocks read, in order and without repetition.

    Raises
    ------
    NflaeError
        If the file has several axes of drops, receive antennas are combined, the geometry does not fit, more snapshots
        are to be predicted than half the history, times do not rise, or are uneven where paths are to be found.
    """

    def __init__(
        self,
        file: ChannelFile,
        history: int,
        method: PredictionMethod,
        force: bool = False,
        times: npt.NDArray[np.float64] | None = None,
        paths: bool = False,
    ) -> None:
        self.axis = SlotAxis.of(file)
        self.notes: dict[str, None] = {}
        self.history, self.ahead = min(history, self.axis.slots), method.ahead
        self._file, self._method, self._force = file, method, force
        self._times: npt.NDArray[np.float64] | None = None
        if file.receive_mode in ("strongest", "eigen"):
            raise NflaeError(
                f"{file.path}: {file.variable}: receive antennas combined by {file.receive_mode!r} change from drop to"
                " drop, which cannot be predicted; pass --receive-antennas each"
            )
        try:
            method.geometry.check(file.antennas)
            check_ahead(method.ahead, self.history)
            self.spacing, even = (None, True) if times is None else spacing_of(torch.tensor(times))
        except NflaeError as error:
            raise NflaeError(f"{file.path}: {file.variable}: {error}") from None
        self._times, self.finds_paths = None if even else times, paths
        if paths and not even:
            raise NflaeError(f"{file.path}: --paths needs evenly spaced snapshots, and the times are uneven")
        if paths and len(self.axis.subcarrier_axes) > 1:
            raise NflaeError(f"{file.path}: layout {file.layout}: --paths needs one axis of subcarriers")

    def __call__(self, drops: Indices) -> PredictedDrops:
        """Predict the snapshots after drops.

        Parameters
        ----------
        drops : numpy.ndarray
            Newest drops of the histories, int64 (n,).

        Returns
        -------
        PredictedDrops

        Raises
        ------
        NflaeError
            If drops are no sequence, unless forced, or more than a quarter of a history are gaps; the message names
            drop and user.
        """
        histories = self.axis.history(drops, self.history)
        needed = np.unique(histories[histories >= 0])
        taken = take_snapshots(torch.from_numpy(self._read(needed)))
        try:
            notes = self._check(histories, needed, taken.channels, taken.missing)
        except NflaeError as error:
            raise NflaeError(f"{self._file.path}: {self._file.variable}: {error}") from None
        if self._times is not None:
            return self._resampled(histories, needed, taken.channels, notes)
        shape = (len(drops), self.ahead, self._file.users)
        channels = np.empty((*shape, self._file.antennas), np.complex64)
        error_db, used = np.empty(shape), np.empty((shape[0], shape[2]), np.int64)
        lengths = (histories >= 0).sum(-1)
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            places = torch.from_numpy(np.searchsorted(needed, histories[rows, self.history - length :]))
            # Less than twice as many snapshots as are to be predicted, at the beginning of the file.
            method = self._method if 2 * self.ahead <= length else replace(self._method, name="hold")
            found = predict_users(taken.channels[places], taken.missing[places], method)
            channels[rows], error_db[rows] = found.channels.cpu().numpy(), found.csi_error_db.cpu().numpy()
            used[rows] = np.reshape([USED_METHODS.index(name) for name in found.method], (len(rows), shape[2]))
        paths = self._find_paths(histories, needed, taken) if self.finds_paths else None
        return PredictedDrops(channels, error_db, used, notes, paths)

    def _find_paths(self, histories: Indices, needed: Indices, taken: Snapshots) -> Paths:
        """Find the paths of each slot's users, (slots, users, paths), slot by slot: their histories may differ."""
        carriers = int(np.prod(self.axis.subcarrier_axes, dtype=np.int64))
        first = (carriers - min(carriers, _MOST_SUBCARRIERS)) // 2
        found = []
        for slot in histories.reshape(-1, carriers, histories.shape[-1])[:, first : first + _MOST_SUBCARRIERS]:
            places = torch.from_numpy(np.searchsorted(needed, slot[:, slot[0] >= 0].T))
            snapshots, missing = taken.channels[places], taken.missing[places]
            found.append(paths_of_users(snapshots[None], missing[None], self._method.csi_snr_db))
        return Paths(*(torch.cat(parts) for parts in zip(*((p.doppler, p.delay, p.power) for p in found), strict=True)))

    def _resampled(
        self, histories: Indices, needed: Indices, channels: Tensor, notes: tuple[str, ...]
    ) -> PredictedDrops:
        """Predict from histories at uneven times, one after another; the snapshots predicted are evenly spaced."""
        assert self._times is not None
        channels_of, errors, methods = [], [], []
        for padded in histories:
            history = padded[padded >= 0]
            times = torch.from_numpy(self._times[self.axis.slot_of(history)])
            places = torch.from_numpy(np.searchsorted(needed, history))
            try:
                taken = take_snapshots(channels[places], times)
            except NflaeError as error:
                where = drop_name(self._file, int(history[-1]))
                raise NflaeError(f"{self._file.path}: {self._file.variable}: history of {where}: {error}") from None
            enough = 2 * self.ahead <= len(taken.channels)
            method = self._method if enough else replace(self._method, name="hold")
            found = predict_users(taken.channels.unsqueeze(0), taken.missing.unsqueeze(0), method)
            channels_of.append(found.channels[0].cpu().numpy())
            errors.append(found.csi_error_db[0].cpu().numpy())
            methods.append([USED_METHODS.index(each) for each in found.method])
            notes = (*notes, *taken.notes)
        return PredictedDrops(
            np.stack(channels_of), np.stack(errors), np.array(methods, np.int64), tuple(dict.fromkeys(notes))
        )

    def read_block(
        self,
        start: int,
        stop: int,
        on_bad_drop: OnBadDrop,
        noise: UserNoise | None = None,
        near_field: npt.NDArray[np.bool_] | None = None,
    ) -> Block:
        """Replace consecutive drops by the last snapshot predicted after each, see `blocks.read_block`.

        Parameters
        ----------
        start, stop, on_bad_drop, noise, near_field
            As there; noise and labels are those of the drops.

        Returns
        -------
        Block

        Raises
        ------
        NflaeError
            As `__call__`, and if a user without any snapshot is not to be skipped.
        """
        found = self(np.arange(start, stop))
        self.notes |= dict.fromkeys(found.notes)
        channels = found.channels[:, -1].copy()
        good = good_drops(channels)
        if noise is not None:
            channels *= noise.amplitude(start, stop)
        labels = None if near_field is None else near_field[start:stop][good]
        if on_bad_drop == "error" and not good.all():
            first = int(np.flatnonzero(~good)[0])
            raise NflaeError(describe_bad_drop(self._file, fault_of(channels[first], start + first)))
        return Block(start, good, channels[good], None, labels)

    def _read(self, drops: Indices) -> Channels:
        """Read drops in rising order, consecutive ones at once."""
        runs = np.split(drops, np.flatnonzero(np.diff(drops) > 1) + 1)
        return np.concatenate([self._file.read(int(run[0]), int(run[-1]) + 1) for run in runs])

    def _check(self, histories: Indices, needed: Indices, channels: Tensor, missing: Tensor) -> tuple[str, ...]:
        """Check the sequence of each subcarrier, and the gaps of each history; return lines for the user."""
        notes: list[str | None] = []
        notes += check_series(self._file, self.axis, needed, channels, missing, "pass --force", self._force)
        if bool(missing.any()):
            notes += [self._gaps(history[history >= 0], needed, missing) for history in histories]
        return tuple(dict.fromkeys(note for note in notes if note))

    def _gaps(self, history: Indices, needed: Indices, missing: Tensor) -> str | None:
        gaps = missing[torch.from_numpy(np.searchsorted(needed, history))]
        try:
            return check_gaps(gaps, lambda index: drop_name(self._file, int(history[index])))
        except NflaeError as error:
            if not self._force:
                raise
            return str(error)
