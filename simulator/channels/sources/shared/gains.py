"""Normalise the gains of the users of a drop."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SPREAD_DB = 20.0  # largest spread of the users' gains within a drop


def gains_db(channels: Tensor) -> Tensor:
    """Compute ||h||^2, averaged over subcarriers, in dB.

    Parameters
    ----------
    channels
        complex (..., subcarriers, antennas).

    Returns
    -------
    Tensor
        Gains, real (...), dB.
    """
    norm = torch.linalg.vector_norm(channels.flatten(-2), dim=-1)
    return 20 * torch.log10(norm / math.sqrt(channels.shape[-2]))


def limited_db(gains: Tensor, spread_db: float = SPREAD_DB) -> Tensor:
    """Limit gains to ``spread_db`` / 2 on either side of the median user of each drop.

    Parameters
    ----------
    gains
        real (drops, users), dB.
    spread_db
        Largest spread within a drop, dB.

    Returns
    -------
    Tensor
        Limited gains, real (drops, users), dB.
    """
    middle = gains.median(-1, keepdim=True).values
    return middle + (gains - middle).clamp(-spread_db / 2, spread_db / 2)


def normalise_gains(channels: Tensor, relative_db: Tensor) -> Tensor:
    """Scale channels to given relative gains within each drop, with a mean ||h||^2 of 1 per drop.

    Parameters
    ----------
    channels
        complex64 (drops, users, subcarriers, antennas).
    relative_db
        Gains up to a common factor per drop, real (drops, users), dB.

    Returns
    -------
    Tensor
        Scaled channels, complex64, of the shape of ``channels``.
    """
    power = 10 ** ((relative_db - relative_db.amax(-1, keepdim=True)).double() / 10)
    power = power / power.mean(-1, keepdim=True) * channels.shape[-2]
    norm = torch.linalg.vector_norm(channels.flatten(-2), dim=-1, dtype=torch.complex128)
    scale = (power.sqrt() / norm)[..., None, None]
    scaled: Tensor = (channels.to(torch.complex128) * scale).to(torch.complex64)
    return scaled
