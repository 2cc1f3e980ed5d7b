"""Compute channels as sums of spherical waves."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.steering import near_field_steering


def multipath_channels(array: UniformLinearArray, angles: Tensor, distances: Tensor, gains: Tensor) -> Tensor:
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

    Returns
    -------
    Tensor
        h, complex64 (..., antennas).
    """
    total = torch.zeros(*angles.shape[:-1], array.antennas, dtype=torch.complex64, device=angles.device)
    for path in range(angles.shape[-1]):  # one path at a time limits memory to that of the channels
        wave = near_field_steering(array, angles[..., path], distances[..., path])
        total += gains[..., path, None].to(torch.complex64) * wave
    return total
