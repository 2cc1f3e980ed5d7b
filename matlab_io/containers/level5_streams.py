"""Read the bytes of level 5 ``.mat`` files, plain or compressed, within stated bounds.

Every length in a damaged file is checked against the bytes that exist before it is used.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO, Protocol

from matlab_io.containers.limits import Allowance

__all__ = ["Damaged", "InflatedStream", "PlainStream", "Stream", "WindowStream"]

_MAX_EXPANSION = 1040  # no zlib stream expands by more


class Damaged(Exception):
    """Signal bytes that are no valid level 5 element."""


class Stream(Protocol):
    """Read bytes forward, never past the end: of the file, or inflated from an element of it."""

    def read(self, count: int) -> bytes | bytearray:
        """Read exactly `count` bytes."""

    def skip(self, count: int) -> None:
        """Skip exactly `count` bytes."""

    def left(self) -> int:
        """Return an upper bound of the bytes that remain."""


class PlainStream:
    """Read the next bytes of a file.

    Parameters
    ----------
    file : BinaryIO
        File, at the first byte.
    count : int
        Number of bytes.
    """

    def __init__(self, file: BinaryIO, count: int) -> None:
        self._file, self._left = file, count

    def read(self, count: int) -> bytes:
        """Read exactly `count` bytes."""
        self._take(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        """Skip exactly `count` bytes."""
        self._take(count)
        self._file.seek(count, 1)

    def left(self) -> int:
        """Return the number of bytes that remain."""
        return self._left

    def _take(self, count: int) -> None:
        if count > self._left:
            raise Damaged
        self._left -= count


class InflatedStream:
    """Read the inflated content of the next bytes of a file.

    Parameters
    ----------
    file : BinaryIO
        File, at the first byte of the compressed data.
    count : int
        Number of compressed bytes.
    allowance : Allowance
        Bound of the decompressed bytes.
    """

    _PIECE = 1 << 16

    def __init__(self, file: BinaryIO, count: int, allowance: Allowance) -> None:
        self._file, self._packed, self._allowance = file, count, allowance
        self._zlib = zlib.decompressobj()
        self._buffer, self._at = b"", 0

    def read(self, count: int) -> bytearray:
        """Read exactly `count` bytes."""
        head = bytearray()
        while len(head) < count:
            head += self._next(count - len(head))
        return head

    def skip(self, count: int) -> None:
        """Skip exactly `count` bytes."""
        while count:
            count -= len(self._next(count))

    def left(self) -> int:
        """Return an upper bound of the bytes that remain; the number is not known before they are inflated."""
        return (
            len(self._buffer)
            - self._at
            + _MAX_EXPANSION * (self._packed + len(self._zlib.unconsumed_tail) + self._PIECE)
        )

    def finish(self) -> None:
        """Inflate the rest, so that zlib compares its checksum."""
        while not self._zlib.eof:
            self._more()

    def _next(self, limit: int) -> bytes:
        if self._at >= len(self._buffer):
            self._buffer, self._at = self._more(), 0
        head = self._buffer[self._at : self._at + limit]
        self._at += len(head)
        return head

    def _more(self) -> bytes:
        packed = self._zlib.unconsumed_tail
        if not packed:
            packed = self._file.read(min(self._PIECE, self._packed))
            self._packed -= len(packed)
        piece = self._zlib.decompress(packed, self._PIECE)
        if not piece and not packed:
            raise Damaged
        self._allowance.inflate(len(piece))
        return piece


class WindowStream:
    """Read the next bytes of another stream and no further.

    Parameters
    ----------
    stream : Stream
        Stream, at the first byte.
    count : int
        Number of bytes.
    """

    def __init__(self, stream: Stream, count: int) -> None:
        self._stream, self._left = stream, count

    def read(self, count: int) -> bytes | bytearray:
        """Read exactly `count` bytes."""
        self._take(count)
        return self._stream.read(count)

    def skip(self, count: int) -> None:
        """Skip exactly `count` bytes."""
        self._take(count)
        self._stream.skip(count)

    def left(self) -> int:
        """Return the number of bytes that remain."""
        return min(self._left, self._stream.left())

    def _take(self, count: int) -> None:
        if count > self._left:
            raise Damaged
        self._left -= count
