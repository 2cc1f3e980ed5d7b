"""The wire format of ``nflae serve``, both ends of it: docs/reference/protocol.md in code.

A request or answer is a list of frames: a JSON header, then raw arrays in MATLAB order, which is the memory of our
(drops, users, antennas) arrays as it is. Nothing here knows about sockets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from matlab_io.result import RESULT_ARRAYS, RESULT_NAMES, Result
from nflae_bridge.live.errors import WireError

VERSION: Literal[1] = 1
DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"

if TYPE_CHECKING:
    ArrayName = str
else:
    ArrayName = Literal[RESULT_NAMES]
Dtype = Literal["complex64", "complex128"]
Convention = Literal["hermitian", "direct"]

_MAX_HEADER_BYTES = 16 << 10
_MAX_ENVELOPE = 8
_COPIED_BYTES = 64 << 10  # copying less takes less than making a view of it
_MAX_ID = 128
_DTYPES: dict[str, np.dtype[Any]] = {
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
    "float64": np.dtype("<f8"),
    "bool": np.dtype("?"),
}
_RESULT_ARRAYS = {entry.name: entry for entry in RESULT_ARRAYS}

Frame = bytes | memoryview
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StatusRequest:
    """Asks a server how it is doing."""

    id: str


@dataclass(frozen=True)
class PrecodeRequest:
    """Channels to precode for.

    channels: complex64 or complex128 (drops, users, antennas), as sent: in ``direct`` row k is conj(h_k).
    power, noise_power: W. alpha_c: share of P. min_rate: bps/Hz. near_field: bool (drops, users), or None.
    want: names of the arrays asked for. deadline: how long the client waits for the device, s.
    """

    id: str
    channels: Array
    power: float = 1.0
    noise_power: float = 0.01
    alpha_c: float = 1.0
    min_rate: float = 0.0
    convention: Convention = "hermitian"
    scheme: str = "nflae"
    refine: int = 0
    near_field: npt.NDArray[np.bool_] | None = None
    want: tuple[ArrayName, ...] = RESULT_NAMES
    deadline: float = math.inf


@dataclass(frozen=True)
class Reply:
    """What came back: arrays by name, Python's axis order; ``error`` is None where all went well."""

    id: str | None
    arrays: dict[str, Array]
    info: dict[str, Any]
    timing_us: dict[str, int]
    status: dict[str, Any]
    error: WireError | None


# The headers, field by field as docs/reference/protocol.md has them; msgspec checks types, ranges and unknown fields.

_Id = Annotated[str, Meta(max_length=_MAX_ID)]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Positive = Annotated[float, Meta(gt=0)]


class _PrecodeHeader(Struct, tag_field="op", tag="precode", forbid_unknown_fields=True, omit_defaults=True):
    v: Literal[1]
    id: _Id
    shape: Annotated[tuple[_Count, ...], Meta(min_length=2, max_length=3)]
    dtype: Dtype = "complex64"
    power: _Positive = 1.0
    noise_power: _Positive = 0.01
    alpha_c: Annotated[float, Meta(gt=0, le=1)] = 1.0
    min_rate: Annotated[float, Meta(ge=0)] = 0.0
    convention: Convention = "hermitian"
    scheme: str = "nflae"
    refine: Annotated[int, Meta(ge=0, le=100)] = 0
    near_field: bool = False
    want: Annotated[tuple[ArrayName, ...], Meta(min_length=1)] = RESULT_NAMES
    deadline_ms: _Positive | None = None


class _StatusHeader(Struct, tag_field="op", tag="status", forbid_unknown_fields=True):
    v: Literal[1]
    id: _Id


class _Described(Struct, frozen=True):
    name: ArrayName
    shape: tuple[int, ...]
    dtype: str


class _Fault(Struct):
    code: str
    message: str


class _ReplyHeader(Struct, omit_defaults=True):
    v: int
    id: str | None
    ok: bool
    arrays: tuple[_Described, ...] = ()
    info: dict[str, Any] = {}
    timing_us: dict[str, int] = {}
    status: dict[str, Any] = {}
    error: _Fault | None = None


_REQUEST: msgspec.json.Decoder[_PrecodeHeader | _StatusHeader] = msgspec.json.Decoder(_PrecodeHeader | _StatusHeader)
_REPLY = msgspec.json.Decoder(_ReplyHeader)
_LISTED = {
    "$.op": ("precode", "status"),
    "$.dtype": get_args(Dtype),
    "$.convention": get_args(Convention),
    "$.want": RESULT_NAMES,
    "unknown field": _PrecodeHeader.__struct_fields__,
}


def split_envelope(frames: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """(envelope, message) of what a ROUTER received: peers' addresses, with the empty delimiter if one was sent."""
    for index in range(1, min(len(frames), _MAX_ENVELOPE)):
        if not frames[index]:
            return frames[: index + 1], frames[index + 1 :]
    return frames[:1], frames[1:]


# Requests


def encode_request(request: PrecodeRequest | StatusRequest) -> list[Frame]:
    """The frames of a request."""
    if isinstance(request, StatusRequest):
        return [msgspec.json.encode(_StatusHeader(VERSION, request.id))]
    drops, users, antennas = request.channels.shape
    header = _PrecodeHeader(
        VERSION,
        request.id,
        (antennas, users, drops),
        request.channels.dtype.name,  # type: ignore[arg-type]
        float(request.power),
        float(request.noise_power),
        float(request.alpha_c),
        float(request.min_rate),
        request.convention,
        request.scheme,
        int(request.refine),
        request.near_field is not None,
        request.want,
        None if request.deadline == math.inf else 1e3 * request.deadline,
    )
    frames: list[Frame] = [msgspec.json.encode(header), _little_endian(request.channels)]
    if request.near_field is not None:
        frames.append(_little_endian(request.near_field))
    return frames


def request_id(frames: Sequence[Frame]) -> str | None:
    """The id of a request that could not be decoded, if it can be read."""
    try:
        found = msgspec.json.decode(frames[0]).get("id") if len(frames[0]) <= _MAX_HEADER_BYTES else None
    except (msgspec.MsgspecError, RecursionError, ValueError, AttributeError, IndexError):
        return None
    return found if isinstance(found, str) and len(found) <= _MAX_ID else None


def decode_request(frames: Sequence[Frame]) -> PrecodeRequest | StatusRequest:
    """A request from its frames; the arrays are views of them.

    Raises WireError ``bad_request``, naming the field or frame, for what the protocol does not allow. The
    channels' numbers themselves are not looked at.
    """
    header = _request_header(frames)
    if isinstance(header, _StatusHeader):
        _require_frames(frames, 1)
        return StatusRequest(header.id)
    _require_frames(frames, 3 if header.near_field else 2)
    antennas, users, drops = (*header.shape, 1)[:3]
    near_field = None
    if header.near_field:
        near_field = _array(frames[2], "near_field", np.dtype(np.uint8), (drops, users)) != 0
    if len(set(header.want)) != len(header.want):
        raise WireError("bad_request", "want names an array twice")
    return PrecodeRequest(
        header.id,
        _array(frames[1], "channels", _DTYPES[header.dtype], (drops, users, antennas)),
        header.power,
        header.noise_power,
        header.alpha_c,
        header.min_rate,
        header.convention,
        header.scheme,
        header.refine,
        near_field,
        header.want,
        math.inf if header.deadline_ms is None else header.deadline_ms / 1e3,
    )


def _request_header(frames: Sequence[Frame]) -> _PrecodeHeader | _StatusHeader:
    if not frames:
        raise WireError("bad_request", "no header: send a JSON header and, for precode, the channels")
    if len(frames[0]) > _MAX_HEADER_BYTES:
        raise WireError("bad_request", f"a header of {len(frames[0])} bytes: at most {_MAX_HEADER_BYTES} are read")
    try:
        return _REQUEST.decode(frames[0])
    except msgspec.ValidationError as error:
        reason = f"header: {error}"[:300]
        listed = next((names for place, names in _LISTED.items() if place in reason), ())
        raise WireError("bad_request", f"{reason}; there are {', '.join(listed)}" if listed else reason) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise WireError("bad_request", f"the header is no JSON object in UTF-8: {str(error)[:200]}") from None


def _require_frames(frames: Sequence[Frame], expected: int) -> None:
    if len(frames) != expected:
        raise WireError("bad_request", f"{len(frames)} frames: this header announces {expected}, itself included")


def _array(frame: Frame, what: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    expected = math.prod(shape) * dtype.itemsize
    if len(frame) != expected:
        sizes = " x ".join(str(size) for size in reversed(shape))
        raise WireError(
            "bad_request", f"{what}: {sizes} of {dtype.name} are {expected} bytes, the frame has {len(frame)}"
        )
    return np.frombuffer(frame, dtype).reshape(shape)


# Answers


def encode_answer(
    request: PrecodeRequest, arrays: Mapping[str, Array], info: dict[str, Any], timing_us: dict[str, int]
) -> list[Frame]:
    """The frames of a good answer. arrays: by name, (drops, ...), those of ``request.want`` at least."""
    drops, users, antennas = request.channels.shape
    described = _described(antennas, users, drops, request.want)
    header = msgspec.json.encode(_ReplyHeader(VERSION, request.id, True, described, info, timing_us))
    return [header, *(_little_endian(arrays[name]) for name in request.want)]


def encode_status(name: str, status: dict[str, Any]) -> list[Frame]:
    """The frames of the answer to ``status``."""
    return [msgspec.json.encode(_ReplyHeader(VERSION, name, True, status=status))]


def encode_error(name: str | None, error: WireError) -> list[Frame]:
    """The frames of an answer that says why there is none."""
    return [msgspec.json.encode(_ReplyHeader(VERSION, name, False, error=_Fault(error.code, str(error))))]


def decode_reply(frames: Sequence[Frame]) -> Reply:
    """An answer from its frames; the arrays are read-only views of them.

    Raises WireError ``bad_reply`` for what no server of ours would send.
    """
    try:
        header = _REPLY.decode(frames[0])
        arrays: dict[str, Array] = {
            entry.name: np.frombuffer(frame, _DTYPES[entry.dtype]).reshape(_python_shape(entry))
            for entry, frame in zip(header.arrays, frames[1:], strict=True)
        }
    except (msgspec.MsgspecError, ValueError, KeyError, IndexError, RecursionError) as cause:
        raise WireError("bad_reply", f"an answer that can't be understood ({type(cause).__name__}: {cause})") from cause
    error = WireError(header.error.code, header.error.message) if header.error is not None else None
    return Reply(header.id, arrays, header.info, header.timing_us, header.status, error)


def result_of(reply: Reply) -> Result:
    """The arrays of a reply that has all of them, as Python users get them."""
    return Result.from_arrays(reply.arrays)


def _python_shape(entry: _Described) -> tuple[int, ...]:
    return entry.shape[::-1] if _RESULT_ARRAYS[entry.name].axes else entry.shape[1:]


@lru_cache(maxsize=256)
def _described(antennas: int, users: int, drops: int, want: tuple[ArrayName, ...]) -> tuple[_Described, ...]:
    """What the frames of an answer hold: the same for every request of a loop."""
    entries = (_RESULT_ARRAYS[name] for name in want)
    return tuple(_Described(e.name, e.matlab_shape(drops, users, antennas), e.dtype.name) for e in entries)


def _little_endian(array: Array) -> Frame:
    dtype = array.dtype.newbyteorder("<")
    if dtype != array.dtype:
        array = array.astype(dtype)
    if array.nbytes < _COPIED_BYTES:
        return array.tobytes()
    raw: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return raw
