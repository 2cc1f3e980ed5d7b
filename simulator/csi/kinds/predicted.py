"""Model CSI predicted from outdated snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.beams import parse_geometry
from simulator.csi.models import CsiContext, Stage, whole_number
from simulator.csi.prediction.registry import check_method
from simulator.csi.prediction.users import DEFAULT_HISTORY, PredictionMethod, check_ahead, predict_users
from simulator.csi.registry import register


@dataclass(frozen=True)
class PredictedCsi:
    """`CsiPart` of CSI that is predicted from a history which ends some slots before.

    Parameters
    ----------
    text
        Text from which the part is parsed.
    method
        How to predict; ``ahead`` slots of the age are bridged.
    history
        Snapshots of the history.
    """

    text: str
    method: PredictionMethod
    history: int = DEFAULT_HISTORY
    stage = Stage.PREDICTION

    @property
    def slots(self) -> int:
        """Slots from the newest snapshot to the one predicted."""
        return self.method.ahead

    def __call__(self, snapshots: Tensor, context: CsiContext) -> Tensor:
        """Apply the part, see `CsiPart`; the noise variance is estimated from each history."""
        missing = torch.zeros(snapshots.shape[:3], dtype=torch.bool)
        method = replace(self.method, network=context.network)
        return predict_users(snapshots, missing, method).channels[:, -1:]

    def __str__(self) -> str:
        return self.text


@register("predicted", form="predicted:SLOTS[,METHOD][,GEOMETRY][,HISTORY]")
def predicted(arguments: Sequence[str]) -> PredictedCsi:
    """Parse CSI predicted some slots ahead.

    Parameters
    ----------
    arguments
        Slots; then, in any order, a method, a geometry and the snapshots of the history.

    Returns
    -------
    PredictedCsi
        The part.
    """
    ahead, history = whole_number(arguments[:1], 1), DEFAULT_HISTORY
    name, geometry = "auto", "none"
    try:
        for argument in arguments[1:]:
            if argument.isdecimal():
                history = whole_number([argument], 2)
            elif argument.partition(":")[0] in ("none", "line", "panel"):
                geometry = argument
            else:
                name = check_method(argument)
        check_ahead(ahead, history)
        method = PredictionMethod(ahead, name, parse_geometry(geometry))
    except NflaeError as error:
        raise ValueError(str(error)) from error
    return PredictedCsi(f"predicted:{','.join(arguments)}", method, history)
