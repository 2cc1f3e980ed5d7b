"""Name the predictors of `simulator.csi.prediction` as methods of a comparison."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from nflae_bridge.studies.csi.comparison import Method, Observation
from simulator.csi.beams import parse_geometry
from simulator.csi.prediction.registry import predict_window
from simulator.csi.prediction.window import Predictor, Window


def window_of(observed: Observation) -> Window:
    """Return the history of an observation as the input of a predictor.

    Parameters
    ----------
    observed
        The observation.

    Returns
    -------
    Window
        The window, one series per user.
    """
    return Window(observed.history, observed.noise_variance, parse_geometry(observed.geometry))


def predictor(method: str, network: Predictor | None = None) -> Method:
    """Return a registered prediction method as a method of a comparison.

    Parameters
    ----------
    method
        Name, see `simulator.csi.prediction.registry.predict_window`.
    network
        Learned predictor, for the methods that use one.

    Returns
    -------
    Method
        The method.
    """
    return partial(_predict, method, network)


def _predict(method: str, network: Predictor | None, observed: Observation, ahead: int) -> Tensor:
    return predict_window(window_of(observed), ahead, method, network).channels
