"""Hold the samples of measured sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError

__all__ = ["Sequences"]

_METRES_PER_DEGREE = (110_540.0, 111_320.0)  # of latitude, and of longitude at the equator
_FLOOR = 1e-2  # power of the other beams where the file has only the index of the strongest


@dataclass(frozen=True)
class Sequences:
    """Hold the samples of a scenario in the order of their recording, unusable ones left out.

    Parameters
    ----------
    path : pathlib.Path
        Folder or file that they were read from.
    powers : numpy.ndarray
        Received power per beam, linear, float32 (samples, beams); where only the strongest beam is recorded, 1 for it
        and 0.01 for the others.
    measured : bool
        Whether ``powers`` were measured; false where only the strongest beam is recorded.
    sequence : numpy.ndarray
        Number of each sample's sequence, int64 (samples,).
    step : numpy.ndarray
        Number of each sample in the file, from 0, counted over the unusable ones too, int64 (samples,).
    flight : numpy.ndarray
        Number of the recording that each sample belongs to, int64 (samples,): sequences that share a recorded file
        belong to one flight.
    user : numpy.ndarray or None
        Position of the user, float64 (samples, 2): latitude and longitude in degrees, or relative without ``mast``; or
        (samples, 3) with the height in metres.
    mast : numpy.ndarray or None
        Position of the mast, latitude and longitude in degrees, and where ``user`` has it the height in metres.
    seconds : numpy.ndarray or None
        Time of each sample, s, float64 (samples,).
    files : mapping of str to tuple of str
        Relative paths of the samples' other files by modality, e.g. ``unit1_rgb``.
    notes : tuple of str
        What was left out or assumed, one line each.
    """

    path: Path
    powers: npt.NDArray[np.float32]
    measured: bool
    sequence: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    flight: npt.NDArray[np.int64]
    user: npt.NDArray[np.float64] | None = None
    mast: npt.NDArray[np.float64] | None = None
    seconds: npt.NDArray[np.float64] | None = None
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> npt.NDArray[np.int64]:
        """Return the strongest beam of each sample, counted from 0, int64 (samples,)."""
        best: npt.NDArray[np.int64] = self.powers.argmax(-1)
        return best

    @property
    def name(self) -> str:
        """Return the name of the folder or file without its suffix."""
        return self.path.resolve().name if self.path.is_dir() else self.path.stem

    def positions(self) -> npt.NDArray[np.float64] | None:
        """Return the user's positions: metres east and north of the mast, and above it, or relative as read.

        Returns
        -------
        numpy.ndarray or None
            float64 (samples, 2), or (samples, 3) with heights; None without positions.
        """
        if self.user is None or self.mast is None:
            return self.user
        north, east = _METRES_PER_DEGREE
        difference = self.user - self.mast
        scale = east * np.cos(np.radians(self.mast[:, 0]))
        return np.stack([difference[:, 1] * scale, difference[:, 0] * north, *difference[:, 2:].T], -1)


def powers_of_beams(best: npt.NDArray[np.int64], beams: int) -> npt.NDArray[np.float32]:
    """Return powers whose strongest beam is a recorded one.

    Parameters
    ----------
    best : numpy.ndarray
        Strongest beams, counted from 0, (samples,).
    beams : int
        Number of beams.

    Returns
    -------
    numpy.ndarray
        float32 (samples, beams).
    """
    powers = np.full((len(best), beams), _FLOOR, np.float32)
    powers[np.arange(len(best)), best] = 1
    return powers


def check_times(
    path: Path,
    what: str,
    times: npt.NDArray[np.float64],
    sequence: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    distinct: bool = False,
) -> None:
    """Check that the samples of each sequence, wherever they stand in the file, are in the order of their times.

    Parameters
    ----------
    path : pathlib.Path
        File, for the message.
    what : str
        Name of the column or variable.
    times : numpy.ndarray
        Times, (samples,).
    sequence : numpy.ndarray
        Numbers of the sequences, (samples,).
    rows : numpy.ndarray
        Numbers of the samples in the file, for the message, (samples,).
    distinct : bool
        Times are numbers of samples, of which a sequence has each once.

    Raises
    ------
    MatFileError
        If a sample is earlier than the one before it in its sequence, or repeats one where they are distinct.
    """
    if distinct:
        order = np.lexsort((times, sequence))
        again = np.flatnonzero((np.diff(times[order]) == 0) & (np.diff(sequence[order]) == 0))
        if len(again):
            first, second = order[again[0]], order[again[0] + 1]
            raise MatFileError(
                f"{path}: {what}: sample {rows[second]} of sequence {sequence[second]} has the number of sample"
                f" {rows[first]} ({times[first]:.10g}); remove the repeated samples"
            )
    order = np.argsort(sequence, kind="stable")
    early = np.flatnonzero((np.diff(times[order]) < 0) & (np.diff(sequence[order]) == 0))
    if len(early):
        before, at = order[early[0]], order[early[0] + 1]
        raise MatFileError(
            f"{path}: {what}: sample {rows[at]} of sequence {sequence[at]} is earlier than sample {rows[before]} before"
            f" it ({times[at]:.10g} after {times[before]:.10g}); sort the samples by time"
        )
