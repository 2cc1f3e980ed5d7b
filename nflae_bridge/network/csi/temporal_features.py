"""Hold the constant matrices of `nflae_bridge.network.csi.temporal_gram`."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

CPU = torch.device("cpu")
LEAST_NOISE = 1e-6


@cache
def periodogram_weights(bins: int, size: int, device: torch.device = CPU) -> Tensor:
    """Return the periodogram, times size^2, as a linear map of a Gram matrix's halves.

    The real parts are above the diagonal, the imaginary parts below it.

    Parameters
    ----------
    bins
        Bins of the Doppler spectrum.
    size
        Snapshots P of the Gram matrix.
    device
        Device of the result.

    Returns
    -------
    Tensor
        float64 (size^2, bins).
    """
    time = torch.arange(size, dtype=torch.float64)
    lag = (time - time.unsqueeze(1)).unsqueeze(-1)
    angle = 2 * math.pi * lag * ((torch.arange(bins, dtype=torch.float64) + 0.5) / bins - 0.5)
    weights = torch.where(lag > 0, 2 * angle.cos(), 2 * angle.sin())
    return torch.where(lag == 0, 1.0, weights).flatten(0, 1).to(device)


@cache
def waves(bins: int, lags: int, device: torch.device = CPU) -> Tensor:
    """Return cos(2 pi f t) and, after all lags, sin(2 pi f t) of all bins.

    Parameters
    ----------
    bins
        Bins of the Doppler spectrum.
    lags
        Number of lags t from 0.
    device
        Device of the result.

    Returns
    -------
    Tensor
        float64 (bins, 2 lags).
    """
    cycles = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins - 0.5
    angle = 2 * math.pi * cycles.unsqueeze(1) * torch.arange(lags, dtype=torch.float64)
    return torch.cat([angle.cos(), angle.sin()], 1).to(device)
