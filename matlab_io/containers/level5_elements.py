"""Decode the elements of level 5 ``.mat`` files: a tag with type and length, then content."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.level5_streams import Damaged, Stream
from matlab_io.containers.limits import MAX_AXES, MAX_NAME

__all__ = ["ElementDecoder", "Tag"]

_DTYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
}

Tag = tuple[int, int, bytes | None]  # data type, bytes, the data themselves where the tag has room for them


class ElementDecoder:
    """Decode elements in one byte order; every method raises `Damaged` for an invalid element.

    Parameters
    ----------
    order : {"<", ">"}
        Byte order of the file.
    """

    def __init__(self, order: str) -> None:
        self._order = order

    def read_tag(self, stream: Stream) -> Tag:
        """Read the tag of the next element.

        Parameters
        ----------
        stream : Stream
            Bytes, at the tag.

        Returns
        -------
        tuple
            Data type, number of bytes, and the data themselves where the tag includes them, else None.
        """
        raw = stream.read(8)
        (word,) = struct.unpack(self._order + "I", raw[:4])
        if word >> 16:
            count = word >> 16
            if count > 4:
                raise Damaged
            return word & 0xFFFF, count, bytes(raw[4 : 4 + count])
        (count,) = struct.unpack(self._order + "I", raw[4:])
        return word, count, None

    def read_content(self, stream: Stream, tag: Tag) -> bytes | bytearray:
        """Read the content that follows a tag, and its padding.

        Parameters
        ----------
        stream : Stream
            Bytes, after the tag.
        tag : tuple
            Tag, from `read_tag`.

        Returns
        -------
        bytes or bytearray
        """
        _, count, packed = tag
        if packed is not None:
            return packed
        if count > stream.left():
            raise Damaged
        content = stream.read(count)
        stream.skip(min(-count % 8, stream.left()))
        return content

    def read_small(self, stream: Stream, most: int = MAX_NAME) -> bytes:
        """Read an element of flags, sizes or names.

        Parameters
        ----------
        stream : Stream
            Bytes, at the element's tag.
        most : int
            Bytes that it has at most in every valid file.

        Returns
        -------
        bytes

        Raises
        ------
        Damaged
            If it has more.
        """
        tag = self.read_tag(stream)
        if tag[1] > most:
            raise Damaged
        return bytes(self.read_content(stream, tag))

    def pair(self, raw: bytes | bytearray) -> tuple[int, int]:
        """Decode two unsigned 32-bit integers, 8 bytes."""
        if len(raw) != 8:
            raise Damaged
        first, second = struct.unpack(self._order + "2I", raw)
        return first, second

    def integers(self, raw: bytes) -> tuple[int, ...]:
        """Decode the sizes of axes, 32-bit integers, none of which may be negative."""
        if len(raw) > 4 * MAX_AXES:
            raise Damaged
        numbers = struct.unpack(f"{self._order}{len(raw) // 4}i", raw)
        if any(number < 0 for number in numbers):
            raise Damaged
        return numbers

    def number_type(self, tag: Tag, count: int, stream: Stream) -> np.dtype[Any]:
        """Check the tag of an element of numbers.

        Parameters
        ----------
        tag : tuple
            Tag, from `read_tag`.
        count : int
            Number of numbers that must follow.
        stream : Stream
            Bytes, after the tag.

        Returns
        -------
        numpy.dtype
            Type of the numbers in the file.

        Raises
        ------
        Damaged
            If the tag is of another type or length.
        """
        stored, size, packed = tag
        if stored not in _DTYPES:
            raise Damaged
        dtype = np.dtype(self._order + _DTYPES[stored])
        if size != count * dtype.itemsize or (packed is None and size > stream.left()):
            raise Damaged
        return dtype

    def read_numbers(self, stream: Stream, tag: Tag, count: int) -> npt.NDArray[Any]:
        """Read the content of an element of numbers.

        Parameters
        ----------
        stream : Stream
            Bytes, after the tag.
        tag : tuple
            Tag, from `read_tag`.
        count : int
            Number of numbers that it must hold.

        Returns
        -------
        numpy.ndarray
            Numbers, (count,), of the type in the file.
        """
        dtype = self.number_type(tag, count, stream)
        return np.frombuffer(self.read_content(stream, tag), dtype)
