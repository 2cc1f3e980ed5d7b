"""Read the structure and numeric arrays of level 5 ``.mat`` files (``save -v6`` and ``-v7``).

scipy writes this format but does not read it here. Its reader relies on the lengths in a damaged header and can crash
the interpreter with them (scipy 1.17, flipped bytes in a -v6 file), does not report which arrays are complex or the
content of a struct without loading everything, and needs twice an array's size to load it. This reader checks each
length against the size of the file, and reads only headers and the selected arrays.

The format: a 128-byte header, then elements of a tag (type, length) and content. A variable is a matrix element with
its flags, sizes, name and parts as elements inside; ``-v7`` wraps it in a compressed element.

References
----------
"MAT-File Format", The MathWorks.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt

from matlab_io.containers.level5_elements import ElementDecoder
from matlab_io.containers.level5_streams import Damaged, InflatedStream, PlainStream, Stream, WindowStream
from matlab_io.containers.limits import MAX_NAME, Allowance
from matlab_io.containers.variable import Variable, field_of
from matlab_io.errors import MatFileError

__all__ = ["Parts", "find_arrays", "is_compressed", "is_level5", "list_variables", "read_arrays"]

_FILE_HEADER = 128
_MI_INT32, _MI_MATRIX, _MI_COMPRESSED = 5, 14, 15
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
_NUMERIC_CODES = range(6, 16)
_SPARSE = 5
_DEPTH = 16  # levels of nested structs that are followed
_MAX_FIELD_NAMES = 1 << 20  # bytes of all field names of a struct

Parts = tuple[npt.NDArray[Any], npt.NDArray[Any] | None]


def is_level5(start: bytes) -> bool:
    """Return whether a file is a level 5 file.

    Parameters
    ----------
    start : bytes
        First bytes of the file, 128 or more.

    Returns
    -------
    bool
    """
    return len(start) >= _FILE_HEADER and start[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def _byte_order(start: bytes) -> str:
    return "<" if start[126:128] == b"IM" else ">"


def is_compressed(path: Path) -> bool:
    """Return whether the first variable is compressed: ``-v7`` compresses, ``-v6`` cannot.

    Parameters
    ----------
    path : pathlib.Path
        Level 5 file.

    Returns
    -------
    bool
        True also for a file without variables.
    """
    with path.open("rb") as file:
        start = file.read(_FILE_HEADER + 4)
    if len(start) < _FILE_HEADER + 4:
        return True
    (kind,) = struct.unpack(_byte_order(start) + "I", start[_FILE_HEADER:])
    return bool(kind == _MI_COMPRESSED)


def list_variables(path: Path) -> list[Variable]:
    """List the variables of a level 5 file and the fields of its structs without reading an array.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    list of Variable
        Variables, fields by dotted names.

    Raises
    ------
    MatFileError
        If the file is damaged or cut short.
    """
    walk = _Walk(path, lambda name: False)
    walk.run()
    return walk.variables


def read_arrays(path: Path, names: Collection[str]) -> dict[str, Parts]:
    """Read the real and imaginary parts of numeric arrays.

    Parameters
    ----------
    path : pathlib.Path
        File.
    names : collection of str
        Arrays to read, fields by dotted names.

    Returns
    -------
    dict of str to tuple
        Real part and imaginary part (None for a real array) by name, in MATLAB's axis order, of the dtype in the file.
        It may be smaller than the array's class: MATLAB and Octave store whole numbers in the fewest bytes.

    Raises
    ------
    MatFileError
        If the file is damaged or cut short, or holds no such array.
    """
    walk = _Walk(path, frozenset(names).__contains__, tops=frozenset(name.partition(".")[0] for name in names))
    walk.run()
    missing = sorted(set(names) - set(walk.arrays))
    if missing:
        raise MatFileError(f"{path}: no numeric array {missing[0]}")
    return walk.arrays


def find_arrays(path: Path, wanted: Callable[[str], bool]) -> dict[str, Parts]:
    """Read the parts of the numeric arrays of given names, in struct arrays and cells too.

    Parameters
    ----------
    path : pathlib.Path
        File.
    wanted : callable
        Predicate of an array's own name.

    Returns
    -------
    dict of str to tuple
        Real and imaginary parts, as from `read_arrays`, by the arrays' MATLAB expressions, e.g. ``"chan(2).coeff"``.

    Raises
    ------
    MatFileError
        If the file is damaged or cut short.
    """
    walk = _Walk(path, lambda name: wanted(field_of(name)), everywhere=True)
    walk.run()
    return walk.arrays


class _Walk:
    """Pass over a file once, header by header, and keep the wanted arrays by their full names.

    Parameters
    ----------
    path : pathlib.Path
        File.
    wanted : callable
        Predicate of the full name.
    tops : frozenset of str, optional
        Top-level variables to enter; all by default.
    everywhere : bool
        Enter struct arrays and cells too; their elements are named by linear index.
    """

    def __init__(
        self, path: Path, wanted: Callable[[str], bool], tops: frozenset[str] | None = None, everywhere: bool = False
    ) -> None:
        self._path, self._wanted, self._tops, self._everywhere = path, wanted, tops, everywhere
        self._reads = everywhere or tops is not None
        self._decoder, self._allowance = ElementDecoder("<"), Allowance(path)
        self.variables: list[Variable] = []
        self.arrays: dict[str, Parts] = {}

    def run(self) -> None:
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            order = _byte_order(file.read(_FILE_HEADER))
            self._decoder = ElementDecoder(order)
            position = _FILE_HEADER
            while position < size:
                file.seek(position)
                tag = file.read(8)
                kind, count = struct.unpack(order + "2I", tag) if len(tag) == 8 else (0, 0)
                end = position + 8 + count
                if kind not in (_MI_MATRIX, _MI_COMPRESSED) or end > size:
                    lost = f"by {end - size} bytes " if end > size else ""
                    raise MatFileError(
                        f"{self._path}: damaged or cut short {lost}in the variable at byte {position};"
                        " save or copy the file again"
                    )
                try:
                    self._variable(file, kind, count)
                except (Damaged, zlib.error, struct.error):
                    raise MatFileError(
                        f"{self._path}: damaged in the variable at byte {position}; save or copy the file again"
                    ) from None
                position = end

    def _variable(self, file: BinaryIO, kind: int, count: int) -> None:
        if kind == _MI_MATRIX:
            self._matrix(PlainStream(file, count), "", _DEPTH)
            return
        stream = InflatedStream(file, count, self._allowance)
        kind, count = self._decoder.pair(stream.read(8))
        if kind != _MI_MATRIX or count > stream.left():
            raise Damaged
        if self._matrix(WindowStream(stream, count), "", _DEPTH):
            stream.finish()

    def _matrix(self, stream: Stream, name: str, depth: int) -> bool:
        """Read the header of a matrix, and of a 1 x 1 struct its fields; read numbers only of wanted arrays.

        Returns True if the matrix was entered and its stream must be read to the end.
        """
        word, _ = self._decoder.pair(self._decoder.read_small(stream))
        kind, is_complex, is_logical = word & 0xFF, bool(word & 0x0800), bool(word & 0x0200)
        if kind not in _CLASSES:
            raise Damaged
        matlab_class = _CLASSES[kind]
        if self._everywhere and name and matlab_class not in ("struct", "cell") and not self._wanted(name):
            return False  # the parent skips the rest: datasets have many more fields than are wanted
        # An opaque object (a table, a string, ...) has no size of its own: its content is elsewhere in the file.
        shape = (1, 1) if matlab_class == "opaque" else self._decoder.integers(self._decoder.read_small(stream))
        own_name = self._decoder.read_small(stream).decode("latin-1")
        top, name = not name, name or own_name
        if not name or (top and self._tops is not None and name not in self._tops):
            return False  # not wanted, or MATLAB's hidden workspace of functions and objects
        if matlab_class == "opaque":
            self._decoder.read_small(stream)
            matlab_class = self._decoder.read_small(stream).decode("latin-1")
        elif is_logical and kind != _SPARSE:
            matlab_class = "logical"
        self._allowance.item(name)
        self.variables.append(Variable(name, shape, matlab_class, is_complex))
        count = math.prod(shape)
        if matlab_class == "struct" and depth and (count == 1 or self._everywhere):
            self._fields(stream, name, count, depth)
        elif matlab_class == "cell" and depth and self._everywhere:
            for index in range(1, count + 1):
                self._inner(stream, f"{name}{{{index}}}", depth)
        elif kind in _NUMERIC_CODES or (matlab_class == "char" and not self._everywhere and self._wanted(name)):
            tag = self._decoder.read_tag(stream)
            if is_logical and tag[0] == _MI_INT32:  # Octave: a sparse array under the class of a full one
                self.variables[-1] = Variable(name, shape, "sparse", is_complex)
                return False
            if not self._wanted(name) or (is_logical and self._everywhere):
                self._decoder.number_type(tag, count, stream)
                return False
            real = self._decoder.read_numbers(stream, tag, count).reshape(shape, order="F")
            imaginary = None
            if is_complex:
                tag = self._decoder.read_tag(stream)
                imaginary = self._decoder.read_numbers(stream, tag, count).reshape(shape, order="F")
            self.arrays[name] = (real, imaginary)
        return top and self._reads

    def _fields(self, stream: Stream, name: str, elements: int, depth: int) -> None:
        lengths = self._decoder.integers(self._decoder.read_small(stream))
        names = self._decoder.read_small(stream, _MAX_FIELD_NAMES)
        if len(lengths) != 1 or not 0 < lengths[0] <= MAX_NAME:
            raise Damaged
        starts = range(0, len(names), lengths[0])
        fields = [names[start : start + lengths[0]].split(b"\0")[0].decode("latin-1") for start in starts]
        for index in range(1, elements + 1 if fields else 1):
            for field in fields:
                self._inner(stream, f"{name}.{field}" if elements == 1 else f"{name}({index}).{field}", depth)

    def _inner(self, stream: Stream, name: str, depth: int) -> None:
        """Read one field of a struct or element of a cell: a matrix element within its parent's."""
        kind, count, packed = self._decoder.read_tag(stream)
        if kind != _MI_MATRIX or packed is not None or count > stream.left():
            raise Damaged
        self._allowance.item(name)
        if count == 0:  # how an empty array may be stored
            self.variables.append(Variable(name, (0, 0), "double", False))
            return
        inner = WindowStream(stream, count)
        self._matrix(inner, name, depth - 1)
        inner.skip(inner.left())
