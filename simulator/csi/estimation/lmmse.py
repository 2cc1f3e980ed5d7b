"""Estimate by linear minimum mean squared error: h = C Phi (Phi^H C Phi + sigma^2 I)^-1 y for a covariance C."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.csi.estimation.pilots import Observation


def lmmse(observation: Observation, covariance: Tensor) -> Tensor:
    """Estimate channels of known covariance; the conditional mean if they are Gaussian.

    Parameters
    ----------
    observation : Observation
        Received pilots.
    covariance : Tensor
        C = E h h^H, complex (series or 1, antennas, antennas), Hermitian and positive semidefinite.

    Returns
    -------
    Tensor
        Channels, complex64 (series, snapshots, antennas).
    """
    wide = covariance.to(torch.complex128)
    pilots = None if observation.pilots is None else observation.pilots.to(wide.dtype)
    cross = wide if pilots is None else wide @ pilots
    inner = wide if pilots is None else pilots.mH @ cross
    noise = observation.noise_variance.double()[:, None, None]
    inner = inner + noise * torch.eye(inner.shape[-1], dtype=wide.dtype, device=wide.device)
    gains = torch.linalg.solve(inner, observation.received.to(wide.dtype).mT)
    channels: Tensor = (cross @ gains).mT.to(observation.received.dtype)
    return channels
