"""Compute effective gains, SINRs and rates."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import compute_amplitude_scale, squared_magnitude


def effective_gain_matrix(gram: Tensor, coefficients: Tensor) -> Tensor:
    """F_kj = (P / sigma^2) |h_k^H w_j|^2 for unit-norm w_j ~ sum_i coefficients_ij h_i.

    gram: Gamma, complex (drops, users, users); coefficients: complex (drops, users, users), column j for user j.
    Returns real (drops, users, users). A beam of no energy (a null channel) couples into nobody.
    """
    return effective_gains_and_beam_energy(gram, coefficients)[0]


def effective_gains_and_beam_energy(gram: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """F as `effective_gain_matrix` gives it, and (P / sigma^2) ||sum_i coefficients_ij h_i||^2, real (drops, users)."""
    seen = gram @ coefficients
    energy = (coefficients.real * seen.real + coefficients.imag * seen.imag).sum(-2, keepdim=True)
    own = gram.diagonal(dim1=-2, dim2=-1).real.unsqueeze(-1)
    # Between users with one channel the energy is a difference of large numbers; its rounding must not pass for
    # a beam of no length, and no unit-norm beam gives a user more than ||h_k||^2.
    precision = torch.finfo(energy.dtype)
    rounding = 8 * precision.eps * (squared_magnitude(coefficients) * own).sum(-2, keepdim=True)
    effective_gains = squared_magnitude(seen) / torch.maximum(energy, rounding).clamp(min=precision.tiny)
    return torch.minimum(effective_gains, own), energy.squeeze(-2)


def precoder_gain_matrix(channels: Tensor, precoder: Tensor, budget: LinkBudget) -> Tensor:
    """F_kj = (P / sigma^2) |h_k^H w_j|^2 for beams of any kind, from the definition.

    channels, precoder: complex (drops, users, antennas), the precoder's rows of unit norm. Returns float64 (drops,
    users, users).
    """
    scaled = channels.to(torch.complex128) * compute_amplitude_scale(budget, channels.device).reshape(-1, 1, 1)
    return squared_magnitude(scaled.conj() @ precoder.to(torch.complex128).transpose(-1, -2))


def sinr(effective_gains: Tensor, power_fractions: Tensor) -> Tensor:
    """SINR_k = F_kk q_k / (1 + sum_{j != k} F_kj q_j), linear.

    couplings: F, real (drops, users, users); shares: q = P_k / P, real (drops, users). Returns (drops, users).
    """
    received = effective_gains * power_fractions.unsqueeze(-2)
    signal = received.diagonal(dim1=-2, dim2=-1)
    # The sum without the signal, not the sum minus it: at 60 dB the difference would be rounding.
    interference = (received - torch.diag_embed(signal)).sum(-1)
    return signal / (1 + interference)


def rates(sinr_linear: Tensor) -> Tensor:
    """R_k = log2(1 + SINR_k), bps/Hz."""
    return torch.log2(1 + sinr_linear)


def achieved_sinr(channels: Tensor, precoder: Tensor, power: Tensor, noise_power: float | Tensor) -> Tensor:
    """SINR from its definition: |h_k^H w_k|^2 P_k / (sum_{j != k} |h_k^H w_j|^2 P_j + sigma^2), linear.

    channels, precoder: complex (drops, users, antennas); power: real (drops, users), W; noise_power: W.
    Returns float64 (drops, users). It uses nothing but the answer, so it checks every scheme independently.
    """
    effective = channels.to(torch.complex128).conj() @ precoder.to(torch.complex128).transpose(-1, -2)
    noise = torch.as_tensor(noise_power, dtype=torch.float64, device=channels.device).reshape(-1, 1, 1)
    return sinr(squared_magnitude(effective) / noise, power.double())
