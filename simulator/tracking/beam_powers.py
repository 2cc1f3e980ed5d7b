"""Estimate angles between the beams of a codebook from the received power per beam.

The amplitudes of five neighbouring beams around the strongest are compared with those of array patterns, sin(x) / x, of
several widths and of all directions between the beams. The deviation follows from what the best pattern leaves
unexplained, or from the noise in the other beams if that is more, by linear error propagation.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["lobe_angles"]

Array = npt.NDArray[np.float64]

_LOBE = 5  # beams
_WIDTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of the pattern, in spacings of the beams
_STEP = 0.02  # of the directions, in spacings
_LEAST_DEVIATION = 0.03  # in spacings
_CAUTION = 3.0  # on deviations from three degrees of freedom, beside reflections
_FEWEST = 3  # beams of a codebook


def lobe_angles(powers: Array, sines: Array) -> tuple[Array, Array, Array]:
    """Estimate the angle of the strongest lobe of each user.

    Parameters
    ----------
    powers
        Linear powers, float64 (users, beams), at least three beams; NaN or no positive one where missing.
    sines
        sin(theta) of the beams, ascending, float64 (beams,).

    Returns
    -------
    angle, deviation : numpy.ndarray
        Angle from the array's normal and its standard deviation, rad, float64 (users,); NaN without powers.
    share : numpy.ndarray
        Share of the power above the median beam that is in the lobe, float64 (users,).

    Raises
    ------
    ValueError
        If the powers have another number of beams than the codebook, or fewer than three.
    """
    users, beams = powers.shape
    if beams != len(sines) or beams < _FEWEST:
        raise ValueError(f"the codebook has {len(sines)} beams, the powers {beams}; at least {_FEWEST} and as many")
    known = np.isfinite(powers).all(-1) & (np.nan_to_num(powers).max(-1) > 0)
    relative = np.where(known[:, None], powers, 1.0)
    relative = np.maximum(relative / relative.max(-1, keepdims=True), 0)
    floor = np.median(relative, -1, keepdims=True) if beams > 2 * _LOBE else np.zeros((users, 1))
    above = np.maximum(relative - floor, 0)
    size = min(_LOBE, beams)
    first = np.clip(relative.argmax(-1) - size // 2, 0, beams - size)
    lobe = np.take_along_axis(above, first[:, None] + np.arange(size), -1)
    share = lobe.sum(-1) / np.maximum(above.sum(-1), np.finfo(np.float64).tiny)
    patterns, shifts, slopes = _patterns(size)
    # Noise in one amplitude, from the median of its exponentially distributed power in the other beams.
    noise = floor[:, 0] / (2 * np.log(2) * np.maximum(lobe.sum(-1), np.finfo(np.float64).tiny))
    amplitude = np.sqrt(lobe)
    amplitude /= np.maximum(np.linalg.norm(amplitude, axis=-1, keepdims=True), np.finfo(np.float64).tiny)
    fit = amplitude @ patterns.T
    best = fit.argmax(-1)
    misfit = np.maximum((1 - fit[np.arange(users), best] ** 2) / max(1, size - 2), noise)
    spacing = np.hypot(_CAUTION * np.sqrt(misfit) / slopes[best], _LEAST_DEVIATION)
    place = first + size // 2 + shifts[best]
    sine = np.interp(place, np.arange(beams), sines)
    per_beam = np.gradient(sines)[np.clip(np.round(place).astype(int), 0, beams - 1)]
    angle = np.arcsin(np.clip(sine, -1, 1))
    deviation = spacing * per_beam / np.maximum(np.cos(angle), 0.1)
    return np.where(known, angle, np.nan), np.where(known, deviation, np.nan), np.where(known, share, 0.0)


@cache
def _patterns(size: int) -> tuple[Array, Array, Array]:
    """Return unit-norm amplitudes (patterns, beams), their directions from the middle beam, and their slopes."""
    half = size / 2
    shifts = np.arange(-half, half + _STEP / 2, _STEP)
    beam = np.arange(size) - size // 2
    parts, slopes = [], []
    for width in _WIDTHS:
        pattern = np.abs(np.sinc((beam - shifts[:, None]) / width))
        pattern /= np.linalg.norm(pattern, axis=-1, keepdims=True)
        parts.append(pattern)
        slopes.append(np.maximum(np.linalg.norm(np.gradient(pattern, _STEP, axis=0), axis=-1), 1e-3))
    return np.concatenate(parts), np.tile(shifts, len(_WIDTHS)), np.concatenate(slopes)
