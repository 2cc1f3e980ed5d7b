"""Channel state information (CSI) that is late or coarse; for noisy CSI see `channel.noisy_csi`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.geometry.arrays import SPEED_OF_LIGHT


def jakes_correlation(speed: float, carrier: float, seconds: float) -> float:
    """rho = J0(2 pi f_D t), f_D = speed / wavelength: a fading coefficient's correlation over a time t (Clarke, Jakes).

    speed: m/s. carrier: Hz. seconds: t. Exact for scattering from all around; a line of sight decorrelates more slowly.
    """
    doppler = speed * carrier / SPEED_OF_LIGHT
    return float(torch.special.bessel_j0(torch.tensor(2 * math.pi * doppler * seconds, dtype=torch.float64)))


def aged_csi(channels: Tensor, correlation: float, slots: int, generator: torch.Generator) -> Tensor:
    """CSI ``slots`` slots old, of a channel that fades as a first-order Gauss-Markov process.

    g = rho^n h + sqrt(1 - rho^(2n)) e with e ~ CN(0, ||h||^2 / N I), so that E||g||^2 = ||h||^2.

    channels: complex64 (..., antennas), h, the channels of now. correlation: rho, of one slot with the next. slots: n.
    Returns complex64, the same shape.
    """
    kept = correlation**slots
    per_antenna = torch.linalg.vector_norm(channels, dim=-1, keepdim=True) ** 2 / channels.shape[-1]
    deviation = torch.sqrt((1 - kept**2) * per_antenna / 2)
    innovation = torch.complex(
        torch.randn(channels.shape, generator=generator), torch.randn(channels.shape, generator=generator)
    )
    return kept * channels + deviation * innovation


def quantised_csi(channels: Tensor, bits: int) -> Tensor:
    """Real and imaginary parts, each rounded to 2^bits levels: uniform mid-rise, scaled to the user's largest part.

    With A_k = max_n max(|Re h_kn|, |Im h_kn|) and step D_k = 2 A_k / 2^bits, x becomes D_k (floor(x / D_k) + 1/2). The
    scale A_k itself is taken to be fed back exactly.

    channels: complex64 (..., antennas). bits: >= 1 a real dimension. Returns complex64, the same shape.
    """
    parts = torch.view_as_real(channels.resolve_conj())
    largest = parts.abs().amax((-2, -1), keepdim=True)
    step = 2 * largest / 2**bits
    level = torch.floor(parts / step.clamp(min=torch.finfo(parts.dtype).tiny))
    outermost = 2 ** (bits - 1)
    return torch.view_as_complex(step * (level.clamp(-outermost, outermost - 1) + 0.5))
