"""Write ``.mat`` files of versions 4, 6 and 7, and ``.npz`` files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

from matlab_io.writing.mat_writer import DropArray, Value, matlab_value

__all__ = ["LevelWriter"]

_HEADING = b"MATLAB 5.0 MAT-file, written by nflae-bridge".ljust(116)  # without scipy's time: equal content, equal file


class LevelWriter:
    """Write versions 4, 6 and 7 by scipy, or ``.npz``, in one piece at the end; arrays are in memory until then.

    The methods are those of `MatWriter`. A ``.npz`` file has the axes in reverse, drops first as in Python, which is
    the same memory; structs are text in JSON.

    Parameters
    ----------
    part : pathlib.Path
        Existing empty file to write to.
    version : {"4", "6", "7", "npz"}
        Version to write.
    """

    def __init__(self, part: Path, version: str) -> None:
        self._part, self._version = part, version
        self._arrays: dict[str, tuple[DropArray, npt.NDArray[Any]]] = {}
        self._values: Mapping[str, Value] = {}

    def begin(self, arrays: Sequence[DropArray], values: Mapping[str, Value]) -> None:
        """Allocate the arrays in memory and keep the small values.

        Parameters
        ----------
        arrays : sequence of DropArray
            Arrays to be written.
        values : mapping of str to Value
            Further variables.
        """
        self._arrays = {array.name: (array, np.zeros(array.memory_shape, array.dtype)) for array in arrays}
        self._values = values

    def write(self, name: str, start: int, block: npt.NDArray[Any]) -> None:
        """Copy consecutive drops of an array.

        Parameters
        ----------
        name : str
            Name of the array.
        start : int
            First drop, counted from 0.
        block : numpy.ndarray
            Drops, (drops, *block reversed), C-contiguous.
        """
        self._arrays[name][1][start : start + len(block)] = block

    def finish(self) -> None:
        """Write the file and free the memory."""
        if self._version == "npz":
            self._finish_npz()
            return
        content: dict[str, Any] = {
            name: memory.reshape(-1).reshape(array.shape, order="F") for name, (array, memory) in self._arrays.items()
        }
        content |= {name: matlab_value(value) for name, value in self._values.items()}
        with self._part.open("r+b") as file:
            if self._version == "4":
                scipy.io.savemat(file, content, format="4", oned_as="row")
            else:
                scipy.io.savemat(
                    file, content, do_compression=self._version == "7", long_field_names=True, oned_as="row"
                )
                file.seek(0)
                file.write(_HEADING)
        self.abandon()

    def _finish_npz(self) -> None:
        content: dict[str, Any] = {}
        for name, (array, memory) in self._arrays.items():
            block = () if array.per_drop else array.block
            content[name] = memory.reshape((*reversed(array.drops), *reversed(block)))
        for name, value in self._values.items():
            content[name] = np.array(json.dumps(dict(value), default=_to_list)) if isinstance(value, Mapping) else value
        with self._part.open("r+b") as file:
            np.savez(file, **content)
        self.abandon()

    def abandon(self) -> None:
        """Free the memory."""
        self._arrays = {}


def _to_list(value: Any) -> Any:
    return np.asarray(value).tolist()
