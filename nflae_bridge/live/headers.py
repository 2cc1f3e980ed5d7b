"""Define the JSON headers of the wire format, field by field as in docs/reference/protocol.md.

msgspec checks types, enumerations, counts and unknown fields; the link budget is checked by its own validator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from matlab_io.result import RECEIVE_COMBINER, RESULT_NAMES
from nflae_bridge.live.errors import WireError
from simulator.downlink.budget import DEFAULT_ALPHA_C, DEFAULT_MIN_RATE, DEFAULT_NOISE_POWER, DEFAULT_POWER

VERSION: Literal[1] = 1

if TYPE_CHECKING:
    ArrayName = str
    ReturnedName = str
else:
    ArrayName = Literal[RESULT_NAMES]
    ReturnedName = Literal[(*RESULT_NAMES, RECEIVE_COMBINER.name)]
Dtype = Literal["complex64", "complex128"]
Convention = Literal["hermitian", "direct"]
ReceiveMode = Literal["each", "strongest", "eigen"]
Frame = bytes | memoryview

_ITEM_BYTES = {"complex64": 8, "complex128": 16}

_MAX_HEADER_BYTES = 16 << 10
_MAX_ID = 128

_Id = Annotated[str, Meta(max_length=_MAX_ID)]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class PrecodeHeader(Struct, tag_field="op", tag="precode", forbid_unknown_fields=True, omit_defaults=True):
    """Hold the header of a request for precoders.

    Attributes
    ----------
    v : int
        Version of the protocol.
    id : str
        Identifier that the answer repeats.
    shape : tuple of int
        Antennas, users and, unless it is 1, drops; with `receive_antennas`, antennas, receive antennas, users, drops.
    dtype, convention, scheme, refine, near_field, want
        See docs/reference/protocol.md.
    power, noise_power, alpha_c, min_rate : float
        Link budget, see `LinkBudget`.
    deadline_ms : float or None
        Time that the client waits, ms.
    receive_antennas : str or None
        Treatment of several receive antennas per user.
    """

    v: Literal[1]
    id: _Id
    shape: Annotated[tuple[_Count, ...], Meta(min_length=2, max_length=4)]
    dtype: Dtype = "complex64"
    power: float = DEFAULT_POWER
    noise_power: float = DEFAULT_NOISE_POWER
    alpha_c: float = DEFAULT_ALPHA_C
    min_rate: float = DEFAULT_MIN_RATE
    convention: Convention = "hermitian"
    scheme: str = "nflae"
    refine: Annotated[int, Meta(ge=0, le=100)] = 0
    near_field: bool = False
    want: Annotated[tuple[ArrayName, ...], Meta(min_length=1)] = RESULT_NAMES
    deadline_ms: Annotated[float, Meta(gt=0)] | None = None
    receive_antennas: ReceiveMode | None = None


class StatusHeader(Struct, tag_field="op", tag="status", forbid_unknown_fields=True):
    """Hold the header of a request for the server's status."""

    v: Literal[1]
    id: _Id


class ArrayDescription(Struct, frozen=True):
    """Describe one array frame of an answer; the shape is in MATLAB order."""

    name: ReturnedName
    shape: tuple[int, ...]
    dtype: str


class ErrorDescription(Struct):
    """Describe the fault of a request without a result."""

    code: str
    message: str


class ReplyHeader(Struct, omit_defaults=True):
    """Hold the header of an answer; ``error`` is None where ``ok`` is true."""

    v: int
    id: str | None
    ok: bool
    arrays: tuple[ArrayDescription, ...] = ()
    info: dict[str, Any] = {}
    timing_us: dict[str, int] = {}
    status: dict[str, Any] = {}
    error: ErrorDescription | None = None


_REQUEST: msgspec.json.Decoder[PrecodeHeader | StatusHeader] = msgspec.json.Decoder(PrecodeHeader | StatusHeader)
_REPLY = msgspec.json.Decoder(ReplyHeader)
# Values to list in the message about a field, by the place of the fault in msgspec's message.
_ALLOWED = {
    "$.op": ("precode", "status"),
    "$.dtype": get_args(Dtype),
    "$.convention": get_args(Convention),
    "$.receive_antennas": get_args(ReceiveMode),
    "$.want": RESULT_NAMES,
    "unknown field": PrecodeHeader.__struct_fields__,
}


def decode_request_header(frames: Sequence[Frame]) -> PrecodeHeader | StatusHeader:
    """Decode the header frame of a request.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the request.

    Returns
    -------
    PrecodeHeader or StatusHeader
        Header; the ranges of the link budget are not checked.

    Raises
    ------
    WireError
        ``bad_request``, with the field's name, for a header outside the protocol.
    """
    if not frames:
        raise WireError("bad_request", "no header: send a JSON header and, for precode, the channels")
    if len(frames[0]) > _MAX_HEADER_BYTES:
        raise WireError("bad_request", f"a header of {len(frames[0])} bytes: at most {_MAX_HEADER_BYTES} are read")
    try:
        return _REQUEST.decode(frames[0])
    except msgspec.ValidationError as error:
        reason = f"header: {error}"[:300]
        allowed = next((names for place, names in _ALLOWED.items() if place in reason), ())
        raise WireError("bad_request", f"{reason}; allowed: {', '.join(allowed)}" if allowed else reason) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise WireError("bad_request", f"the header is not a JSON object in UTF-8: {str(error)[:200]}") from None


def announced_bytes(header: PrecodeHeader | StatusHeader) -> list[int]:
    """Return the sizes of the frames that follow a header.

    Parameters
    ----------
    header : PrecodeHeader or StatusHeader
        Header of a request.

    Returns
    -------
    list of int
        Sizes, bytes.
    """
    if isinstance(header, StatusHeader):
        return []
    antennas, users, drops = (*header.shape, 1)[:3]
    channels = antennas * users * drops * _ITEM_BYTES[header.dtype]
    return [channels, users * drops] if header.near_field else [channels]


def decode_reply_header(frame: Frame) -> ReplyHeader:
    """Decode the header frame of an answer.

    Parameters
    ----------
    frame : bytes or memoryview
        First frame of the answer.

    Returns
    -------
    ReplyHeader
        Header.

    Raises
    ------
    msgspec.MsgspecError
        If the frame is not such a header.
    """
    return _REPLY.decode(frame)


def request_id(frames: Sequence[Frame]) -> str | None:
    """Read the id of a request that could not be decoded.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the request.

    Returns
    -------
    str or None
        The id; None where the header has none that is valid.
    """
    try:
        found = msgspec.json.decode(frames[0]).get("id") if len(frames[0]) <= _MAX_HEADER_BYTES else None
    except (msgspec.MsgspecError, RecursionError, ValueError, AttributeError, IndexError):
        return None
    return found if isinstance(found, str) and len(found) <= _MAX_ID else None
