"""Read numpy's ``.npy`` and ``.npz`` files, and raw complex64 numbers of a given shape."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.limits import Allowance
from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError

__all__ = ["NPY_SIGNATURE", "is_npz", "list_variables", "load", "load_raw"]

NPY_SIGNATURE = b"\x93NUMPY"
_SINGLE_NAME = "H"  # of the array of a .npy file, which has no name
_CLASSES = {"float64": "double", "float32": "single", "complex128": "double", "complex64": "single", "bool": "logical"}


def is_npz(path: Path) -> bool:
    """Return whether a zip file is one of numpy's.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    bool
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def list_variables(path: Path, version: str) -> list[Variable]:
    """List the arrays of a file without keeping them.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : {"npy", "npz"}
        Kind of the file.

    Returns
    -------
    list of Variable
        Arrays, in row-major order. The array of a ``.npy`` file is named ``H``.
    """
    if version == "npy":
        return [_describe(_SINGLE_NAME, _map(path))]
    found, allowance = [], Allowance(path)
    with zipfile.ZipFile(path) as archive, _silent_headers():
        for member in archive.namelist():
            allowance.item(member)
            with archive.open(member) as stream:
                shape, dtype = _header(stream)
            allowance.check_array(math.prod(shape) * dtype.itemsize)
            found.append(_variable(member.removesuffix(".npy"), shape, dtype))
    return found


def load(path: Path, version: str, name: str) -> npt.NDArray[Any]:
    """Load one array; of a ``.npy`` file as a map of the disk.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : {"npy", "npz"}
        Kind of the file.
    name : str
        Array.

    Returns
    -------
    numpy.ndarray
    """
    if version == "npy":
        return np.asarray(_map(path))
    with np.load(path) as arrays, _silent_headers():
        return np.asarray(arrays[name])


def load_raw(path: Path, shape: Sequence[int]) -> npt.NDArray[Any]:
    """Map raw little-endian complex64 numbers whose first axis runs fastest, as MATLAB's ``fwrite`` leaves them.

    Parameters
    ----------
    path : pathlib.Path
        File.
    shape : sequence of int
        Shape in MATLAB order.

    Returns
    -------
    numpy.ndarray
        Complex64, of `shape`.

    Raises
    ------
    MatFileError
        If the file has another size.
    """
    needed, actual = 8 * math.prod(shape), path.stat().st_size
    if needed != actual or min(shape, default=0) < 1:
        raise MatFileError(
            f"{path}: has {actual} bytes = {actual / 8:g} complex64 numbers, but --shape {'x'.join(map(str, shape))}"
            f" needs {needed}; correct --shape (sizes in MATLAB order, the first runs fastest)"
        )
    return np.asarray(np.memmap(path, np.dtype("<c8"), "r", shape=tuple(shape), order="F"))


def _map(path: Path) -> npt.NDArray[Any]:
    """Map the array of a ``.npy`` file."""
    with _silent_headers():
        with path.open("rb") as stream:
            _, dtype = _header(stream)
        if dtype.hasobject:
            raise MatFileError(
                f"{path}: holds Python objects, not numbers; save a complex array, e.g. np.stack(list(H)) of arrays of"
                " one shape"
            )
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r")
        return mapped


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the shape and type of an array from the beginning of a ``.npy`` file."""
    major, _ = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


@contextmanager
def _silent_headers() -> Iterator[None]:
    """Suppress the warnings of NumPy and Python about a header that is damaged or of Python 2."""
    with warnings.catch_warnings():
        for category in (UserWarning, SyntaxWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield


def _describe(name: str, array: npt.NDArray[Any]) -> Variable:
    return _variable(name, array.shape, array.dtype)


def _variable(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Variable:
    kind = "char" if dtype.kind in "SU" else _CLASSES.get(dtype.name, dtype.name)
    padded = shape if len(shape) > 1 else (*shape, *(1,) * (2 - len(shape)))
    return Variable(name, padded, kind, dtype.kind == "c", row_major=len(shape) > 1)
