"""Forecast the centroid by a Kalman filter with the states beam and beams per sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.beams.centroids import around, centroid
from simulator.beams.registry import Scores, State, register
from simulator.beams.windows import Windows

_RATIOS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # variance of the acceleration over that of the measured centroid
_FIRST_VELOCITY = 100.0  # variance of the velocity at the start, in variances of the measured centroid


def filtered(values: npt.NDArray[np.float64], ahead: int, ratio: float) -> npt.NDArray[np.float64]:
    """Continue series by a Kalman filter with nearly constant velocity.

    Parameters
    ----------
    values
        Measured series, (series, past).
    ahead
        Number of values that follow.
    ratio
        Variance of the acceleration per squared sample over that of the measurements.

    Returns
    -------
    numpy.ndarray
        float64 (series, ahead).
    """
    step = np.array([[1.0, 1.0], [0.0, 1.0]])
    noise = ratio * np.array([[0.25, 0.5], [0.5, 1.0]])
    state = np.stack([values[:, 0], np.zeros(len(values))])
    covariance = np.diag([1.0, _FIRST_VELOCITY])
    for measured in values.T[1:]:
        state, covariance = step @ state, step @ covariance @ step.T + noise
        gain = covariance[:, :1] / (covariance[0, 0] + 1)
        state = state + gain * (measured - state[0])
        covariance = covariance - gain @ covariance[:1]
    return np.stack([state[0] + later * state[1] for later in range(1, ahead + 1)], -1)


def _fit(train: Windows, seed: int) -> State:
    past, future = centroid(train.past), centroid(train.future)
    errors = [np.abs(filtered(past, train.ahead, ratio) - future).mean() for ratio in _RATIOS]
    return {"ratio": np.array([_RATIOS[int(np.argmin(errors))]])}


@register("kalman", fit=_fit)
def kalman(windows: Windows, state: State) -> Scores:
    """Score beams around the continued centroid.

    Parameters
    ----------
    windows
        The windows.
    state
        ``ratio`` of the variances (1,), the best of seven on the training windows.

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    return around(filtered(centroid(windows.past), windows.ahead, float(state["ratio"][0])), windows.beams)
