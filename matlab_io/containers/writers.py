"""Writes variables to a ``.mat`` file: arrays that grow drop by drop, and small values beside them.

Two writers with one interface. Version 7.3 is written as the drops come; the versions before it are written
by scipy in one piece at the end, so their arrays are held in memory until then.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from matlab_io.containers.variable import matlab_shape, shape_text
from matlab_io.errors import MatFileError

__all__ = ["DropArray", "Hdf5Writer", "LevelWriter", "MatWriter", "Value", "check_size"]

Value = float | int | bool | complex | str | npt.NDArray[Any] | Mapping[str, Any]

_LEVEL5_LIMIT = 2**31 - 1024  # bytes a variable, with its header; MATLAB refuses more before v7.3
_USER_BLOCK = 512
_METADATA_BYTES = 1 << 18
_WORTH_STORING = 1 << 18
_CLASSES = {"f4": "single", "f8": "double", "c8": "single", "c16": "double", "b1": "logical"}
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


@dataclass(frozen=True)
class DropArray:
    """An array with one block for each drop.

    block   sizes of a drop's block in MATLAB order, e.g. (N, K)
    drops   sizes of the drop axes, which follow the block's
    dtype   numpy dtype of the file's numbers
    """

    name: str
    block: tuple[int, ...]
    drops: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return matlab_shape((*self.block, *self.drops))

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def in_memory(self) -> tuple[int, ...]:
        """The same memory as a C-ordered array: (drops, *block reversed)."""
        return (math.prod(self.drops), *reversed(self.block))


class MatWriter(Protocol):
    def begin(self, arrays: Sequence[DropArray], values: Mapping[str, Value]) -> None:
        """Makes room for the arrays and takes the small values."""

    def write(self, name: str, start: int, block: npt.NDArray[Any]) -> None:
        """Writes an array's drops from ``start`` on; ``block`` is (drops, *block reversed), C-contiguous."""

    def finish(self) -> None:
        """Completes the file."""

    def abandon(self) -> None:
        """Closes what is open, without completing the file."""


def check_size(path: Path, version: str, arrays: Sequence[DropArray]) -> None:
    """Raises MatFileError where an array cannot be held by a ``.mat`` file of this version."""
    for array in arrays:
        if version == "4" and len(array.shape) > 2:
            raise MatFileError(
                f"{path}: version 4 holds matrices only, {array.name} is {shape_text(array.shape)}; write version 7"
            )
        if version != "7.3" and array.nbytes > _LEVEL5_LIMIT:
            raise MatFileError(
                f"{path}: {array.name} ({shape_text(array.shape)}) would take {array.nbytes / 2**30:.1f} GiB, and"
                " before version 7.3 a variable holds less than 2 GiB; write version 7.3"
            )


class LevelWriter:
    """Versions 4, 6 and 7."""

    def __init__(self, part: Path, version: str) -> None:
        self._part, self._version = part, version
        self._arrays: dict[str, tuple[DropArray, npt.NDArray[Any]]] = {}
        self._values: Mapping[str, Value] = {}

    def begin(self, arrays: Sequence[DropArray], values: Mapping[str, Value]) -> None:
        self._arrays = {array.name: (array, np.zeros(array.in_memory, array.dtype)) for array in arrays}
        self._values = values

    def write(self, name: str, start: int, block: npt.NDArray[Any]) -> None:
        self._arrays[name][1][start : start + len(block)] = block

    def finish(self) -> None:
        content: dict[str, Any] = {
            name: memory.reshape(-1).reshape(array.shape, order="F") for name, (array, memory) in self._arrays.items()
        }
        content |= {name: _plain(value) for name, value in self._values.items()}
        with self._part.open("r+b") as file:
            if self._version == "4":
                scipy.io.savemat(file, content, format="4", oned_as="row")
            else:
                scipy.io.savemat(
                    file, content, do_compression=self._version == "7", long_field_names=True, oned_as="row"
                )
        self.abandon()

    def abandon(self) -> None:
        self._arrays = {}


def _plain(value: Any) -> Any:
    """What is written for a value: numbers as double, as they are in MATLAB, structs as nested dicts."""
    if isinstance(value, Mapping):
        return {name: _plain(field) for name, field in value.items()}
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        array = array.astype(np.float64)
    return array.reshape(_shape(array), order="F")


def _shape(array: npt.NDArray[Any]) -> tuple[int, ...]:
    return (1, array.size) if array.ndim < 2 else matlab_shape(array.shape)


class Hdf5Writer:
    """Version 7.3: the drops' bytes go to the place that HDF5 has set aside for them.

    HDF5 lays the file out, then it is closed, and the numbers are written with plain writes. A disk that
    fills up is then an OSError like any other; inside HDF5 it leaves the library unable to close the file.
    """

    def __init__(self, part: Path) -> None:
        self._part = part
        self._file: BinaryIO | None = None
        self._places: dict[str, tuple[DropArray, int]] = {}

    def begin(self, arrays: Sequence[DropArray], values: Mapping[str, Value]) -> None:
        total = sum(array.nbytes for array in arrays)
        with self._part.open("r+b") as file:
            _reserve(file, total + _METADATA_BYTES)
        with h5py.File(self._part, "w", userblock_size=_USER_BLOCK, locking=False) as root:
            for name, value in values.items():
                _put(root, name, value)
            for array in arrays:
                self._places[array.name] = (array, _set_aside(root, array))
        self._file = self._part.open("r+b")
        self._file.write(_header())
        _reserve(self._file, total + _USER_BLOCK)

    def write(self, name: str, start: int, block: npt.NDArray[Any]) -> None:
        assert self._file is not None
        array, offset = self._places[name]
        place = offset + start * math.prod(array.block) * array.dtype.itemsize
        stored = np.ascontiguousarray(block, array.dtype).data.cast("B")
        self._file.seek(place)
        self._file.write(stored)
        _begin_to_store(self._file, place, len(stored))

    def finish(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        with contextlib.suppress(OSError):
            self.finish()
        self._file = None


def _reserve(file: BinaryIO, count: int) -> None:
    """Takes the disk space before the work is done, where the system can."""
    size = file.seek(0, os.SEEK_END)
    if count <= size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), size, count - size)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _begin_to_store(file: BinaryIO, place: int, count: int) -> None:
    """Has the disk begin with what was written, so that forcing the whole file to it at the end is quick.

    Linux does so when told that the pages are not needed; it keeps those that are not stored yet.
    """
    if count >= _WORTH_STORING and sys.platform == "linux":
        with contextlib.suppress(OSError):  # advice; whether the bytes arrive, the end will tell
            os.posix_fadvise(file.fileno(), place, count, os.POSIX_FADV_DONTNEED)


def _header() -> bytes:
    """The 512 bytes before the HDF5 content by which MATLAB knows the file."""
    line = f"MATLAB 7.3 MAT-file, Platform: nflae-bridge, Created on: {time.ctime()} HDF5 schema 1.00 ."
    return (line.encode().ljust(116) + bytes(8) + b"\x00\x02IM").ljust(_USER_BLOCK, b"\0")


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype MATLAB stores: complex numbers as a compound of real and imag, logical as uint8."""
    if dtype.kind == "c":
        part = np.dtype(f"<f{dtype.itemsize // 2}")
        return np.dtype([("real", part), ("imag", part)])
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("<")


def _set_aside(root: h5py.File, array: DropArray) -> int:
    """Creates an array's data set, contiguous and not filled in; returns where in the file it begins."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    made = h5py.h5d.create(
        root.id,
        array.name.encode("ascii"),
        h5py.h5t.py_create(_stored(array.dtype)),
        h5py.h5s.create_simple(array.shape[::-1]),
        plan,
    )
    _mark(h5py.Dataset(made), array.dtype)
    return int(made.get_offset())


def _mark(dataset: h5py.Dataset, dtype: np.dtype[Any]) -> None:
    matlab_class = _CLASSES.get(dtype.str[1:]) or dtype.name
    dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    if dtype.kind == "b":
        dataset.attrs["MATLAB_int_decode"] = np.int32(1)


def _put(group: h5py.Group, name: str, value: Any) -> None:
    """Writes a small value: a number, a string, an array in MATLAB order, or a struct of them."""
    if isinstance(value, Mapping):
        inner = group.create_group(name)
        inner.attrs["MATLAB_class"] = np.bytes_("struct")
        fields = np.empty(len(value), dtype=object)
        for position, (field, content) in enumerate(value.items()):
            fields[position] = np.array(list(field), dtype="S1")
            _put(inner, field, content)
        if len(value):
            inner.attrs.create("MATLAB_fields", fields, dtype=h5py.vlen_dtype(np.dtype("S1")))
        return
    if isinstance(value, str):
        array = np.frombuffer(value.encode("utf-16-le"), "<u2")
        array, marks = array.reshape((1, array.size) if value else (0, 0)), (b"char", 2)
    else:
        array = np.asarray(_plain(value))
        marks = (
            (_CLASSES.get(array.dtype.str[1:]) or array.dtype.name).encode(),
            int(array.dtype.kind == "b"),
        )
    if array.size == 0:  # MATLAB stores the sizes of an empty array in its place
        dataset = group.create_dataset(name, data=np.array(array.shape, np.uint64))
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        stored = np.ascontiguousarray(array.T)
        kind = _stored(array.dtype)
        dataset = group.create_dataset(name, data=stored.view(kind) if kind.names else stored.astype(kind))
    dataset.attrs["MATLAB_class"] = np.bytes_(marks[0])
    if marks[1]:
        dataset.attrs["MATLAB_int_decode"] = np.int32(marks[1])
