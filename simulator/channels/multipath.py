"""Channels as sums of spherical waves, and the noisy channel state information (CSI) one gets of them."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.steering import near_field_steering


def multipath_channels(array: UniformLinearArray, angles: Tensor, distances: Tensor, gains: Tensor) -> Tensor:
    """H = sum_l gain_l b(theta_l, r_l), path 0 being the line of sight.

    With gain_0 = sqrt(N) alpha_0 and gain_l = sqrt(N / L) alpha_l this is the papers' channel.

    angles, distances: (..., paths), rad and m; gains: complex (..., paths). Returns complex64 (..., antennas).
    """
    total = torch.zeros(*angles.shape[:-1], array.antennas, dtype=torch.complex64, device=angles.device)
    for path in range(angles.shape[-1]):  # one path at a time: memory stays that of the channels
        wave = near_field_steering(array, angles[..., path], distances[..., path])
        total += gains[..., path, None].to(torch.complex64) * wave
    return total
