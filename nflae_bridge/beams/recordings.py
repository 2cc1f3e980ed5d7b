"""Convert recordings of single samples to values of inputs: pictures, radar, points, detections and CSI."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError, NflaeError
from matlab_io.sequences import Sequences, read_recording
from nflae_bridge.beams.located import moving_objects

__all__ = ["RECORDED", "read_recorded", "values_of"]

Values = npt.NDArray[np.float32]

_PIXELS, _CELLS, _VISION_PIXELS = 32, 32, 96
_POINTS, _BOXES = 32, 8
_REACH = 50.0  # m, scale of the coordinates of points


@dataclass(frozen=True)
class Recorded:
    """Describe an input that is recorded in files.

    Parameters
    ----------
    column
        Regular expression of the columns that hold it.
    convert
        Function of one recording that returns its values, float32, of the same shape for all.
    encoder
        Encoder of the network, see `nflae_bridge.network.encoders.senses.config.InputConfig`.
    together
        Function of all recordings of a folder that returns float32 (samples, ...), in place of `convert`.
    """

    column: str
    convert: Callable[[npt.NDArray[Any]], Values]
    encoder: str
    together: Callable[[Sequence[npt.NDArray[Any] | None]], Values] | None = None


def _resized(map_: npt.NDArray[np.floating], size: int) -> Values:
    """Return an image, (..., rows, columns), with ``size`` rows and columns: means over cells, or nearest pixels."""
    out = np.asarray(map_, np.float32)
    for axis in (-2, -1):
        length = out.shape[axis]
        if length > size:
            edges = np.linspace(0, length, size + 1).astype(np.int64)[:-1]
            widths = np.diff(np.append(edges, length)).astype(np.float32)
            shape = [1] * out.ndim
            shape[axis] = size
            out = (np.add.reduceat(out, edges, axis) / widths.reshape(shape)).astype(np.float32)
        else:
            out = np.take(out, np.arange(size) * length // size, axis)
    return np.ascontiguousarray(out, np.float32)


def _picture(recording: npt.NDArray[Any], size: int = _PIXELS) -> Values:
    """Return a picture as (3, size, size), from 0 to 1."""
    colours = recording if recording.ndim == 3 else np.repeat(recording[..., None], 3, -1)
    return _resized(np.moveaxis(colours[..., :3], -1, 0) / 255, size)


def _radar(recording: npt.NDArray[Any]) -> Values:
    """Return a range-angle map, or raw samples (antennas, samples, chirps), as (1, cells, cells) in log scale."""
    if recording.ndim == 3:
        ranges = np.fft.fft(recording - recording.mean(-1, keepdims=True), axis=1)
        angles = np.fft.fftshift(np.fft.fft(ranges, 64, axis=0), 0)
        recording = np.abs(angles).sum(-1).T
    power = np.abs(recording).astype(np.float64)
    relative = np.log(power + 1e-3 * power.max() + 1e-30)
    return _resized((relative - relative.mean())[None], _CELLS)


def _points(recording: npt.NDArray[Any]) -> Values:
    """Return evenly spaced ones of the points, (points, 3), over 50 m; rows of zeros follow fewer points."""
    points = recording[np.isfinite(recording).all(-1), :3] / _REACH
    chosen = points[np.linspace(0, len(points) - 1, _POINTS).astype(np.int64)] if len(points) > _POINTS else points
    return np.concatenate([chosen, np.zeros((_POINTS - len(chosen), 3))]).astype(np.float32)


def _boxes(recording: npt.NDArray[Any]) -> Values:
    """Return the first boxes, (boxes, 4): centre, width and height; rows of zeros follow fewer boxes."""
    boxes = np.asarray(recording, np.float32).reshape(-1, 4)[:_BOXES]
    return np.concatenate([boxes, np.zeros((_BOXES - len(boxes), 4), np.float32)])


def _csi(recording: npt.NDArray[Any]) -> Values:
    """Return real and imaginary parts of CSI of mean power 1, whose sum over all elements has phase 0."""
    channel = np.asarray(recording, np.complex128).ravel()
    scale = np.sqrt(np.mean(np.abs(channel) ** 2)) * np.exp(1j * np.angle(channel.sum()))
    return (channel / (scale if scale else 1)).view(np.float64).astype(np.float32)


def _csi_picture(recording: npt.NDArray[Any]) -> Values:
    """Return real part, imaginary part and magnitude of the products h_i h_j^* of elements, (3, size, size)."""
    channel = _csi(recording).astype(np.float64).view(np.complex128)
    products = np.outer(channel, channel.conj())
    channels = np.stack([products.real, products.imag, np.abs(products)])
    return _resized(channels / 4 + 0.5, _PIXELS)


RECORDED: Mapping[str, Recorded] = {
    "csi": Recorded(r"unit\d+_csi\w*", _csi, "vector"),
    "csi-picture": Recorded(r"unit\d+_csi\w*", _csi_picture, "picture"),
    "picture": Recorded(r"unit\d+_rgb\w*", _picture, "picture"),
    "detections": Recorded(r"unit\d+_(detections|bbox)\w*", _boxes, "points"),
    "radar": Recorded(r"unit\d+_radar\w*", _radar, "picture"),
    "points": Recorded(r"unit\d+_lidar\w*", _points, "points"),
    "located": Recorded(r"unit\d+_lidar\w*", _points, "vector", moving_objects),
    "vision": Recorded(r"unit\d+_rgb\w*", lambda each: _picture(each, _VISION_PIXELS), "vision"),
    "csi-vision": Recorded(r"unit\d+_csi\w*", _csi_picture, "vision"),
}


def values_of(name: str, recordings: Sequence[npt.NDArray[Any] | None]) -> Values:
    """Convert the recordings of successive samples of one folder.

    Parameters
    ----------
    name
        Name of the input.
    recordings
        One per sample; None where absent.

    Returns
    -------
    numpy.ndarray
        float32 (samples, ...), NaN where absent.

    Raises
    ------
    NflaeError
        If recordings give values of different shapes, or all are absent.
    """
    convert, together = RECORDED[name].convert, RECORDED[name].together
    if together is not None:
        return together(recordings)
    found = {at: convert(each) for at, each in enumerate(recordings) if each is not None}
    if not found:
        raise NflaeError(f"input {name}: no sample has a recording of it; leave it out of --inputs")
    shape = next(iter(found.values())).shape
    out = np.full((len(recordings), *shape), np.nan, np.float32)
    for at, values in found.items():
        if values.shape != shape:
            raise NflaeError(
                f"input {name}: sample {at + 1} has {values.size} values, the ones before {int(np.prod(shape))};"
                " expected recordings of one size"
            )
        out[at] = values
    return out


def read_recorded(folders: Sequence[Sequences], names: Sequence[str]) -> tuple[dict[str, Values], list[str]]:
    """Read the files of inputs of all samples of all folders.

    Parameters
    ----------
    folders
        The folders.
    names
        Names of inputs; those that are not recorded in files are left out.

    Returns
    -------
    values : dict of str to numpy.ndarray
        float32 (samples, ...) by name, NaN where a cell is empty, a file is damaged, or a folder lacks the column;
        without inputs of which no folder has a column.
    notes : list of str
        What is absent, one line each.

    Raises
    ------
    NflaeError
        If recordings of an input give values of different shapes.
    """
    found, notes = {}, []
    for name in names:
        if name not in RECORDED:
            continue
        columns = [next((k for k in each.files if re.fullmatch(RECORDED[name].column, k)), None) for each in folders]
        if not any(columns):
            continue
        recordings: list[npt.NDArray[Any] | None] = []
        sizes = [len(each.powers) for each in folders]
        for each, column in zip(folders, columns, strict=True):
            read = [None] * len(each.powers) if column is None else [_read(each, cell) for cell in each.files[column]]
            absent = sum(value is None for value in read)
            if absent:
                why = "empty or damaged" if column else "no column"
                notes.append(f"{each.path}: input {name} absent in {absent} of {len(read)} samples ({why})")
            recordings += read
        if not any(each is not None for each in recordings):
            continue
        if RECORDED[name].together is None:
            found[name] = values_of(name, recordings)
        else:
            ends = np.cumsum(sizes).tolist()
            parts = [recordings[end - size : end] for end, size in zip(ends, sizes, strict=True)]
            found[name] = np.concatenate([values_of(name, part) for part in parts])
    return found, notes


def _read(samples: Sequences, cell: str) -> npt.NDArray[Any] | None:
    """Return the recording that a cell names or holds; None if it is empty or damaged."""
    from matlab_io.sequences.table import is_empty, vector

    if is_empty(cell):
        return None
    inline = vector(cell)
    if inline is not None:
        return inline if inline.size % 4 == 0 else None
    relative = Path(cell.strip().replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts:
        raise NflaeError(f"{samples.path}: {cell[:120]} leads out of the folder; expected a path relative to it")
    try:
        return read_recording(samples.path / relative)
    except (MatFileError, OSError):
        return None
