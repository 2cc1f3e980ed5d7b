"""Write precoding results to a ``.mat`` file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from matlab_io.containers.writers import DropArray
from matlab_io.result import RESULT_ARRAYS, RESULT_NAMES
from matlab_io.writing.output import CONVENTIONS, MatOutput, level_of

__all__ = ["ResultFile"]


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
        if convention not in CONVENTIONS:
            raise ValueError(f"convention {convention!r}: expected one of {', '.join(CONVENTIONS)}")
        self.path = Path(path)
        self.convention = convention
        self.version = "7" if version == "4" else level_of(version)
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
