"""Model channel state information (CSI) at the transmitter: perfect, noisy, aged or quantised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.impairments import aged_csi, noisy_csi, quantised_csi

_FORMS = "perfect, noisy:DB (SNR per antenna), aged:SLOTS and quantised:BITS (per real dimension)"
_MOST_BITS = 16


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
