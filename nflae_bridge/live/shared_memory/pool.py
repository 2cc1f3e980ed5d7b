"""Keep the segments of a client: make them, hand them to the server, and use them again."""

from __future__ import annotations

import mmap
import os
import socket as sockets
import warnings
import weakref
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.shared_memory.handover import hand_over
from nflae_bridge.live.shared_memory.segment import IS_SUPPORTED, make_segment

Bytes = npt.NDArray[np.uint8]

_UNIT = 1 << 20  # sizes are rounded up, so that requests of nearly equal size use the same segments
_MAX_SEGMENTS = 32
_MAX_BYTES = 256 << 20  # of all segments
_HANDOVER_SECONDS = 2.0


@dataclass(eq=False)
class _Segment:
    """A segment, its name at the server, and the connection that keeps it there."""

    memory: mmap.mmap
    name: str
    connection: sockets.socket


@dataclass(eq=False)
class Lease:
    """Hold a segment for one request and its answer.

    Parameters
    ----------
    segment : str
        Name of the segment at the server.
    memory : numpy.ndarray
        The whole segment, uint8, writable.
    view : numpy.ndarray
        The same, read-only. The segment is free once neither it nor an array made of it exists.
    """

    segment: str
    memory: Bytes
    view: Bytes


class SegmentPool:
    """Make segments for a server that offers to share memory, and lend each to one request at a time.

    The arrays of an answer are views of its segment, which is not used again while they exist. Segments that are lent
    at a fork are not used again at all, since the child may have such arrays.

    Parameters
    ----------
    name : str
        Abstract name of the server's socket.
    largest : int
        Largest segment that it maps, bytes.
    """

    def __init__(self, name: str, largest: int) -> None:
        self._name = name
        self._largest = min(largest, _MAX_BYTES)
        self._made: list[_Segment] = []
        self._free: deque[_Segment] = deque()
        self._is_usable = IS_SUPPORTED
        self._forks = 0
        _pools.add(self)

    def take(self, size: int) -> Lease | None:
        """Lend a segment.

        Parameters
        ----------
        size : int
            Smallest size, bytes.

        Returns
        -------
        Lease or None
            None where the segments are in use, or the server does not accept one: the channels then travel in a frame.
        """
        size = -(-size // _UNIT) * _UNIT
        if not self._is_usable or size > self._largest:
            return None
        segment = self._reuse(size) or self._make(size)
        if segment is None:
            return None
        memory = np.frombuffer(segment.memory, np.uint8)
        view = memory.view()
        view.flags.writeable = False
        weakref.finalize(memory, self._give_back, segment, self._forks).atexit = False
        return Lease(segment.name, memory, view)

    def is_scarce(self) -> bool:
        """Return whether more than half of the memory is lent: arrays should then be copied out of it."""
        free = sum(len(segment.memory) for segment in list(self._free))
        return 2 * (self._held_bytes() - free) > _MAX_BYTES

    def close(self) -> None:
        """End all segments at the server; memory that is lent stays mapped here until its arrays are gone."""
        self._is_usable = False
        self._free.clear()
        for segment in self._made:
            segment.connection.close()

    def count_fork(self) -> None:
        """Use no segment again that is lent now."""
        self._forks += 1

    def _reuse(self, size: int) -> _Segment | None:
        for _ in range(len(self._free)):
            segment = self._free.popleft()
            if len(segment.memory) >= size:
                return segment
            self._free.append(segment)
        return None

    def _make(self, size: int) -> _Segment | None:
        while self._free and not self._has_room(size):
            self._free.popleft().connection.close()
        if not self._has_room(size):
            return None
        try:
            descriptor, memory = make_segment(size)
            try:
                connection, name = hand_over(self._name, descriptor, _HANDOVER_SECONDS)
            finally:
                os.close(descriptor)
        except (OSError, WireError) as error:  # another host, another account, no memory, or no room at the server
            self._is_usable = False
            reason = f"the server's shared memory is not used, channels travel in messages: {error}"
            warnings.warn(f"{reason}; pass shared_memory=False to omit the attempt", RuntimeWarning, stacklevel=2)
            return None
        self._made.append(_Segment(memory, name, connection))
        return self._made[-1]

    def _has_room(self, size: int) -> bool:
        return self._held_bytes() + size <= _MAX_BYTES and len(self._made) < _MAX_SEGMENTS

    def _held_bytes(self) -> int:
        self._made = [segment for segment in self._made if segment.connection.fileno() >= 0]
        return sum(len(segment.memory) for segment in self._made)

    def _give_back(self, segment: _Segment, forks: int) -> None:
        """Free a segment, or end it; called in any thread."""
        if forks == self._forks and self._is_usable:
            self._free.append(segment)
        else:
            segment.connection.close()


_pools: weakref.WeakSet[SegmentPool] = weakref.WeakSet()


def _before_fork() -> None:
    for pool in list(_pools):
        pool.count_fork()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
