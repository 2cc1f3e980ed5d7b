"""Encode and decode the messages of ``nflae serve``, as in docs/reference/protocol.md.

A request or an answer is a list of frames: a JSON header, then raw little-endian arrays in MATLAB order, which is the
memory of (drops, users, antennas) arrays as it is. Sockets are not part of this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from matlab_io.result import RECEIVE_COMBINER, RESULT_ARRAYS, RESULT_NAMES, Result
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.headers import (
    VERSION,
    ArrayDescription,
    ArrayName,
    Convention,
    ErrorDescription,
    Frame,
    PrecodeHeader,
    ReceiveMode,
    ReplyHeader,
    ReturnedName,
    StatusHeader,
    decode_reply_header,
    decode_request_header,
)
from simulator.downlink.budget import BudgetError, LinkBudget

DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"

_COPIED_BYTES = 64 << 10  # below this size a copy takes less time than a view
_DTYPES: dict[str, np.dtype[Any]] = {
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
    "float64": np.dtype("<f8"),
    "bool": np.dtype("?"),
}
_RESULT_ARRAYS = {entry.name: entry for entry in (*RESULT_ARRAYS, RECEIVE_COMBINER)}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StatusRequest:
    """Request the status of a server."""

    id: str


@dataclass(frozen=True)
class PrecodeRequest:
    """Request precoders for a batch of drops.

    Parameters
    ----------
    id : str
        Identifier that the answer repeats.
    channels : numpy.ndarray
        Channels as sent, complex64 or complex128, (drops, users, antennas); with ``direct`` row k is conj(h_k). With
        `receive_antennas`, (drops, users, receive antennas, antennas).
    budget : LinkBudget
        Link budget of all drops, one number per quantity.
    convention : {"hermitian", "direct"}
        Convention of `channels`.
    scheme : str
        Name of the precoding scheme.
    refine : int
        WMMSE steps after the network.
    near_field : numpy.ndarray or None
        Given near-field labels, bool (drops, users); None if the scheme finds them.
    want : tuple of str
        Names of the arrays to return.
    receive_antennas : {"each", "strongest", "eigen"} or None
        Treatment of several receive antennas per user.
    deadline : float
        Time that the client waits for the computation to begin, s.
    """

    id: str
    channels: Array
    budget: LinkBudget = field(default_factory=LinkBudget)
    convention: Convention = "hermitian"
    scheme: str = "nflae"
    refine: int = 0
    near_field: npt.NDArray[np.bool_] | None = None
    want: tuple[ArrayName, ...] = RESULT_NAMES
    deadline: float = math.inf
    receive_antennas: ReceiveMode | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Drops, users and antennas of the problem, after the treatment of receive antennas."""
        drops, users, *receive, antennas = self.channels.shape
        return drops, users * (receive[0] if self.receive_antennas == "each" else 1), antennas

    @property
    def returned(self) -> tuple[ReturnedName, ...]:
        """Names of the arrays of the answer: those wanted, and the receive combiners where antennas are combined."""
        combined = self.receive_antennas in ("strongest", "eigen")
        return (*self.want, RECEIVE_COMBINER.name) if combined else self.want

    @property
    def quantities(self) -> dict[str, float]:
        """The link budget by the names of its quantities: W, W, a share of the power, bps/Hz."""
        return {name: float(value) for name, value in asdict(self.budget).items()}


@dataclass(frozen=True)
class Reply:
    """Hold a decoded answer.

    Parameters
    ----------
    id : str or None
        Identifier of the request; None where it could not be read.
    arrays : dict
        Arrays by name, read-only, in Python's axis order.
    info : dict
        Scheme, model, version and link budget behind the result.
    timing_us : dict
        Times ``queue``, ``compute`` and ``total``, microseconds.
    status : dict
        Status of the server, in an answer to a `StatusRequest`.
    error : WireError or None
        Fault, None where there is a result.
    """

    id: str | None
    arrays: dict[str, Array]
    info: dict[str, Any]
    timing_us: dict[str, int]
    status: dict[str, Any]
    error: WireError | None


def encode_request(request: PrecodeRequest | StatusRequest) -> list[Frame]:
    """Encode a request.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    if isinstance(request, StatusRequest):
        return [msgspec.json.encode(StatusHeader(VERSION, request.id))]
    header = PrecodeHeader(
        VERSION,
        request.id,
        _header_shape(request),
        request.channels.dtype.name,  # type: ignore[arg-type]
        convention=request.convention,
        scheme=request.scheme,
        refine=int(request.refine),
        near_field=request.near_field is not None,
        want=request.want,
        deadline_ms=None if request.deadline == math.inf else 1e3 * request.deadline,
        receive_antennas=request.receive_antennas,
        **request.quantities,
    )
    frames: list[Frame] = [msgspec.json.encode(header), _little_endian(request.channels)]
    if request.near_field is not None:
        frames.append(_little_endian(request.near_field))
    return frames


def decode_request(frames: Sequence[Frame]) -> PrecodeRequest | StatusRequest:
    """Decode a request; its arrays are views of the frames.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the message, without the envelope.

    Returns
    -------
    PrecodeRequest or StatusRequest
        Request; the values of its channels are not checked.

    Raises
    ------
    WireError
        ``bad_request``, with the name of the field or frame, for a message outside the protocol.
    """
    header = decode_request_header(frames)
    if isinstance(header, StatusHeader):
        _check_frame_count(frames, 1)
        return StatusRequest(header.id)
    _check_frame_count(frames, 3 if header.near_field else 2)
    shape = _channel_shape(header)
    users = shape[1] * (shape[2] if header.receive_antennas == "each" else 1)
    near_field = None
    if header.near_field:
        near_field = _array(frames[2], "near_field", np.dtype(np.uint8), (shape[0], users)) != 0
    if len(set(header.want)) != len(header.want):
        raise WireError("bad_request", "want names an array twice")
    try:
        budget = LinkBudget(header.power, header.noise_power, header.alpha_c, header.min_rate)
    except BudgetError as error:
        raise WireError("bad_request", f"header: {error}") from None
    return PrecodeRequest(
        header.id,
        _array(frames[1], "channels", _DTYPES[header.dtype], shape),
        budget,
        header.convention,
        header.scheme,
        header.refine,
        near_field,
        header.want,
        math.inf if header.deadline_ms is None else header.deadline_ms / 1e3,
        header.receive_antennas,
    )


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
    descriptions = _descriptions(antennas, users, drops, receive, returned)
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
    antennas: int, users: int, drops: int, receive: int, names: tuple[ReturnedName, ...]
) -> tuple[ArrayDescription, ...]:
    """Describe the array frames of an answer; the same for every request of a loop."""
    entries = (_RESULT_ARRAYS[name] for name in names)
    sizes = (drops, users, antennas, receive)
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
