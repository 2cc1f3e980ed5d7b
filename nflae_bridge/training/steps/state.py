"""Save tensors of any size in safetensors files below 16 MB each, replaced all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import read_tensors, save_tensors

SHARD_BYTES = 15_000_000
"""Bytes of tensors per file."""

_FILES, _SHAPES = "files", "shapes"


def save_state(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any], version: int) -> None:
    """Write tensors and notes to ``path`` and, where they exceed one file, to files beside it.

    ``path`` names the others and is replaced last: an interruption leaves the previous state or the new one. Files of
    earlier states are removed afterwards.

    Parameters
    ----------
    path : Path
        The first file.
    tensors : dict of str to Tensor
        Tensors by name.
    notes : dict
        Notes that JSON can hold.
    version : int
        Number of the state, part of the names of further files; equal for equal states alone.
    """
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items() if tensor.nbytes > SHARD_BYTES}
    shards = _shards(tensors)
    others = [path.with_name(f"{path.stem}.{version}.{number}{path.suffix}") for number in range(1, len(shards))]
    for other, shard in zip(others, shards[1:], strict=True):
        save_tensors(other, shard)
    save_tensors(path, shards[0], {**notes, _FILES: [other.name for other in others], _SHAPES: shapes})
    for stale in set(_others(path)).difference(others):
        stale.unlink()


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote.

    Parameters
    ----------
    path : Path
        The first file.

    Returns
    -------
    tensors : dict of str to Tensor
        Tensors by name.
    notes : dict
        Notes.

    Raises
    ------
    NflaeError
        If a file is missing or damaged.
    """
    tensors, notes = read_tensors(path)
    for name in notes.pop(_FILES, []):
        tensors |= read_tensors(path.with_name(name))[0]
    for name, shape in notes.pop(_SHAPES, {}).items():
        parts: list[Tensor] = []
        while (piece := f"{name}/{len(parts)}") in tensors:
            parts.append(tensors.pop(piece))
        try:
            tensors[name] = torch.cat(parts).reshape(shape)
        except (ValueError, RuntimeError) as error:
            raise NflaeError(f"{path} is damaged ({name} is incomplete); start in a new folder") from error
    return tensors, notes


def remove_state(path: Path) -> None:
    """Remove all files of a state, ``path`` first.

    Parameters
    ----------
    path : Path
        The first file; nothing happens if it does not exist.
    """
    path.unlink(missing_ok=True)
    for other in _others(path):
        other.unlink()


def _others(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.stem}.*.*{path.suffix}"))


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Distribute tensors, the larger ones in pieces, over files."""
    shards: list[dict[str, Tensor]] = [{}]
    left = SHARD_BYTES
    for name, tensor in tensors.items():
        pieces = {name: tensor}
        if tensor.nbytes > SHARD_BYTES:
            parts = torch.split(tensor.detach().flatten(), SHARD_BYTES // tensor.element_size())
            pieces = {f"{name}/{number}": part for number, part in enumerate(parts)}
        for key, piece in pieces.items():
            if piece.nbytes > left:
                shards.append({})
                left = SHARD_BYTES
            shards[-1][key] = piece
            left -= piece.nbytes
    return shards
