"""Locate the best beam between the beams of a codebook, and score beams around a real-valued one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["around", "centroid", "normalised_db"]

_REACH = 2  # beams on either side of the strongest
_LEAST = 1e-9  # power below which nothing is left above the floor


def centroid(powers: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Compute the mean beam around the strongest one, weighted by the power above the median of all beams.

    Parameters
    ----------
    powers
        Linear powers (..., beams).

    Returns
    -------
    numpy.ndarray
        Real-valued beam, float64 (...).
    """
    near = np.clip(powers.argmax(-1)[..., None] + np.arange(-_REACH, _REACH + 1), 0, powers.shape[-1] - 1)
    relative = powers / powers.max(-1, keepdims=True)
    above = np.take_along_axis(relative, near, -1) - np.median(relative, -1)[..., None]
    weight = np.maximum(above.astype(np.float64), _LEAST)
    return np.asarray((weight * near).sum(-1) / weight.sum(-1))


def around(centre: npt.NDArray[np.float64], beams: int) -> npt.NDArray[np.float32]:
    """Score beams by their distance from a real-valued beam.

    Parameters
    ----------
    centre
        Real-valued beams, (...); those outside of the codebook count as its first or last.
    beams
        Number of beams.

    Returns
    -------
    numpy.ndarray
        Scores, float32 (..., beams), 0 at the centre and -1 per beam beside it.
    """
    inside = np.clip(centre, 0, beams - 1)
    return np.asarray(-np.abs(np.arange(beams) - inside[..., None]), np.float32)


def normalised_db(powers: npt.NDArray[np.float32], floor_db: float) -> npt.NDArray[np.float32]:
    """Convert powers to dB below the strongest beam.

    Parameters
    ----------
    powers
        Linear powers (..., beams), a positive one in each vector.
    floor_db
        Least value, below 0.

    Returns
    -------
    numpy.ndarray
        float32 (..., beams), from ``floor_db`` to 0.
    """
    relative = powers / powers.max(-1, keepdims=True)
    return np.asarray(10 * np.log10(np.maximum(relative, 10 ** (floor_db / 10))), np.float32)
