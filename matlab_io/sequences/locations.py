"""Check the positions of masts and users, and join them with heights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError
from matlab_io.sequences.table import Table

__all__ = ["check_locations", "implausible", "with_heights"]

Array = npt.NDArray[np.float64]

_HEIGHTS = ("unit1_height", "unit2_height")  # m
_METRES_PER_DEGREE = 111_000.0
_ONE_MAST = 10.0  # m, up to which the positions of one mast differ
_FARTHEST = 100_000.0  # m, of a user from the mast


def check_locations(path: Path, user: Array, mast: Array, rows: npt.NDArray[np.int64]) -> list[str]:
    """Check that positions are latitudes and longitudes, and remark on masts that move.

    Parameters
    ----------
    path : pathlib.Path
        File, for the message.
    user, mast : numpy.ndarray
        Positions, float64 (samples, 2 or more), degrees; NaN where unknown.
    rows : numpy.ndarray
        Numbers of the samples in the file, for the message, int64 (samples,).

    Returns
    -------
    list of str
        Remarks.

    Raises
    ------
    MatFileError
        If a latitude is beyond 90 degrees or a longitude beyond 360.
    """
    for name, positions in (("unit1_loc", mast), ("unit2_loc", user)):
        wrong = np.flatnonzero((np.abs(positions[:, :2]) > [90.0, 360.0]).any(-1))
        if len(wrong):
            latitude, longitude = positions[wrong[0], :2]
            raise MatFileError(
                f"{path}: row {rows[wrong[0]]}: {name}: {latitude:.10g}, {longitude:.10g} is no latitude and longitude"
                " in degrees; exchange them, or name relative positions unit2_pos"
            )
    known = mast[np.isfinite(mast).all(-1), :2]
    if not len(known):
        return []
    moved = float(_apart(known, known[:1]).max())
    if moved <= _ONE_MAST:
        return []
    return [f"unit1_loc moves by {moved:.0f} m: the site is that of the first sample; give one folder per mast"]


def implausible(user: Array, mast: Array) -> npt.NDArray[np.bool_]:
    """Return which users are more than 100 km from the mast, as receivers without a satellite in view report.

    Parameters
    ----------
    user, mast : numpy.ndarray
        Positions, float64 (samples, 2 or more), degrees; NaN where unknown.

    Returns
    -------
    numpy.ndarray
        bool (samples,).
    """
    return np.asarray(np.nan_to_num(_apart(user, mast)) > _FARTHEST)


def _apart(one: Array, other: Array) -> Array:
    """Return the distances between positions, (samples,), m."""
    north, east = (one - other)[:, :2].T
    return np.asarray(_METRES_PER_DEGREE * np.hypot(north, east * np.cos(np.radians(other[:, 0]))))


def with_heights(table: Table, user: Array, mast: Array) -> tuple[Array, Array, list[str]]:
    """Append the heights of user and mast where both are known for all samples.

    Parameters
    ----------
    table : Table
        Table with the columns ``unit1_height`` and ``unit2_height``, m, or without.
    user, mast : numpy.ndarray
        Positions, float64 (samples, 2).

    Returns
    -------
    user, mast : numpy.ndarray
        Positions, float64 (samples, 2 or 3).
    notes : list of str
        Remarks.
    """
    present = [name for name in _HEIGHTS if name in table.columns]
    if len(present) < 2:
        return user, mast, [f"{name} alone: heights are not used" for name in present]
    heights = np.stack([table.numbers(name) for name in _HEIGHTS])
    missing = int((~np.isfinite(heights)).any(0).sum())
    if missing:
        return user, mast, [f"{missing} of {len(table)} samples have no height: heights are not used"]
    return np.column_stack([user, heights[1]]), np.column_stack([mast, heights[0]]), []
