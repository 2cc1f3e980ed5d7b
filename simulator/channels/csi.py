"""Model channel state information (CSI) at the transmitter: perfect, noisy, aged or quantised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.geometry.arrays import SPEED_OF_LIGHT

_FORMS = "perfect, noisy:DB (SNR per antenna), aged:SLOTS and quantised:BITS (per real dimension)"
_MOST_BITS = 16


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
    snr = 10 ** (torch.as_tensor(snr_db, dtype=torch.float32) / 10)
    per_antenna = torch.linalg.vector_norm(channels, dim=-1) ** 2 / channels.shape[-1]
    deviation = torch.sqrt(per_antenna / snr / 2)
    noise = torch.complex(
        torch.randn(channels.shape, generator=generator), torch.randn(channels.shape, generator=generator)
    )
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


@dataclass(frozen=True)
class CsiModel:
    """Describe the CSI from which the transmitter computes its precoders.

    Parameters
    ----------
    kind
        ``perfect``, ``noisy``, ``aged`` or ``quantised``.
    amount
        SNR per antenna, dB (noisy), age, slots (aged), or bits per real dimension (quantised); 0 for perfect CSI.
    """

    kind: Literal["perfect", "noisy", "aged", "quantised"] = "perfect"
    amount: float = 0.0

    @property
    def slots(self) -> int:
        """Age of the CSI, slots."""
        return int(self.amount) if self.kind == "aged" else 0

    def estimate(self, channels: Tensor, slot_correlation: float | None, generator: torch.Generator) -> Tensor:
        """Return the transmitter's CSI of given channels.

        Parameters
        ----------
        channels
            complex64 (drops, users, antennas).
        slot_correlation
            Correlation of the channels of successive slots, from which aged CSI is drawn; None if ``channels`` are the
            outdated ones themselves.
        generator
            Source of randomness.

        Returns
        -------
        Tensor
            CSI, complex64 (drops, users, antennas).
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
    """Parse the value of ``--csi``.

    Parameters
    ----------
    text
        ``perfect``, ``noisy:DB``, ``aged:SLOTS`` or ``quantised:BITS``.

    Returns
    -------
    CsiModel
        The CSI model.

    Raises
    ------
    NflaeError
        For anything else; the message lists the valid forms.
    """
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
