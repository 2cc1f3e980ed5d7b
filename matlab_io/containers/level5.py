"""Level 5 ``.mat`` files (``save -v6`` and ``-v7``): what is in them, and their numeric arrays.

scipy writes this format but does not read it here. Its reader believes whatever lengths a damaged header
states and can bring the interpreter down with them (scipy 1.17, flipped bytes in a -v6 file), says neither
which arrays are complex nor what is inside a struct without loading everything, and needs twice an array's
size to load it. This one checks each length against what the file holds, and reads the arrays it is asked
for and headers otherwise.

The format: a 128-byte header, then elements of a tag (type, length) and content. A variable is a matrix
element with its flags, sizes, name and parts as elements inside; ``-v7`` wraps it in a compressed element.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import Variable, field_of
from matlab_io.errors import MatFileError

__all__ = ["Parts", "find_arrays", "is_compressed", "is_level5", "list_variables", "read_arrays"]

_FILE_HEADER = 128
_MI_MATRIX, _MI_COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
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
_NUMERIC = range(6, 16)
_DEPTH = 16  # structs within structs followed this deep
_SMALL = 1 << 20  # names and sizes are far smaller; a longer one is damage
_INFLATION = 1040  # no zlib stream expands by more


class _Damaged(Exception):
    pass


_Tag = tuple[int, int, bytes | None]  # data type, bytes, the data themselves where the tag has room for them
Parts = tuple[npt.NDArray[Any], npt.NDArray[Any] | None]


class _Stream(Protocol):
    """Bytes read forward, never past what there is: of the file, or inflated from an element of it."""

    def read(self, count: int) -> bytes | bytearray: ...
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

    def read(self, count: int) -> bytearray:
        head = bytearray()
        while len(head) < count:
            head += self._next(count - len(head))
        return head

    def skip(self, count: int) -> None:
        while count:
            count -= len(self._next(count))

    def left(self) -> int:
        """No more than this; how much exactly is not known before it is inflated."""
        return len(self._buffer) + _INFLATION * (self._packed + len(self._zlib.unconsumed_tail) + self._PIECE)

    def finish(self) -> None:
        """Inflates what remains, so that zlib compares its checksum."""
        while not self._zlib.eof:
            self._more()

    def _next(self, most: int) -> bytes:
        if not self._buffer:
            self._buffer = self._more()
        head, self._buffer = self._buffer[:most], self._buffer[most:]
        return head

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
    walk = _Walk(path, lambda name: False)
    walk.run()
    return walk.variables


def read_arrays(path: Path, names: Collection[str]) -> dict[str, Parts]:
    """The real and imaginary parts of numeric arrays, dotted names for fields, as the file stores them.

    Each in MATLAB's axis order; the imaginary part is None where there is none. Stored numbers may be of a
    smaller type than the array's class, as MATLAB and Octave store whole numbers in the fewest bytes.

    Raises MatFileError where the file is damaged or cut short, or holds no such array.
    """
    walk = _Walk(path, frozenset(names).__contains__, tops=frozenset(name.partition(".")[0] for name in names))
    walk.run()
    missing = sorted(set(names) - set(walk.arrays))
    if missing:
        raise MatFileError(f"{path}: no numeric array {missing[0]}")
    return walk.arrays


def find_arrays(path: Path, wanted: Callable[[str], bool]) -> dict[str, Parts]:
    """The parts, as `read_arrays` gives them, of the numeric arrays whose own name is ``wanted``, wherever they lie.

    Struct arrays and cells are followed; keys are what MATLAB would be asked for, e.g. ``"chan(2).coeff"``.
    Raises MatFileError where the file is damaged or cut short.
    """
    walk = _Walk(path, lambda name: wanted(field_of(name)), everywhere=True)
    walk.run()
    return walk.arrays


class _Walk:
    """One pass over a file, header by header, that keeps the arrays wanted, by their whole name.

    tops        the top-level variables looked into; None: all
    everywhere  also into struct arrays and cells, whose elements are named by their linear index
    """

    def __init__(
        self, path: Path, wanted: Callable[[str], bool], tops: frozenset[str] | None = None, everywhere: bool = False
    ) -> None:
        self._path, self._wanted, self._tops, self._everywhere = path, wanted, tops, everywhere
        self._reads = everywhere or tops is not None
        self._order = "<"
        self.variables: list[Variable] = []
        self.arrays: dict[str, Parts] = {}

    def run(self) -> None:
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            self._order = _byte_order(file.read(_FILE_HEADER))
            position = _FILE_HEADER
            while position < size:
                file.seek(position)
                tag = file.read(8)
                kind, count = struct.unpack(self._order + "2I", tag) if len(tag) == 8 else (0, 0)
                end = position + 8 + count
                if kind not in (_MI_MATRIX, _MI_COMPRESSED) or end > size:
                    lost = f"by {end - size} bytes " if end > size else ""
                    raise MatFileError(
                        f"{self._path}: damaged or cut short {lost}in the variable at byte {position};"
                        " save or copy the file again"
                    )
                try:
                    self._variable(file, kind, count)
                except (_Damaged, zlib.error, struct.error):
                    raise MatFileError(
                        f"{self._path}: damaged in the variable at byte {position}; save or copy the file again"
                    ) from None
                position = end

    def _variable(self, file: BinaryIO, kind: int, count: int) -> None:
        if kind == _MI_MATRIX:
            self._matrix(_Plain(file, count), "", _DEPTH)
            return
        stream = _Inflated(file, count)
        kind, count = struct.unpack(self._order + "2I", stream.read(8))
        if kind != _MI_MATRIX or count > stream.left():
            raise _Damaged
        if self._matrix(_Window(stream, count), "", _DEPTH):
            stream.finish()

    def _matrix(self, stream: _Stream, name: str, depth: int) -> bool:
        """Reads one matrix's header, and for a 1 x 1 struct its fields; its data only if they are wanted.

        Returns whether any of it was wanted.
        """
        flags = self._small(stream)
        if len(flags) != 8:
            raise _Damaged
        word, _ = struct.unpack(self._order + "2I", flags)
        kind, is_complex, is_logical = word & 0xFF, bool(word & 0x0800), bool(word & 0x0200)
        if kind not in _CLASSES:
            raise _Damaged
        matlab_class = _CLASSES[kind]
        if self._everywhere and name and matlab_class not in ("struct", "cell") and not self._wanted(name):
            return False  # its parent skips the rest: datasets have many more fields than are looked for
        # An opaque object (a table, a string, ...) has no size of its own: its content is elsewhere in
        # the file.
        shape = (1, 1) if matlab_class == "opaque" else self._integers(self._small(stream))
        own_name = self._small(stream).decode("latin-1")
        top, name = not name, name or own_name
        if not name or (top and self._tops is not None and name not in self._tops):
            return False  # not wanted, or MATLAB's hidden workspace of functions and objects
        if matlab_class == "opaque":
            self._small(stream)
            matlab_class = self._small(stream).decode("latin-1")
        elif is_logical:
            matlab_class = "logical"
        self.variables.append(Variable(name, shape, matlab_class, is_complex))
        count = math.prod(shape)
        if matlab_class == "struct" and depth and (count == 1 or self._everywhere):
            self._fields(stream, name, count, depth)
        elif matlab_class == "cell" and depth and self._everywhere:
            for index in range(1, count + 1):
                self._inner(stream, f"{name}{{{index}}}", depth)
        elif kind in _NUMERIC:
            if not self._wanted(name) or (is_logical and self._everywhere):
                self._check(self._tag(stream), count, stream)
                return False
            real = self._numbers(stream, count).reshape(shape, order="F")
            imaginary = self._numbers(stream, count).reshape(shape, order="F") if is_complex else None
            self.arrays[name] = (real, imaginary)
        return top and self._reads

    def _fields(self, stream: _Stream, name: str, elements: int, depth: int) -> None:
        lengths = self._integers(self._small(stream))
        names = self._small(stream)
        if len(lengths) != 1 or not lengths[0]:
            raise _Damaged
        starts = range(0, len(names), lengths[0])
        fields = [names[start : start + lengths[0]].split(b"\0")[0].decode("latin-1") for start in starts]
        for index in range(1, elements + 1 if fields else 1):
            for field in fields:
                self._inner(stream, f"{name}.{field}" if elements == 1 else f"{name}({index}).{field}", depth)

    def _inner(self, stream: _Stream, name: str, depth: int) -> None:
        """One field of a struct or element of a cell: a matrix element within its parent's."""
        kind, count, packed = self._tag(stream)
        if kind != _MI_MATRIX or packed is not None or count > stream.left():
            raise _Damaged
        if count == 0:  # how an empty array may be stored
            self.variables.append(Variable(name, (0, 0), "double", False))
            return
        inner = _Window(stream, count)
        self._matrix(inner, name, depth - 1)
        inner.skip(inner.left())

    def _tag(self, stream: _Stream) -> _Tag:
        raw = stream.read(8)
        (word,) = struct.unpack(self._order + "I", raw[:4])
        if word >> 16:
            count = word >> 16
            if count > 4:
                raise _Damaged
            return word & 0xFFFF, count, bytes(raw[4 : 4 + count])
        (count,) = struct.unpack(self._order + "I", raw[4:])
        return word, count, None

    def _content(self, stream: _Stream, tag: _Tag) -> bytes | bytearray:
        _, count, packed = tag
        if packed is not None:
            return packed
        if count > stream.left():
            raise _Damaged
        content = stream.read(count)
        stream.skip(min(-count % 8, stream.left()))
        return content

    def _small(self, stream: _Stream) -> bytes:
        tag = self._tag(stream)
        if tag[1] > _SMALL:
            raise _Damaged
        return bytes(self._content(stream, tag))

    def _integers(self, raw: bytes) -> tuple[int, ...]:
        numbers = struct.unpack(f"{self._order}{len(raw) // 4}i", raw)
        if any(number < 0 for number in numbers):
            raise _Damaged
        return numbers

    def _check(self, tag: _Tag, count: int, stream: _Stream) -> np.dtype[Any]:
        """The type of ``count`` numbers that follow a tag; a damaged tag goes no further."""
        stored, size, packed = tag
        if stored not in _NUMBERS:
            raise _Damaged
        dtype = np.dtype(self._order + _NUMBERS[stored])
        if size != count * dtype.itemsize or (packed is None and size > stream.left()):
            raise _Damaged
        return dtype

    def _numbers(self, stream: _Stream, count: int) -> npt.NDArray[Any]:
        tag = self._tag(stream)
        dtype = self._check(tag, count, stream)
        return np.frombuffer(self._content(stream, tag), dtype)


class _Window:
    """The next ``count`` bytes of another stream, which cannot be read past."""

    def __init__(self, stream: _Stream, count: int) -> None:
        self._stream, self._left = stream, count

    def read(self, count: int) -> bytes | bytearray:
        self._take(count)
        return self._stream.read(count)

    def skip(self, count: int) -> None:
        self._take(count)
        self._stream.skip(count)

    def left(self) -> int:
        return min(self._left, self._stream.left())

    def _take(self, count: int) -> None:
        if count > self._left:
            raise _Damaged
        self._left -= count
