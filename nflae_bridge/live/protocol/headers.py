"""Define the JSON headers of the wire format, field by field as in docs/reference/protocol.md.

msgspec checks types, enumerations, counts and unknown fields; the link budget is checked by its own validator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from matlab_io.result import OPTIONAL_ARRAYS, PREDICTION_ARRAYS, RESULT_NAMES
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.fields import MAX_ID, Convention, Count, Id, SchemeText, check_network_fields
from nflae_bridge.live.protocol.track_header import TRACK_NAMES, TrackHeader
from simulator.downlink.budget import DEFAULT_ALPHA_C, DEFAULT_MIN_RATE, DEFAULT_NOISE_POWER, DEFAULT_POWER
from simulator.problems.problem import CONNECTIONS, OBJECTIVES, POWER_SCOPES, Connection, Objective, PowerScope

VERSION: Literal[1] = 1

PREDICTION_NAMES = tuple(entry.name for entry in PREDICTION_ARRAYS)
OPTIONAL_NAMES = tuple(entry.name for entry in OPTIONAL_ARRAYS)
MAX_HISTORY = 256  # snapshots; the time of a long prediction grows with the third power
MAX_REFINE = 100

if TYPE_CHECKING:
    ArrayName = str
    PredictedName = str
    ReturnedName = str
else:
    ArrayName = Literal[(*RESULT_NAMES, *OPTIONAL_NAMES)]
    PredictedName = Literal[(*PREDICTION_NAMES, *RESULT_NAMES)]
    ReturnedName = Literal[(*PREDICTION_NAMES, *RESULT_NAMES, *OPTIONAL_NAMES, *TRACK_NAMES)]
Dtype = Literal["complex64", "complex128"]
ReceiveMode = Literal["each", "strongest", "eigen", "joint"]
Continuation = Literal["precode"]
Effort = Literal["fast", "balanced", "best"]
Frame = bytes | memoryview

_MAX_HEADER_BYTES = 64 << 10  # room for the limits of 2048 antennas

_Offset = Annotated[int, Meta(ge=0, multiple_of=64)]


class MemoryReference(Struct, forbid_unknown_fields=True, frozen=True):
    """Refer to the channels of a request, and room for its answer, in a segment of memory shared with the server.

    Attributes
    ----------
    segment : str
        Name of the segment.
    channels, answer : int
        Offsets of the channels and of the room for the answer, bytes, multiples of 64.
    room : int
        Size of the room, bytes.
    """

    segment: Annotated[str, Meta(max_length=MAX_ID)]
    channels: _Offset
    answer: _Offset
    room: Annotated[int, Meta(ge=0)]


class PrecodeHeader(Struct, tag_field="op", tag="precode", forbid_unknown_fields=True, omit_defaults=True, frozen=True):
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
        Link budget, see `LinkBudget`; without a power that of the problem.
    deadline_ms : float or None
        Time that the client waits, ms.
    effort : str or None
        Choice of model and refinement.
    receive_antennas : str or None
        Treatment of several receive antennas per user.
    objective, window, antenna_groups, rf_chains, phase_bits, connection, streams, power_scope
        Precoding problem, see `simulator.problems.options.ProblemOptions`.
    weights : tuple of float, float, bool or None
        Weights of the users' rates; True for those of every drop in a frame of their own.
    power_per_antenna : tuple of float, float or None
        Power limits of the antennas, W.
    subcarriers : int or None
        Consecutive drops that share the power, with ``"power_scope": "total"``.
    memory : MemoryReference or None
        Place of the channels, instead of a frame.
    """

    v: Literal[1]
    id: Id
    shape: Annotated[tuple[Count, ...], Meta(min_length=2, max_length=4)]
    dtype: Dtype = "complex64"
    power: float | UnsetType = UNSET
    noise_power: float = DEFAULT_NOISE_POWER
    alpha_c: float = DEFAULT_ALPHA_C
    min_rate: float = DEFAULT_MIN_RATE
    convention: Convention = "hermitian"
    scheme: SchemeText = "nflae"
    refine: Annotated[int, Meta(ge=0, le=MAX_REFINE)] = 0
    near_field: bool | str = False
    want: Annotated[tuple[ArrayName, ...], Meta(min_length=1)] | None = None
    deadline_ms: Annotated[float, Meta(gt=0)] | None = None
    effort: Effort | None = None
    receive_antennas: ReceiveMode | None = None
    objective: Objective = "sum-rate"
    weights: tuple[float, ...] | float | bool | None = None
    window: int = 1
    power_per_antenna: tuple[float, ...] | float | None = None
    antenna_groups: int | None = None
    rf_chains: int | None = None
    phase_bits: int | None = None
    connection: Connection = "full"
    streams: int | None = None
    power_scope: PowerScope = "each"
    subcarriers: Count | None = None
    memory: MemoryReference | None = None

    def __post_init__(self) -> None:
        if self.effort is not None or self.refine:
            check_network_fields(self.scheme, self.refine, self.effort, self.objective)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Drops, users, receive antennas of each, and antennas; where each receive antenna is a user, those."""
        if self.receive_antennas is None:
            antennas, users, drops = (*self.shape, 1)[:3]
            return drops, users, 1, antennas
        antennas, receive, users, drops = (*self.shape, 1, 1)[:4]
        return (
            (drops, users * receive, 1, antennas)
            if self.receive_antennas == "each"
            else (drops, users, receive, antennas)
        )


class PredictHeader(Struct, tag_field="op", tag="predict", forbid_unknown_fields=True, omit_defaults=True):
    """Hold the header of a request to predict the channels after a history, and to precode them if `then` says so.

    Attributes
    ----------
    v, id, dtype, convention, deadline_ms, memory
        As for `PrecodeHeader`.
    shape : tuple of int
        Antennas, users and, unless it is 1, snapshots of the history.
    ahead : int
        Number A of snapshots to predict.
    method, geometry, csi_snr_db, force
        See docs/reference/protocol.md.
    times : tuple of float or None
        Times of the snapshots, s.
    then : {"precode"} or None
        Precode the predicted channels.
    power, noise_power, alpha_c, min_rate, scheme, refine, near_field, effort
        As for `PrecodeHeader`, for the predicted channels.
    want : tuple of str or None
        Arrays to return; None for all.
    """

    v: Literal[1]
    id: Id
    shape: Annotated[tuple[Count, ...], Meta(min_length=2, max_length=3)]
    dtype: Dtype = "complex64"
    convention: Convention = "hermitian"
    ahead: Annotated[int, Meta(ge=1, le=MAX_HISTORY)] = 4
    method: str = "auto"
    geometry: str = "none"
    csi_snr_db: float | None = None
    times: tuple[float, ...] | None = None
    force: bool = False
    then: Continuation | None = None
    power: float = DEFAULT_POWER
    noise_power: float = DEFAULT_NOISE_POWER
    alpha_c: float = DEFAULT_ALPHA_C
    min_rate: float = DEFAULT_MIN_RATE
    scheme: SchemeText = "nflae"
    refine: Annotated[int, Meta(ge=0, le=MAX_REFINE)] = 0
    near_field: bool | str = False
    want: Annotated[tuple[PredictedName, ...], Meta(min_length=1)] | None = None
    deadline_ms: Annotated[float, Meta(gt=0)] | None = None
    effort: Effort | None = None
    memory: MemoryReference | None = None

    def __post_init__(self) -> None:
        if self.effort is not None or self.refine:
            check_network_fields(self.scheme, self.refine, self.effort)
        if self.history > MAX_HISTORY:
            raise ValueError(f"a history of {self.history} snapshots: at most {MAX_HISTORY}; send the last ones")
        if self.times is not None and len(self.times) != self.history:
            raise ValueError(f"{len(self.times)} times for a history of {self.history} snapshots: one per snapshot")
        if self.then is None:
            given = [field.name for field in _OF_PRECODE if getattr(self, field.name) != field.default]
            given += [name for name in self.want or () if name in RESULT_NAMES]
            if given:
                raise ValueError(f'{", ".join(given)}: for precoders only; add "then": "precode"')

    @property
    def history(self) -> int:
        """Number of snapshots in the history."""
        return (*self.shape, 1)[2]

    @property
    def returned(self) -> tuple[PredictedName, ...]:
        """Names of the arrays to return."""
        return self.want or (PREDICTION_NAMES if self.then is None else (*PREDICTION_NAMES, *RESULT_NAMES))


_OF_PRECODE = tuple(
    field
    for field in msgspec.structs.fields(PredictHeader)
    if field.name in ("power", "noise_power", "alpha_c", "min_rate", "scheme", "refine", "near_field", "effort")
)


class StatusHeader(Struct, tag_field="op", tag="status", forbid_unknown_fields=True):
    """Hold the header of a request for the server's status."""

    v: Literal[1]
    id: Id


class CancelHeader(Struct, tag_field="op", tag="cancel", forbid_unknown_fields=True):
    """Hold the header that ends the work for an earlier request of the same connection."""

    v: Literal[1]
    id: Id


class ArrayDescription(Struct, frozen=True, omit_defaults=True):
    """Describe one array of an answer; the shape is in MATLAB order, the offset that in the segment of the request."""

    name: ReturnedName
    shape: tuple[int, ...]
    dtype: str
    offset: int | None = None


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


RequestHeader = PrecodeHeader | PredictHeader | TrackHeader | StatusHeader | CancelHeader
_REQUEST: msgspec.json.Decoder[RequestHeader] = msgspec.json.Decoder(RequestHeader)
_REPLY = msgspec.json.Decoder(ReplyHeader)
# Values to list in the message about a field, by the place of the fault in msgspec's message.


def _fields(header: type[Struct]) -> tuple[str, ...]:
    return ("v", "id", "op", *(name for name in header.__struct_fields__ if name not in ("v", "id")))


_ALLOWED = {
    "$.v": (str(VERSION),),
    "$.op": ("precode", "predict", "track", "status", "cancel"),
    "$.dtype": get_args(Dtype),
    "$.convention": get_args(Convention),
    "$.receive_antennas": get_args(ReceiveMode),
    "$.then": get_args(Continuation),
    "$.effort": get_args(Effort),
    "$.want": (*RESULT_NAMES, *OPTIONAL_NAMES),
    "$.objective": OBJECTIVES,
    "$.connection": CONNECTIONS,
    "$.power_scope": POWER_SCOPES,
    "unknown field": _fields(PrecodeHeader),
}
_ALLOWED_BY_OPERATION = {
    "predict": _ALLOWED | {"$.want": (*PREDICTION_NAMES, *RESULT_NAMES), "unknown field": _fields(PredictHeader)},
    "track": _ALLOWED
    | {
        "$.dtype": ("complex64", "complex128", "float64"),
        "$.want": TRACK_NAMES,
        "unknown field": _fields(TrackHeader),
    },
    "status": _ALLOWED | {"unknown field": _fields(StatusHeader)},
    "cancel": _ALLOWED | {"unknown field": _fields(CancelHeader)},
}


def decode_request_header(frames: Sequence[Frame]) -> RequestHeader:
    """Decode the header frame of a request.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the request.

    Returns
    -------
    PrecodeHeader, PredictHeader, TrackHeader, StatusHeader or CancelHeader
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
        stated = re.search(rb'"op"\s*:\s*"(\w+)"', bytes(frames[0]))
        listed = _ALLOWED_BY_OPERATION.get(stated[1].decode(), _ALLOWED) if stated else _ALLOWED
        allowed = next((names for place, names in listed.items() if place in reason), ())
        raise WireError("bad_request", f"{reason}; allowed: {', '.join(allowed)}" if allowed else reason) from None
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise WireError("bad_request", f"the header is not a JSON object in UTF-8: {str(error)[:200]}") from None


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
    return found if isinstance(found, str) and len(found) <= MAX_ID else None
