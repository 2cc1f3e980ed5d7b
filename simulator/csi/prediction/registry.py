"""Predict windows by the name of a method."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from simulator.csi.prediction.autoregressive import autoregressive
from simulator.csi.prediction.esprit import esprit
from simulator.csi.prediction.hindsight import LEAST_HISTORY, look_back
from simulator.csi.prediction.hold import hold, hold_error_db
from simulator.csi.prediction.kalman import kalman
from simulator.csi.prediction.linear import STRONG_BEAMS, prepare_window
from simulator.csi.prediction.temporal import CoefficientRule
from simulator.csi.prediction.window import Prediction, Predictor, Window
from simulator.csi.small_batch.arrays import ArrayPredictor
from simulator.csi.small_batch.predict import combine
from simulator.csi.small_batch.preparation import prepare_arrays
from simulator.csi.small_batch.rules import ARRAY_RULES

METHODS = ("auto", "hold", "ar", "ar-global", "esprit", "kalman", "nflae")
_RULES: dict[str, CoefficientRule] = {
    "ar": autoregressive,
    "ar-global": autoregressive,
    "esprit": esprit,
    "kalman": kalman,
}
_GLOBAL = ("ar-global",)
SMALL_BATCH = 64  # series up to which NumPy takes less time than PyTorch
_PRIORITY = {"nflae": 8.0}
_NEAR = 4  # snapshots ahead up to which ``auto`` gains nothing from the Kalman filter


def check_method(method: str) -> str:
    """Check the name of a prediction method.

    Parameters
    ----------
    method
        Name.

    Returns
    -------
    str
        The name.

    Raises
    ------
    NflaeError
        If there is no such method; the message lists them.
    """
    if method not in METHODS:
        raise NflaeError(f"no prediction method {method[:60]!r}: there are {', '.join(METHODS)}")
    return method


def predict_window(window: Window, ahead: int, method: str = "auto", network: Predictor | None = None) -> Prediction:
    """Predict the snapshots after a window.

    Parameters
    ----------
    window
        The history.
    ahead
        Number of snapshots to predict.
    method
        ``hold``; ``ar``: vector autoregression, per strong beam where the geometry is known; ``ar-global``: one for all
        antennas; ``esprit``, ``kalman``: by the poles of the Doppler spectrum; ``nflae``: the network; ``auto``: the
        network and ``ar``, more than four snapshots ahead or without a network ``kalman`` too, combined by hindsight.
    network
        The network, for ``nflae`` and ``auto``.

    Returns
    -------
    Prediction
        Predicted channels; of ``auto``, the method with the largest weight is named. A single snapshot is held.

    Raises
    ------
    NflaeError
        If there is no such method, or no network for ``nflae``.
    """
    check_method(method)
    window.geometry.check(window.snapshots.shape[-1])
    if method == "nflae" and network is None:
        raise NflaeError("method nflae needs a network: pass network=")
    series, history, _ = window.snapshots.shape
    if method == "hold" or history < 2:
        return Prediction(hold(window, ahead), hold_error_db(window, ahead), ["hold"] * series)
    names = [method]
    if method == "auto":
        names = ["ar"] if history < LEAST_HISTORY else _blended(ahead, network is not None)
    beams, mixture = 0 if method in _GLOBAL else STRONG_BEAMS, "nflae" in names
    array_predictors = _array_predictors(window, names, network)
    if array_predictors:
        return _predict_arrays(window, ahead, names, array_predictors, beams)
    prepared = prepare_window(window, beams, mixture)
    predictors = [_predictor(name, network) for name in names]
    coefficients = torch.stack([predictor(prepared.gram, prepared.noise, ahead) for predictor in predictors], 1)
    weights = torch.ones(series, 1, dtype=torch.float64, device=coefficients.device)
    error = torch.full((series, ahead), torch.nan, dtype=torch.float64)
    if history >= LEAST_HISTORY:
        judged = look_back(prepared, predictors, ahead)
        weights = judged.weights([_PRIORITY.get(name, 1.0) for name in names])
        error = judged.error_db(weights, ahead)
    combined = (coefficients * weights[:, :, None, None, None]).sum(1)
    return Prediction(prepared.apply(combined), error, _named(weights.argmax(-1).tolist(), names))


def _blended(ahead: int, with_network: bool) -> list[str]:
    """Return the methods that ``auto`` combines; the Kalman filter gains on the network with the horizon."""
    far = ahead > _NEAR or not with_network
    return [*(["nflae"] if with_network else []), "ar", *(["kalman"] if far else [])]


def _predictor(name: str, network: Predictor | None) -> Predictor:
    """Return a rule that is applied to each Gram matrix by itself, or the network."""
    if name == "nflae" and network is not None:
        return network
    rule = _RULES[name]

    def predict(gram: Tensor, noise: Tensor, ahead: int) -> Tensor:
        coefficients = rule(gram.flatten(0, 1), noise.flatten(), ahead)
        return coefficients.view(*gram.shape[:3], ahead)

    return predict


def _array_predictors(window: Window, names: Sequence[str], network: Predictor | None) -> list[ArrayPredictor]:
    """Return the predictors in NumPy if the window is a small batch on the CPU and all have that form, else none."""
    series, history, _ = window.snapshots.shape
    if series > SMALL_BATCH or history < LEAST_HISTORY or window.snapshots.device.type != "cpu":
        return []
    form = getattr(network, "array_predictor", None)
    learned = None if form is None else form()
    found = [learned if name == "nflae" else ARRAY_RULES.get(name) for name in names]
    return [predictor for predictor in found if predictor is not None] if all(found) else []


def _predict_arrays(
    window: Window, ahead: int, names: Sequence[str], predictors: Sequence[ArrayPredictor], beams: int
) -> Prediction:
    values = window.snapshots.detach().resolve_conj().numpy()
    variance = window.noise_variance.detach().double().numpy()
    prepared = prepare_arrays(values, variance, window.geometry, beams, "nflae" in names)
    channels, error, weights = combine(prepared, predictors, [_PRIORITY.get(name, 1.0) for name in names], ahead)
    return Prediction(torch.from_numpy(channels), torch.from_numpy(error), _named(weights.argmax(-1).tolist(), names))


def _named(chosen: Sequence[int], names: Sequence[str]) -> list[str]:
    return [names[index] for index in chosen]
