"""Define the interface of the writers of ``.mat`` files: arrays written drop by drop, and small values beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import matlab_shape, shape_text
from matlab_io.errors import MatFileError

__all__ = ["DropArray", "MatWriter", "Value", "check_size", "matlab_value"]

Value = float | int | bool | complex | str | npt.NDArray[Any] | Mapping[str, Any]

_LEVEL5_LIMIT = 2**31 - 1024  # bytes per variable, with its header; MATLAB refuses more before v7.3


@dataclass(frozen=True)
class DropArray:
    """Describe an array with one block per drop.

    Parameters
    ----------
    name : str
        Name of the variable.
    block : tuple of int
        Sizes of one drop's block in MATLAB order, e.g. (N, K).
    drops : tuple of int
        Sizes of the drop axes, which follow the block's.
    dtype : numpy.dtype
        Type of the numbers in the file.
    per_drop : bool
        One number per drop: ``.npz`` files have no axis for the block.
    """

    name: str
    block: tuple[int, ...]
    drops: tuple[int, ...]
    dtype: np.dtype[Any]
    per_drop: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape in MATLAB order, as ``size`` shows it."""
        return matlab_shape((*self.block, *self.drops))

    @property
    def nbytes(self) -> int:
        """Return the size of the numbers in the file, bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def memory_shape(self) -> tuple[int, ...]:
        """Return the shape of the same memory in C order: (drops, *block reversed)."""
        return (math.prod(self.drops), *reversed(self.block))


class MatWriter(Protocol):
    """Write the variables of one ``.mat`` file."""

    def begin(self, arrays: Sequence[DropArray], values: Mapping[str, Value]) -> None:
        """Reserve the space of the arrays and take the small values.

        Parameters
        ----------
        arrays : sequence of DropArray
            Arrays to be written.
        values : mapping of str to Value
            Further variables.
        """

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

    def finish(self) -> None:
        """Complete the file."""

    def abandon(self) -> None:
        """Close the file without completing it."""


def check_size(path: Path, version: str, arrays: Sequence[DropArray]) -> None:
    """Check that the arrays fit a ``.mat`` file of a version.

    Parameters
    ----------
    path : pathlib.Path
        File, for the message.
    version : str
        ``"4"``, ``"6"``, ``"7"`` or ``"7.3"``.
    arrays : sequence of DropArray
        Arrays to be written.

    Raises
    ------
    MatFileError
        If one has more than two axes in version 4, or 2 GiB or more before version 7.3.
    """
    for array in arrays:
        if version == "4" and len(array.shape) > 2:
            raise MatFileError(
                f"{path}: version 4 holds matrices only, {array.name} is {shape_text(array.shape)}; write version 7"
            )
        if version not in ("7.3", "npz") and array.nbytes > _LEVEL5_LIMIT:
            raise MatFileError(
                f"{path}: {array.name} ({shape_text(array.shape)}) would take {array.nbytes / 2**30:.1f} GiB, and"
                " before version 7.3 a variable holds less than 2 GiB; write version 7.3"
            )


def matlab_value(value: Any) -> Any:
    """Convert a small value to its form in the file: numbers are double as in MATLAB, structs are nested dicts.

    Parameters
    ----------
    value : Value
        Number, string, array in MATLAB order, or mapping of them.

    Returns
    -------
    numpy.ndarray, str or dict
        Arrays have two axes or more.
    """
    if isinstance(value, Mapping):
        return {name: matlab_value(field) for name, field in value.items()}
    if isinstance(value, str):  # names of files need not be UTF-8
        return value.encode("utf-8", "backslashreplace").decode()
    array = np.asarray(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        array = array.astype(np.float64)
    shape = (1, array.size) if array.ndim < 2 else matlab_shape(array.shape)
    return array.reshape(shape, order="F")
