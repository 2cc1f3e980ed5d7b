"""Refuse a file that changes while it is read in parts."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from matlab_io.errors import MatFileError

__all__ = ["CheckedArray", "Unchanged"]


class Unchanged:
    """Hold a file open from before it is read, and tell whether its contents changed since.

    Size and time of modification of the open file are compared, not the time of its status: a file that is renamed,
    linked or replaced by another of its name keeps its contents.

    Parameters
    ----------
    path : pathlib.Path
        File.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for its writer
        self._close = weakref.finalize(self, os.close, self._handle)
        self._state = self._now()

    def _now(self) -> tuple[int, int]:
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns

    def check(self, by_name: bool = False) -> None:
        """Refuse the file if its contents changed.

        Parameters
        ----------
        by_name : bool
            Refuse it too if another file has its name by now: for reads that open the file anew.

        Raises
        ------
        MatFileError
            If it changed.
        """
        if self._now() != self._state or (by_name and not self._has_its_name()):
            raise MatFileError(f"{self._path}: changed while it was read; start again once it is written completely")

    def _has_its_name(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), self._path.stat())
        except FileNotFoundError:
            return False

    @contextmanager
    def checked(self, by_name: bool = False) -> Iterator[None]:
        """Check the file before and after the enclosed read, also where that fails, by which a change may show."""
        self.check(by_name)
        try:
            yield
        finally:
            self.check(by_name)

    def close(self) -> None:
        """Close the file."""
        self._close()


class _Array(Protocol):
    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]: ...

    def close(self) -> None: ...


class CheckedArray:
    """Read parts of an array as long as its file does not change.

    Parameters
    ----------
    array : StoredArray
        Array that is read from the disk part by part.
    unchanged : Unchanged
        Its file.
    """

    def __init__(self, array: _Array, unchanged: Unchanged) -> None:
        self._array, self._unchanged = array, unchanged

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read a part of the array; `MatFileError` if the file changed before the part was read."""
        with self._unchanged.checked():
            return self._array.read(index)

    def close(self) -> None:
        """Close the array and its file."""
        self._array.close()
        self._unchanged.close()
