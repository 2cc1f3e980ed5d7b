"""Compute effective gains, SINRs and rates."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import compute_amplitude_scale, squared_magnitude


def effective_gain_matrix(gram: Tensor, coefficients: Tensor) -> Tensor:
    """Compute F_kj = (P / sigma^2) |h_k^H w_j|^2 for unit-norm beams w_j ~ sum_i c_ij h_i.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users), see `gram.normalised_gram`.
    coefficients : Tensor
        C, complex (drops, users, users); column j defines the beam of user j.

    Returns
    -------
    Tensor
        F, real (drops, users, users): row k for the receiver, column j for the beam. A beam without energy (of a null
        channel) has no gain to any user.
    """
    return effective_gains_and_beam_energy(gram, coefficients)[0]


def effective_gains_and_beam_energy(gram: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Compute F as `effective_gain_matrix` does, and the energy of the beams before normalisation.

    Parameters
    ----------
    gram, coefficients : Tensor
        As in `effective_gain_matrix`.

    Returns
    -------
    effective_gains : Tensor
        F, real (drops, users, users).
    energy : Tensor
        (P / sigma^2) ||sum_i c_ij h_i||^2 >= 0, real (drops, users).
    """
    received = gram @ coefficients
    energy = (coefficients.real * received.real + coefficients.imag * received.imag).sum(-2, keepdim=True)
    own = gram.diagonal(dim1=-2, dim2=-1).real.unsqueeze(-1)
    # Between users with equal channels the energy is a difference of large numbers: its rounding must not pass for a
    # beam without length, and no unit-norm beam has a gain above ||h_k||^2.
    precision = torch.finfo(energy.dtype)
    rounding = 8 * precision.eps * (squared_magnitude(coefficients) * own).sum(-2, keepdim=True)
    effective_gains = squared_magnitude(received) / torch.maximum(energy, rounding).clamp(min=precision.tiny)
    return torch.minimum(effective_gains, own), energy.squeeze(-2).clamp(min=0)


def precoder_gain_matrix(channels: Tensor, precoder: Tensor, budget: LinkBudget) -> Tensor:
    """Compute F_kj = (P / sigma^2) |h_k^H w_j|^2 from channels and precoder, for beams of any structure.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex (drops, users, antennas).
    precoder : Tensor
        Beams w_j of unit norm, complex (drops, users, antennas).
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Tensor
        F, float64 (drops, users, users).
    """
    scaled = channels.to(torch.complex128) * compute_amplitude_scale(budget, channels.device).reshape(-1, 1, 1)
    return squared_magnitude(scaled.conj() @ precoder.to(torch.complex128).transpose(-1, -2))


def sinr(effective_gains: Tensor, power_fractions: Tensor) -> Tensor:
    """Compute SINR_k = F_kk q_k / (1 + sum_{j != k} F_kj q_j).

    Parameters
    ----------
    effective_gains : Tensor
        F, real (drops, users, users).
    power_fractions : Tensor
        q = P_k / P, real (drops, users).

    Returns
    -------
    Tensor
        SINRs, linear, real (drops, users).
    """
    received = effective_gains * power_fractions.unsqueeze(-2)
    signal = received.diagonal(dim1=-2, dim2=-1)
    # The sum without the signal, not the sum minus the signal: at 60 dB the difference would be rounding.
    interference = (received - torch.diag_embed(signal)).sum(-1)
    return signal / (1 + interference)


def rates(sinr_linear: Tensor) -> Tensor:
    """Compute R_k = log2(1 + SINR_k).

    Parameters
    ----------
    sinr_linear : Tensor
        SINRs, linear.

    Returns
    -------
    Tensor
        Rates, bps/Hz, of the same shape.
    """
    return torch.log2(1 + sinr_linear)


def required_sinr(rate: Tensor) -> Tensor:
    """Compute 2^R - 1, the SINR for a rate.

    Parameters
    ----------
    rate : Tensor
        Rates R, bps/Hz.

    Returns
    -------
    Tensor
        SINRs, linear, of the same shape.
    """
    return torch.exp2(rate) - 1


def achieved_sinr(channels: Tensor, precoder: Tensor, power: Tensor, noise_power: float | Tensor) -> Tensor:
    """Compute |h_k^H w_k|^2 P_k / (sum_{j != k} |h_k^H w_j|^2 P_j + sigma^2), the definition of the SINR.

    It depends on precoder and powers alone, and so checks every scheme independently of its mathematics.

    Parameters
    ----------
    channels : Tensor
        Channels h_k, complex (drops, users, antennas).
    precoder : Tensor
        Beams w_k, complex (drops, users, antennas).
    power : Tensor
        Powers P_k, real (drops, users), W.
    noise_power : float or Tensor
        sigma^2, W; a tensor is of shape (drops,).

    Returns
    -------
    Tensor
        SINRs, linear, float64 (drops, users).
    """
    effective = channels.to(torch.complex128).conj() @ precoder.to(torch.complex128).transpose(-1, -2)
    noise = torch.as_tensor(noise_power, dtype=torch.float64, device=channels.device).reshape(-1, 1, 1)
    return sinr(squared_magnitude(effective) / noise, power.double())
