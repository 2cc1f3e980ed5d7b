"""Write precoding results to a ``.mat`` file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from matlab_io.conventions import check_convention
from matlab_io.result import RESULT_ARRAYS, RESULT_NAMES
from matlab_io.writing.mat_writer import DropArray, Value
from matlab_io.writing.output import MatOutput, written_version

__all__ = ["ResultFile"]


class ResultFile:
    """Write the results of precoding to a ``.mat`` file; a context manager.

    On a clean exit the file is forced to the disk and appears under its name; on an exception nothing appears and a
    file at its path stays unchanged. Version 7.3 is written block by block and takes its disk space at the start;
    versions 6 and 7 hold all results in memory until the exit. Version 4 has no structs, no logical class and only
    matrices, so version 7 is written instead, with a line in `notes`.

    Parameters
    ----------
    path : str or os.PathLike
        Output file.
    version : {"4", "5", "6", "7", "7.3"}
        Version of the input, or the one to write; ``"5"`` is version 7.
    antennas, users : int
        Sizes N and K.
    drop_axes : sequence of int
        Sizes of the input's subcarrier and drop axes in its order; empty for one drop.
    convention : {"hermitian", "direct"}
        Convention of the input.
    info : mapping
        Fields of the struct ``nflae_info``.
    inputs : iterable of str or os.PathLike, optional
        Files that the output must not replace.

    Attributes
    ----------
    version : str
        Version written.
    notes : list of str
        Lines to be shown to the user.

    Raises
    ------
    MatFileError
        If the output cannot be written; at construction or entry for a missing folder, a variable of 2 GiB or more
        before version 7.3, and a full disk for 7.3.
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
        info: Mapping[str, Value],
        inputs: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        check_convention(convention)
        self.path = Path(path)
        self.convention = convention
        self.version = "7" if version == "4" else written_version(version)
        self.notes: list[str] = []
        if version == "4":
            self.notes.append(f"{self.path}: written as version 7, since version 4 has no structs and no 3-D arrays")
        if min(antennas, users, *drop_axes, 1) < 1:
            raise ValueError(f"no results of {antennas} antennas, {users} users and drops {tuple(drop_axes)}")
        drops = tuple(int(size) for size in drop_axes)
        arrays = [
            DropArray(entry.name, entry.matlab_shape(1, users, antennas)[:-1], drops, entry.dtype)
            for entry in RESULT_ARRAYS
        ]
        self._output = MatOutput(self.path, self.version, arrays, {"nflae_info": dict(info)}, inputs)
        self._drops, self._users, self._antennas = math.prod(drops), users, antennas

    def __enter__(self) -> ResultFile:
        self._output.begin()
        return self

    def write(self, start: int, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Write the results of consecutive drops, numbered as in the input.

        The precoders w_k are the same in both conventions: h_k^H w_j of the first is, with h_k^H as row k of H,
        (H W)_kj of the second. x = W diag(sqrt(p)) s is sent in both, and nothing is conjugated here.

        Parameters
        ----------
        start : int
            First drop, counted from 0.
        arrays : mapping of str to array_like
            Every array of `matlab_io.result.RESULT_ARRAYS` by its name, drops first: ``precoder`` is (n, K, N) with
            row k = w_k for the channels from `ChannelFile.read`, the others are (n, K) or (n,).

        Raises
        ------
        ValueError
            If an array is missing, unknown or of another shape, or drops are out of range.
        MatFileError
            If the file cannot be written.
        """
        if set(arrays) != set(RESULT_NAMES):
            wrong = sorted(set(arrays) ^ set(RESULT_NAMES))
            raise ValueError(f"results are missing or unknown: {', '.join(wrong)}")
        count = len(np.asarray(arrays["sum_rate"]))
        if start < 0 or start + count > self._drops:
            raise ValueError(f"drops {start}:{start + count} of {self._drops}")
        blocks = {}
        for entry in RESULT_ARRAYS:
            block, shape = np.asarray(arrays[entry.name]), entry.shape(count, self._users, self._antennas)
            if block.shape != shape:
                raise ValueError(f"{entry.name} has shape {block.shape}, expected {shape}")
            stored = entry.matlab_shape(count, self._users, self._antennas)[::-1]
            blocks[entry.name] = np.ascontiguousarray(block.reshape(stored), entry.dtype)
        self._output.write(start, blocks)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._output.commit()
        else:
            self._output.discard()
