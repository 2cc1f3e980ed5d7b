"""Predict the channels of requests, by the function `nflae_bridge.predict` of Python users."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from nflae_bridge.api.predict import PredictedChannels, predict, prediction_method
from nflae_bridge.files.csi.prediction import USED_METHODS
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.headers import PREDICTION_NAMES
from nflae_bridge.live.protocol.messages import PrecodeRequest, PredictionOptions, PredictRequest
from nflae_bridge.live.server.computation.costs import TRIAL_AHEAD, TRIAL_HISTORY
from nflae_bridge.live.server.computation.micro_batches import PredictionKey
from simulator.csi.prediction.users import check_ahead


@dataclass(frozen=True)
class Predictor:
    """Predict with the network on a device.

    Parameters
    ----------
    device : str
        Name of the device.
    """

    device: str

    def check(self, antennas: int, prediction: PredictionKey) -> None:
        """Check the options of a prediction.

        Parameters
        ----------
        antennas : int
            Number of antennas.
        prediction : PredictionKey
            Options.

        Raises
        ------
        WireError
            ``bad_request`` if there is no such method or geometry, or the horizon or the panel does not fit.
        """
        history, ahead, method, geometry = prediction
        try:
            prediction_method(ahead, method, geometry, None, device=self.device).geometry.check(antennas)
            check_ahead(ahead, history)
        except NflaeError as error:
            raise WireError("bad_request", str(error)) from None

    def predict(self, request: PredictRequest) -> PredictedChannels:
        """Predict the channels of a request.

        Parameters
        ----------
        request : PredictRequest
            Request.

        Returns
        -------
        PredictedChannels
            Prediction in the convention ``hermitian``.

        Raises
        ------
        WireError
            ``bad_channels`` if the history is no sequence, has too many gaps, or times that do not rise.
        """
        options = request.options
        try:
            return predict(
                np.array(request.channels, np.complex64),  # in memory that can be written, as PyTorch requires
                options.times,
                options.ahead,
                method=options.method,
                geometry=options.geometry,
                csi_snr_db=options.csi_snr_db,
                convention=request.convention,
                device=self.device,
                force=options.force,
            )
        except NflaeError as error:
            raise WireError("bad_channels", str(error)) from None


def trial_request(users: int, antennas: int) -> PredictRequest:
    """Return a request of the default history and horizon, by which the time of predictions is measured.

    Parameters
    ----------
    users, antennas : int
        Size of a snapshot.

    Returns
    -------
    PredictRequest
        Request.
    """
    phases = np.random.default_rng(0).random((TRIAL_HISTORY, users, antennas))
    options = PredictRequest("", np.empty(0)).options
    assert options.ahead == TRIAL_AHEAD
    history = np.exp(2j * np.pi * phases).astype(np.complex64)
    return PredictRequest("", history, options=replace(options, geometry="line", force=True))


def precode_request(request: PredictRequest, found: PredictedChannels) -> PrecodeRequest:
    """Return the request for precoders for the predicted channels of a request.

    Parameters
    ----------
    request : PredictRequest
        Request.
    found : PredictedChannels
        Its prediction.

    Returns
    -------
    PrecodeRequest
        Request, whose convention is ``hermitian``.
    """
    return PrecodeRequest(
        request.id,
        found.channels,
        request.budget,
        scheme=request.scheme,
        refine=request.refine,
        near_field=request.near_field,
        want=tuple(name for name in request.want if name not in PREDICTION_NAMES),
        deadline=request.deadline,
        effort=request.effort,
    )


def prediction_arrays(request: PredictRequest, found: PredictedChannels) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a prediction by their names on the wire.

    Parameters
    ----------
    request : PredictRequest
        Request.
    found : PredictedChannels
        Its prediction.

    Returns
    -------
    dict
        Arrays, snapshots first; the channels are in the convention of the request.
    """
    channels = found.channels.conj() if request.convention == "direct" else found.channels
    method = np.array([USED_METHODS.index(name) + 1.0 for name in found.method])
    return {
        "H": channels,
        "csi_error_db": found.csi_error_db,
        "method": np.broadcast_to(method, found.csi_error_db.shape),
    }


def prediction_info(options: PredictionOptions) -> dict[str, Any]:
    """Return what the ``info`` of an answer states about a prediction.

    Parameters
    ----------
    options : PredictionOptions
        Options of the request.

    Returns
    -------
    dict
        Names of the methods, which the array ``method`` counts from 1, and the options.
    """
    stated = {name: getattr(options, name) for name in ("ahead", "geometry", "csi_snr_db")}
    return {"methods": USED_METHODS, **stated}
