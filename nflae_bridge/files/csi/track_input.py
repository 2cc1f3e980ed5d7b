"""Read the measurements of a track from a file: channels or beam powers, times, satellite positions, detections."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io import ChannelFile, find_arrays
from matlab_io.containers.contents import detect_version
from matlab_io.errors import NflaeError
from nflae_bridge.files.slots import SlotAxis
from simulator.geometry.arrays import UniformLinearArray
from simulator.tracking.tracker import Observations

__all__ = ["Mounting", "TrackInput", "read_channels", "read_powers"]

Array = npt.NDArray[np.float64]
Found = dict[str, npt.NDArray[Any]]

_GPS = ("gps_x", "gps_height")
_DETECTIONS = ("detections_angle_deg", "detections_distance")
_SCALARS = ("array_height", "array_tilt_rad", "carrier_hz", "slot_seconds")
_TRUE = ("x", "height")
_BEAM_ANGLES = "beam_angles_deg"
_DEFAULT_CARRIER = 30e9
_POWER_AXES = 3


@dataclass(frozen=True)
class Mounting:
    """Hold the options of the array and of the times; None where the file decides.

    Parameters
    ----------
    seconds : float or None
        Time between snapshots, s.
    times : str or None
        Variable with the times of all snapshots, s.
    height, tilt, carrier : float or None
        Height of the array's centre, m, its down-tilt, rad, and the carrier frequency, Hz.
    """

    seconds: float | None = None
    times: str | None = None
    height: float | None = None
    tilt: float | None = None
    carrier: float | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables beside the channels or powers."""
        return (*_GPS, *_TRUE, *_DETECTIONS, *_SCALARS, _BEAM_ANGLES, *(() if self.times is None else (self.times,)))


@dataclass(frozen=True)
class TrackInput:
    """Hold the measurements of a file.

    Parameters
    ----------
    path : Path
        The file.
    version : str
        Its version.
    array : UniformLinearArray
        The array; of beam powers, with as many antennas as beams.
    times : numpy.ndarray
        Times of the snapshots, float64 (steps,), s.
    seen : Observations
        The measurements.
    sines : numpy.ndarray or None
        sin(theta) of the beams whose powers were measured; None: evenly spaced.
    true : numpy.ndarray or None
        True positions x and height beside them, float64 (steps, users, 2), m, for figures.
    notes : list of str
        What was assumed.
    """

    path: Path
    version: str
    array: UniformLinearArray
    times: Array
    seen: Observations
    sines: Array | None = None
    true: Array | None = None
    notes: list[str] = field(default_factory=list)


def read_channels(file: ChannelFile, mounting: Mounting) -> TrackInput:
    """Read the channels of successive snapshots, their times, and the positions and detections of the file.

    Parameters
    ----------
    file : ChannelFile
        Open file, of a linear array.
    mounting : Mounting
        Options.

    Returns
    -------
    TrackInput

    Raises
    ------
    NflaeError
        If the file has subcarriers or a panel, or a variable beside the channels is unusable.
    """
    if SlotAxis.of(file).subcarrier_axes:
        raise NflaeError(f"{file.path}: layout {file.layout} has subcarriers; save the channels of one")
    if len(file.antenna_axes) > 1:
        raise NflaeError(f"{file.path}: layout {file.layout} is of a panel; tracks are for linear arrays")
    beside = find_arrays(file.path, lambda name: name in mounting.variables)
    channels = torch.from_numpy(np.ascontiguousarray(file.read(0, file.drops)))
    missing = int((~(channels.isfinite().all(-1) & (channels.abs().amax(-1) > 0))).sum())
    notes = []
    if missing:
        notes.append(
            f"{file.variable}: NaN, Inf or zero in {missing} of {file.drops * file.users} channels (users x snapshots):"
            " positions and beams there are predicted"
        )
    made = _input(file.path, beside, mounting, (file.drops, file.users, file.antennas), notes, channels=channels)
    if made.seen.gps is None:
        made.notes.append(
            "no gps_x and gps_height beside the channels: distances are of the wavefront alone, and nothing tells"
            " whether antenna 1 is on top"
        )
    return made


def read_powers(path: Path, name: str, mounting: Mounting) -> TrackInput:
    """Read beam powers of successive snapshots, their times, and the positions and detections of the file.

    Parameters
    ----------
    path : Path
        File with linear powers B x K x S; ``beam_angles_deg`` beside them are the angles of the beams, rising.
    name : str
        Name of the variable.
    mounting : Mounting
        Options.

    Returns
    -------
    TrackInput

    Raises
    ------
    NflaeError
        If there are no such powers, or a variable beside them is unusable.
    """
    beside = find_arrays(path, lambda found: found in (name, *mounting.variables))
    if name not in beside:
        raise NflaeError(f"{path}: no numeric variable {name}; name that of the powers, beams x users x snapshots")
    stored = beside.pop(name)
    size = " x ".join(map(str, stored.shape))
    if stored.ndim != _POWER_AXES or stored.dtype.kind == "c" or stored.shape[0] < _POWER_AXES:
        raise NflaeError(
            f"{path}: {name}: {size}, {stored.dtype}; expected real powers, beams x users x snapshots, three beams or"
            " more; of one user reshape(p, B, 1, [])"
        )
    powers = np.ascontiguousarray(stored.T, np.float64)
    if (powers < 0).any():
        raise NflaeError(f"{path}: {name}: negative values; expected linear powers, not dB: 10.^({name}/10)")
    beams, sines = len(stored), None
    if _BEAM_ANGLES in beside:
        sines = np.sin(np.radians(beside[_BEAM_ANGLES].astype(np.float64).ravel()))
        if len(sines) != beams or not (np.diff(sines) > 0).all():
            raise NflaeError(
                f"{path}: {_BEAM_ANGLES}: {len(sines)} values for powers of {beams} beams; expected one per"
                " beam, rising"
            )
    notes = []
    missing = int((~np.isfinite(powers).all(-1) | ~(np.nan_to_num(powers).max(-1) > 0)).sum())
    if missing:
        notes.append(f"{name}: NaN, Inf or zero in {missing} of {powers.shape[0] * powers.shape[1]} power vectors")
    if sines is None:
        notes.append(f"no {_BEAM_ANGLES} beside the powers: {beams} beams evenly spaced in the sine of the angle")
    made = _input(path, beside, mounting, (*powers.shape[:2], beams), notes, powers=powers, sines=sines)
    if made.seen.gps is None and made.seen.detections is None:
        made.notes.append("powers give angles: without gps_x, gps_height or detections distances are unresolved")
    return made


def _input(
    path: Path,
    beside: Found,
    mounting: Mounting,
    sizes: tuple[int, int, int],
    notes: list[str],
    sines: Array | None = None,
    **measured: Any,
) -> TrackInput:
    steps, users, antennas = sizes
    gps = _pair(path, beside, _GPS, (users, steps), "satellite positions have both, users x snapshots, m")
    detections = _detections(path, beside, steps)
    array = _array(path, beside, mounting, antennas, gps is not None, notes)
    seen = Observations(**measured, gps=gps, detections=detections)
    true = None
    if all(name in beside and beside[name].shape == (users, steps) for name in _TRUE):
        true = np.stack([np.real(beside[name]).T.astype(np.float64) for name in _TRUE], -1)
    times = _times(path, beside, mounting, steps)
    return TrackInput(path, detect_version(path), array, times, seen, sines, true, notes)


def _pair(path: Path, beside: Found, names: tuple[str, str], size: tuple[int, int], kind: str) -> Array | None:
    """Return two variables of a size as one array, (snapshots, users, 2); None without both."""
    given = [name for name in names if name in beside]
    if not given:
        return None
    if len(given) < len(names):
        lacking = next(name for name in names if name not in beside)
        raise NflaeError(f"{path}: {given[0]} without {lacking}; {kind}")
    for name in names:
        if beside[name].shape != size or beside[name].dtype.kind == "c":
            found = " x ".join(map(str, beside[name].shape))
            raise NflaeError(f"{path}: {name}: {found}; expected real {size[0]} x {size[1]}, {kind.split(', ')[1]}")
    return np.stack([np.asarray(beside[name], np.float64).T for name in names], -1)


def _detections(path: Path, beside: Found, steps: int) -> Array | None:
    """Return angle, rad, and distance of the detected objects, (snapshots, objects, 2)."""
    angles, distances = _DETECTIONS
    if angles not in beside:
        if distances in beside:
            raise NflaeError(f"{path}: {distances} without {angles}; detections have angles, objects x snapshots")
        return None
    objects = len(beside[angles])
    whole = {**beside, distances: beside.get(distances, np.full(beside[angles].shape, np.inf))}
    kind = "detections are angles and distances, objects x snapshots"
    found = _pair(path, whole, _DETECTIONS, (objects, steps), kind)
    assert found is not None
    return np.stack([np.radians(found[..., 0]), np.where(found[..., 1] > 0, found[..., 1], np.inf)], -1)


def _times(path: Path, beside: Found, mounting: Mounting, steps: int) -> Array:
    if mounting.times is not None:
        found = beside.get(mounting.times)
        if found is None or found.dtype.kind == "c" or found.size != steps:
            count = "no numbers" if found is None else f"{found.size} values"
            raise NflaeError(f"{path}: {mounting.times}: {count}; expected the times of all {steps} snapshots, s")
        return np.asarray(found.T.ravel(), np.float64)
    seconds = mounting.seconds
    if seconds is None and "slot_seconds" in beside:
        seconds = float(np.real(beside["slot_seconds"]).flat[0])
    if seconds is None or not 0 < seconds < math.inf:
        raise NflaeError(f"{path}: states no time between snapshots (slot_seconds); give --slot-ms or --times")
    return np.asarray(seconds * np.arange(steps), np.float64)


def _array(
    path: Path, beside: Found, mounting: Mounting, antennas: int, satellite: bool, notes: list[str]
) -> UniformLinearArray:
    """Return the array, by options, else by the file, else by default."""

    def chosen(option: float | None, name: str) -> float | None:
        return option if option is not None else float(np.real(beside[name]).flat[0]) if name in beside else None

    height, tilt = chosen(mounting.height, "array_height"), chosen(mounting.tilt, "array_tilt_rad")
    carrier = chosen(mounting.carrier, "carrier_hz")
    if height is None and satellite:
        raise NflaeError(
            f"{path}: satellite positions without the mast's: no variable array_height; give --array-height"
        )
    if carrier is None:
        notes.append("carrier 30 GHz, half-wavelength spacing: the file states none, and --carrier-ghz is not given")
    if height is None:
        notes.append(
            "the array's centre is the origin: the file states no array_height, and --array-height is not given"
        )
    for name, value, valid in (
        ("height", height, True),
        ("tilt", tilt, abs(tilt or 0) < math.pi / 2),
        ("carrier", carrier, carrier is None or carrier > 0),
    ):
        if value is not None and not (math.isfinite(value) and valid):
            raise NflaeError(f"{path}: {name} of the array: {value:g} is impossible; correct it or give the option")
    return UniformLinearArray(antennas, carrier or _DEFAULT_CARRIER, height or 0.0, tilt or 0.0)
