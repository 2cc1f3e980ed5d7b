"""Model CSI that is quantised antenna by antenna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from simulator.csi.impairments import quantised_csi
from simulator.csi.models import CsiContext, Stage, whole_number
from simulator.csi.registry import register

_MOST_BITS = 16


@dataclass(frozen=True)
class QuantisedCsi:
    """`CsiPart` that quantises uniformly, see `quantised_csi`.

    Parameters
    ----------
    bits
        Bits per real dimension.
    """

    bits: int
    stage = Stage.FEEDBACK
    slots = 0
    history = 1

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        """Apply the part, see `CsiPart`."""
        return quantised_csi(snapshots, self.bits)

    def __str__(self) -> str:
        return f"quantised:{self.bits}"


@register("quantised", form="quantised:BITS")
def quantised(arguments: Sequence[str]) -> QuantisedCsi:
    """Parse quantised CSI.

    Parameters
    ----------
    arguments
        Bits per real dimension, 1 to 16.

    Returns
    -------
    QuantisedCsi
        The part.
    """
    return QuantisedCsi(whole_number(arguments, 1, _MOST_BITS))
