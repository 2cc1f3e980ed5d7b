"""Results and channels to ``.mat`` files that appear whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.atomic import AtomicFile
from matlab_io.errors import MatFileError, writing
from matlab_io.matwriter import DropArray, Hdf5Writer, LevelWriter, MatWriter, Value, check_size

__all__ = ["RESULT_NAMES", "VERSIONS", "ResultFile", "write_channels"]

VERSIONS = ("4", "6", "7", "7.3")
_CONVENTIONS = ("hermitian", "direct")

# Name -> (axes of a drop's block in MATLAB order, dtype in the file).
_RESULTS: dict[str, tuple[str, type[np.generic]]] = {
    "precoder": ("nk", np.complex64),
    "power": ("k", np.float64),
    "lambda": ("k", np.float64),
    "near_field_score": ("k", np.float64),
    "near_field": ("k", np.bool_),
    "sinr": ("k", np.float64),
    "rate": ("k", np.float64),
    "sum_rate": ("1", np.float64),
    "feasible": ("1", np.bool_),
    "fallback": ("1", np.bool_),
}
RESULT_NAMES = tuple(_RESULTS)


class _Output:
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


def _level(version: str) -> str:
    if version not in (*VERSIONS, "5"):
        raise ValueError(f"version {version!r}: expected one of {', '.join(VERSIONS)}")
    return "7" if version == "5" else version


class ResultFile:
    """The results of precoding as a ``.mat`` file; a context manager.

    On a clean exit the file is forced to the disk and appears under its name; on an exception nothing
    appears and a file that was there stays. Version 7.3 is written as the drops come and takes its disk
    space at the start; versions 6 and 7 hold all results in memory until the exit. Version 4 has no
    structs, no logical and only matrices, so version 7 is written for it, and ``notes`` says so.

    path         the output
    version      "4", "6", "7" (or "5", the same) or "7.3"
    antennas     N; users: K; drop_axes: the sizes of the input's f and s axes in its order, () for one drop
    convention   "hermitian" or "direct", that of the input
    info         fields of the struct ``nflae_info``
    inputs       files the output must not be

    After construction ``version`` is the version written.
    Raises MatFileError where the output cannot be written, before any work is done where that can be known: a
    missing folder, a variable above the 2 GiB of versions before 7.3, a full disk for 7.3.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        version: str,
        antennas: int,
        users: int,
        drop_axes: Sequence[int],
        convention: str,
        info: Mapping[str, str | float | int],
        inputs: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        if convention not in _CONVENTIONS:
            raise ValueError(f"convention {convention!r}: expected one of {', '.join(_CONVENTIONS)}")
        self.path = Path(path)
        self.convention = convention
        self.version = "7" if version == "4" else _level(version)
        self.notes: list[str] = []
        if version == "4":
            self.notes.append(f"{self.path}: written as version 7, since version 4 has no structs and no 3-D arrays")
        if min(antennas, users, *drop_axes, 1) < 1:
            raise ValueError(f"no results of {antennas} antennas, {users} users and drops {tuple(drop_axes)}")
        sizes = {"n": antennas, "k": users, "1": 1}
        drops = tuple(int(size) for size in drop_axes)
        arrays = [
            DropArray(name, tuple(sizes[axis] for axis in axes), drops, np.dtype(dtype))
            for name, (axes, dtype) in _RESULTS.items()
        ]
        self._output = _Output(self.path, self.version, arrays, {"nflae_info": dict(info)}, inputs)
        self._drops = math.prod(drops)

    def __enter__(self) -> ResultFile:
        self._output.begin()
        return self

    def write(self, start: int, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Writes the results of n drops, numbered as in the input, from drop ``start`` on.

        arrays   ``precoder`` (n, K, N) complex, row k = w_k as computed for the channels that
                 ChannelFile.read gives; ``power`` (W), ``lambda`` (W), ``near_field_score``, ``sinr``
                 (linear), ``rate`` (bit/s/Hz) and ``near_field`` (n, K); ``sum_rate``, ``feasible`` and
                 ``fallback`` (n,)

        The same w_k serves both conventions: h_k^H w_j in one is, with row k of H equal to h_k^H, (H W)_kj
        in the other. So x = W diag(sqrt(p)) s is sent either way, and nothing is conjugated on the way out.

        Raises ValueError where an array is missing, unknown or of the wrong shape; MatFileError where the
        write fails.
        """
        if set(arrays) != set(_RESULTS):
            wrong = sorted(set(arrays) ^ set(_RESULTS))
            raise ValueError(f"results are missing or unknown: {', '.join(wrong)}")
        blocks = {name: np.asarray(values) for name, values in arrays.items()}
        count = len(blocks["sum_rate"])
        if start < 0 or start + count > self._drops:
            raise ValueError(f"drops {start}:{start + count} of {self._drops}")
        for name, block in blocks.items():
            array = self._output.arrays[name]
            lead = () if array.block == (1,) and _RESULTS[name][0] == "1" else tuple(reversed(array.block))
            if block.shape != (count, *lead):
                raise ValueError(f"{name} has shape {block.shape}, expected {(count, *lead)}")
            blocks[name] = np.ascontiguousarray(block.reshape(count, *reversed(array.block)), array.dtype)
        self._output.write(start, blocks)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._output.commit()
        else:
            self._output.discard()


def write_channels(
    path: str | os.PathLike[str],
    blocks: Iterable[npt.NDArray[Any]],
    *,
    users: int,
    antennas: int,
    drops: int,
    version: str = "7",
    convention: str = "hermitian",
    extra: Mapping[str, Value] | None = None,
) -> None:
    """Writes channels as the variable ``H``, complex single (double in version 4).

    blocks       arrays (n, users, antennas) that together hold ``drops`` drops, row k = h_k with y_k =
                 h_k^H x
    version      "4" (one drop only), "6", "7" or "7.3"; the last is written block by block
    convention   "hermitian" writes N x K x S, y = H' x; "direct" writes K x N x S, conjugated, y = H x.
                 Both are what :func:`open_channels` takes them for unasked, unless K = N
    extra        more variables: numbers, strings, arrays in MATLAB order, dicts as structs (not in version 4)

    Raises MatFileError where the file cannot be written, ValueError where blocks do not have the shape
    announced.
    """
    if convention not in _CONVENTIONS:
        raise ValueError(f"convention {convention!r}: expected one of {', '.join(_CONVENTIONS)}")
    level, direct, values = _level(version), convention == "direct", dict(extra or {})
    if "H" in values:
        raise ValueError("H is the channels' own name; extra cannot hold another")
    if level == "4":
        for name, value in values.items():
            if isinstance(value, Mapping) or np.ndim(value) > 2:
                raise MatFileError(f"{path}: version 4 cannot hold {name}, which is no matrix; write version 7")
    block_shape = (users, antennas) if direct else (antennas, users)
    array = DropArray("H", block_shape, (drops,), np.dtype(np.complex128 if level == "4" else np.complex64))
    output = _Output(path, level, [array], values, ())
    output.begin()
    try:
        start = 0
        for block in blocks:
            if block.ndim != 3 or block.shape[1:] != (users, antennas) or start + len(block) > drops:
                raise ValueError(
                    f"a block of shape {block.shape} at drop {start} does not fit {(drops, users, antennas)}"
                )
            stored = block.conj().transpose(0, 2, 1) if direct else block
            output.write(start, {"H": np.ascontiguousarray(stored, array.dtype)})
            start += len(block)
    except BaseException:
        output.discard()
        raise
    output.commit()
