"""Predict windows by the name of a method."""

from __future__ import annotations

import torch

from matlab_io.errors import NflaeError
from simulator.csi.prediction.autoregressive import autoregressive
from simulator.csi.prediction.esprit import esprit
from simulator.csi.prediction.hold import hold
from simulator.csi.prediction.kalman import kalman
from simulator.csi.prediction.linear import STRONG_BEAMS, predict_linear, prepare_window
from simulator.csi.prediction.temporal import CoefficientRule
from simulator.csi.prediction.window import Prediction, Predictor, Window

METHODS = ("auto", "hold", "ar", "ar-global", "esprit", "kalman", "nflae")
_RULES: dict[str, tuple[CoefficientRule, int]] = {
    "ar": (autoregressive, STRONG_BEAMS),
    "ar-global": (autoregressive, 0),
    "esprit": (esprit, STRONG_BEAMS),
    "kalman": (kalman, STRONG_BEAMS),
}


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
        antennas; ``esprit``, ``kalman``: by the poles of the Doppler spectrum; ``nflae``: the network; ``auto``:
        chosen by hindsight.
    network
        The network, for ``nflae`` and ``auto``.

    Returns
    -------
    Prediction
        Predicted channels.

    Raises
    ------
    NflaeError
        If there is no such method, or no network for ``nflae``.
    """
    check_method(method)
    window.geometry.check(window.snapshots.shape[-1])
    if method == "nflae" and network is None:
        raise NflaeError("method nflae needs a network: pass network=")
    name = ("ar" if network is None else "nflae") if method == "auto" else method
    if window.snapshots.shape[1] < 2:
        name = "hold"
    if name == "nflae" and network is not None:
        prepared = prepare_window(window)
        channels = prepared.apply(network(prepared.gram, prepared.noise, ahead))
    elif name == "hold":
        channels = hold(window, ahead)
    else:
        rule, beams = _RULES[name]
        prepared = prepare_window(window, beams)
        channels = prepared.apply(predict_linear(prepared, rule, ahead))
    unknown = torch.full(channels.shape[:2], torch.nan)
    return Prediction(channels, unknown, [name] * len(channels))
