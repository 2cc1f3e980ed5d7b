"""Model outdated CSI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from simulator.csi.impairments import aged_csi
from simulator.csi.models import CsiContext, Stage, whole_number
from simulator.csi.registry import register


@dataclass(frozen=True)
class AgedCsi:
    """`CsiPart` of CSI from some slots before.

    Parameters
    ----------
    slots
        Age, slots.
    """

    slots: int
    stage = Stage.AGEING
    history = 1

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        """Apply the part, see `CsiPart`; snapshots of a sequence are outdated already."""
        if context.slot_correlation is None:
            return snapshots
        return aged_csi(snapshots, context.slot_correlation, self.slots, context.generator)

    def __str__(self) -> str:
        return f"aged:{self.slots}"


@register("aged", form="aged:SLOTS")
def aged(arguments: Sequence[str]) -> AgedCsi:
    """Parse outdated CSI.

    Parameters
    ----------
    arguments
        Age, slots.

    Returns
    -------
    AgedCsi
        The part.
    """
    return AgedCsi(whole_number(arguments, 0))
