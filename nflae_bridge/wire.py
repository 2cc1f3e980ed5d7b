"""The wire format of ``nflae serve``, both ends of it: docs/protocol.md in code.

A request or answer is a list of frames: a JSON header, then raw arrays in MATLAB order, which is the memory of our
(drops, users, antennas) arrays as it is. Nothing here knows about sockets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.errors import NflaeError
from nflae_bridge.result import Result

VERSION = 1
DEFAULT_ADDRESS = "tcp://127.0.0.1:5555"
ARRAY_NAMES = (
    "precoder",
    "power",
    "lambda",
    "near_field_score",
    "near_field",
    "sinr",
    "rate",
    "sum_rate",
    "feasible",
    "fallback",
)
MAX_REFINE = 100

_MAX_HEADER_BYTES = 16 << 10
_MAX_ID = 128
_MAX_ENVELOPE = 8
_DTYPES: dict[str, np.dtype[Any]] = {
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
    "float64": np.dtype("<f8"),
    "bool": np.dtype("?"),
}
_PRECODE_FIELDS = (
    *("v", "id", "op", "shape", "dtype", "power", "noise_power", "alpha_c", "min_rate", "convention", "scheme"),
    *("refine", "near_field", "want", "deadline_ms"),
)
_PER_DROP = ("sum_rate", "feasible", "fallback")
_DTYPE_OF = {
    name: "complex64" if name == "precoder" else "bool" if name in ("near_field", "feasible", "fallback") else "float64"
    for name in ARRAY_NAMES
}
_FIELD_OF_RESULT = {name: "uplink_power" if name == "lambda" else name for name in ARRAY_NAMES}

Frame = bytes | memoryview
Array = npt.NDArray[Any]


class WireError(NflaeError):
    """A request that can't be served: ``code`` is one of docs/protocol.md's; the message says what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


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
    convention: str = "hermitian"
    scheme: str = "nflae"
    refine: int = 0
    near_field: npt.NDArray[np.bool_] | None = None
    want: tuple[str, ...] = ARRAY_NAMES
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
        return [_json({"v": VERSION, "id": request.id, "op": "status"})]
    drops, users, antennas = request.channels.shape
    header: dict[str, Any] = {
        "v": VERSION,
        "id": request.id,
        "op": "precode",
        "shape": (antennas, users, drops),
        "dtype": request.channels.dtype.name,
        "power": request.power,
        "noise_power": request.noise_power,
        "alpha_c": request.alpha_c,
        "min_rate": request.min_rate,
        "convention": request.convention,
        "scheme": request.scheme,
        "refine": request.refine,
    }
    if request.want != ARRAY_NAMES:
        header["want"] = request.want
    if request.deadline < math.inf:
        header["deadline_ms"] = 1e3 * request.deadline
    if request.near_field is None:
        return [_json(header), _little_endian(request.channels)]
    header["near_field"] = True
    return [_json(header), _little_endian(request.channels), _little_endian(request.near_field)]


def request_id(frames: Sequence[Frame]) -> str | None:
    """The id of a request that could not be decoded, if it can be read."""
    try:
        found = _parse(frames[0]).get("id")
    except (WireError, IndexError):
        return None
    return found if isinstance(found, str) and len(found) <= _MAX_ID else None


def decode_request(frames: Sequence[Frame]) -> PrecodeRequest | StatusRequest:
    """A request from its frames; the arrays are views of them.

    Raises WireError ``bad_request``, naming the field or frame, for whatever docs/protocol.md doesn't allow. The
    channels' numbers themselves are not looked at.
    """
    if not frames:
        raise WireError("bad_request", "no header: send a JSON header and, for precode, the channels")
    header = _parse(frames[0])
    _require(header.get("v") == VERSION, "v", f"has to be {VERSION}", header.get("v"))
    name = _text(header, "id", None)
    _require(len(name) <= _MAX_ID, "id", f"has to have at most {_MAX_ID} characters", name)
    op = header.get("op")
    if op == "status":
        _no_others(header, ("v", "id", "op"))
        _require_frames(frames, 1)
        return StatusRequest(name)
    _require(op == "precode", "op", "has to be precode or status", op)
    _no_others(header, _PRECODE_FIELDS)

    antennas, users, drops = _shape(header.get("shape"))
    dtype = header.get("dtype", "complex64")
    _require(dtype in ("complex64", "complex128"), "dtype", "has to be complex64 or complex128", dtype)
    labelled = header.get("near_field", False)
    _require(isinstance(labelled, bool), "near_field", "has to be true or false", labelled)
    _require_frames(frames, 3 if labelled else 2)
    near_field = None
    if labelled:
        near_field = _array(frames[2], "near_field", np.dtype(np.uint8), (drops, users)) != 0
    return PrecodeRequest(
        id=name,
        channels=_array(frames[1], "channels", _DTYPES[dtype], (drops, users, antennas)),
        power=_number(header, "power", 1.0, lambda value: value > 0, "positive"),
        noise_power=_number(header, "noise_power", 0.01, lambda value: value > 0, "positive"),
        alpha_c=_number(header, "alpha_c", 1.0, lambda value: 0 < value <= 1, "in (0, 1]"),
        min_rate=_number(header, "min_rate", 0.0, lambda value: value >= 0, "at least 0"),
        convention=_choice(header, "convention", "hermitian", ("hermitian", "direct")),
        scheme=_text(header, "scheme", "nflae"),
        refine=_refine(header.get("refine", 0)),
        near_field=near_field,
        want=_want(header.get("want")),
        deadline=_number(header, "deadline_ms", math.inf, lambda value: value > 0, "positive") / 1e3,
    )


# Answers


def encode_answer(
    request: PrecodeRequest, arrays: Mapping[str, Array], info: Mapping[str, Any], timing_us: Mapping[str, int]
) -> list[Frame]:
    """The frames of a good answer. arrays: by name, (drops, ...), those of ``request.want`` at least."""
    drops, users, antennas = request.channels.shape
    header = (
        f'{{"v":{VERSION},"id":{json.dumps(request.id)},"ok":true,'
        f'"arrays":{_described(antennas, users, drops, request.want)},'
        f'"info":{json.dumps(info)},"timing_us":{json.dumps(timing_us)}}}'
    )
    return [header.encode(), *(_little_endian(arrays[name]) for name in request.want)]


def encode_status(name: str, status: Mapping[str, Any]) -> list[Frame]:
    """The frames of the answer to ``status``."""
    return [_json({"v": VERSION, "id": name, "ok": True, "arrays": [], "status": status})]


def encode_error(name: str | None, error: WireError) -> list[Frame]:
    """The frames of an answer that says why there is none."""
    return [_json({"v": VERSION, "id": name, "ok": False, "error": {"code": error.code, "message": str(error)}})]


def decode_reply(frames: Sequence[Frame]) -> Reply:
    """An answer from its frames; the arrays are read-only views of them.

    Raises WireError ``bad_reply`` for what no server of ours would send.
    """
    try:
        header = json.loads(bytes(frames[0]))
        error = None
        if not header["ok"]:
            error = WireError(str(header["error"]["code"]), str(header["error"]["message"]))
        described = [] if error else header["arrays"]
        arrays = {
            entry["name"]: np.frombuffer(frame, _DTYPES[entry["dtype"]]).reshape(_python_shape(entry))
            for entry, frame in zip(described, frames[1:], strict=True)
        }
        return Reply(
            header["id"], arrays, header.get("info", {}), header.get("timing_us", {}), header.get("status", {}), error
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as cause:
        raise WireError("bad_reply", f"an answer that can't be understood ({type(cause).__name__}: {cause})") from cause


def result_of(reply: Reply) -> Result:
    """The arrays of a reply that has all of them, as Python users get them."""
    return Result(**{_FIELD_OF_RESULT[name]: reply.arrays[name] for name in ARRAY_NAMES})


def _python_shape(entry: dict[str, Any]) -> tuple[int, ...]:
    drops_last = entry["shape"]
    return tuple(drops_last[1:]) if entry["name"] in _PER_DROP else tuple(reversed(drops_last))


@lru_cache(maxsize=256)
def _described(antennas: int, users: int, drops: int, want: tuple[str, ...]) -> str:
    """The JSON of ``arrays``: it is the same for every request of a loop."""
    shapes = {name: [1, drops] if name in _PER_DROP else [users, drops] for name in ARRAY_NAMES}
    shapes["precoder"] = [antennas, users, drops]
    return json.dumps([{"name": name, "shape": shapes[name], "dtype": _DTYPE_OF[name]} for name in want])


# Reading a header


def _json(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, allow_nan=False).encode()


def _parse(frame: Frame) -> dict[str, Any]:
    if len(frame) > _MAX_HEADER_BYTES:
        raise WireError("bad_request", f"a header of {len(frame)} bytes: at most {_MAX_HEADER_BYTES} are read")
    try:
        header = json.loads(bytes(frame), parse_constant=_no_constant)
    except (ValueError, RecursionError) as cause:
        reason = "nested too deeply" if isinstance(cause, RecursionError) else str(cause)[:120]
        raise WireError("bad_request", f"the header is no JSON: {reason}") from None
    if not isinstance(header, dict):
        raise WireError("bad_request", f"the header has to be a JSON object, not {type(header).__name__}")
    return header


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _no_others(header: dict[str, Any], known: Sequence[str]) -> None:
    unknown = next((field for field in header if field not in known), None)
    if unknown is not None:
        raise WireError("bad_request", f"unknown field {_shown(unknown)}: there are {', '.join(known)}")


def _require(holds: bool, field: str, rule: str, got: Any) -> None:
    if not holds:
        raise WireError("bad_request", f"{field} {rule}, got {_shown(got)}")


def _require_frames(frames: Sequence[Frame], expected: int) -> None:
    if len(frames) != expected:
        raise WireError("bad_request", f"{len(frames)} frames: this header announces {expected}, itself included")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shape(given: Any) -> tuple[int, int, int]:
    sizes = given if isinstance(given, list) else []
    counts = all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in sizes)
    _require(
        len(sizes) in (2, 3) and counts, "shape", "has to be [N, K, S]: antennas, users, drops, 1 or more each", given
    )
    antennas, users, drops = (*sizes, 1)[:3]
    return antennas, users, drops


def _array(frame: Frame, what: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    expected = math.prod(shape) * dtype.itemsize
    if len(frame) != expected:
        sizes = " x ".join(str(size) for size in reversed(shape))
        raise WireError(
            "bad_request", f"{what}: {sizes} of {dtype.name} are {_shown(expected)} bytes, the frame has {len(frame)}"
        )
    return np.frombuffer(frame, dtype).reshape(shape)


def _number(header: dict[str, Any], field: str, default: float, allowed: Any, rule: str) -> float:
    value = header.get(field, default)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        holds = number and (field not in header or math.isfinite(value)) and allowed(value)
        _require(holds, field, f"has to be a number, {rule}", value)
        return float(value)
    except OverflowError:
        raise WireError("bad_request", f"{field} is beyond any floating-point number") from None


def _text(header: dict[str, Any], field: str, default: str | None) -> str:
    value = header.get(field, default)
    _require(isinstance(value, str), field, "has to be a string", value)
    return str(value)


def _choice(header: dict[str, Any], field: str, default: str, choices: tuple[str, ...]) -> str:
    value = header.get(field, default)
    _require(value in choices, field, f"has to be {' or '.join(choices)}", value)
    return str(value)


def _refine(value: Any) -> int:
    counts = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_REFINE
    _require(counts, "refine", f"has to be a whole number from 0 to {MAX_REFINE}", value)
    return int(value)


def _want(names: Any) -> tuple[str, ...]:
    if names is None:
        return ARRAY_NAMES
    known = isinstance(names, list) and names and all(isinstance(n, str) and n in _DTYPE_OF for n in names)
    _require(
        bool(known) and len(set(names)) == len(names), "want", f"has to list some of {', '.join(ARRAY_NAMES)}", names
    )
    return tuple(names)


def _little_endian(array: Array) -> memoryview:
    dtype = _DTYPES.get(array.dtype.name, array.dtype)
    raw: memoryview = np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8).data
    return raw
