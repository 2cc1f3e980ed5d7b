"""Write channels to a ``.mat`` file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.conventions import check_convention
from matlab_io.errors import MatFileError
from matlab_io.writing.mat_writer import DropArray, Value
from matlab_io.writing.output import MatOutput, written_version

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
    """Write channels as the variable ``H``, complex single (double in version 4).

    Parameters
    ----------
    path : str or os.PathLike
        Output file.
    blocks : iterable of numpy.ndarray
        Arrays (n, users, antennas) that together hold all drops; row k is h_k with y_k = h_k^H x.
    users, antennas, drops : int
        Sizes K, N and S.
    version : {"7", "4", "6", "7.3"}
        Version to write; 4 holds one drop only, 7.3 is written block by block.
    convention : {"hermitian", "direct"}
        ``"hermitian"`` writes N x K x S with y = H' x; ``"direct"`` writes K x N x S, conjugated, with y = H x.
        The text variables ``layout`` and ``convention`` state which, so that `open_channels` needs no options.
    extra : mapping of str to Value, optional
        Further variables: numbers, strings, arrays in MATLAB order, mappings as structs (not in version 4).

    Raises
    ------
    MatFileError
        If the file cannot be written.
    ValueError
        If the blocks do not have the stated sizes.
    """
    check_convention(convention)
    level, direct, values = written_version(version), convention == "direct", dict(extra or {})
    if reserved := {"H", "layout", "convention"} & set(values):
        raise ValueError(f"{min(reserved)} is a variable of the channels' own; extra cannot hold another")
    values = {"layout": "kns" if direct else "nks", "convention": convention, **values}
    if level == "4":
        for name, value in values.items():
            if isinstance(value, Mapping) or np.ndim(value) > 2:
                raise MatFileError(f"{path}: version 4 cannot hold {name}, which is not a matrix; write version 7")
    block_shape = (users, antennas) if direct else (antennas, users)
    array = DropArray("H", block_shape, (drops,), np.dtype(np.complex128 if level == "4" else np.complex64))
    output = MatOutput(path, level, [array], values, ())
    output.begin()
    try:
        _write_blocks(output, array.dtype, blocks, (drops, users, antennas), direct)
    except BaseException:
        output.discard()
        raise
    output.commit()


def _write_blocks(
    output: MatOutput,
    dtype: np.dtype[Any],
    blocks: Iterable[npt.NDArray[Any]],
    shape: tuple[int, int, int],
    direct: bool,
) -> None:
    start = 0
    for block in blocks:
        if block.ndim != 3 or block.shape[1:] != shape[1:] or start + len(block) > shape[0]:
            raise ValueError(f"a block of shape {block.shape} at drop {start} does not fit {shape}")
        stored = block.conj().transpose(0, 2, 1) if direct else block
        output.write(start, {"H": np.ascontiguousarray(stored, dtype)})
        start += len(block)
