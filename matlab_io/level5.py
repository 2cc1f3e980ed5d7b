"""The directory of a level 5 ``.mat`` file (``save -v6`` and ``-v7``).

scipy decodes the data; it is not asked what is in a file, because it says neither which arrays are complex
nor what is inside a struct without loading everything, and believes whatever length a damaged header
states. This walk reads headers only, checks each length against what the file holds, and so is also what
finds a file cut short.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

from matlab_io.errors import MatFileError
from matlab_io.variables import Variable

__all__ = ["is_compressed", "is_level5", "list_variables"]

_FILE_HEADER = 128
_MI_MATRIX, _MI_COMPRESSED = 14, 15
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_CLASSES = {
    1: "cell",
    2: "struct",
    3: "object",
    4: "char",
    5: "sparse",
    6: "double",
    7: "single",
    8: "int8",
    9: "uint8",
    10: "int16",
    11: "uint16",
    12: "int32",
    13: "uint32",
    14: "int64",
    15: "uint64",
    16: "function_handle",
    17: "opaque",
}
_DEPTH = 16  # structs within structs followed this deep
_SMALL = 1 << 20  # names and sizes are far smaller; a longer one is damage
_INFLATION = 1040  # no zlib stream expands by more


class _Damaged(Exception):
    pass


class _Stream(Protocol):
    """Bytes read forward: of the file itself, or inflated from a compressed element of it."""

    def read(self, count: int) -> bytes: ...
    def skip(self, count: int) -> None: ...
    def left(self) -> int: ...


class _Plain:
    def __init__(self, file: BinaryIO, count: int) -> None:
        self._file, self._left = file, count

    def read(self, count: int) -> bytes:
        self._take(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        self._take(count)
        self._file.seek(count, 1)

    def left(self) -> int:
        return self._left

    def _take(self, count: int) -> None:
        if count > self._left:
            raise _Damaged
        self._left -= count


class _Inflated:
    _PIECE = 1 << 16

    def __init__(self, file: BinaryIO, count: int) -> None:
        self._file, self._packed = file, count
        self._zlib = zlib.decompressobj()
        self._buffer = b""

    def read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += self._more()
        head, self._buffer = self._buffer[:count], self._buffer[count:]
        return head

    def skip(self, count: int) -> None:
        while len(self._buffer) < count:
            count -= len(self._buffer)
            self._buffer = self._more()
        self._buffer = self._buffer[count:]

    def left(self) -> int:
        return len(self._buffer) + _INFLATION * (self._packed + len(self._zlib.unconsumed_tail) + self._PIECE)

    def _more(self) -> bytes:
        packed = self._zlib.unconsumed_tail
        if not packed:
            packed = self._file.read(min(self._PIECE, self._packed))
            self._packed -= len(packed)
        piece = self._zlib.decompress(packed, self._PIECE)
        if not piece and not packed:
            raise _Damaged
        return piece


def is_level5(start: bytes) -> bool:
    """Whether a file that begins with ``start`` (128 bytes or more) is a level 5 file."""
    return len(start) >= _FILE_HEADER and start[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def _byte_order(start: bytes) -> str:
    return "<" if start[126:128] == b"IM" else ">"


def is_compressed(path: Path) -> bool:
    """Whether the first variable is compressed: ``-v7`` compresses, ``-v6`` cannot."""
    with path.open("rb") as file:
        start = file.read(_FILE_HEADER + 4)
    if len(start) < _FILE_HEADER + 4:
        return True
    (kind,) = struct.unpack(_byte_order(start) + "I", start[_FILE_HEADER:])
    return bool(kind == _MI_COMPRESSED)


def list_variables(path: Path) -> list[Variable]:
    """The variables of a level 5 file and the fields of its structs; no array is read.

    Raises MatFileError where the file is damaged or cut short.
    """
    size = path.stat().st_size
    variables: list[Variable] = []
    with path.open("rb") as file:
        order = _byte_order(file.read(_FILE_HEADER))
        position = _FILE_HEADER
        while position < size:
            file.seek(position)
            tag = file.read(8)
            kind, count = struct.unpack(order + "2I", tag) if len(tag) == 8 else (0, 0)
            end = position + 8 + count
            if kind not in (_MI_MATRIX, _MI_COMPRESSED) or end > size:
                lost = f"by {end - size} bytes " if end > size else ""
                raise MatFileError(
                    f"{path}: damaged or cut short {lost}in the variable at byte {position};"
                    " save or copy the file again"
                )
            stream: _Stream = _Plain(file, count)
            try:
                if kind == _MI_COMPRESSED:
                    stream = _Inflated(file, count)
                    kind, count = struct.unpack(order + "2I", stream.read(8))
                    if kind != _MI_MATRIX or count > stream.left():
                        raise _Damaged
                variables += _matrix(stream, order, "", _DEPTH)
            except (_Damaged, zlib.error, struct.error, UnicodeDecodeError):
                raise MatFileError(
                    f"{path}: damaged in the variable at byte {position}; save or copy the file again"
                ) from None
            position = end
    return variables


def _tag(stream: _Stream, order: str) -> tuple[int, int, bytes | None]:
    """(data type, bytes, the data itself where it is packed into the tag)."""
    raw = stream.read(8)
    (word,) = struct.unpack(order + "I", raw[:4])
    if word >> 16:
        count = word >> 16
        if count > 4:
            raise _Damaged
        return word & 0xFFFF, count, raw[4 : 4 + count]
    (count,) = struct.unpack(order + "I", raw[4:])
    return word, count, None


def _small(stream: _Stream, order: str) -> bytes:
    _, count, packed = _tag(stream, order)
    if packed is not None:
        return packed
    if count > _SMALL:
        raise _Damaged
    return stream.read(count + -count % 8)[:count]


def _integers(raw: bytes, order: str) -> tuple[int, ...]:
    numbers = struct.unpack(f"{order}{len(raw) // 4}i", raw)
    if any(number < 0 for number in numbers):
        raise _Damaged
    return numbers


def _matrix(stream: _Stream, order: str, name: str, depth: int) -> list[Variable]:
    """Reads one matrix's header and, for a 1 x 1 struct, its fields' headers; leaves its data unread."""
    flags = _small(stream, order)
    if len(flags) != 8:
        raise _Damaged
    word, _ = struct.unpack(order + "2I", flags)
    kind, is_complex, is_logical = word & 0xFF, bool(word & 0x0800), bool(word & 0x0200)
    if kind not in _CLASSES:
        raise _Damaged
    matlab_class = _CLASSES[kind]
    # An opaque object (a table, a string, ...) has no size of its own: its content is elsewhere in the file.
    shape = (1, 1) if matlab_class == "opaque" else _integers(_small(stream, order), order)
    own_name = _small(stream, order).decode("latin-1")
    name = name or own_name
    if not name:  # MATLAB's hidden workspace of functions and objects
        return []
    if matlab_class == "opaque":
        _small(stream, order)
        return [Variable(name, shape, _small(stream, order).decode("latin-1"), False)]
    if is_logical:
        matlab_class = "logical"
    found = [Variable(name, shape, matlab_class, is_complex)]
    if matlab_class == "struct":
        if math.prod(shape) == 1 and depth:
            found += _fields(stream, order, name, depth)
    elif matlab_class not in ("cell", "object", "char", "sparse", "function_handle"):
        stored, count, _ = _tag(stream, order)
        # The check that keeps a damaged size from being believed, here and by scipy.
        if count != math.prod(shape) * _ITEM_BYTES.get(stored, -1) or count > stream.left() + 4:
            raise _Damaged
    return found


def _fields(stream: _Stream, order: str, name: str, depth: int) -> list[Variable]:
    lengths = _integers(_small(stream, order), order)
    names = _small(stream, order)
    if len(lengths) != 1 or not lengths[0]:
        raise _Damaged
    found: list[Variable] = []
    for start in range(0, len(names), lengths[0]):
        field = names[start : start + lengths[0]].split(b"\0")[0].decode("latin-1")
        kind, count, packed = _tag(stream, order)
        if kind != _MI_MATRIX or packed is not None or count > stream.left():
            raise _Damaged
        if count == 0:  # how an empty array may be stored
            found.append(Variable(f"{name}.{field}", (0, 0), "double", False))
            continue
        inner = _Window(stream, count)
        found += _matrix(inner, order, f"{name}.{field}", depth - 1)
        inner.skip(inner.left())
    return found


class _Window:
    """The next ``count`` bytes of another stream, which cannot be read past."""

    def __init__(self, stream: _Stream, count: int) -> None:
        self._stream, self._left = stream, count

    def read(self, count: int) -> bytes:
        self._take(count)
        return self._stream.read(count)

    def skip(self, count: int) -> None:
        self._take(count)
        self._stream.skip(count)

    def left(self) -> int:
        return self._left

    def _take(self, count: int) -> None:
        if count > self._left:
            raise _Damaged
        self._left -= count
