"""Check that the drops of a file are snapshots in order, on every subcarrier."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from matlab_io import ChannelFile
from nflae_bridge.files.blocks import drop_name
from nflae_bridge.files.slots import Indices, SlotAxis
from simulator.csi.sequences.order import check_sequence

__all__ = ["check_series"]


def check_series(
    file: ChannelFile,
    axis: SlotAxis,
    drops: Indices,
    channels: Tensor,
    missing: Tensor,
    remedy: str,
    force: bool = False,
) -> list[str]:
    """Check drops subcarrier by subcarrier, see `check_sequence`.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    axis : SlotAxis
        Its drop axes.
    drops : numpy.ndarray
        Drops, int64 (n,).
    channels, missing : Tensor
        Their channels, complex64 (n, users, antennas), and gaps, bool (n, users).
    remedy, force : str, bool
        As for `check_sequence`.

    Returns
    -------
    list of str
        What is wrong with the sequences, where forced.

    Raises
    ------
    NflaeError
        As `check_sequence`.
    """
    found = []
    slots, first = axis.slot_of(drops), axis.at(drops, np.zeros((len(drops), 1), np.int64))[:, 0]
    for subcarrier in np.unique(first):
        places = np.flatnonzero(first == subcarrier)
        places = places[np.argsort(slots[places])]

        def name(index: int, places: Indices = places) -> str:
            return drop_name(file, int(drops[places[index]]))

        order = torch.from_numpy(places)
        problem = check_sequence(channels[order], missing[order], name, remedy, force)
        found += [] if problem is None else [problem]
    return found
