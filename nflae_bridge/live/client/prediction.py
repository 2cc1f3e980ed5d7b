"""Make the requests of both clients for predictions, and the results of the answers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from matlab_io.reading.receive_antennas import JOINT, MODES
from matlab_io.result import RESULT_NAMES
from nflae_bridge.api.predict import PredictedChannels, check_axes
from nflae_bridge.live.client.history import History
from nflae_bridge.live.client.requests import SchemeChoice, convert, make_request
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.protocol.headers import MAX_HISTORY, PREDICTION_NAMES
from nflae_bridge.live.protocol.messages import PredictionOptions, PredictRequest, Reply


def make_prediction(
    history: npt.ArrayLike | History,
    times: npt.ArrayLike | None,
    ahead: int,
    options: dict[str, Any],
    reading: tuple[str | None, str | None, str | None],
) -> PredictRequest:
    """Make a request for predicted channels without an identifier.

    Parameters
    ----------
    history : array_like or History
        Complex channels, (snapshots, users, antennas), or of the axes of the layout.
    times : array_like or None
        Times of the snapshots, s; those of a `History` are in it.
    ahead : int
        Number of snapshots to predict.
    options : dict
        ``method``, ``geometry``, ``csi_snr_db`` and ``force``, see `PredictionOptions`.
    reading : tuple
        Layout, convention and treatment of receive antennas, as for `read_array`.

    Returns
    -------
    PredictRequest
        Request.

    Raises
    ------
    BadRequest
        For a history, times or an option of a wrong type or shape.
    """
    if isinstance(history, History):
        if times is not None:
            raise BadRequest("times are part of a History: push(snapshot, time)")
        times, history = history.times, history.snapshots
    snapshots = convert("history", "npt.ArrayLike", history)
    try:
        check_axes(snapshots, reading[0])
    except NflaeError as error:
        raise BadRequest(str(error)) from None
    # The budget is not sent: any noise power leaves the channels unchecked.
    channels = make_request(snapshots, None, {"noise_power": 1.0}, SchemeChoice(), *reading)[0].channels
    if reading[2] == JOINT:
        raise BadRequest(f"receive_antennas must be {' or '.join(map(repr, MODES))} of a prediction, got {JOINT!r}")
    if len(channels) > MAX_HISTORY:
        raise BadRequest(f"a history of {len(channels)} snapshots: at most {MAX_HISTORY}; pass the last ones")
    if not 1 <= convert("ahead", "int", ahead) <= MAX_HISTORY:
        raise BadRequest(f"ahead must be a whole number of snapshots from 1 to {MAX_HISTORY}, got {ahead}")
    snr = convert("csi_snr_db", "float | None", options["csi_snr_db"])
    if snr is not None and not math.isfinite(snr):
        raise BadRequest(f"csi_snr_db must be one finite number of dB or None, got {snr}")
    method, geometry = (convert(name, "str", options[name]) for name in ("method", "geometry"))
    moments, force = _checked_times(times, len(channels)), convert("force", "bool", options["force"])
    return PredictRequest("", channels, options=PredictionOptions(int(ahead), method, geometry, snr, moments, force))


def then_precode(
    request: PredictRequest,
    near_field: npt.ArrayLike | str | None,
    budget: dict[str, float | None],
    choice: SchemeChoice,
) -> PredictRequest:
    """Add the request for precoders for the predicted channels.

    Parameters
    ----------
    request : PredictRequest
        Request for a prediction.
    near_field : array_like, str or None
        Given near-field labels, bool (ahead, users), or the panel to fit.
    budget, choice
        As for `make_request`.

    Returns
    -------
    PredictRequest
        Request.

    Raises
    ------
    BadRequest
        For labels of a wrong shape, and for a number out of its range.
    """
    known = request.channels[np.isfinite(request.channels).all((1, 2))]
    last = known[-1] if len(known) else np.nan_to_num(request.channels[-1])
    drops = np.broadcast_to(last, (request.options.ahead, *last.shape))
    checked, _ = make_request(drops, near_field, budget, choice)
    return replace(
        request,
        budget=checked.budget,
        scheme=checked.scheme,
        refine=checked.refine,
        effort=checked.effort,
        near_field=checked.near_field,
        want=(*PREDICTION_NAMES, *RESULT_NAMES),
        options=replace(request.options, precodes=True),
    )


def prediction_of(reply: Reply) -> PredictedChannels:
    """Make the prediction of a reply.

    Parameters
    ----------
    reply : Reply
        Reply to a `PredictRequest`.

    Returns
    -------
    PredictedChannels
        Prediction with read-only arrays.
    """
    names = reply.info["methods"]
    method = tuple(names[int(index) - 1] for index in reply.arrays["method"][0])
    return PredictedChannels(
        reply.arrays["H"], reply.arrays["csi_error_db"], method, tuple(reply.info.get("notes", ()))
    )


def _checked_times(times: npt.ArrayLike | None, snapshots: int) -> tuple[float, ...] | None:
    if times is None:
        return None
    found = convert("times", "npt.ArrayLike", times)
    if np.iscomplexobj(found):
        raise BadRequest("times must be real numbers of seconds, got complex ones")
    found = found.astype(np.float64)
    if found.shape != (snapshots,) or not np.isfinite(found).all():
        raise BadRequest(f"times must be {snapshots} finite numbers, one per snapshot, got shape {found.shape}")
    return tuple(found.tolist())
