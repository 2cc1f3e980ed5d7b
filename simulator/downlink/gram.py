"""Compute the K x K Gram matrix Gamma = (P / sigma^2) H^H H of the users' channels."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget

# Rounding in single precision is amplified by 1 / (1 - coherence), and is below the noise up to about 33 dB.
MAX_FP32_COHERENCE = 0.999
MAX_FP32_SNR = 2e3
MIN_FP32_ENERGY = 1e-25
DROPS_IN_CACHE = 64  # drops whose channels stay in a core's cache


def compute_amplitude_scale(budget: LinkBudget, device: torch.device) -> Tensor:
    """Compute sqrt(P / sigma^2), which scales channels to the unit of the noise.

    Parameters
    ----------
    budget : LinkBudget
        Link budget.
    device : torch.device
        Device of the result.

    Returns
    -------
    Tensor
        float64 (drops or 1,).
    """
    ratio = torch.as_tensor(budget.power / budget.noise_power, dtype=torch.float64, device=device)
    return torch.sqrt(ratio).reshape(-1)


def normalised_gram(channels: Tensor, budget: LinkBudget, precision: torch.dtype = torch.complex128) -> Tensor:
    """Compute Gamma_ij = (P / sigma^2) h_i^H h_j.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex (drops, users, antennas), in any unit: sqrt(P / sigma^2) scales them before the product,
        so that CSI of the order of 1e-6 stays within range.
    budget : LinkBudget
        Link budget.
    precision : torch.dtype
        Complex type of the sums and of the result.

    Returns
    -------
    Tensor
        Gamma, Hermitian, `precision` (drops, users, users).
    """
    return scaled_gram(compute_amplitude_scale(budget, channels.device), channels, precision)


def scaled_gram(amplitude_scale: Tensor, channels: Tensor, precision: torch.dtype = torch.complex128) -> Tensor:
    """Compute Gamma from channels and their scale, as `normalised_gram` does from the budget.

    Parameters
    ----------
    amplitude_scale : Tensor
        sqrt(P / sigma^2), float64 (drops or 1,).
    channels : Tensor
        Channels h_k, complex (drops, users, antennas).
    precision : torch.dtype
        Complex type of the sums and of the result.

    Returns
    -------
    Tensor
        Gamma, Hermitian, `precision` (drops, users, users).
    """
    scaled = channels.to(precision) * amplitude_scale.to(precision).reshape(-1, 1, 1)
    return scaled.conj() @ scaled.transpose(-1, -2)


def mixed_precision_gram(channels: Tensor, budget: LinkBudget) -> tuple[Tensor, Tensor]:
    """Compute Gamma with sums over antennas in single precision on the drops for which it suffices.

    It does not suffice where the coherence of two users exceeds `MAX_FP32_COHERENCE`, an SNR exceeds `MAX_FP32_SNR`, or
    the energy of a channel is near the ends of the single-precision range; nor on any drop if antennas are fewer than
    twice the users, or minimum rates have to hold to the last digit. On a GPU all sums are in double precision: they
    cost little there, and the decision would synchronise with the host.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex64 (drops, users, antennas).
    budget : LinkBudget
        Link budget.

    Returns
    -------
    gram : Tensor
        Gamma, complex128 (drops, users, users).
    needs_float64 : Tensor
        Drops computed in double precision, bool (drops,).
    """
    drops, users, antennas = channels.shape
    if budget.demands_rates or antennas < 2 * users or channels.is_cuda:
        return normalised_gram(channels, budget), torch.ones(drops, dtype=torch.bool, device=channels.device)
    power_scale = compute_amplitude_scale(budget, channels.device).square().reshape(-1, 1, 1)
    # A few drops at a time are still in the cache when they are multiplied with their conjugates.
    sums = [part.conj() @ part.transpose(-1, -2) for part in torch.split(channels, DROPS_IN_CACHE)]
    unscaled = torch.cat(sums).to(torch.complex128)
    energy = unscaled.diagonal(dim1=-2, dim2=-1).real
    gram = unscaled * power_scale
    pairs = squared_magnitude(unscaled) - torch.diag_embed(energy.square())
    coherent = pairs > MAX_FP32_COHERENCE * (energy.unsqueeze(-1) * energy.unsqueeze(-2))
    strong = energy * power_scale.squeeze(-1) > MAX_FP32_SNR
    in_range = (energy > MIN_FP32_ENERGY) & (energy < 1 / MIN_FP32_ENERGY)
    needs_float64 = (coherent.any(-1) | strong | ~in_range).any(-1)
    count = int(needs_float64.sum())
    if count == drops:
        gram = normalised_gram(channels, budget)
    elif count:
        gram[needs_float64] = normalised_gram(channels[needs_float64], budget.select(needs_float64))
    return gram, needs_float64


def squared_magnitude(values: Tensor) -> Tensor:
    """Compute |z|^2 without the square root that |z| takes.

    Parameters
    ----------
    values : Tensor
        z, complex.

    Returns
    -------
    Tensor
        Real, of the same shape.
    """
    return values.real.square() + values.imag.square()
