"""Encode and decode the messages of ``nflae serve``, as in docs/reference/protocol.md.

A request or an answer is a list of frames: a JSON header, then raw little-endian arrays in MATLAB order, which is the
memory of (drops, users, antennas) arrays as it is. Sockets are not part of this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from matlab_io.result import OPTIONAL_ARRAYS, PREDICTION_ARRAYS, RECEIVE_COMBINER, RESULT_ARRAYS, Result
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.headers import (
    VERSION,
    ArrayDescription,
    ArrayName,
    CancelHeader,
    ErrorDescription,
    Frame,
    PrecodeHeader,
    PredictHeader,
    ReplyHeader,
    ReturnedName,
    StatusHeader,
    decode_reply_header,
    decode_request_header,
)
from nflae_bridge.live.messages import (
    PLAIN,
    Array,
    CancelRequest,
    PrecodeRequest,
    PredictionOptions,
    PredictRequest,
    Reply,
    Request,
    StatusRequest,
    problem_arrays,
    stated_problem,
)
from simulator.downlink.budget import DEFAULT_POWER, BudgetError, LinkBudget

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"

_COPIED_BYTES = 64 << 10  # below this size a copy takes less time than a view
_DTYPES: dict[str, np.dtype[Any]] = {
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
    "float64": np.dtype("<f8"),
    "bool": np.dtype("?"),
}
_RESULT_ARRAYS = {entry.name: entry for entry in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS, *PREDICTION_ARRAYS)}


def encode_request(request: Request) -> list[Frame]:
    """Encode a request.

    Parameters
    ----------
    request : StatusRequest, CancelRequest, PrecodeRequest or PredictRequest
        Request.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    if isinstance(request, CancelRequest):
        return [msgspec.json.encode(CancelHeader(VERSION, request.id))]
    if isinstance(request, StatusRequest):
        return [msgspec.json.encode(StatusHeader(VERSION, request.id))]
    common: dict[str, Any] = {
        "v": VERSION,
        "id": request.id,
        "shape": _header_shape(request),
        "dtype": request.channels.dtype.name,
        "convention": request.convention,
        "scheme": request.scheme,
        "refine": int(request.refine),
        "near_field": request.labels,
        "deadline_ms": None if request.deadline == math.inf else 1e3 * request.deadline,
        **request.quantities,
    }
    header: PrecodeHeader | PredictHeader
    if isinstance(request, PredictRequest):
        options = {name: value for name, value in asdict(request.options).items() if name != "precodes"}
        common |= {"want": request.want, "then": "precode" if request.options.precodes else None}
        header = PredictHeader(**common, **options)
    else:
        want = None if request.want == problem_arrays(request.problem) else request.want
        stated = common | _problem_fields(request)
        header = PrecodeHeader(**stated, want=want, receive_antennas=request.receive_antennas)
    frames: list[Frame] = [msgspec.json.encode(header), _little_endian(request.channels)]
    if isinstance(request.near_field, np.ndarray):
        frames.append(_little_endian(request.near_field))
    if isinstance(header, PrecodeHeader) and header.weights is True:
        assert request.problem.weights is not None
        frames.append(_little_endian(request.problem.weights))
    return frames


def _problem_fields(request: PrecodeRequest) -> dict[str, Any]:
    """Return the fields of a header that state the problem of a request."""
    if request.problem is PLAIN:
        return {"power": msgspec.UNSET} if request.quantities["power"] == DEFAULT_POWER else {}
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


def decode_request(frames: Sequence[Frame]) -> Request:
    """Decode a request; its arrays are views of the frames.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the message, without the envelope.

    Returns
    -------
    StatusRequest, CancelRequest, PrecodeRequest or PredictRequest
        Request; the values of its channels, and the options of a prediction, are not checked.

    Raises
    ------
    WireError
        ``bad_request``, with the name of the field or frame, for a message outside the protocol.
    """
    header = decode_request_header(frames)
    if isinstance(header, StatusHeader):
        _check_frame_count(frames, 1)
        return StatusRequest(header.id)
    if isinstance(header, CancelHeader):
        _check_frame_count(frames, 1)
        return CancelRequest(header.id)
    is_weighted = isinstance(header, PrecodeHeader) and header.weights is True
    _check_frame_count(frames, 2 + (header.near_field is True) + is_weighted)
    if isinstance(header, PredictHeader):
        shape = (*header.shape, 1)[:3][::-1]
        common = _common_fields(header, frames, shape, (header.ahead, shape[1]))
        common["budget"] = _predicted_budget(header)
        names = (entry.name for entry in fields(PredictionOptions))
        options = {name: getattr(header, name) for name in names if name != "precodes"}
        chosen = PredictionOptions(**options, precodes=header.then == "precode")
        return PredictRequest(**common, want=_distinct(header.returned), options=chosen)
    shape = _channel_shape(header)
    labelled = shape[0], shape[1] * (shape[2] if header.receive_antennas == "each" else 1)
    common = _common_fields(header, frames, shape, labelled)
    weights = _array(frames[-1], "weights", _DTYPES["float64"], shape[:2]) if is_weighted else None
    problem, budget = stated_problem(header, weights)
    return PrecodeRequest(
        **common,
        budget=budget,
        want=_wanted(header, problem_arrays(problem)),
        receive_antennas=header.receive_antennas,
        problem=problem,
    )


def _common_fields(
    header: PrecodeHeader | PredictHeader, frames: Sequence[Frame], shape: tuple[int, ...], labelled: tuple[int, int]
) -> dict[str, Any]:
    """Return the fields of a request that has channels of a shape, and labels of another."""
    channels = _array(frames[1], "channels", _DTYPES[header.dtype], shape)
    near_field: Array | str | None = header.near_field if isinstance(header.near_field, str) else None
    if header.near_field is True:
        near_field = _array(frames[2], "near_field", np.dtype(np.uint8), labelled) != 0
    return {
        "id": header.id,
        "channels": channels,
        "convention": header.convention,
        "scheme": header.scheme,
        "refine": header.refine,
        "near_field": near_field,
        "deadline": math.inf if header.deadline_ms is None else header.deadline_ms / 1e3,
    }


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


def _header_shape(request: PrecodeRequest) -> tuple[int, ...]:
    """Return the shape of a request's channels in MATLAB order, with its drops."""
    drops, *others = request.channels.shape
    return (*others[::-1], drops)


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


def _array(frame: Frame, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    expected = math.prod(shape) * dtype.itemsize
    if len(frame) != expected:
        sizes = " x ".join(str(size) for size in reversed(shape))
        raise WireError(
            "bad_request", f"{name}: {sizes} of {dtype.name} are {expected} bytes, the frame has {len(frame)}"
        )
    return np.frombuffer(frame, dtype).reshape(shape)


# Answers


def encode_answer(
    request: PrecodeRequest, arrays: Mapping[str, Array], info: dict[str, Any], timing_us: dict[str, int]
) -> list[Frame]:
    """Encode an answer that holds a result.

    Parameters
    ----------
    request : PrecodeRequest
        Request that is answered.
    arrays : mapping
        Arrays by name, drops first; at least those of ``request.returned``.
    info, timing_us : dict
        See `Reply`.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    drops, users, antennas = request.size
    receive = request.channels.shape[2] if request.receive_antennas else 1
    returned = request.returned
    sizes = drops, users, antennas, receive, request.streams, request.problem.rf_chains or 0
    descriptions = _descriptions(sizes, returned)
    header = msgspec.json.encode(ReplyHeader(VERSION, request.id, True, descriptions, info, timing_us))
    return [header, *(_little_endian(arrays[name]) for name in returned)]


def encode_status(request_id: str, status: dict[str, Any]) -> list[Frame]:
    """Encode the answer to a `StatusRequest`.

    Parameters
    ----------
    request_id : str
        Identifier of the request.
    status : dict
        Status of the server.

    Returns
    -------
    list of bytes
        Frames of the message.
    """
    return [msgspec.json.encode(ReplyHeader(VERSION, request_id, True, status=status))]


def encode_error(request_id: str | None, error: WireError) -> list[Frame]:
    """Encode an answer that holds an error.

    Parameters
    ----------
    request_id : str or None
        Identifier of the request; None where it could not be read.
    error : WireError
        Fault.

    Returns
    -------
    list of bytes
        Frames of the message.
    """
    description = ErrorDescription(error.code, str(error))
    return [msgspec.json.encode(ReplyHeader(VERSION, request_id, False, error=description))]


def decode_reply(frames: Sequence[Frame]) -> Reply:
    """Decode an answer; its arrays are read-only views of the frames.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the message, without the envelope.

    Returns
    -------
    Reply
        Answer.

    Raises
    ------
    WireError
        ``bad_reply`` for a message that is not an answer of this protocol.
    """
    try:
        header = decode_reply_header(frames[0])
        arrays: dict[str, Array] = {
            entry.name: np.frombuffer(frame, _DTYPES[entry.dtype]).reshape(_python_shape(entry))
            for entry, frame in zip(header.arrays, frames[1:], strict=True)
        }
    except (msgspec.MsgspecError, ValueError, KeyError, IndexError, RecursionError) as cause:
        raise WireError("bad_reply", f"not an answer of this protocol ({type(cause).__name__}: {cause})") from cause
    error = WireError(header.error.code, header.error.message) if header.error is not None else None
    return Reply(header.id, arrays, header.info, header.timing_us, header.status, error)


def result_of(reply: Reply) -> Result:
    """Make a `Result` of a reply.

    Parameters
    ----------
    reply : Reply
        Reply that holds all arrays.

    Returns
    -------
    Result
        Result with read-only arrays.
    """
    return Result.from_arrays(reply.arrays)


def _python_shape(entry: ArrayDescription) -> tuple[int, ...]:
    return entry.shape[::-1] if _RESULT_ARRAYS[entry.name].axes else entry.shape[1:]


@lru_cache(maxsize=256)
def _descriptions(
    sizes: tuple[int, int, int, int, int, int], names: tuple[ReturnedName, ...]
) -> tuple[ArrayDescription, ...]:
    """Describe the array frames of an answer; the same for every request of a loop."""
    entries = [_RESULT_ARRAYS[name] for name in names]
    if sizes[4] > 1:
        entries = [entry.with_streams() for entry in entries]
    return tuple(ArrayDescription(each.name, each.matlab_shape(*sizes), each.dtype.name) for each in entries)


def _little_endian(array: Array) -> Frame:
    dtype = array.dtype.newbyteorder("<")
    if dtype != array.dtype:
        array = array.astype(dtype)
    if array.nbytes < _COPIED_BYTES:
        return array.tobytes()
    if isinstance(array.base, np.ndarray) and array.base.nbytes > array.nbytes:
        array = array.copy()  # a view would keep the arrays of its whole batch until the client has read it
    raw: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return raw
