"""Detect the version of a ``.mat`` file, list its variables and find arrays by name, for all versions alike."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers import hdf5, level4, level5
from matlab_io.containers.variable import Variable, matlab_shape
from matlab_io.errors import MatFileError, reading

__all__ = ["detect_version", "find_arrays", "inspect_file", "list_variables"]


def detect_version(path: Path) -> str:
    """Detect the version of a ``.mat`` file from its first bytes.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Returns
    -------
    str
        ``"4"``, ``"6"``, ``"7"`` (level 5, plain or compressed) or ``"7.3"``.

    Raises
    ------
    MatFileError
        If it is none of these, or cannot be read.
    """
    with reading(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise MatFileError(f"{path}: is not a regular file; random access is needed, save it to disk")
        with path.open("rb") as file:
            start = file.read(2048 + len(hdf5.HDF5_SIGNATURE))
        if not start:
            raise MatFileError(f"{path}: is empty; save it again")
        # An HDF5 file begins at byte 0 or after a user block of 512 (MATLAB's), 1024 or 2048 bytes.
        if any(start[offset:].startswith(hdf5.HDF5_SIGNATURE) for offset in (0, 512, 1024, 2048)):
            return "7.3"
        if start[:19] == b"MATLAB 7.3 MAT-file":
            raise MatFileError(f"{path}: damaged or cut short in its -v7.3 header; save or copy the file again")
        if level5.is_level5(start):
            return "7" if level5.is_compressed(path) else "6"
        if start[:19] == b"MATLAB 5.0 MAT-file":
            raise MatFileError(f"{path}: damaged or cut short in its header; save or copy the file again")
        if level4.is_level4(start):
            return "4"
    raise MatFileError(f"{path}: not a .mat file; save the channels with MATLAB's or Octave's save -v7")


def list_variables(path: Path, version: str) -> list[Variable]:
    """List the variables of a file of known version, struct fields by dotted names.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : str
        Its version, from `detect_version`.

    Returns
    -------
    list of Variable
        Of several variables with one name, the last.

    Raises
    ------
    MatFileError
        If the file is damaged.
    """
    with reading(path):
        if version == "7.3":
            found = hdf5.list_variables(path)
        else:
            found = level4.list_variables(path) if version == "4" else level5.list_variables(path)
    return list({variable.name: variable for variable in found}.values())


def inspect_file(path: str | os.PathLike[str]) -> list[Variable]:
    """List the variables of a ``.mat`` file of any version without loading an array.

    Parameters
    ----------
    path : str or os.PathLike
        File.

    Returns
    -------
    list of Variable
        Variables, and fields of structs by dotted names.

    Raises
    ------
    MatFileError
        If the file is missing, unreadable, damaged or not a ``.mat`` file.
    """
    file = Path(path)
    return list_variables(file, detect_version(file))


def find_arrays(path: str | os.PathLike[str], wanted: Callable[[str], bool]) -> dict[str, npt.NDArray[Any]]:
    """Load the numeric arrays of given names from a ``.mat`` file of any version, in structs and cells too.

    Parameters
    ----------
    path : str or os.PathLike
        File.
    wanted : callable
        Predicate of an array's own name, e.g. ``"coeff"``: that of the variable, of the field that holds it, or of the
        cell of which it is an element.

    Returns
    -------
    dict of str to numpy.ndarray
        Arrays by their MATLAB expressions, e.g. ``"chan(2).coeff"``, ``"gains{3}"`` or ``"set{1}.user{7}.channel"``
        (indices linear and from 1; none for a scalar struct), in MATLAB's axis order and shape, two axes or more, of
        float32, float64, complex64 or complex128. Elements of one array come in their order. Arrays are loaded whole;
        empty ones are left out.

    Raises
    ------
    MatFileError
        If the file is missing, unreadable, damaged or not a ``.mat`` file.
    """
    file = Path(path)
    version = detect_version(file)
    with reading(file):
        if version == "7.3":
            return {name: _two_axes(_number(array)) for name, array in hdf5.find_arrays(file, wanted).items()}
        if version == "4":
            names = [variable.name for variable in list_variables(file, version) if wanted(variable.name)]
            parts = level4.read_arrays(file, names)
        else:
            parts = level5.find_arrays(file, wanted)
    return {name: _two_axes(_join(*both)) for name, both in parts.items() if both[0].size}


def _two_axes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(matlab_shape(array.shape), order="F")


def _number(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert an array from h5py, where complex numbers may be a compound of a real and an imaginary part."""
    names = array.dtype.names
    if names is not None:
        imaginary = next(name for name in names if name.startswith("i"))
        return _join(array[next(name for name in names if name != imaginary)], array[imaginary])
    return array if array.dtype.kind == "c" else _join(array, None)


def _join(real: npt.NDArray[Any], imaginary: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Join real and imaginary parts, in single precision where the file has it, else in double.

    Whole numbers may be stored in fewer bytes than their class has.
    """
    single = real.dtype.kind == "f" and real.dtype.itemsize == 4
    if imaginary is None:
        return real.astype(np.float32 if single else np.float64)
    joined = np.empty(real.shape, np.complex64 if single else np.complex128)
    joined.real, joined.imag = real, imaginary
    return joined
