"""Compute channels as sums of spherical waves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.geometry.arrays import SPEED_OF_LIGHT, UniformLinearArray
from simulator.geometry.steering import near_field_steering


def multipath_channels(
    array: UniformLinearArray, angles: Tensor, distances: Tensor, gains: Tensor, offset: float = 0.0
) -> Tensor:
    """Compute h = sum_l gain_l b(theta_l, r_l), path 0 being the line of sight.

    With gain_0 = sqrt(N) alpha_0 and gain_l = sqrt(N / L) alpha_l this is the channel of the publications.

    Parameters
    ----------
    array
        Array.
    angles, distances
        theta_l, rad, and r_l, m, real (..., paths).
    gains
        complex (..., paths).
    offset
        Frequency relative to the carrier, Hz.

    Returns
    -------
    Tensor
        h, complex64 (..., antennas).
    """
    total = torch.zeros(*angles.shape[:-1], array.antennas, dtype=torch.complex64, device=angles.device)
    for path in range(angles.shape[-1]):  # one path at a time limits memory to that of the channels
        wave = near_field_steering(array, angles[..., path], distances[..., path], frequency=array.carrier + offset)
        total += gains[..., path, None].to(torch.complex64) * wave
    return total


def delay_phase(lengths: Tensor, offset: float) -> Tensor:
    """Compute exp(-j 2 pi f l / c), by which paths of excess length l turn from the carrier to a frequency f beside it.

    Parameters
    ----------
    lengths
        l, real (...), m.
    offset
        f relative to the carrier, Hz.

    Returns
    -------
    Tensor
        complex128 (...).
    """
    phase = -2 * math.pi * torch.remainder(offset * lengths.double() / SPEED_OF_LIGHT, 1.0)
    return torch.polar(torch.ones_like(phase), phase)
