"""CSI models: perfect, noisy, aged and quantised channel state information."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.geometry.arrays import SPEED_OF_LIGHT

_FORMS = "perfect, noisy:DB (SNR per antenna), aged:SLOTS and quantised:BITS (a real dimension)"
_MOST_BITS = 16


def noisy_csi(channels: Tensor, snr_db: Tensor | float, generator: torch.Generator) -> Tensor:
    """H + e with e white complex Gaussian, ``snr_db`` below the user's mean power per antenna.

    channels: complex64 (..., antennas); snr_db: a number or a tensor that broadcasts to (...), dB.
    Returns complex64, the same shape.
    """
    snr = 10 ** (torch.as_tensor(snr_db, dtype=torch.float32) / 10)
    per_antenna = torch.linalg.vector_norm(channels, dim=-1) ** 2 / channels.shape[-1]
    deviation = torch.sqrt(per_antenna / snr / 2)
    noise = torch.complex(
        torch.randn(channels.shape, generator=generator), torch.randn(channels.shape, generator=generator)
    )
    return channels + deviation.unsqueeze(-1) * noise


def jakes_correlation(speed: float, carrier: float, seconds: float) -> float:
    """Rho = J0(2 pi f_D t), f_D = speed / wavelength: a fading coefficient's correlation over a time t (Clarke, Jakes).

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


@dataclass(frozen=True)
class CsiModel:
    """A kind of CSI and how bad it is.

    amount: SNR per antenna in dB (noisy), slots (aged), bits a real dimension (quantised); 0 for perfect.
    """

    kind: Literal["perfect", "noisy", "aged", "quantised"] = "perfect"
    amount: float = 0.0

    @property
    def slots(self) -> int:
        """By how many slots the CSI is late."""
        return int(self.amount) if self.kind == "aged" else 0

    def estimate(self, channels: Tensor, slot_correlation: float | None, generator: torch.Generator) -> Tensor:
        """The CSI of these channels, complex64 (drops, users, antennas).

        slot_correlation: of the channels from one slot to the next, where the ageing is to be drawn; None where
        ``channels`` are the older ones themselves.
        """
        if self.kind == "noisy":
            return noisy_csi(channels, self.amount, generator)
        if self.kind == "quantised":
            return quantised_csi(channels, int(self.amount))
        if self.kind == "aged" and slot_correlation is not None:
            return aged_csi(channels, slot_correlation, self.slots, generator)
        return channels

    def __str__(self) -> str:
        return self.kind if self.kind == "perfect" else f"{self.kind}:{self.amount:g}"


def parse_csi(text: str) -> CsiModel:
    """What ``--csi`` asks for. Raises NflaeError, with the forms there are, for anything else."""
    kind, _, number = text.partition(":")
    if text == "perfect":
        return CsiModel()
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    whole = amount == int(amount) if math.isfinite(amount) else False
    if kind == "noisy" and math.isfinite(amount):
        return CsiModel("noisy", amount)
    if kind == "aged" and whole and amount >= 0:
        return CsiModel("aged", amount)
    if kind == "quantised" and whole and 1 <= amount <= _MOST_BITS:
        return CsiModel("quantised", amount)
    raise NflaeError(f"no CSI {text!r}: there are {_FORMS}, with slots of 0 or more and 1 to {_MOST_BITS} bits")
