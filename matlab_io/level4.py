"""The directory of a level 4 ``.mat`` file (``save -v4``): a 20-byte header before each matrix, no more."""

from __future__ import annotations

import struct
from pathlib import Path

from matlab_io.errors import MatFileError
from matlab_io.variables import Variable

__all__ = ["is_level4", "list_variables"]

_HEADER = 20
_ITEM_BYTES = (8, 4, 4, 2, 2, 1)  # double, single, int32, int16, uint16, uint8
_LONGEST_NAME = 256
_CLASSES = ("double", "char", "sparse")


def _parse(header: bytes) -> tuple[int, int, int, int, int, int] | None:
    """(class, bytes an element, rows, columns, imaginary flag, name length); None if this is no header."""
    for machine, order in enumerate("<>"):
        kind, rows, columns, imaginary, name = struct.unpack(f"{order}5i", header)
        # The type is four decimal digits: byte order, zero, precision, class.
        precision, matrix = kind // 10 % 10, kind % 10
        if (
            kind // 100 == 10 * machine
            and precision < len(_ITEM_BYTES)
            and matrix < len(_CLASSES)
            and rows >= 0
            and columns >= 0
            and imaginary in (0, 1)
            and 1 < name <= _LONGEST_NAME
        ):
            return matrix, _ITEM_BYTES[precision], rows, columns, imaginary, name
    return None


def is_level4(start: bytes) -> bool:
    """Whether a file that begins with ``start`` (20 bytes or more) is a level 4 file."""
    return len(start) >= _HEADER and _parse(start[:_HEADER]) is not None


def list_variables(path: Path) -> list[Variable]:
    """The variables of a level 4 file; no data is read. Raises MatFileError where the file is damaged."""
    variables = []
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(_HEADER)
            fields = _parse(header) if len(header) == _HEADER else None
            if fields is None:
                raise MatFileError(
                    f"{path}: damaged or cut short at byte {position}; save or copy the file again"
                )
            matrix, item, rows, columns, imaginary, name_length = fields
            name = file.read(name_length).split(b"\0")[0].decode("latin-1")
            position += _HEADER + name_length + item * rows * columns * (1 + imaginary)
            if position > size:
                raise MatFileError(
                    f"{path}: cut short within {name} by {position - size} bytes; save or copy the file again"
                )
            shape = (rows, columns)
            if (
                _CLASSES[matrix] == "sparse"
            ):  # rows of (row, column, value[, imaginary]); the last row is the size
                imaginary = int(columns == 4)
            variables.append(Variable(name, shape, _CLASSES[matrix], bool(imaginary)))
    return variables
