"""What the transmitter knows of the channels when it computes its precoders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.channels.csi import aged_csi, quantised_csi
from simulator.channels.multipath import noisy_csi

_FORMS = "perfect, noisy:DB (SNR per antenna), aged:SLOTS and quantised:BITS (a real dimension)"
_MOST_BITS = 16


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
