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
from matlab_io.errors import MatFileError
from matlab_io.result import ANALOG, DIGITAL, RECEIVE_COMBINER, RESULT_ARRAYS, ResultArray
from matlab_io.writing.mat_writer import DropArray, Value
from matlab_io.writing.output import MatOutput, version_for

__all__ = ["ResultFile"]


class ResultFile:
    """Write the results of precoding to a ``.mat`` or ``.npz`` file; a context manager.

    On a clean exit the file is forced to the disk and appears under its name; on an exception nothing appears and a
    file at its path stays unchanged. Version 7.3 is written block by block and takes its disk space at the start;
    versions 6 and 7 hold all results in memory until the exit. Version 4 has no structs, no logical class and only
    matrices, so version 7 is written instead, with a line in `notes`.

    Parameters
    ----------
    path : str or os.PathLike
        Output file.
    version : {"4", "5", "6", "7", "7.3"}
        Version of the input, or the one to write; ``"5"`` is version 7. Inputs that are no ``.mat`` files (``"npy"``,
        ``"npz"``, ``"raw"``) give version 7. A path that ends in ``.npz`` is written as such a file whatever the
        version, its arrays with reversed axes, as numpy has them.
    antennas : int or sequence of int
        Size N, or the sizes of several antenna axes, which the precoders keep.
    users : int
        Size K.
    drop_axes : sequence of int
        Sizes of the input's subcarrier and drop axes in its order; empty for one drop.
    convention : {"hermitian", "direct"}
        Convention of the input.
    info : mapping
        Fields of the struct ``nflae_info``.
    inputs : iterable of str or os.PathLike, optional
        Files that the output must not replace.
    receive_antennas : int, optional
        Number of receive antennas per user, where the results have their combiners.
    streams : int
        Streams per user.
    rf_chains : int, optional
        Number of RF chains of a hybrid array.

    Attributes
    ----------
    version : str
        Version written; ``"npz"`` for such a file.
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
        antennas: int | Sequence[int],
        users: int,
        drop_axes: Sequence[int],
        convention: str,
        info: Mapping[str, Value],
        inputs: Iterable[str | os.PathLike[str]] = (),
        receive_antennas: int | None = None,
        streams: int = 1,
        rf_chains: int | None = None,
    ) -> None:
        check_convention(convention)
        self.path = Path(path)
        self.convention = convention
        if self.path.suffix.lower() not in ("", ".mat", ".npz"):
            raise MatFileError(f"{self.path}: results are written as .mat or .npz; name the output so")
        self.version = version_for(self.path, version)
        self.notes: list[str] = []
        if version == "4" and self.version != "npz":
            self.notes.append(f"{self.path}: written as version 7, since version 4 has no structs and no 3-D arrays")
        antenna_axes = (antennas,) if isinstance(antennas, int) else tuple(antennas)
        if min(*antenna_axes, users, *drop_axes, 1) < 1:
            raise ValueError(f"no results of {antennas} antennas, {users} users and drops {tuple(drop_axes)}")
        combiners = () if receive_antennas is None else (RECEIVE_COMBINER,)
        hybrid = () if rf_chains is None else (ANALOG, DIGITAL)
        entries = (*RESULT_ARRAYS, *combiners, *hybrid)
        self._entries = tuple(entry.with_streams() for entry in entries) if streams > 1 else entries
        self._sizes = (users, math.prod(antenna_axes), receive_antennas or 1, streams, rf_chains or 1)
        drops = tuple(int(size) for size in drop_axes)
        arrays = [
            DropArray(entry.name, self._block(entry, antenna_axes), drops, entry.dtype, per_drop=not entry.axes)
            for entry in self._entries
        ]
        self._output = MatOutput(self.path, self.version, arrays, {"nflae_info": dict(info)}, inputs)
        self._drops = math.prod(drops)

    def _block(self, entry: ResultArray, antenna_axes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sizes of one drop's block of an array, in MATLAB order, with every antenna axis."""
        block = entry.matlab_shape(1, *self._sizes)[:-1]
        return (*antenna_axes, *block[1:]) if entry.axes.startswith("n") else block

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
            row k = w_k for the channels from `ChannelFile.read`, the others are (n, K) or (n,); and
            ``receive_combiner``, (n, K, R), of a file with receive antennas. With several streams an axis of them
            follows K.

        Raises
        ------
        ValueError
            If an array is missing, unknown or of another shape, or drops are out of range.
        MatFileError
            If the file cannot be written.
        """
        if set(arrays) != (expected := {entry.name for entry in self._entries}):
            wrong = sorted(set(arrays) ^ expected)
            raise ValueError(f"results are missing or unknown: {', '.join(wrong)}")
        count = len(np.asarray(arrays["sum_rate"]))
        if start < 0 or start + count > self._drops:
            raise ValueError(f"drops {start}:{start + count} of {self._drops}")
        blocks = {}
        for entry in self._entries:
            block = np.asarray(arrays[entry.name])
            shape = entry.shape(count, *self._sizes)
            if block.shape != shape:
                raise ValueError(f"{entry.name} has shape {block.shape}, expected {shape}")
            stored = (count, *reversed(self._output.arrays[entry.name].block))
            blocks[entry.name] = np.ascontiguousarray(block.reshape(stored), entry.dtype)
        self._output.write(start, blocks)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._output.commit()
        else:
            self._output.discard()
