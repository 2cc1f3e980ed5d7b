"""Zero forcing."""

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes.registry import register


def zero_forcing_coefficients(gram: Tensor) -> Tensor:
    """Compute C = Gamma^+, for which the columns of H C are the zero-forcing beams.

    The pseudo-inverse covers rank-deficient channels: users of equal direction then share its beam.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).

    Returns
    -------
    Tensor
        C, complex (drops, users, users).
    """
    # Users' gains may differ by 100 dB; the rank is that of the directions.
    norm = torch.sqrt(gram.diagonal(dim1=-2, dim2=-1).real).clamp(min=1e-150)
    scale = norm.unsqueeze(-1) * norm.unsqueeze(-2)
    coefficients: Tensor = torch.linalg.pinv(gram / scale, rtol=1e-9, hermitian=True) / scale
    return coefficients


@register("zf")
def zf(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Suppress all interference between users of independent channels, W = H (H^H H)^+ with unit-norm columns.

    Powers are equal.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Precoding
        Precoding of every drop.
    """
    coefficients = zero_forcing_coefficients(normalised_gram(batch.channels, budget))
    # Of near-parallel users Gamma has lost the digits of the beams' gains: these are computed from the beams returned.
    beams = coefficients.transpose(-1, -2) @ batch.channels.to(coefficients.dtype)
    return equal_power_precoding(batch, beams, budget)
