"""Array responses of spherical (near-field) and plane (far-field) waves."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray

WavefrontModel = Literal["exact", "fresnel"]


def near_field_steering(
    array: UniformLinearArray, angle: Tensor, distance: Tensor, model: WavefrontModel = "exact"
) -> Tensor:
    """Unit-norm response of the array to a spherical wave from (angle, distance).

    b_n = exp(-j 2 pi (r_n - r) / lambda) / sqrt(N) with r_n = sqrt(r^2 - 2 n d r sin(theta) + n^2 d^2), or with
    ``model="fresnel"`` r_n = r - n d sin(theta) + n^2 d^2 cos^2(theta) / (2 r).

    angle, distance: shape S, rad and m. Returns complex64 S + (antennas,). Phases are computed in float64 and
    reduced to one cycle before the cast: a phase of 10^4 cycles would lose all meaning in float32.
    """
    angle, distance = angle.double().unsqueeze(-1), distance.double().unsqueeze(-1)
    offset = array.element_offsets().to(angle.device)
    along = offset * torch.sin(angle)
    if model == "exact":
        # (r_n - r) written without cancellation: (r_n^2 - r^2) / (r_n + r)
        square = offset**2 - 2 * distance * along
        excess = square / (torch.sqrt(distance**2 + square) + distance)
    else:
        excess = offset**2 * torch.cos(angle) ** 2 / (2 * distance) - along
    return _unit_phasor(-excess / array.wavelength, array.antennas)


def far_field_steering(array: UniformLinearArray, angle: Tensor) -> Tensor:
    """Unit-norm response to a plane wave: a_n = exp(+j pi n sin(theta)) / sqrt(N).

    angle: shape S, rad. Returns complex64 S + (antennas,). The limit of `near_field_steering` as r -> infinity.
    """
    along = array.element_offsets().to(angle.device) * torch.sin(angle.double()).unsqueeze(-1)
    return _unit_phasor(along / array.wavelength, array.antennas)


def _unit_phasor(cycles: Tensor, antennas: int) -> Tensor:
    phase = (2 * math.pi * (cycles - cycles.round())).float()
    return torch.polar(torch.full_like(phase, 1 / math.sqrt(antennas)), phase)
