"""Give access to stored arrays: loaded whole up to version 7.2, read by hyperslabs from version 7.3."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from matlab_io.containers import hdf5, level4, level5
from matlab_io.containers.other_formats import numpy_files, sigmf
from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError, reading
from matlab_io.reading.layout import Layout

__all__ = ["LoadedStorage", "NumpyStorage", "OnDiskStorage", "Storage", "StoredArray", "hold", "open_storage"]

_READ_AHEAD_BYTES = 64 << 20


class StoredArray(Protocol):
    """Read parts of a numeric array in MATLAB's axis order."""

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read a part of the array.

        Parameters
        ----------
        index : tuple of slice
            One slice per axis, in MATLAB's order.

        Returns
        -------
        numpy.ndarray
            Numbers, with complex ones of a complex dtype.
        """

    def close(self) -> None:
        """Free the array or close its file."""


class _Loaded:
    """Hold an array in memory as its real and imaginary parts."""

    def __init__(self, parts: level5.Parts, shape: tuple[int, ...]) -> None:
        self._parts = [None if part is None else part.reshape(shape, order="F") for part in parts]

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        real, imaginary = self._parts
        assert real is not None
        piece = np.zeros(real[index].shape, np.complex64, order="F")
        piece.real[...] = real[index]
        if imaginary is not None:
            piece.imag[...] = imaginary[index]
        return piece

    def close(self) -> None:
        self._parts = []


class _OnDisk:
    """Read a v7.3 data set by hyperslabs; h5py shows its axes in reverse."""

    def __init__(self, file: h5py.File, dataset: h5py.Dataset, shape: tuple[int, ...]) -> None:
        self._file, self._dataset, self._shape = file, dataset, shape
        self._offset = _plain_offset(file, dataset)

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        bounds = [part.indices(size) for part, size in zip(index, self._shape, strict=True)]
        stored = tuple(slice(0, 1) for _ in range(self._dataset.ndim - len(index)))
        stored += tuple(reversed(index))
        stored = stored[len(stored) - self._dataset.ndim :]
        ranges = [part.indices(size) for part, size in zip(stored, self._dataset.shape, strict=True)]
        if self._offset is not None and ranges[1:] == [(0, size, 1) for size in self._dataset.shape[1:]]:
            raw = self._read_rows(self._offset, *ranges[0][:2])
        else:
            raw = self._dataset[stored]
        piece = np.asarray(raw).T.reshape([stop - start for start, stop, _ in bounds], order="F")
        return _as_complex(piece)

    def _read_rows(self, offset: int, start: int, stop: int) -> npt.NDArray[Any]:
        """Read whole rows of an array that is stored in one piece, without HDF5's lock and its copies."""
        rows = np.empty((stop - start, *self._dataset.shape[1:]), self._dataset.dtype)
        left = rows.reshape(-1).view(np.uint8).data
        position = offset + start * (rows.nbytes // max(1, len(rows)))
        while left:
            count = os.preadv(self._file.id.get_vfd_handle(), [left], position)
            if not count:
                raise EOFError("the file ends within the array")
            left, position = left[count:], position + count
        return rows

    def close(self) -> None:
        self._file.close()


class LoadedStorage:
    """Load the channels and scalars of a file of version 4 to 7.2 whole, and nothing else.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : {"4", "6", "7"}
        Its version.
    chosen : Variable or None
        Channels; None where only scalars are needed.
    beside : sequence of Variable
        Variables that are loaded too, if numeric.
    """

    def __init__(self, path: Path, version: str, chosen: Variable | None, beside: Sequence[Variable]) -> None:
        self._path = path
        names = ([] if chosen is None else [chosen.name]) + [
            variable.name for variable in beside if variable.is_numeric
        ]
        read = level4.read_arrays if version == "4" else level5.read_arrays
        with reading(path):
            self._parts = read(path, names) if names else {}

    def numbers(self, variable: Variable) -> npt.NDArray[np.float64]:
        """Return a real array whole, float64, of the variable's shape; `MatFileError` for a complex one."""
        _check_real(self._path, variable)
        return np.asarray(self._parts[variable.name][0], np.float64).reshape(variable.shape, order="F")

    def array(self, variable: Variable, layout: Layout) -> tuple[StoredArray, int]:
        """Return access to the channels, and the number of drops best read at a time.

        Parameters
        ----------
        variable : Variable
            Channels.
        layout : Layout
            Their axes.

        Returns
        -------
        tuple of StoredArray and int
        """
        return _Loaded(self._parts[variable.name], layout.shape), 1

    def close(self) -> None:
        """Free what was loaded or close the file."""
        self._parts = {}


class OnDiskStorage:
    """Read the channels and scalars of a v7.3 file by h5py, on demand.

    Parameters
    ----------
    path : pathlib.Path
        File.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path):
            self._file = hdf5.open_file(path)

    def numbers(self, variable: Variable) -> npt.NDArray[np.float64]:
        """Return a real array whole, float64, of the variable's shape; `MatFileError` for a complex one."""
        _check_real(self._path, variable)
        with reading(self._path, variable.name):
            stored = np.asarray(self._file[variable.name.replace(".", "/")][()], np.float64)
            return stored if variable.row_major else stored.T.reshape(variable.shape, order="F")

    def array(self, variable: Variable, layout: Layout) -> tuple[StoredArray, int]:
        """Return access to the channels, and the number of drops best read at a time.

        Parameters
        ----------
        variable : Variable
            Channels.
        layout : Layout
            Their axes.

        Returns
        -------
        tuple of StoredArray and int
        """
        with reading(self._path, variable.name):
            dataset = self._file[variable.name.replace(".", "/")]
            return _OnDisk(self._file, dataset, layout.shape), _drops_per_read(dataset, layout)

    def close(self) -> None:
        """Free what was loaded or close the file."""
        self._file.close()


class NumpyStorage:
    """Read the channels and scalars of a ``.npy`` or ``.npz`` file, or those of a SigMF recording.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : {"npy", "npz", "sigmf"}
        Its kind.
    """

    def __init__(self, path: Path, version: str) -> None:
        self._path, self._version = path, version

    def numbers(self, variable: Variable) -> npt.NDArray[np.float64]:
        """Return a real array whole, float64, of the variable's shape; `MatFileError` for a complex one."""
        _check_real(self._path, variable)
        with reading(self._path, variable.name):
            if self._version == "sigmf":
                stated = sigmf.open_recording(self._path).link_budget()[0]
                return np.broadcast_to(np.float64(stated[variable.name]), variable.shape)
            return numpy_files.load(self._path, self._version, variable.name).astype(np.float64).reshape(variable.shape)

    def array(self, variable: Variable, layout: Layout) -> tuple[StoredArray, int]:
        """Return access to the channels, and the number of drops best read at a time.

        Parameters
        ----------
        variable : Variable
            Channels.
        layout : Layout
            Their axes.

        Returns
        -------
        tuple of StoredArray and int
        """
        with reading(self._path, variable.name):
            if self._version == "sigmf":
                return hold(sigmf.open_recording(self._path).load().T, layout)
            array = numpy_files.load(self._path, self._version, variable.name)
        return hold(array.T, layout)

    def close(self) -> None:
        """Free what was loaded or close the file."""


Storage = LoadedStorage | OnDiskStorage | NumpyStorage


def open_storage(path: Path, version: str, chosen: Variable | None, beside: Sequence[Variable]) -> Storage:
    """Open the storage of a file of any version.

    Parameters
    ----------
    path : pathlib.Path
        File.
    version : str
        Its version.
    chosen : Variable or None
        Channels; None where only scalars are needed.
    beside : sequence of Variable
        Variables whose scalars are needed.

    Returns
    -------
    Storage
    """
    if version == "7.3":
        return OnDiskStorage(path)
    if version in ("npy", "npz", "sigmf"):
        return NumpyStorage(path, version)
    return LoadedStorage(path, version, chosen, beside)


def hold(array: npt.NDArray[Any], layout: Layout) -> tuple[StoredArray, int]:
    """Return access to an array in memory, and the number of drops best read at a time.

    Parameters
    ----------
    array : numpy.ndarray
        Array in MATLAB's axis order.
    layout : Layout
        Its axes.

    Returns
    -------
    tuple of StoredArray and int
    """
    return _Loaded((array.real, array.imag if np.iscomplexobj(array) else None), layout.shape), 1


def _check_real(path: Path, variable: Variable) -> None:
    if variable.is_complex:
        raise MatFileError(f"{path}: {variable.name} is complex, expected real numbers; save the real part")


def _drops_per_read(dataset: h5py.Dataset, layout: Layout) -> int:
    """Return the number of drops best read at a time: whole chunks, or as many as fit if drops are scattered."""
    bytes_per_drop = max(1, dataset.dtype.itemsize * math.prod(layout.shape) // layout.drops)
    budget = max(1, _READ_AHEAD_BYTES // bytes_per_drop)
    if dataset.chunks is None:
        return 1 if layout.drops_are_slowest else min(budget, layout.drops)
    axes = zip(layout.axes, reversed(dataset.chunks), layout.shape, strict=False)
    extents = [min(chunk, size) for letter, chunk, size in axes if letter in "sf"]
    last = max((at for at, extent in enumerate(extents) if extent > 1), default=0)
    # A chunk that spans an axis of the linear order is read with the whole of the faster ones.
    wanted = math.prod(layout.drop_axes[:last]) * math.prod(extents[last : last + 1])
    return int(max(1, min(budget, wanted)))


def _plain_offset(file: h5py.File, dataset: h5py.Dataset) -> int | None:
    """Return the place in the file of an array in one piece, of numbers as numpy has them; None for all others."""
    properties = dataset.id.get_create_plist()
    if file.driver != "sec2" or not hasattr(os, "preadv") or properties.get_layout() != h5py.h5d.CONTIGUOUS:
        return None
    if not dataset.ndim or dataset.dtype.kind not in "fcV":
        return None
    if not dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)):
        return None
    offset, size = dataset.id.get_offset(), dataset.id.get_storage_size()
    if offset is None or size != dataset.size * dataset.dtype.itemsize:
        return None
    return int(offset) if offset + size <= os.fstat(file.id.get_vfd_handle()).st_size else None


def _as_complex(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert HDF5's compound of a real and an imaginary part to complex numbers; return other numbers unchanged."""
    names = values.dtype.names
    if names is None:
        return values
    real, imaginary = ("real", "imag") if "real" in names else ("r", "i")
    for part, whole in ((np.float32, np.complex64), (np.float64, np.complex128)):
        if values.dtype == np.dtype([(real, part), (imaginary, part)]):
            return values.view(whole)
    joined = np.empty(values.shape, np.complex64)
    joined.real, joined.imag = values[real], values[imaginary]
    return joined
