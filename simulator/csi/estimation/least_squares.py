"""Estimate by least squares: h = Phi (Phi^H Phi)^-1 y, the shortest channel that explains the pilots."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.csi.estimation.pilots import Observation


def least_squares(observation: Observation) -> Tensor:
    """Estimate channels by least squares, of minimum norm where there are fewer symbols than antennas.

    Parameters
    ----------
    observation : Observation
        Received pilots.

    Returns
    -------
    Tensor
        Channels, complex64 (series, snapshots, antennas); the received pilots themselves if these are orthogonal.
    """
    if observation.pilots is None:
        return observation.received
    inverse = torch.linalg.pinv(observation.pilots.to(torch.complex128)).mH
    channels: Tensor = observation.received @ inverse.T.to(observation.received.dtype)
    return channels
