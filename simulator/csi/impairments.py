"""Draw noisy, aged and quantised channel state information (CSI) of given channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.geometry.arrays import SPEED_OF_LIGHT


def noisy_csi(channels: Tensor, snr_db: Tensor | float, generator: torch.Generator) -> Tensor:
    """Add white complex Gaussian estimation noise to channels.

    h + e with e ~ CN(0, ||h||^2 / (N snr) I): noise ``snr_db`` below the user's mean power per antenna.

    Parameters
    ----------
    channels
        h, complex64 (..., antennas).
    snr_db
        SNR per antenna, dB, a number or a tensor that broadcasts to (...).
    generator
        Source of randomness.

    Returns
    -------
    Tensor
        Noisy CSI, complex64, of the shape of ``channels``.
    """
    snr = 10 ** (torch.as_tensor(snr_db, dtype=torch.float32, device=channels.device) / 10)
    per_antenna = torch.linalg.vector_norm(channels, dim=-1) ** 2 / channels.shape[-1]
    deviation = torch.sqrt(per_antenna / snr / 2)
    device = generator.device
    real, imaginary = (torch.randn(channels.shape, generator=generator, device=device) for _ in range(2))
    noise = torch.complex(real, imaginary).to(channels.device)
    return channels + deviation.unsqueeze(-1) * noise


def jakes_correlation(speed: float, carrier: float, seconds: float) -> float:
    """Compute the correlation rho = J0(2 pi f_D t) of a fading coefficient over a time t, f_D = speed / lambda.

    Exact for isotropic scattering (Clarke and Jakes); a line of sight decorrelates more slowly.

    Parameters
    ----------
    speed
        m/s.
    carrier
        Hz.
    seconds
        t, s.

    Returns
    -------
    float
        rho.
    """
    doppler = speed * carrier / SPEED_OF_LIGHT
    return float(torch.special.bessel_j0(torch.tensor(2 * math.pi * doppler * seconds, dtype=torch.float64)))


def aged_csi(channels: Tensor, correlation: float, slots: int, generator: torch.Generator) -> Tensor:
    """Draw outdated CSI of channels that fade as a first-order Gauss-Markov process.

    g = rho^n h + sqrt(1 - rho^(2n)) e with e ~ CN(0, ||h||^2 / N I), so that E||g||^2 = ||h||^2.

    Parameters
    ----------
    channels
        Current channels h, complex64 (..., antennas).
    correlation
        rho, of successive slots.
    slots
        Age n of the CSI, slots.
    generator
        Source of randomness.

    Returns
    -------
    Tensor
        CSI g, complex64, of the shape of ``channels``.
    """
    total_correlation = correlation**slots
    per_antenna = torch.linalg.vector_norm(channels, dim=-1, keepdim=True) ** 2 / channels.shape[-1]
    deviation = torch.sqrt((1 - total_correlation**2) * per_antenna / 2)
    innovation = torch.complex(
        torch.randn(channels.shape, generator=generator), torch.randn(channels.shape, generator=generator)
    )
    return total_correlation * channels + deviation * innovation


def quantised_csi(channels: Tensor, bits: int) -> Tensor:
    """Quantise real and imaginary parts to 2^bits levels each, uniform mid-rise, scaled to the user's largest part.

    With A_k = max_n max(|Re h_kn|, |Im h_kn|) and step D_k = 2 A_k / 2^bits, x becomes D_k (floor(x / D_k) + 1/2). The
    scale A_k itself is assumed to be fed back exactly.

    Parameters
    ----------
    channels
        complex64 (..., antennas).
    bits
        Bits per real dimension, >= 1.

    Returns
    -------
    Tensor
        Quantised CSI, complex64, of the shape of ``channels``.
    """
    parts = torch.view_as_real(channels.resolve_conj())
    largest = parts.abs().amax((-2, -1), keepdim=True)
    step = 2 * largest / 2**bits
    level = torch.floor(parts / step.clamp(min=torch.finfo(parts.dtype).tiny))
    outermost = 2 ** (bits - 1)
    return torch.view_as_complex(step * (level.clamp(-outermost, outermost - 1) + 0.5))
