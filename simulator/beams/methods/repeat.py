"""Forecast that the last powers stay."""

from __future__ import annotations

import numpy as np

from simulator.beams.centroids import around
from simulator.beams.registry import Scores, State, register
from simulator.beams.windows import Windows


@register("repeat")
def repeat(windows: Windows, state: State) -> Scores:
    """Score beams by their last powers, or without measured powers by their distance from the last strongest beam.

    Parameters
    ----------
    windows
        The windows.
    state
        Not used.

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    last = windows.past[:, -1:]
    if not windows.measured:
        last = around(last.argmax(-1).astype(np.float64), windows.beams)
    return np.repeat(last, windows.ahead, 1)
