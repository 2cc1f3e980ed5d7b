"""Model CSI with white estimation noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from simulator.csi.impairments import noisy_csi
from simulator.csi.models import CsiContext, Stage, one_number
from simulator.csi.registry import register


@dataclass(frozen=True)
class NoisyCsi:
    """`CsiPart` that adds white noise, see `noisy_csi`.

    Parameters
    ----------
    snr_db
        SNR per antenna, dB.
    """

    snr_db: float
    stage = Stage.ESTIMATION
    slots = 0
    history = 1

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        """Apply the part, see `CsiPart`."""
        return noisy_csi(snapshots, self.snr_db, context.generator)

    def __str__(self) -> str:
        return f"noisy:{self.snr_db:g}"


@register("noisy", form="noisy:DB")
def noisy(arguments: Sequence[str]) -> NoisyCsi:
    """Parse CSI with white estimation noise.

    Parameters
    ----------
    arguments
        SNR per antenna, dB.

    Returns
    -------
    NoisyCsi
        The part.
    """
    return NoisyCsi(one_number(arguments))
