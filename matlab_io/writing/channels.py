"""Write channels to a ``.mat`` file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.writers import DropArray, Value
from matlab_io.errors import MatFileError
from matlab_io.writing.output import CONVENTIONS, MatOutput, level_of

__all__ = ["write_channels"]


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
    if convention not in CONVENTIONS:
        raise ValueError(f"convention {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    level, direct, values = level_of(version), convention == "direct", dict(extra or {})
    if "H" in values:
        raise ValueError("H is the channels' own name; extra cannot hold another")
    if level == "4":
        for name, value in values.items():
            if isinstance(value, Mapping) or np.ndim(value) > 2:
                raise MatFileError(f"{path}: version 4 cannot hold {name}, which is no matrix; write version 7")
    block_shape = (users, antennas) if direct else (antennas, users)
    array = DropArray("H", block_shape, (drops,), np.dtype(np.complex128 if level == "4" else np.complex64))
    output = MatOutput(path, level, [array], values, ())
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
