"""Locate the users of a panel by azimuth, elevation and distance, and compute the power of beams over directions.

The panel is that of `simulator.geometry.panels`: direction cosines u along the columns and v down the rows. A beam is
shown at the distance of its user: the factors between the plane and the spherical wave of the user are removed from its
antennas, and a two-dimensional FFT gives |b^H w|^2 over u and v. It is exact in the direction of the user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflae_bridge.live.view.beams import SINGLE_WAVE, pooled
from simulator.geometry.arrays import SPEED_OF_LIGHT
from simulator.geometry.panel_labels import fit_spherical_wave
from simulator.geometry.panels import UniformPlanarArray, plane_wave, spherical_wave

DIRECTIONS = 128
"""Directions of a map per axis, uniform in u and v."""

_LEAST_LOSS = 0.06  # of the amplitude by the plane wave: distances up to 1.3 times the border, as in the map of a line
_LEAST_DEVIATIONS = 3.0  # of the curvature, for a distance

Floats = npt.NDArray[np.floating[Any]]


def panel_of(size: tuple[int, int], wavelength: float) -> UniformPlanarArray:
    """Return the panel of an option.

    Parameters
    ----------
    size : tuple of int
        Rows and columns.
    wavelength : float
        Wavelength of the carrier, m.

    Returns
    -------
    UniformPlanarArray
        Panel.
    """
    return UniformPlanarArray(*size, carrier=SPEED_OF_LIGHT / wavelength)


@dataclass(frozen=True)
class PanelPlaces:
    """Hold the wave of each channel.

    Parameters
    ----------
    direction : numpy.ndarray
        (u, v), (users, 2).
    distance : numpy.ndarray
        m, (users,); NaN where only the direction is known.
    share : numpy.ndarray
        Part of the channel's energy in this wave, (users,).
    wavefront : numpy.ndarray
        Ratio of the spherical to the plane wave, complex64 (users, antennas); ones where only the direction is known.
    conjugated : bool
        The channels have the opposite sign of phase, exp(+j k r).
    """

    direction: Floats
    distance: Floats
    share: Floats
    wavefront: npt.NDArray[np.complex64]
    conjugated: bool

    def describe(self) -> list[dict[str, float]]:
        """Return u, v and the distance of each user as far as they are known, for JSON."""
        found = []
        for (u, v), distance, share in zip(self.direction, self.distance, self.share, strict=True):
            is_seen = share >= SINGLE_WAVE and u * u + v * v <= 1
            place = {"u": round(float(u), 5), "v": round(float(v), 5)} if is_seen else {}
            found.append(place | ({"distance": float(f"{distance:.3g}")} if is_seen and distance > 0 else {}))
        return found


def locate_on_panel(channels: npt.NDArray[Any], array: UniformPlanarArray) -> PanelPlaces:
    """Locate users by the spherical wave that fits each channel best.

    Parameters
    ----------
    channels : numpy.ndarray
        Channels h, complex64 (users, antennas), not zero.
    array : UniformPlanarArray
        Panel.

    Returns
    -------
    PanelPlaces
        Waves.
    """
    fit = fit_spherical_wave(array, torch.from_numpy(np.ascontiguousarray(channels, np.complex64)))
    is_certain = (fit.curvature.abs() > _LEAST_DEVIATIONS * fit.deviation) & (1 - fit.gain > _LEAST_LOSS)
    conjugated = bool((fit.curvature * is_certain).sum() < 0)
    sign = -1 if conjugated else 1
    direction, curvature = sign * fit.direction, sign * fit.curvature
    is_known = is_certain & (curvature > 0)
    distance = torch.where(is_known, array.wavelength / curvature, torch.inf).double()
    plane = plane_wave(array, direction)
    wave = torch.where(is_known.unsqueeze(-1), spherical_wave(array, direction, distance.clamp(max=1e9)), plane)
    seen = channels.conj() if conjugated else channels
    share = np.abs((wave.numpy().conj() * seen).sum(-1)) ** 2 / (np.abs(seen) ** 2).sum(-1)
    wavefront = array.antennas * wave.numpy() * plane.numpy().conj()
    return PanelPlaces(direction.numpy(), np.where(is_known, distance, np.nan), share, wavefront, conjugated)


def panel_power(beams: npt.NDArray[Any], wavefronts: npt.NDArray[Any] | None, array: UniformPlanarArray) -> Floats:
    """Compute |b^H w|^2 over directions, summed over the streams of each user.

    Parameters
    ----------
    beams : numpy.ndarray
        Beams w, complex (users, streams, antennas).
    wavefronts : numpy.ndarray or None
        Ratio of the spherical to the plane wave, complex (users, antennas); None for the far field.
    array : UniformPlanarArray
        Panel.

    Returns
    -------
    numpy.ndarray
        Float32 (users, `DIRECTIONS` of v, `DIRECTIONS` of u), ascending; the places are those of `direction_offset`.
    """
    sizes = _transform_size(array.columns), _transform_size(array.rows)
    power = np.zeros((len(beams), DIRECTIONS, DIRECTIONS), np.float32)
    for user, streams in enumerate(beams):
        flat = streams if wavefronts is None else streams * wavefronts[user].conj()
        spectra = np.fft.fft2(flat.reshape(-1, array.columns, array.rows), s=sizes)
        shifted = np.fft.fftshift((np.abs(spectra) ** 2).sum(0) / array.antennas)
        power[user] = pooled(pooled(shifted, DIRECTIONS).T, DIRECTIONS)
    return power


def direction_offset(antennas: int) -> float:
    """Return the place of the first direction of an axis, after -1, in steps of 2 / `DIRECTIONS`.

    Parameters
    ----------
    antennas : int
        Number of antennas along the axis.

    Returns
    -------
    float
        From 0 to 0.5: the middle of the directions that were reduced to one.
    """
    step = _transform_size(antennas) // DIRECTIONS
    return (step - 1) / (2 * step)


def _transform_size(antennas: int) -> int:
    """Return the number of directions of a transform, a power of two, of at most half a beam's width."""
    return max(DIRECTIONS, 1 << (2 * antennas - 1).bit_length())
