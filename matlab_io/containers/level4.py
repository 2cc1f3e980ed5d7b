"""Read level 4 ``.mat`` files (``save -v4``): per matrix a 20-byte header, its name and its numbers."""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError

__all__ = ["is_level4", "list_variables", "read_arrays"]

_HEADER = 20
_LONGEST_NAME = 256
_NUMBERS = ("f8", "f4", "i4", "i2", "u2", "u1")
_CLASSES = ("double", "char", "sparse")


@dataclass(frozen=True)
class _Header:
    matlab_class: str
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    is_complex: bool
    name_bytes: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize * (2 if self.is_complex else 1)


def _parse(header: bytes) -> _Header | None:
    """Decode the header of a matrix; None where it is none."""
    for machine, order in enumerate("<>"):
        kind, rows, columns, imaginary, name = struct.unpack(f"{order}5i", header)
        # The type is four decimal digits: byte order, zero, precision, class.
        precision, matrix = kind // 10 % 10, kind % 10
        if (
            kind // 100 == 10 * machine
            and precision < len(_NUMBERS)
            and matrix < len(_CLASSES)
            and rows >= 0
            and columns >= 0
            and imaginary in (0, 1)
            and 1 < name <= _LONGEST_NAME
        ):
            dtype = np.dtype(order + _NUMBERS[precision])
            return _Header(_CLASSES[matrix], dtype, (rows, columns), bool(imaginary), name)
    return None


def is_level4(start: bytes) -> bool:
    """Return whether a file is a level 4 file.

    Parameters
    ----------
    start : bytes
        First bytes of the file, 20 or more.

    Returns
    -------
    bool
    """
    return len(start) >= _HEADER and _parse(start[:_HEADER]) is not None


def _matrices(path: Path) -> Iterator[tuple[str, _Header, int]]:
    """Yield name, header and the byte offset of the numbers of each matrix, checked to be complete."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position < size:
            file.seek(position)
            raw = file.read(_HEADER)
            header = _parse(raw) if len(raw) == _HEADER else None
            if header is None:
                raise MatFileError(f"{path}: damaged or cut short at byte {position}; save or copy the file again")
            name = file.read(header.name_bytes).split(b"\0")[0].decode("latin-1")
            data = position + _HEADER + header.name_bytes
            position = data + header.data_bytes
            if position > size:
                raise MatFileError(
                    f"{path}: cut short within {name} by {position - size} bytes; save or copy the file again"
                )
            yield name, header, data


def list_variables(path: Path) -> list[Variable]:
    """List the variables of a level 4 file without reading their numbers.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    list of Variable

    Raises
    ------
    MatFileError
        If the file is damaged.
    """
    return [
        # A sparse matrix is stored as rows of (row, column, value) or (row, column, real, imaginary).
        Variable(
            name,
            header.shape,
            header.matlab_class,
            header.shape[1] == 4 if header.matlab_class == "sparse" else header.is_complex,
        )
        for name, header, _ in _matrices(path)
    ]


def read_arrays(path: Path, names: Collection[str]) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
    """Read the real and imaginary parts of matrices.

    Parameters
    ----------
    path : pathlib.Path
        File.
    names : collection of str
        Matrices to read.

    Returns
    -------
    dict of str to tuple
        Real part and imaginary part (None for a real matrix) by name, of the dtype in the file.

    Raises
    ------
    MatFileError
        If the file is damaged.
    OSError
        If it cannot be read.
    """
    found: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any] | None]] = {}
    for name, header, data in _matrices(path):
        if name in names:
            numbers = np.fromfile(path, header.dtype, header.data_bytes // header.dtype.itemsize, offset=data)
            parts = numbers.reshape(-1, *header.shape[::-1]) if numbers.size else np.empty((2, 0, 0))
            found[name] = (parts[0].T, parts[1].T if header.is_complex else None)
    return found
