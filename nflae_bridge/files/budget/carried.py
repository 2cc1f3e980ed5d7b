"""Carry the link budget of a channel file over to a file of other channels of the same users."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io import ChannelFile
from matlab_io.containers.contents import find_arrays
from matlab_io.reading.scalars import OPTIONS
from matlab_io.writing.mat_writer import Value
from nflae_bridge.files.budget.user_noise import fit_user_noise

__all__ = ["carried_budget", "stated_budget"]

_SLOT_SECONDS = "slot_seconds"


def carried_budget(
    file: ChannelFile,
    drops: Sequence[int] | npt.NDArray[np.int64],
    axes: tuple[int, ...],
    warn: Callable[[str], None],
) -> dict[str, Value]:
    """Return the link budget of a file as variables of another one.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    drops : sequence of int
        For each drop of the other file, in MATLAB's linear order, the drop of `file` with the same noise power, counted
        from 0; empty where no drop corresponds to one, as for predicted channels.
    axes : tuple of int
        Drop axes of the other file, in MATLAB order.
    warn : callable
        Function of a line to be shown: a quantity that is not carried over.

    Returns
    -------
    dict of str to Value
        Quantities of one number, and the noise power per user, float64 (users, *axes).
    """
    values: dict[str, Value] = dict(file.scalars)
    for name, found in file.budget.items():
        if name in values:
            continue
        noise = found.problem or fit_user_noise(file, found.numbers)
        if not isinstance(noise, str) and noise.power.shape[1] > 1 and not len(drops):
            noise = "is a noise power per drop, which none of the predicted ones has"
        if isinstance(noise, str):
            told = noise if noise.startswith(found.variable) else f"{found.variable} {noise}"
            warn(f"{file.path}: {told}; not written to the output: pass {OPTIONS[name]} to nflae precode")
            continue
        power = noise.power[:, list(drops)] if noise.power.shape[1] > 1 else noise.power
        whole = np.broadcast_to(power, (file.users, math.prod(axes)))
        values[name] = whole.reshape((file.users, *axes), order="F")
    return values


def stated_budget(path: Path) -> dict[str, Value]:
    """Read the link budget, and the time between slots, that a file of this package states.

    Parameters
    ----------
    path : pathlib.Path
        File with the variables of `carried_budget`.

    Returns
    -------
    dict of str to Value
    """
    found = find_arrays(path, lambda name: name in (*OPTIONS, _SLOT_SECONDS))
    return {name: _plain(array.real) for name, array in found.items() if "." not in name}


def _plain(array: npt.NDArray[Any]) -> Value:
    return float(array.reshape(-1)[0]) if array.size == 1 else array.astype(np.float64)
