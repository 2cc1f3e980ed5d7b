"""Correct satellite positions by the object that LiDAR points show moving at a site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

__all__ = ["corrected_positions", "moving_objects"]

_CELL = 1.0  # m, edge of the cells in which points of the background are counted
_STANDING = 0.05  # share of the samples from which on a cell with points belongs to the background
_RADIUS, _FEWEST = 1.0, 3  # m and points, of an object
_FARTHEST = 10.0  # m from the satellite position, beyond which an object is another one


def moving_objects(clouds: Sequence[npt.NDArray[Any] | None]) -> npt.NDArray[np.float32]:
    """Locate the densest group of points that do not belong to the background, in each sample of one sensor.

    Parameters
    ----------
    clouds
        Points of successive samples, (points, 3 or more), m; None where absent.

    Returns
    -------
    numpy.ndarray
        Mean of its points, float32 (samples, 3), m; NaN where no three points are within 1 m of one of them.
    """
    found = np.full((len(clouds), 3), np.nan, np.float32)
    finite = [None if each is None else each[np.isfinite(each).all(-1), :3].astype(np.float64) for each in clouds]
    cells = [np.empty(0, np.int64) if each is None else _cells(each) for each in finite]
    occupied = np.concatenate([np.unique(each) for each in cells]) if cells else np.empty(0, np.int64)
    distinct, samples = np.unique(occupied, return_counts=True)
    background = distinct[samples > max(1, _STANDING * len(clouds))]
    for row, points, own in zip(found, finite, cells, strict=True):
        rest = np.empty((0, 3)) if points is None else points[~np.isin(own, background)]
        if len(rest) < _FEWEST:
            continue
        tree = cKDTree(rest)
        densest = int(tree.query_ball_point(rest, _RADIUS, return_length=True).argmax())
        group = tree.query_ball_point(rest[densest], _RADIUS)
        if len(group) >= _FEWEST:
            row[:] = rest[group].mean(0)
    return found


def _cells(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return a number per point that is equal for points of the same cell, int64 (points,)."""
    east, north, up = np.clip(np.floor(points / _CELL), -(2**20), 2**20 - 1).astype(np.int64).T + 2**20
    return np.asarray((east << 42) | (north << 21) | up)


def corrected_positions(
    position: npt.NDArray[np.float64], objects: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Subtract from satellite positions their last difference to the object, in a window its first one before that.

    Parameters
    ----------
    position
        Satellite positions relative to the sensor, float64 (windows, past, 3), m.
    objects
        Positions of objects, (windows, past, 3), m; NaN where none was found. Those farther than 10 m from the
        satellite position are ignored.

    Returns
    -------
    numpy.ndarray
        float64 (windows, past, 3), m.
    """
    difference = position - objects
    seen = np.linalg.norm(np.nan_to_num(difference, nan=np.inf), axis=-1) < _FARTHEST
    past = np.arange(position.shape[1])
    last = np.maximum.accumulate(np.where(seen, past, -1), 1)
    chosen = np.where(last < 0, seen.argmax(1)[:, None], last)
    error = np.take_along_axis(np.where(seen[..., None], difference, 0), chosen[..., None], 1)
    return np.asarray(position - error)
