"""Forecast the mean of the future powers of the most similar training windows, relative to the strongest beams."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from simulator.beams.bearings import beam_coordinates
from simulator.beams.centroids import centroid
from simulator.beams.registry import Scores, State, register
from simulator.beams.windows import Windows

_NEIGHBOURS = 20
_POSITION_WEIGHT = 8.0  # beams per standard deviation of the positions
_BEARING_WEIGHT = 2.0  # beams per standard deviation of the elevation, of positions with heights


def relative_powers(powers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Divide powers by those of the strongest beam.

    Parameters
    ----------
    powers
        Linear powers, (..., beams).

    Returns
    -------
    numpy.ndarray
        float32 (..., beams), up to 1.
    """
    return np.asarray(powers / powers.max(-1, keepdims=True), np.float32)


def neighbour_mean(
    known: npt.NDArray[np.float64], values: npt.NDArray[np.float32], places: npt.NDArray[np.float64], neighbours: int
) -> npt.NDArray[np.float32]:
    """Return the mean of the values of the nearest known places.

    Parameters
    ----------
    known
        Known places, (known, dimensions).
    values
        Their values, (known, ...).
    places
        Places, (places, dimensions).
    neighbours
        Number of neighbours.

    Returns
    -------
    numpy.ndarray
        float32 (places, ...).
    """
    count = min(neighbours, len(known))
    _, nearest = cKDTree(known).query(places, count)
    mean: npt.NDArray[np.float32] = values[nearest.reshape(len(places), count)].mean(1, dtype=np.float32)
    return mean


def _fit(train: Windows, seed: int) -> State:
    return {"centroids": centroid(train.past), "future": relative_powers(train.future).astype(np.float16)}


@register("knn", fit=_fit)
def knn(windows: Windows, state: State) -> Scores:
    """Score beams by the 20 training windows whose centroids are nearest.

    Parameters
    ----------
    windows
        The windows.
    state
        ``centroids`` (train, past) and ``future`` powers (train, ahead, beams).

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    return neighbour_mean(state["centroids"], state["future"], centroid(windows.past), _NEIGHBOURS)


def _fit_position(train: Windows, seed: int) -> State:
    assert train.position is not None
    last = beam_coordinates(train.position[:, -1])
    elevated = last.shape[-1] == 3
    weight, spread = (_BEARING_WEIGHT, last.std(0)[0]) if elevated else (_POSITION_WEIGHT, last.std(0).max())
    stated = {"mean": last.mean(0), "scale": np.array([weight / max(spread, 1e-9)])}
    return stated | {"features": _features(train, stated), "future": relative_powers(train.future).astype(np.float16)}


def _features(windows: Windows, state: State) -> npt.NDArray[np.float64]:
    assert windows.position is not None
    first, last = beam_coordinates(windows.position[:, 0]), beam_coordinates(windows.position[:, -1])
    placed = np.concatenate([last - state["mean"], last - first], -1)
    return np.concatenate([centroid(windows.past), placed * state["scale"]], -1)


@register("knn-position", fit=_fit_position, positions=True)
def knn_position(windows: Windows, state: State) -> Scores:
    """Score beams by the 20 training windows whose centroids, last position and displacement are nearest.

    Parameters
    ----------
    windows
        The windows.
    state
        ``features`` and ``future`` powers of the training windows, ``mean`` and ``scale`` of their positions.

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    return neighbour_mean(state["features"], state["future"], _features(windows, state), _NEIGHBOURS)
