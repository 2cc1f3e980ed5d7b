"""Encode and decode the requests to ``nflae serve``, as in docs/reference/protocol.md.

A request or an answer is a list of frames: a JSON header, then raw little-endian arrays in MATLAB order, which is the
memory of (drops, users, antennas) arrays as it is. Sockets are not part of this module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from matlab_io.result import RECEIVE_COMBINER, RESULT_NAMES
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.binary import DTYPES, little_endian, read_array
from nflae_bridge.live.protocol.fields import Convention
from nflae_bridge.live.protocol.headers import (
    VERSION,
    ArrayName,
    CancelHeader,
    Continuation,
    Effort,
    Frame,
    MemoryReference,
    PrecodeHeader,
    PredictHeader,
    ReceiveMode,
    ReturnedName,
    StatusHeader,
    decode_request_header,
)
from nflae_bridge.live.protocol.memory import AnswerRoom, FindSegment, refer
from nflae_bridge.live.protocol.messages import (
    PLAIN,
    Array,
    CancelRequest,
    PrecodeRequest,
    PredictionOptions,
    PredictRequest,
    Request,
    StatusRequest,
    TrackRequest,
    problem_arrays,
    quantities_of,
    stated_problem,
)
from nflae_bridge.live.protocol.track_header import TrackHeader
from nflae_bridge.live.protocol.tracks import decode_track, encode_track
from simulator.downlink.budget import DEFAULT_POWER, BudgetError, LinkBudget

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"

_NO_CHANNELS = np.empty(0, np.complex64)
_KEPT_HEADERS = 256
_KEPT_HEADER_BYTES = 1 << 10  # of the largest one kept; with a list of limits of antennas one takes up to 1.5 MB


def encode_request(request: Request, memory: MemoryReference | None = None) -> list[Frame]:
    """Encode a request.

    Parameters
    ----------
    request : StatusRequest, CancelRequest, PrecodeRequest, PredictRequest or TrackRequest
        Request.
    memory : MemoryReference, optional
        Place of its channels in shared memory, instead of a frame.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    if isinstance(request, CancelRequest):
        return [msgspec.json.encode(CancelHeader(VERSION, request.id))]
    if isinstance(request, StatusRequest):
        return [msgspec.json.encode(StatusHeader(VERSION, request.id))]
    if isinstance(request, TrackRequest):
        return encode_track(request)
    common = (
        request.channels.shape,
        request.channels.dtype,
        request.convention,
        request.scheme,
        int(request.refine),
        request.labels,
        request.effort,
    )
    header: PrecodeHeader | PredictHeader
    if request.problem is PLAIN and not isinstance(request, PredictRequest):
        header = _plain_header(request.budget, request.want, request.receive_antennas, *common)
    else:
        header = _whole_header(request, _common_header(*common) | request.quantities)
    deadline_ms = None if request.deadline == math.inf else 1e3 * request.deadline
    header = msgspec.structs.replace(header, id=request.id, deadline_ms=deadline_ms, memory=memory)
    frames: list[Frame] = [msgspec.json.encode(header)]
    if memory is None:
        frames.append(little_endian(request.channels))
    if isinstance(request.near_field, np.ndarray):
        frames.append(little_endian(request.near_field))
    if isinstance(header, PrecodeHeader) and header.weights is True:
        assert request.problem.weights is not None
        frames.append(little_endian(request.problem.weights))
    return frames


def _common_header(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    convention: Convention,
    scheme: str,
    refine: int,
    labels: bool | str,
    effort: Effort | None,
) -> dict[str, Any]:
    """Return the fields that headers of requests for precoders and predictions share, without an identifier."""
    return {
        "v": VERSION,
        "id": "",
        "shape": (*shape[:0:-1], shape[0]),  # in MATLAB order, with the drops
        "dtype": dtype.name,
        "convention": convention,
        "scheme": scheme,
        "refine": refine,
        "near_field": labels,
        "effort": effort,
    }


@lru_cache(maxsize=_KEPT_HEADERS)
def _plain_header(
    budget: LinkBudget, want: tuple[ArrayName, ...], receive_antennas: ReceiveMode | None, *common: Any
) -> PrecodeHeader:
    """Make the header of a request for the plain problem, without an identifier; equal for all requests of a loop."""
    stated = _common_header(*common) | quantities_of(budget)
    if stated["power"] == DEFAULT_POWER:
        del stated["power"]
    wanted = None if want == RESULT_NAMES else want
    return PrecodeHeader(**stated, want=wanted, receive_antennas=receive_antennas)


def _whole_header(request: PrecodeRequest, stated: dict[str, Any]) -> PrecodeHeader | PredictHeader:
    """Make the header of a request for a prediction, or for another problem, of the fields that all requests have."""
    if isinstance(request, PredictRequest):
        options = {name: value for name, value in asdict(request.options).items() if name != "precodes"}
        then: Continuation | None = "precode" if request.options.precodes else None
        return PredictHeader(**stated, **options, want=request.want, then=then)
    want = None if request.want == problem_arrays(request.problem) else request.want
    stated |= _problem_fields(request)
    return PrecodeHeader(**stated, want=want, receive_antennas=request.receive_antennas)


def _problem_fields(request: PrecodeRequest) -> dict[str, Any]:
    """Return the fields of a header that state the problem of a request."""
    fields = request.problem.describe()
    fields.pop("joint_receivers", None)
    if not fields.pop("total_power", True):
        fields["power"] = msgspec.UNSET
    if "weights" in fields:
        fields["weights"] = True if fields["weights"].ndim > 1 else tuple(fields["weights"].tolist())
    if "antenna_power" in fields:
        fields["power_per_antenna"] = tuple(fields.pop("antenna_power").tolist())
    if request.problem.power_scope == "total":
        fields["subcarriers"] = request.problem.subcarriers
    return fields


def decode_request(frames: Sequence[Frame], find: FindSegment | None = None, largest: float = math.inf) -> Request:
    """Decode a request; its arrays are views of the frames, or of shared memory.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the message, without the envelope.
    find, largest
        Shared memory, as for `refer`.

    Returns
    -------
    StatusRequest, CancelRequest, PrecodeRequest, PredictRequest or TrackRequest
        Request; the values of its channels, and the options of a prediction, are not checked.

    Raises
    ------
    WireError
        ``bad_request``, with the name of the field or frame, for a message outside the protocol; those of `refer`.
    """
    header = decode_request_header(frames)
    if isinstance(header, StatusHeader):
        _check_frame_count(frames, 1)
        return StatusRequest(header.id)
    if isinstance(header, CancelHeader):
        _check_frame_count(frames, 1)
        return CancelRequest(header.id)
    if isinstance(header, TrackHeader):
        _check_frame_count(frames, 1 + len(header.frame_bytes))
        return decode_track(header, frames)
    is_weighted = isinstance(header, PrecodeHeader) and header.weights is True
    room: AnswerRoom | None = None
    if header.memory is not None:
        shared, room = refer(header, header.memory, find, largest)
        frames = [frames[0], shared, *frames[1:]]
    _check_frame_count(frames, 2 + (header.near_field is True) + is_weighted)
    if isinstance(header, PredictHeader):
        return _decode_prediction(header, frames, room)
    if is_weighted:
        stated = _terms(header, read_array(frames[-1], "weights", DTYPES["float64"], header.sizes[:2]))
    else:
        terms = _kept_terms if len(frames[0]) <= _KEPT_HEADER_BYTES else _terms
        stated = terms(msgspec.structs.replace(header, id="", deadline_ms=None, memory=None))
    channels, near_field = _read_arrays(header, frames, stated.shape, stated.labelled)
    return stated.request.changed(
        id=header.id, channels=channels, near_field=near_field, deadline=_deadline(header), room=room
    )


def _decode_prediction(header: PredictHeader, frames: Sequence[Frame], room: AnswerRoom | None) -> PredictRequest:
    """Decode the rest of a request for a prediction."""
    shape = (*header.shape, 1)[:3][::-1]
    channels, near_field = _read_arrays(header, frames, shape, (header.ahead, shape[1]))
    names = (entry.name for entry in fields(PredictionOptions))
    options = {name: getattr(header, name) for name in names if name != "precodes"}
    return PredictRequest(
        header.id,
        channels,
        _predicted_budget(header),
        header.convention,
        header.scheme,
        header.refine,
        near_field,
        want=_distinct(header.returned),
        deadline=_deadline(header),
        effort=header.effort,
        room=room,
        options=PredictionOptions(**options, precodes=header.then == "precode"),
    )


class _Terms(NamedTuple):
    """Hold what the header of a request for precoders states, beside identifier, deadline and memory.

    Attributes
    ----------
    shape, labelled : tuple of int
        Shapes of channels and labels.
    request : PrecodeRequest
        The request without its arrays.
    """

    shape: tuple[int, ...]
    labelled: tuple[int, int]
    request: PrecodeRequest


def _terms(header: PrecodeHeader, weights: npt.NDArray[np.float64] | None = None) -> _Terms:
    shape = _channel_shape(header)
    labelled = shape[0], shape[1] * (shape[2] if header.receive_antennas == "each" else 1)
    problem, budget = stated_problem(header, weights)
    request = PrecodeRequest(
        "",
        _NO_CHANNELS,
        budget,
        header.convention,
        header.scheme,
        header.refine,
        want=_wanted(header, problem_arrays(problem)),
        receive_antennas=header.receive_antennas,
        problem=problem,
        effort=header.effort,
    )
    return _Terms(shape, labelled, request)


_kept_terms = lru_cache(maxsize=_KEPT_HEADERS)(_terms)  # equal for all requests of a loop


def _read_arrays(
    header: PrecodeHeader | PredictHeader, frames: Sequence[Frame], shape: tuple[int, ...], labelled: tuple[int, int]
) -> tuple[Array, Array | str | None]:
    """Return the channels of a shape and the labels of another, or the panel by which labels are found."""
    channels = read_array(frames[1], "channels", DTYPES[header.dtype], shape)
    if header.near_field is True:
        return channels, read_array(frames[2], "near_field", np.dtype(np.uint8), labelled) != 0
    return channels, header.near_field if isinstance(header.near_field, str) else None


def _deadline(header: PrecodeHeader | PredictHeader) -> float:
    """Return the time that the client waits, s."""
    return math.inf if header.deadline_ms is None else header.deadline_ms / 1e3


def _predicted_budget(header: PredictHeader) -> LinkBudget:
    try:
        return LinkBudget(header.power, header.noise_power, header.alpha_c, header.min_rate)
    except BudgetError as error:
        raise WireError("bad_request", f"header: {error}") from None


def _wanted(header: PrecodeHeader, present: tuple[ArrayName, ...]) -> tuple[ArrayName, ...]:
    """Return the arrays that a header names, or all; those of other problems are refused."""
    combined = (RECEIVE_COMBINER.name,) if header.receive_antennas in ("strongest", "eigen") else ()
    for name in header.want or ():
        if name not in (*present, *combined):
            raise WireError("bad_request", f"want names {name}, which the result of this problem does not have")
    return present if header.want is None else _distinct(header.want)


def _distinct(want: tuple[ReturnedName, ...]) -> tuple[ReturnedName, ...]:
    if len(set(want)) != len(want):
        raise WireError("bad_request", "want names an array twice")
    return want


def _channel_shape(header: PrecodeHeader) -> tuple[int, ...]:
    """Return the shape of the channels in Python's order."""
    axes = 3 if header.receive_antennas is None else 4
    if not axes - 1 <= len(header.shape) <= axes:
        sizes = " x ".join(str(size) for size in header.shape)
        expected = "antennas, users, drops" if axes == 3 else "antennas, receive antennas, users, drops"
        remedy = "; receive_antennas adds the second of four axes" if axes == 3 else ""
        raise WireError(
            "bad_request", f"header: shape {sizes} has {len(header.shape)} axes; expected {expected}{remedy}"
        )
    return (*header.shape, 1)[:axes][::-1]


def _check_frame_count(frames: Sequence[Frame], expected: int) -> None:
    if len(frames) != expected:
        raise WireError("bad_request", f"{len(frames)} frames: this header announces {expected}, itself included")
