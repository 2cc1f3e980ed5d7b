"""Write ``.mat`` files of version 7.3, drop by drop."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from matlab_io.writing.mat_writer import DropArray, Value, matlab_value

__all__ = ["Hdf5Writer"]

_USER_BLOCK = 512
_METADATA_BYTES = 1 << 18
_MIN_WRITE_BACK = 1 << 18  # bytes; below this, advice to the system costs more than it saves
_CLASSES = {"f4": "single", "f8": "double", "c8": "single", "c16": "double", "b1": "logical"}
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Hdf5Writer:
    """Write version 7.3: the bytes of the drops go to the space that HDF5 has allocated for them.

    HDF5 allocates the data sets, the file is closed in HDF5, and the numbers are written with plain writes. A disk that
    fills up is then an ordinary `OSError`; inside HDF5 it leaves the library unable to close the file. The methods are
    those of `MatWriter`.

    Parameters
    ----------
    part : pathlib.Path
        Existing empty file to write to.
    """

    def __init__(self, part: Path) -> None:
        self._part = part
        self._file: BinaryIO | None = None
        self._offsets: dict[str, tuple[DropArray, int]] = {}

    def begin(self, arrays: Sequence[DropArray], values: Mapping[str, Value]) -> None:
        """Allocate the arrays in the file and write the small values.

        Parameters
        ----------
        arrays : sequence of DropArray
            Arrays to be written.
        values : mapping of str to Value
            Further variables.
        """
        total = sum(array.nbytes for array in arrays)
        with self._part.open("r+b") as file:
            _reserve(file, total + _METADATA_BYTES)
        with h5py.File(self._part, "w", userblock_size=_USER_BLOCK, locking=False) as root:
            for name, value in values.items():
                _put(root, name, value)
            for array in arrays:
                self._offsets[array.name] = (array, _allocate(root, array))
        self._file = self._part.open("r+b")
        self._file.write(_header())
        _reserve(self._file, total + _USER_BLOCK)

    def write(self, name: str, start: int, block: npt.NDArray[Any]) -> None:
        """Write consecutive drops of an array.

        Parameters
        ----------
        name : str
            Name of the array.
        start : int
            First drop, counted from 0.
        block : numpy.ndarray
            Drops, (drops, *block reversed), C-contiguous.
        """
        assert self._file is not None
        array, offset = self._offsets[name]
        position = offset + start * math.prod(array.block) * array.dtype.itemsize
        stored = np.ascontiguousarray(block, array.dtype).data.cast("B")
        self._file.seek(position)
        self._file.write(stored)
        _start_write_back(self._file, position, len(stored))

    def finish(self) -> None:
        """Complete the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandon(self) -> None:
        """Close the file without completing it."""
        with contextlib.suppress(OSError):
            self.finish()
        self._file = None


def _reserve(file: BinaryIO, count: int) -> None:
    """Reserve disk space up to a file size, where the system supports it."""
    size = file.seek(0, os.SEEK_END)
    if count <= size or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), size, count - size)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def _start_write_back(file: BinaryIO, position: int, count: int) -> None:
    """Start writing bytes to the disk, so that forcing the whole file to it at the end is quick.

    Linux does so when advised that the pages are not needed; it keeps those that are not stored yet.
    """
    if count >= _MIN_WRITE_BACK and sys.platform == "linux":
        with contextlib.suppress(OSError):  # only advice: a failed write is reported by the synchronization at the end
            os.posix_fadvise(file.fileno(), position, count, os.POSIX_FADV_DONTNEED)


def _header() -> bytes:
    """Return the 512 bytes before the HDF5 content by which MATLAB recognizes the file."""
    date = "Thu Jan  1 00:00:00 1970"  # not that of today: equal arrays are equal files
    line = f"MATLAB 7.3 MAT-file, Platform: nflae-bridge, Created on: {date} HDF5 schema 1.00 ."
    return (line.encode().ljust(116) + bytes(8) + b"\x00\x02IM").ljust(_USER_BLOCK, b"\0")


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in the file: complex numbers as a compound of real and imag, logical as uint8."""
    if dtype.kind == "c":
        part = np.dtype(f"<f{dtype.itemsize // 2}")
        return np.dtype([("real", part), ("imag", part)])
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("<")


def _allocate(root: h5py.File, array: DropArray) -> int:
    """Create the data set of an array, contiguous and not filled; return its byte offset in the file."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    dataset = h5py.h5d.create(
        root.id,
        array.name.encode("ascii"),
        h5py.h5t.py_create(_stored(array.dtype)),
        h5py.h5s.create_simple(array.shape[::-1]),
        properties,
    )
    _set_class(h5py.Dataset(dataset), array.dtype)
    return int(dataset.get_offset())


def _set_class(dataset: h5py.Dataset, dtype: np.dtype[Any]) -> None:
    dataset.attrs["MATLAB_class"] = np.bytes_(_class_of(dtype))
    if dtype.kind == "b":
        dataset.attrs["MATLAB_int_decode"] = np.int32(1)


def _class_of(dtype: np.dtype[Any]) -> str:
    return _CLASSES.get(dtype.str[1:]) or dtype.name


def _put(group: h5py.Group, name: str, value: Any) -> None:
    """Write a small value: a number, a string, an array in MATLAB order, or a struct of them."""
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
        array = np.frombuffer(value.encode("utf-16-le", "backslashreplace"), "<u2")
        array, matlab_class, decode = array.reshape((1, array.size) if value else (0, 0)), "char", 2
    else:
        array = np.asarray(matlab_value(value))
        matlab_class, decode = _class_of(array.dtype), int(array.dtype.kind == "b")
    if array.size == 0:  # MATLAB stores the sizes of an empty array instead of numbers
        dataset = group.create_dataset(name, data=np.array(array.shape, np.uint64))
        dataset.attrs["MATLAB_empty"] = np.uint8(1)
    else:
        stored = np.ascontiguousarray(array.T)
        kind = _stored(array.dtype)
        dataset = group.create_dataset(name, data=stored.view(kind) if kind.names else stored.astype(kind))
    dataset.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    if decode:
        dataset.attrs["MATLAB_int_decode"] = np.int32(decode)
