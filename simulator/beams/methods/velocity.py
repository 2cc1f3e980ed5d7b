"""Forecast that the best beam goes on at constant velocity: by its index, or by the centroid between the beams."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.beams.centroids import around, centroid
from simulator.beams.registry import Scores, State, register
from simulator.beams.windows import Windows


def extrapolate(values: npt.NDArray[np.float64], ahead: int) -> npt.NDArray[np.float64]:
    """Continue series along the straight line of least squares.

    Parameters
    ----------
    values
        Past values, (series, past) or (series, past, ...).
    ahead
        Number of values that follow.

    Returns
    -------
    numpy.ndarray
        float64 (series, ahead) or (series, ahead, ...).
    """
    time = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    mean = values.mean(1)
    slope = np.tensordot(values, time, (1, 0)) / max((time**2).sum(), 1)
    later = time[-1] + np.arange(1, ahead + 1)
    return np.stack([mean + slope * step for step in later], 1)


@register("velocity-index")
def velocity_index(windows: Windows, state: State) -> Scores:
    """Score beams around the line through the indices of the strongest beams.

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
    return around(extrapolate(windows.past.argmax(-1).astype(np.float64), windows.ahead), windows.beams)


@register("velocity-centroid")
def velocity_centroid(windows: Windows, state: State) -> Scores:
    """Score beams around the line through the centroids.

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
    return around(extrapolate(centroid(windows.past), windows.ahead), windows.beams)
