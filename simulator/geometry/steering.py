"""Compute array responses to spherical (near-field) and plane (far-field) waves."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from simulator.geometry.arrays import SPEED_OF_LIGHT, UniformLinearArray

WavefrontModel = Literal["exact", "fresnel"]


def near_field_steering(
    array: UniformLinearArray,
    angle: Tensor,
    distance: Tensor,
    model: WavefrontModel = "exact",
    frequency: float | None = None,
) -> Tensor:
    """Compute the unit-norm response b(theta, r) of the array to a spherical wave.

    b_n = exp(-j 2 pi (r_n - r) / lambda) / sqrt(N) with r_n = sqrt(r^2 - 2 n d r sin(theta) + n^2 d^2), or with
    ``model="fresnel"`` r_n = r - n d sin(theta) + n^2 d^2 cos^2(theta) / (2 r). Phases are computed in float64 and
    reduced to one cycle before the cast: float32 does not resolve a phase of 10^4 cycles.

    Parameters
    ----------
    array
        Array.
    angle, distance
        theta, rad, and r, m, of shape S.
    model
        ``exact`` or ``fresnel``.
    frequency
        Frequency of the wave, Hz; by default the carrier, at which the spacing is half a wavelength.

    Returns
    -------
    Tensor
        complex64 S + (antennas,).
    """
    angle, distance = angle.double().unsqueeze(-1), distance.double().unsqueeze(-1)
    offset = array.element_offsets(angle.device)
    along = offset * torch.sin(angle)
    if model == "exact":
        excess = path_excess(along, offset**2, distance)
    else:
        excess = offset**2 * torch.cos(angle) ** 2 / (2 * distance) - along
    wavelength = array.wavelength if frequency is None else SPEED_OF_LIGHT / frequency
    return unit_phasor(-excess / wavelength, array.antennas)


def far_field_steering(array: UniformLinearArray, angle: Tensor) -> Tensor:
    """Compute the unit-norm response a(theta) of the array to a plane wave.

    a_n = exp(+j pi n sin(theta)) / sqrt(N), the limit of `near_field_steering` as r -> infinity.

    Parameters
    ----------
    array
        Array.
    angle
        theta, rad, of shape S.

    Returns
    -------
    Tensor
        complex64 S + (antennas,).
    """
    along = array.element_offsets(angle.device) * torch.sin(angle.double()).unsqueeze(-1)
    return unit_phasor(along / array.wavelength, array.antennas)


def path_excess(along: Tensor, square: Tensor, distance: Tensor) -> Tensor:
    """Compute r_n - r, r_n = sqrt(r^2 - 2 r a_n + s_n), without cancellation: (r_n^2 - r^2) / (r_n + r).

    Parameters
    ----------
    along
        Element positions projected on the direction of the source, a_n, float64 (..., elements), m.
    square
        Squared distance of the elements from the centre, s_n, float64 (elements,), m^2.
    distance
        Distance r of the source from the centre, float64 (..., 1), m.

    Returns
    -------
    Tensor
        float64 (..., elements), m.
    """
    difference = square - 2 * distance * along
    return difference / (torch.sqrt(distance**2 + difference) + distance)


def unit_phasor(cycles: Tensor, antennas: int) -> Tensor:
    """Compute exp(j 2 pi cycles) / sqrt(N), from phases reduced to one cycle in float64.

    Parameters
    ----------
    cycles
        float64 (...).
    antennas
        N.

    Returns
    -------
    Tensor
        complex64 (...).
    """
    phase = (2 * math.pi * (cycles - cycles.round())).float()
    return torch.polar(torch.full_like(phase, 1 / math.sqrt(antennas)), phase)
