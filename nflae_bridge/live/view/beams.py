"""Compute the power of beams over directions and wavefront curvatures, and locate users in that grid.

A half-wavelength line of N antennas responds to a wave from the angle theta and the distance r by

    b_n = exp(j pi n sin(theta) - j 2 pi beta^2 (n / N)^2) / sqrt(N),   beta^2 = N^2 d^2 cos^2(theta) / (2 lambda r),

the Fresnel approximation. For one beta^2, an FFT over the antennas gives |b^H w|^2 in all directions; beta^2 = 0 is the
far field. The computation takes no distances, and thus no carrier: beta^2 becomes a distance when the map is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

ANGLES = 256
"""Directions of a map, uniform in sin(theta)."""

SINGLE_WAVE = 0.5
"""Least part of the energy of a channel in one wave whose user is marked."""

_MAX_RINGS = 40
_SEARCH_STEP = 4.0  # of beta^2: half of it costs a wave less than half of its power
_MAX_VALUES = 1 << 20  # per map, before the directions are reduced

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Located:
    """Hold the strongest wave of each channel.

    Parameters
    ----------
    sine, curvature : numpy.ndarray
        sin(theta) and beta^2, (users,).
    share : numpy.ndarray
        Part of the channel's energy in this wave, (users,).
    conjugated : bool
        The channels have the opposite sign of phase, exp(+j k r).
    """

    sine: Floats
    curvature: Floats
    share: Floats
    conjugated: bool

    @property
    def is_single_wave(self) -> npt.NDArray[np.bool_]:
        """True where one wave has most of the energy, bool (users,)."""
        return self.share >= SINGLE_WAVE

    def describe(self) -> list[dict[str, float]]:
        """Return sin(theta) and beta^2 of each user whose channel is a single wave, for JSON."""
        return [
            {"sine": float(f"{sine:.5g}"), "curvature": float(f"{curvature:.5g}")} if is_seen else {}
            for sine, curvature, is_seen in zip(self.sine, self.curvature, self.is_single_wave, strict=True)
        ]


def curvature_grid(antennas: int, vectors: int) -> Floats:
    """Return the values of beta^2 of a map, from 0 to N / 8, the curvature at twice the length of the array.

    Parameters
    ----------
    antennas, vectors : int
        Number N of antennas, and of channels and beams to be transformed.

    Returns
    -------
    numpy.ndarray
        Float64, ascending, denser towards 0.
    """
    rings = int(np.clip(antennas / 4, 12, _MAX_RINGS))
    rings = max(2, min(rings, _MAX_VALUES // (max(1, vectors) * _directions(antennas))))
    grid: Floats = np.linspace(0, 1, rings) ** 1.5 * (antennas / 8)
    return grid


def _directions(antennas: int) -> int:
    """Return the number of directions of the transforms, a power of two: half a beam's width, and at least `ANGLES`."""
    return max(ANGLES, 1 << (2 * antennas - 1).bit_length())


def wave_power(vectors: npt.NDArray[Any], curvatures: Floats) -> Floats:
    """Compute |b^H w|^2 over curvatures and directions.

    Parameters
    ----------
    vectors : numpy.ndarray
        Beams or channels w, complex (vectors, antennas).
    curvatures : numpy.ndarray
        Values of beta^2, (rings,).

    Returns
    -------
    numpy.ndarray
        Float32 (vectors, rings, directions): sin(theta) = -1 + 2 i / directions, at least `ANGLES` and 2 N of them.
    """
    antennas = vectors.shape[-1]
    directions = _directions(antennas)
    phases = _focusing(antennas, curvatures)
    power = np.empty((len(vectors), len(curvatures), directions), np.float32)
    for vector, row in zip(vectors, power, strict=True):  # one at a time: its arrays stay in a processor's cache
        spectrum = np.fft.fft(vector * phases, n=directions)
        half = directions // 2
        for part, place in ((slice(half, None), slice(None, half)), (slice(None, half), slice(half, None))):
            row[:, place] = spectrum.real[:, part] ** 2 + spectrum.imag[:, part] ** 2
    return power


def _focusing(antennas: int, curvatures: Floats) -> npt.NDArray[np.complex64]:
    """Return exp(j 2 pi beta^2 (n / N)^2) / sqrt(N), (rings, antennas)."""
    place = (np.arange(antennas) - (antennas - 1) / 2) / antennas
    phases = np.exp(2j * np.pi * curvatures[:, None] * place**2)
    return np.asarray(phases / np.sqrt(antennas), np.complex64)


def pooled(power: Floats, directions: int = ANGLES) -> Floats:
    """Reduce the directions, each to the largest of its neighbours, so that narrow beams remain.

    Parameters
    ----------
    power : numpy.ndarray
        Values over a multiple of these directions, in the last axis.
    directions : int
        Directions of the result.

    Returns
    -------
    numpy.ndarray
        (..., directions).
    """
    step = power.shape[-1] // directions
    largest: Floats = reduce(np.maximum, (power[..., place::step] for place in range(step)))
    return largest


def _search_grid(curvatures: Floats) -> Floats:
    """Return every third of the curvatures, with steps of at most `_SEARCH_STEP`."""
    sparse = curvatures[::3]
    dense = sparse[: 1 + int((np.diff(sparse) <= _SEARCH_STEP).sum())]
    grid: Floats = np.append(dense, np.arange(dense[-1] + _SEARCH_STEP, curvatures[-1] + _SEARCH_STEP, _SEARCH_STEP))
    return grid


def locate(channels: npt.NDArray[Any], curvatures: Floats) -> Located:
    """Locate users by the strongest wave in each channel, for the sign of phase under which these are stronger.

    The direction is that of the strongest wave over few curvatures, for which the curvature is then refined.

    Parameters
    ----------
    channels : numpy.ndarray
        Channels h, complex (users, antennas), not zero.
    curvatures : numpy.ndarray
        Values of beta^2 to be tried, (rings,), ascending from 0.

    Returns
    -------
    Located
        Waves.
    """
    coarse = _search_grid(curvatures)
    powers = [wave_power(sign, coarse).max(1) for sign in (channels, channels.conj())]
    sums = [float(power.max(1).sum()) for power in powers]
    conjugated = sums[1] > 1.000001 * sums[0]  # equal for plane waves
    waves = channels.conj() if conjugated else channels
    sine = 2 * powers[conjugated].argmax(1) / powers[0].shape[1] - 1
    antennas = channels.shape[1]
    turns = np.exp(-1j * np.pi * sine[:, None] * (np.arange(antennas) - (antennas - 1) / 2))
    fine = np.abs((waves * turns) @ _focusing(antennas, curvatures).T) ** 2
    peak = np.maximum(fine.max(1), powers[conjugated].max(1))
    return Located(sine, curvatures[fine.argmax(1)], peak / (np.abs(channels) ** 2).sum(-1), conjugated)
