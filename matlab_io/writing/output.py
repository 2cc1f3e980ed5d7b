"""Write arrays drop by drop to a ``.mat`` file that appears complete or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError, writing
from matlab_io.writing.atomic import AtomicFile
from matlab_io.writing.hdf5_writer import Hdf5Writer
from matlab_io.writing.level_writer import LevelWriter
from matlab_io.writing.mat_writer import DropArray, MatWriter, Value, check_size

__all__ = ["VERSIONS", "MatOutput", "version_for", "written_version"]

VERSIONS = ("4", "6", "7", "7.3")


class MatOutput:
    """Write arrays drop by drop to a ``.mat`` file, committed when every drop is there, else removed.

    Parameters
    ----------
    path : str or os.PathLike
        Output file.
    version : {"4", "6", "7", "7.3"}
        Version to write.
    arrays : sequence of DropArray
        Arrays; their drop axes may differ.
    values : mapping of str to Value
        Further variables.
    inputs : iterable of str or os.PathLike
        Files that the output must not replace.

    Raises
    ------
    MatFileError
        If the output cannot be written there, or an array is too large for the version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        version: str,
        arrays: Sequence[DropArray],
        values: Mapping[str, Value],
        inputs: Iterable[str | os.PathLike[str]],
    ) -> None:
        self.atomic = AtomicFile(path, inputs)
        check_size(self.atomic.path, version, arrays)
        self.arrays = {array.name: array for array in arrays}
        self._values = values
        self._writer: MatWriter = (
            Hdf5Writer(self.atomic.part) if version == "7.3" else LevelWriter(self.atomic.part, version)
        )
        self._written = {array.name: np.zeros(math.prod(array.drops), np.bool_) for array in arrays}

    def begin(self) -> None:
        """Create the hidden file beside the output and reserve its space."""
        try:
            self.atomic.create()
            with writing(self.atomic.path):
                self._writer.begin(list(self.arrays.values()), self._values)
        except BaseException:
            self.discard()
            raise

    def write(self, start: int, blocks: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write consecutive drops of arrays.

        Parameters
        ----------
        start : int
            First drop, counted from 0.
        blocks : mapping of str to numpy.ndarray
            Drops of each array, (drops, *block reversed), C-contiguous.
        """
        with writing(self.atomic.path):
            for name, block in blocks.items():
                self._writer.write(name, start, block)
                self._written[name][start : start + len(block)] = True

    def commit(self) -> None:
        """Complete the file and rename it to the output.

        Raises
        ------
        MatFileError
            If drops are missing or the file cannot be written; nothing is left behind.
        """
        try:
            for written in self._written.values():
                if not written.all():
                    raise MatFileError(
                        f"{self.atomic.path}: not written: only {int(written.sum())} of {written.size} drops were given"
                    )
            with writing(self.atomic.path):
                self._writer.finish()
            self.atomic.commit()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the hidden file; a file at the output's path stays unchanged."""
        self._writer.abandon()
        self.atomic.discard()


def written_version(version: str) -> str:
    """Return the version to write for a version name.

    Parameters
    ----------
    version : str
        ``"4"``, ``"6"``, ``"7"``, ``"7.3"``, or ``"5"`` for version 7.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no such version.
    """
    if version not in (*VERSIONS, "5"):
        raise ValueError(f"version {version!r}: expected one of {', '.join(VERSIONS)}")
    return "7" if version == "5" else version


def version_for(path: Path, version: str) -> str:
    """Return the version of an output for the version of the input.

    Parameters
    ----------
    path : pathlib.Path
        Output; one that ends in ``.npz`` is such a file.
    version : str
        Version of the input, or the one to write.

    Returns
    -------
    str
        ``"npz"``, or a version that holds structs and arrays of more than two axes: 7 for version 4 and for inputs that
        are no ``.mat`` files.
    """
    if path.suffix.lower() == ".npz":
        return "npz"
    return "7" if version in ("4", "npy", "npz", "raw", "sigmf") else written_version(version)
