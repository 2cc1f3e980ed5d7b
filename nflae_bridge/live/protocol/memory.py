"""Find the channels of a request in a segment of shared memory, and place the large arrays of its answer there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.binary import channel_bytes
from nflae_bridge.live.protocol.headers import (
    ArrayDescription,
    MemoryReference,
    PrecodeHeader,
    PredictHeader,
)
from nflae_bridge.live.shared_memory.segment import aligned

SMALL_BYTES = 64 << 10
"""Arrays below this size travel in frames: the rest of an answer would keep the whole segment in use."""

FindSegment = Callable[[str], memoryview]


class AnswerRoom:
    """Hold the room for an answer in a segment, and divide it among the large arrays.

    Parameters
    ----------
    memory : memoryview
        The whole segment, bytes.
    start, stop : int
        Offsets of the room, bytes; the start is aligned.
    """

    def __init__(self, memory: memoryview, start: int, stop: int) -> None:
        self._memory = memory
        self._next = start
        self._stop = stop
        self._places: dict[tuple[str, int], int] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """Return an array in the room; the same memory for every call with a name and a size.

        Parameters
        ----------
        name : str
            Name of the array.
        shape, dtype
            Shape and element type.

        Returns
        -------
        numpy.ndarray or None
            Array to be written; None for a small one, and where the room is used up.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < SMALL_BYTES:
            return None
        offset = self._places.get((name, size), self._next)
        if offset == self._next:
            if offset + size > self._stop:
                return None
            self._next += aligned(size)
            self._places[name, size] = offset
        return np.frombuffer(self._memory, dtype, math.prod(shape), offset).reshape(shape)

    def place(self, description: ArrayDescription, values: npt.NDArray[Any]) -> ArrayDescription:
        """Write an array into the room, unless it has been computed there.

        Parameters
        ----------
        description : ArrayDescription
            Description of the array.
        values : numpy.ndarray
            Array.

        Returns
        -------
        ArrayDescription
            Description with the offset of the array, or without one if it has to travel in a frame.
        """
        kept = self.array(description.name, values.shape, values.dtype)
        if kept is None:
            return description
        if kept.__array_interface__["data"] != values.__array_interface__["data"] or not values.flags.c_contiguous:
            kept[...] = values
        return msgspec.structs.replace(description, offset=self._places[description.name, values.nbytes])


def empty_array(room: AnswerRoom | None, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array to be written: in the room for an answer if there is one and it has space, else in new memory.

    Parameters
    ----------
    room : AnswerRoom or None
        Room.
    name : str
        Name of the array in the answer.
    shape, dtype
        Shape and element type.

    Returns
    -------
    numpy.ndarray
    """
    kept = None if room is None else room.array(name, shape, dtype)
    return np.empty(shape, dtype) if kept is None else kept


def place_arrays(
    room: AnswerRoom | None, descriptions: Sequence[ArrayDescription], arrays: Mapping[str, npt.NDArray[Any]]
) -> Sequence[ArrayDescription]:
    """Write the large arrays of an answer into its room, if there is one.

    Parameters
    ----------
    room : AnswerRoom or None
        Room.
    descriptions : sequence of ArrayDescription
        Descriptions of the arrays of the answer.
    arrays : mapping
        Arrays by name.

    Returns
    -------
    sequence of ArrayDescription
        Descriptions, with the offsets of the arrays that travel in no frame.
    """
    return descriptions if room is None else [room.place(entry, arrays[entry.name]) for entry in descriptions]


def described_bytes(descriptions: Sequence[ArrayDescription]) -> int:
    """Return the size of the room for the large arrays of an answer.

    Parameters
    ----------
    descriptions : sequence of ArrayDescription
        Descriptions of the arrays.

    Returns
    -------
    int
        Size, bytes.
    """
    sizes = [math.prod(entry.shape) * np.dtype(entry.dtype).itemsize for entry in descriptions]
    return sum(aligned(size) for size in sizes if size >= SMALL_BYTES)


def refer(
    header: PrecodeHeader | PredictHeader, reference: MemoryReference, find: FindSegment | None, largest: float
) -> tuple[memoryview, AnswerRoom]:
    """Return the channels and the room for the answer of a request in shared memory.

    Parameters
    ----------
    header : PrecodeHeader or PredictHeader
        Header.
    reference : MemoryReference
        Its reference.
    find : callable or None
        Returns the memory of a segment by its name; None for a server that shares no memory.
    largest : float
        Size of the largest channels that the server accepts, bytes.

    Returns
    -------
    channels : memoryview
        Bytes of the channels. The client can change them at any time.
    room : AnswerRoom
        Room for the answer.

    Raises
    ------
    WireError
        ``no_segment`` for an unknown segment, ``too_large``, and ``bad_request`` for places outside the segment.
    """
    if find is None:
        raise WireError("no_segment", "this server shares no memory: send the request with its channels")
    size = channel_bytes(header)
    if size > largest:
        raise WireError(
            "too_large",
            f"{size} bytes of channels: this server accepts {largest:g} bytes (--max-message-mb); send fewer drops",
        )
    memory = find(reference.segment)
    ends = {"channels": reference.channels + size, "answer": reference.answer + reference.room}
    for name, end in ends.items():
        if end > len(memory):
            raise WireError("bad_request", f"memory: {name} ends at byte {end} of a segment of {len(memory)} bytes")
    channels = memory[reference.channels : reference.channels + size]
    return channels, AnswerRoom(memory, reference.answer, reference.answer + reference.room)
