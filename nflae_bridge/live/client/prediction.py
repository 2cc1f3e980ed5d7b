"""Make the requests of both clients for predictions, and the results of the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.result import RESULT_NAMES
from nflae_bridge.api.predict import PredictedChannels
from nflae_bridge.live.client.history import History
from nflae_bridge.live.client.requests import make_request
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.headers import MAX_HISTORY, PREDICTION_NAMES
from nflae_bridge.live.messages import PredictionOptions, PredictRequest, Reply


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
    # The budget is not sent: any noise power leaves the channels unchecked.
    channels = make_request(history, None, {"noise_power": 1.0}, "nflae", 0, *reading)[0].channels
    if len(channels) > MAX_HISTORY:
        raise BadRequest(f"a history of {len(channels)} snapshots: at most {MAX_HISTORY}; pass the last ones")
    if isinstance(ahead, bool) or not isinstance(ahead, (int, np.integer)) or not 1 <= ahead <= MAX_HISTORY:
        raise BadRequest(f"ahead must be a whole number of snapshots from 1 to {MAX_HISTORY}, got {ahead!r}")
    if not (isinstance(options["method"], str) and isinstance(options["geometry"], str)):
        raise BadRequest("method and geometry must be names, such as 'auto' and 'line'")
    snr = options["csi_snr_db"]
    if snr is not None and not (isinstance(snr, (int, float, np.number)) and np.isfinite(snr)):
        raise BadRequest(f"csi_snr_db must be one finite number of dB or None, got {snr!r}")
    checked = PredictionOptions(
        int(ahead),
        options["method"],
        options["geometry"],
        None if snr is None else float(snr),
        _checked_times(times, len(channels)),
        bool(options["force"]),
    )
    return PredictRequest("", channels, options=checked)


def then_precode(
    request: PredictRequest,
    near_field: npt.ArrayLike | None,
    budget: dict[str, float | None],
    scheme: str,
    refine: int,
) -> PredictRequest:
    """Add the request for precoders for the predicted channels.

    Parameters
    ----------
    request : PredictRequest
        Request for a prediction.
    near_field : array_like or None
        Given near-field labels, bool (ahead, users).
    budget, scheme, refine
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
    checked, _ = make_request(drops, near_field, budget, scheme, refine)
    return replace(
        request,
        budget=checked.budget,
        scheme=checked.scheme,
        refine=checked.refine,
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
    try:
        found = np.asarray(times, np.float64)
    except (TypeError, ValueError):
        raise BadRequest("times must be numbers, s, one per snapshot") from None
    if found.shape != (snapshots,) or not np.isfinite(found).all():
        raise BadRequest(f"times must be {snapshots} finite numbers, one per snapshot, got shape {found.shape}")
    return tuple(found.tolist())
