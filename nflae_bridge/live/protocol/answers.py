"""Encode and decode the answers of ``nflae serve``, as in docs/reference/protocol.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from matlab_io.result import OPTIONAL_ARRAYS, PREDICTION_ARRAYS, RESULT_ARRAYS
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.binary import DTYPES, little_endian
from nflae_bridge.live.protocol.headers import (
    VERSION,
    ArrayDescription,
    ErrorDescription,
    Frame,
    ReplyHeader,
    ReturnedName,
    decode_reply_header,
)
from nflae_bridge.live.protocol.memory import place_arrays
from nflae_bridge.live.protocol.messages import Array, PrecodeRequest, Reply, TrackRequest

_RESULT_ARRAYS = {entry.name: entry for entry in (*RESULT_ARRAYS, *OPTIONAL_ARRAYS, *PREDICTION_ARRAYS)}


def encode_answer(
    request: PrecodeRequest,
    arrays: Mapping[str, Array],
    info: dict[str, Any],
    timing_us: dict[str, int] | Callable[[], dict[str, int]],
) -> list[Frame]:
    """Encode an answer that holds a result.

    Parameters
    ----------
    request : PrecodeRequest
        Request that is answered.
    arrays : mapping
        Arrays by name, drops first; at least those of ``request.returned``.
    info : dict
        See `Reply`.
    timing_us : dict or callable
        See `Reply`; a function that returns them is called once the arrays are encoded.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    if isinstance(request, TrackRequest):
        descriptions = [
            ArrayDescription(name, arrays[name].shape[::-1], arrays[name].dtype.name) for name in request.want
        ]
    else:
        descriptions = list(place_arrays(request.room, describe_answer(request), arrays))
    frames = [little_endian(arrays[entry.name]) for entry in descriptions if entry.offset is None]
    times = timing_us() if callable(timing_us) else timing_us
    return [msgspec.json.encode(ReplyHeader(VERSION, request.id, True, tuple(descriptions), info, times)), *frames]


def describe_answer(request: PrecodeRequest) -> tuple[ArrayDescription, ...]:
    """Describe the arrays of the answer to a request.

    Parameters
    ----------
    request : PrecodeRequest
        Request.

    Returns
    -------
    tuple of ArrayDescription
        Descriptions without offsets.
    """
    drops, users, antennas = request.size
    receive = request.channels.shape[2] if request.receive_antennas else 1
    sizes = drops, users, antennas, receive, request.streams, request.problem.rf_chains or 0
    return _descriptions(sizes, request.returned)


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


def decode_reply(frames: Sequence[Frame], memory_of: Callable[[str | None], Array] | None = None) -> Reply:
    """Decode an answer; its arrays are read-only views of the frames, or of shared memory.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames of the message, without the envelope.
    memory_of : callable, optional
        Returns the segment of the request of an identifier, bytes, read-only; raises ValueError where there is none.

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
        framed = [entry.name for entry in header.arrays if entry.offset is None]
        frame_of = dict(zip(framed, frames[1:], strict=True))
        arrays: dict[str, Array] = {}
        for entry in header.arrays:
            dtype, shape = DTYPES[entry.dtype], _python_shape(entry)
            if entry.offset is None:
                arrays[entry.name] = np.frombuffer(frame_of[entry.name], dtype).reshape(shape)
            elif memory_of is None:
                raise ValueError("an offset without shared memory")
            else:
                stop = entry.offset + math.prod(shape) * dtype.itemsize
                arrays[entry.name] = memory_of(header.id)[entry.offset : stop].view(dtype).reshape(shape)
    except (msgspec.MsgspecError, ValueError, KeyError, IndexError, RecursionError) as cause:
        raise WireError("bad_reply", f"not an answer of this protocol ({type(cause).__name__}: {cause})") from cause
    error = WireError(header.error.code, header.error.message) if header.error is not None else None
    return Reply(header.id, arrays, header.info, header.timing_us, header.status, error)


def _python_shape(entry: ArrayDescription) -> tuple[int, ...]:
    known = _RESULT_ARRAYS.get(entry.name)
    return entry.shape[::-1] if known is None or known.axes else entry.shape[1:]


@lru_cache(maxsize=256)
def _descriptions(
    sizes: tuple[int, int, int, int, int, int], names: tuple[ReturnedName, ...]
) -> tuple[ArrayDescription, ...]:
    """Describe the array frames of an answer; the same for every request of a loop."""
    entries = [_RESULT_ARRAYS[name] for name in names]
    if sizes[4] > 1:
        entries = [entry.with_streams() for entry in entries]
    return tuple(ArrayDescription(each.name, each.matlab_shape(*sizes), each.dtype.name) for each in entries)
