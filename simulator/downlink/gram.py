"""Compute the K x K Gram matrix of the users' channels, in units of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget

# Rounding in single precision is amplified by 1 / (1 - coherence) and drowns in noise up to some 33 dB.
MAX_FP32_COHERENCE = 0.999


MAX_FP32_SNR = 2e3


MIN_FP32_ENERGY = 1e-25


DROPS_IN_CACHE = 64  # drops whose channels stay in a core's cache


def compute_amplitude_scale(budget: LinkBudget, device: torch.device) -> Tensor:
    """sqrt(P / sigma^2), which scales channels to the noise's unit; float64 (drops or 1,)."""
    ratio = torch.as_tensor(budget.power / budget.noise_power, dtype=torch.float64, device=device)
    return torch.sqrt(ratio).reshape(-1)


def normalised_gram(channels: Tensor, budget: LinkBudget, precision: torch.dtype = torch.complex128) -> Tensor:
    """Gamma = (P / sigma^2) H^H H, Gamma_ij = (P / sigma^2) h_i^H h_j.

    channels: complex (drops, users, antennas). Returns ``precision`` (drops, users, users), Hermitian.
    The factor goes onto the channels first, so that CSI in any unit (1e-6 of a volt) stays in range.
    """
    return scaled_gram(compute_amplitude_scale(budget, channels.device), channels, precision)


def scaled_gram(amplitude_scale: Tensor, channels: Tensor, precision: torch.dtype = torch.complex128) -> Tensor:
    """Gamma as `normalised_gram` gives it, with sqrt(P / sigma^2) at hand; units: float64 (drops or 1,)."""
    scaled = channels.to(precision) * amplitude_scale.to(precision).reshape(-1, 1, 1)
    return scaled.conj() @ scaled.transpose(-1, -2)


def mixed_precision_gram(channels: Tensor, budget: LinkBudget) -> tuple[Tensor, Tensor]:
    """Gamma as `normalised_gram` gives it, with the sums over antennas in single precision on drops where that does.

    It doesn't where two users stand nearly side by side, an SNR is beyond what single precision resolves, CSI comes in
    units near the ends of its range, users are more than half as many as antennas, or minimum rates have to be kept to
    the last digit: there all is in double. So it is on a GPU, to which these sums are nothing and a question is dear.

    channels: complex64 (drops, users, antennas). Returns complex128 (drops, users, users), and bool (drops,): the
    careful ones.
    """
    drops, users, antennas = channels.shape
    if budget.demands_rates or antennas < 2 * users or channels.is_cuda:
        return normalised_gram(channels, budget), torch.ones(drops, dtype=torch.bool, device=channels.device)
    amplitude_scale = compute_amplitude_scale(budget, channels.device).square().reshape(-1, 1, 1)
    # A few drops at a time: they are in the cache still when their conjugates are multiplied.
    sums = [part.conj() @ part.transpose(-1, -2) for part in torch.split(channels, DROPS_IN_CACHE)]
    rough = torch.cat(sums).to(torch.complex128)
    energy = rough.diagonal(dim1=-2, dim2=-1).real
    gram = rough * amplitude_scale
    pairs = squared_magnitude(rough) - torch.diag_embed(energy.square())
    alike = pairs > MAX_FP32_COHERENCE * (energy.unsqueeze(-1) * energy.unsqueeze(-2))
    loud = energy * amplitude_scale.squeeze(-1) > MAX_FP32_SNR
    in_range = (energy > MIN_FP32_ENERGY) & (energy < 1 / MIN_FP32_ENERGY)
    needs_float64 = (alike.any(-1) | loud | ~in_range).any(-1)
    count = int(needs_float64.sum())
    if count == drops:
        gram = normalised_gram(channels, budget)
    elif count:
        gram[needs_float64] = normalised_gram(channels[needs_float64], budget.select(needs_float64))
    return gram, needs_float64


def squared_magnitude(values: Tensor) -> Tensor:
    """|z|^2, real, without the square root that |z| costs. values: complex."""
    return values.real.square() + values.imag.square()
