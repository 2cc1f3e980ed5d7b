"""Describe planar arrays in three dimensions: positions of elements and users, directions, responses to waves.

The array is centred at (0, 0, h_B). Its columns lie along y; its rows follow one another along the axis e_v, which
points down and is tilted like the normal: with the down-tilt theta_tit

    normal = (cos theta_tit, 0, -sin theta_tit),   e_u = (0, 1, 0),   e_v = (-sin theta_tit, 0, -cos theta_tit).

A user at p, at the distance r from the centre, has the direction cosines u = e_u . p / r and v = e_v . p / r. A panel
of one column is the line of `simulator.geometry.arrays`, with v = sin(theta) for users at y = 0.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.geometry.arrays import SPEED_OF_LIGHT
from simulator.geometry.steering import path_excess, unit_phasor


@dataclass(frozen=True)
class UniformPlanarArray:
    """Describe a half-wavelength planar array on a mast, centred at (0, 0, ``height``).

    Element r + ``rows`` c is in row r and column c, the order of MATLAB's ``A(:)``; with cross-polarised pairs all
    elements of the first polarisation precede those of the second.

    Parameters
    ----------
    rows, columns
        Size of the panel.
    polarisations
        1, or 2 for cross-polarised pairs.
    carrier
        Carrier frequency, Hz.
    height
        Height h_B of the array's centre above ground, m.
    tilt
        Down-tilt theta_tit of the array's normal, rad.
    """

    rows: int = 16
    columns: int = 16
    polarisations: Literal[1, 2] = 1
    carrier: float = 30e9
    height: float = 15.0
    tilt: float = math.radians(5.0)

    @property
    def elements(self) -> int:
        """Number of element positions, rows x columns."""
        return self.rows * self.columns

    @property
    def antennas(self) -> int:
        """Number of antennas N, both polarisations."""
        return self.elements * self.polarisations

    @property
    def wavelength(self) -> float:
        """Wavelength lambda, m."""
        return SPEED_OF_LIGHT / self.carrier

    @property
    def spacing(self) -> float:
        """Spacing d = lambda / 2 of neighbouring elements, m."""
        return self.wavelength / 2

    @property
    def apertures(self) -> tuple[float, float]:
        """Lengths of the panel along e_u and e_v, columns x d and rows x d, m."""
        return self.columns * self.spacing, self.rows * self.spacing

    def element_offsets(self) -> Tensor:
        """Return the element positions along e_u and e_v.

        Returns
        -------
        Tensor
            float64 (elements, 2), m.
        """
        along_u = torch.arange(self.columns, dtype=torch.float64) - (self.columns - 1) / 2
        along_v = torch.arange(self.rows, dtype=torch.float64) - (self.rows - 1) / 2
        return torch.cartesian_prod(along_u, along_v).reshape(-1, 2) * self.spacing

    def __str__(self) -> str:
        pairs = "x2" if self.polarisations == 2 else ""
        return f"upa:{self.rows}x{self.columns}{pairs}"


def parse_panel(text: str, carrier: float = 30e9) -> UniformPlanarArray:
    """Parse a planar array, ``upa:ROWSxCOLUMNS``, with ``x2`` for cross-polarised pairs.

    Parameters
    ----------
    text
        Array, such as ``upa:16x16`` or ``upa:8x32x2``.
    carrier
        Carrier frequency, Hz.

    Returns
    -------
    UniformPlanarArray
        The array.

    Raises
    ------
    NflaeError
        For anything else; the message lists the valid forms.
    """
    found = re.fullmatch(r"upa:([1-9]\d{0,3})x([1-9]\d{0,3})(x[12])?", text)
    if found is None:
        raise NflaeError(f"no panel {text[:60]!r}: write upa:ROWSxCOLUMNS, e.g. upa:16x16, upa:8x16x2 in pairs")
    pairs: Literal[1, 2] = 2 if found[3] == "x2" else 1
    return UniformPlanarArray(int(found[1]), int(found[2]), pairs, carrier)


def direction_and_distance(position: Tensor, array: UniformPlanarArray) -> tuple[Tensor, Tensor]:
    """Compute the direction cosines and the distance of users from the array's centre.

    Parameters
    ----------
    position
        x, y and height above ground of the users, real (..., 3), m.
    array
        Array.

    Returns
    -------
    direction : Tensor
        (u, v), float64 (..., 2).
    distance : Tensor
        r, float64 (...), m.
    """
    x, y, z = position.double().unbind(-1)
    depth = array.height - z
    distance = torch.sqrt(x.square() + y.square() + depth.square())
    v = (depth * math.cos(array.tilt) - x * math.sin(array.tilt)) / distance
    return torch.stack([y / distance, v], -1), distance


def azimuth_and_depression(direction: Tensor, array: UniformPlanarArray) -> tuple[Tensor, Tensor]:
    """Compute azimuth and depression angle above the horizontal plane from direction cosines.

    Parameters
    ----------
    direction
        (u, v), real (..., 2), of users in front of the array.
    array
        Array.

    Returns
    -------
    azimuth : Tensor
        atan2(y, x), float64 (...), rad.
    depression : Tensor
        Angle below the horizon, float64 (...), rad.
    """
    u, v = direction.double().unbind(-1)
    ahead = torch.sqrt((1 - u.square() - v.square()).clamp(min=0))
    x = ahead * math.cos(array.tilt) - v * math.sin(array.tilt)
    down = ahead * math.sin(array.tilt) + v * math.cos(array.tilt)
    return torch.atan2(u, x), torch.asin(down.clamp(-1, 1))


def direction_cosines(azimuth: Tensor, depression: Tensor, array: UniformPlanarArray) -> Tensor:
    """Compute direction cosines, the inverse of `azimuth_and_depression`.

    Parameters
    ----------
    azimuth
        Real (...), rad.
    depression
        Angle below the horizon, real (...), rad.
    array
        Array.

    Returns
    -------
    Tensor
        (u, v), float64 (..., 2).
    """
    azimuth, depression = azimuth.double(), depression.double()
    u = torch.cos(depression) * torch.sin(azimuth)
    x = torch.cos(depression) * torch.cos(azimuth)
    return torch.stack([u, torch.sin(depression) * math.cos(array.tilt) - x * math.sin(array.tilt)], -1)


def spherical_wave(
    array: UniformPlanarArray, direction: Tensor, distance: Tensor, frequency: float | None = None
) -> Tensor:
    """Compute the unit-norm response of one polarisation to a spherical wave.

    b_n = exp(-j 2 pi (r_n - r) / lambda) / sqrt(elements), r_n^2 = r^2 - 2 r (u y_n + v z_n) + y_n^2 + z_n^2.

    Parameters
    ----------
    array
        Array.
    direction
        (u, v), real (..., 2).
    distance
        r, real (...), m.
    frequency
        Frequency of the wave, Hz; by default the carrier.

    Returns
    -------
    Tensor
        complex64 (..., elements).
    """
    offsets = array.element_offsets().to(direction.device)
    distance = distance.double().unsqueeze(-1)
    excess = path_excess(direction.double() @ offsets.T, offsets.square().sum(-1), distance)
    wavelength = array.wavelength if frequency is None else SPEED_OF_LIGHT / frequency
    return unit_phasor(-excess / wavelength, array.elements)


def plane_wave(array: UniformPlanarArray, direction: Tensor) -> Tensor:
    """Compute the unit-norm response of one polarisation to a plane wave, the limit of `spherical_wave`.

    Parameters
    ----------
    array
        Array.
    direction
        (u, v), real (..., 2).

    Returns
    -------
    Tensor
        complex64 (..., elements).
    """
    along = direction.double() @ array.element_offsets().to(direction.device).T
    return unit_phasor(along / array.wavelength, array.elements)
