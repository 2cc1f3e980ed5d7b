"""Write arrays by drops to a ``.mat`` file that appears whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.writing.atomic import AtomicFile
from matlab_io.containers.writers import DropArray, Hdf5Writer, LevelWriter, MatWriter, Value, check_size
from matlab_io.errors import MatFileError, writing

__all__ = ["CONVENTIONS", "VERSIONS", "MatOutput", "level_of"]

VERSIONS = ("4", "6", "7", "7.3")
CONVENTIONS = ("hermitian", "direct")


class MatOutput:
    """A ``.mat`` file being written: arrays by drops, committed when every drop is there, else removed."""

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
        self._written = np.zeros(math.prod(arrays[0].drops), np.bool_)

    def begin(self) -> None:
        try:
            self.atomic.create()
            with writing(self.atomic.path):
                self._writer.begin(list(self.arrays.values()), self._values)
        except BaseException:
            self.discard()
            raise

    def write(self, start: int, blocks: Mapping[str, npt.NDArray[Any]]) -> None:
        with writing(self.atomic.path):
            for name, block in blocks.items():
                self._writer.write(name, start, block)
                self._written[start : start + len(block)] = True

    def commit(self) -> None:
        try:
            if not self._written.all():
                raise MatFileError(
                    f"{self.atomic.path}: not written: only {int(self._written.sum())} of"
                    f" {self._written.size} drops came"
                )
            with writing(self.atomic.path):
                self._writer.finish()
            self.atomic.commit()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        self._writer.abandon()
        self.atomic.discard()


def level_of(version: str) -> str:
    if version not in (*VERSIONS, "5"):
        raise ValueError(f"version {version!r}: expected one of {', '.join(VERSIONS)}")
    return "7" if version == "5" else version
