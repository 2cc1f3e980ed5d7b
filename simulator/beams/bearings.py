"""Express positions as the directions and distances that beams depend on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["beam_coordinates", "bearings"]

_NEAREST = 1.0  # m
_WEIGHTS = np.array([1.0, 0.3, 0.1])  # of elevation, azimuth and distance


def bearings(position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return sine of the elevation, azimuth and logarithm of the distance of positions with heights.

    Parameters
    ----------
    position
        Positions relative to the mast, float64 (..., 2) or (..., 3), m.

    Returns
    -------
    numpy.ndarray
        float64 (..., 3), azimuth in rad; positions without heights are returned as they are.
    """
    if position.shape[-1] < 3:
        return position
    east, north, height = np.moveaxis(position, -1, 0)
    distance = np.maximum(np.sqrt((position**2).sum(-1)), _NEAREST)
    return np.stack([height / distance, np.arctan2(north, east), np.log(distance)], -1)


def beam_coordinates(position: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return coordinates whose distances say how similar beams are: elevation counts most of positions with heights.

    Parameters
    ----------
    position
        Positions relative to the mast, float64 (..., 2) or (..., 3), m.

    Returns
    -------
    numpy.ndarray
        Weighted bearings, float64 (..., 3); positions without heights are returned as they are.
    """
    return bearings(position) * _WEIGHTS if position.shape[-1] == 3 else position
