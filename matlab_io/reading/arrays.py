"""Numeric arrays by their own name, wherever in a ``.mat`` file they lie: in struct arrays and in cells too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers import hdf5, level4, level5
from matlab_io.containers.contents import detect_version, list_variables
from matlab_io.containers.variable import matlab_shape
from matlab_io.errors import reading

__all__ = ["find_arrays"]


def find_arrays(path: str | os.PathLike[str], wanted: Callable[[str], bool]) -> dict[str, npt.NDArray[Any]]:
    """The numeric arrays of a ``.mat`` file of any version that have a wanted name.

    wanted   tells of an array's own name, e.g. ``"coeff"``, whether to read it: a variable's, the field's it lies
             in, or that of the cell whose element it is

    Returns what MATLAB would be asked for, e.g. ``"chan(2).coeff"``, ``"gains{3}"`` or ``"set{1}.user{7}.channel"``
    (indices linear and from 1; none for a struct that is no array) -> the array in MATLAB's axis order and shape, two
    axes or more, of float32, float64, complex64 or complex128. Elements of one array come in their order. Arrays are
    loaded whole; empty ones are left out.

    Raises MatFileError, one line, where the file is missing, unreadable, damaged or not a ``.mat`` file.
    """
    file = Path(path)
    version = detect_version(file)
    with reading(file):
        if version == "7.3":
            return {name: _shaped(_number(array)) for name, array in hdf5.find_arrays(file, wanted).items()}
        if version == "4":
            names = [variable.name for variable in list_variables(file, version) if wanted(variable.name)]
            parts = level4.read_arrays(file, names)
        else:
            parts = level5.find_arrays(file, wanted)
    return {name: _shaped(_joined(*both)) for name, both in parts.items() if both[0].size}


def _shaped(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.reshape(matlab_shape(array.shape), order="F")


def _number(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array as h5py gives it, its complex numbers perhaps HDF5's compound of a real and an imaginary part."""
    names = array.dtype.names
    if names is not None:
        imaginary = next(name for name in names if name.startswith("i"))
        return _joined(array[next(name for name in names if name != imaginary)], array[imaginary])
    return array if array.dtype.kind == "c" else _joined(array, None)


def _joined(real: npt.NDArray[Any], imaginary: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Single where the file has single, else double: whole numbers may be stored in fewer bytes."""
    single = real.dtype.kind == "f" and real.dtype.itemsize == 4
    if imaginary is None:
        return real.astype(np.float32 if single else np.float64)
    joined = np.empty(real.shape, np.complex64 if single else np.complex128)
    joined.real, joined.imag = real, imaginary
    return joined
