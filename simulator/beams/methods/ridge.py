"""Forecast by ridge regressions: of the centroids, and of features with random weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.beams.centroids import around, centroid, normalised_db
from simulator.beams.methods.neighbours import relative_powers
from simulator.beams.registry import Scores, State, register
from simulator.beams.windows import Windows

_PENALTY = 1e-4  # of the mean square of the features
_FEATURES = 512
_FLOOR_DB = -10.0


def solve_ridge(features: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Solve min ||X W - Y||^2 + mu ||W||^2 with mu = 1e-4 tr(X'X) / p.

    Parameters
    ----------
    features
        X, (samples, p).
    targets
        Y, (samples, q).

    Returns
    -------
    numpy.ndarray
        W, float64 (p, q).
    """
    gram = features.T @ features
    gram[np.diag_indices(len(gram))] += _PENALTY * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram, features.T @ targets))


def _quadratic(centroids: npt.NDArray[np.float64], beams: int) -> npt.NDArray[np.float64]:
    scaled = 2 * centroids / (beams - 1) - 1
    return np.concatenate([scaled, scaled**2, np.ones((len(scaled), 1))], -1)


def _fit(train: Windows, seed: int) -> State:
    return {"weights": solve_ridge(_quadratic(centroid(train.past), train.beams), centroid(train.future))}


@register("ridge", fit=_fit)
def ridge(windows: Windows, state: State) -> Scores:
    """Score beams around centroids that are linear in the past centroids and their squares.

    Parameters
    ----------
    windows
        The windows.
    state
        ``weights`` (2 past + 1, ahead).

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    return around(_quadratic(centroid(windows.past), windows.beams) @ state["weights"], windows.beams)


def _random(windows: Windows, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = normalised_db(windows.past, _FLOOR_DB).reshape(len(windows), -1) / -_FLOOR_DB + 0.5
    hidden = np.tanh(np.concatenate([powers, np.ones((len(powers), 1))], -1) @ weights)
    return np.concatenate([hidden, np.ones((len(hidden), 1))], -1)


def _fit_random(train: Windows, seed: int) -> State:
    inputs = train.past[0].size + 1
    weights = np.random.default_rng(seed).normal(size=(inputs, _FEATURES)) * 2 / np.sqrt(inputs)
    targets = relative_powers(train.future).reshape(len(train), -1).astype(np.float64)
    return {"features": weights, "weights": solve_ridge(_random(train, weights), targets)}


@register("random-features", fit=_fit_random)
def random_features(windows: Windows, state: State) -> Scores:
    """Score beams by relative powers that are linear in 512 random nonlinear features of the past powers.

    Parameters
    ----------
    windows
        The windows.
    state
        ``features`` (past * beams + 1, 512), random, and ``weights`` (513, ahead * beams), fitted.

    Returns
    -------
    Scores
        (windows, ahead, beams).
    """
    scores = _random(windows, state["features"]) @ state["weights"]
    return scores.astype(np.float32).reshape(len(windows), windows.ahead, windows.beams)
