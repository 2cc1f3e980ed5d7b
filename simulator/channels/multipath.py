"""Channels as sums of spherical waves, and the noisy channel state information (CSI) one gets of them."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.steering import near_field_steering


def multipath_channels(array: UniformLinearArray, angles: Tensor, distances: Tensor, gains: Tensor) -> Tensor:
    """h = sum_l gain_l b(theta_l, r_l), path 0 being the line of sight.

    With gain_0 = sqrt(N) alpha_0 and gain_l = sqrt(N / L) alpha_l this is the papers' channel.

    angles, distances: (..., paths), rad and m; gains: complex (..., paths). Returns complex64 (..., antennas).
    """
    total = torch.zeros(*angles.shape[:-1], array.antennas, dtype=torch.complex64, device=angles.device)
    for path in range(angles.shape[-1]):  # one path at a time: memory stays that of the channels
        wave = near_field_steering(array, angles[..., path], distances[..., path])
        total += gains[..., path, None].to(torch.complex64) * wave
    return total


def noisy_csi(channels: Tensor, snr_db: Tensor | float, generator: torch.Generator) -> Tensor:
    """h + e with e white complex Gaussian, ``snr_db`` below the user's mean power per antenna.

    channels: complex64 (..., antennas); snr_db: a number or a tensor that broadcasts to (...), dB.
    Returns complex64, the same shape.
    """
    snr = 10 ** (torch.as_tensor(snr_db, dtype=torch.float32) / 10)
    per_antenna = torch.linalg.vector_norm(channels, dim=-1) ** 2 / channels.shape[-1]
    deviation = torch.sqrt(per_antenna / snr / 2)
    noise = torch.complex(
        torch.randn(channels.shape, generator=generator), torch.randn(channels.shape, generator=generator)
    )
    return channels + deviation.unsqueeze(-1) * noise
