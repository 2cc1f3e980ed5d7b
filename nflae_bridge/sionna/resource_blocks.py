"""Map resource elements to precoders: one per resource element, or one per precoding resource block group (PRG).

A PRG is a number of adjacent resource blocks of 12 subcarriers each, over all OFDM symbols of the grid (3GPP TS 38.214,
5.1.2.3: bundles of 2 or 4 resource blocks, or wideband). Resource blocks are counted from the first effective
subcarrier; the last one may be smaller.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

SUBCARRIERS = 12
"""Subcarriers of a resource block."""


class PrecoderGrid(nn.Module):
    """Average over the resource elements of each precoder, and spread precoders over them.

    Parameters
    ----------
    effective
        Indices of the subcarriers that are not nulled, int (effective subcarriers,).
    fft_size
        Number of subcarriers.
    prg_size
        Resource blocks per precoder; None: one precoder per resource element.
    device
        Device of the tensors.
    """

    members: Tensor
    weights: Tensor
    group: Tensor

    def __init__(self, effective: npt.NDArray[np.integer], fft_size: int, prg_size: int | None, device: str) -> None:
        super().__init__()
        self.over_symbols = prg_size is not None
        size = 1 if prg_size is None else min(SUBCARRIERS * prg_size, len(effective))
        starts = range(0, len(effective), size)
        parts = [np.asarray(effective[start : start + size]) for start in starts]
        padded = np.stack([np.pad(part, (0, size - len(part)), "edge") for part in parts])
        counted = np.stack([np.arange(size) < len(part) for part in parts])
        # Nulled subcarriers belong to the group before them; their precoders are not used.
        before = np.searchsorted(effective, np.arange(fft_size), side="right") - 1
        group = np.clip(before, 0, None) // size
        tables = {"members": padded, "weights": counted / counted.sum(1, keepdims=True), "group": group}
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table).to(device), persistent=False)

    def average(self, values: Tensor) -> Tensor:
        """Average real values over the resource elements of each precoder.

        Parameters
        ----------
        values
            Real (..., OFDM symbols, subcarriers).

        Returns
        -------
        Tensor
            Real (..., OFDM symbols or 1, groups).
        """
        if not self.over_symbols:
            return values.index_select(-1, self.members[:, 0])
        grouped = values.index_select(-1, self.members.flatten()).reshape(*values.shape[:-1], *self.members.shape)
        averages: Tensor = (grouped * self.weights.to(values.dtype)).sum(-1).mean(-2, keepdim=True)
        return averages

    def combine(self, channels: Tensor) -> Tensor:
        """Average channels over the resource elements of each precoder, each user's phases aligned before.

        The phase of a user's channel, which its delay turns from subcarrier to subcarrier, changes no precoder.

        Parameters
        ----------
        channels
            Complex (batch, transmitters, OFDM symbols, subcarriers, users, antennas).

        Returns
        -------
        Tensor
            Complex (batch, transmitters, OFDM symbols or 1, groups, users, antennas).
        """
        if not self.over_symbols:
            return channels.contiguous().index_select(3, self.members[:, 0])
        grouped = channels.contiguous().index_select(3, self.members.flatten())
        grouped = grouped.reshape(*channels.shape[:3], *self.members.shape, *channels.shape[4:])
        reference = grouped[:, :, grouped.shape[2] // 2, None, :, self.members.shape[1] // 2, None]
        inner = (grouped * reference.conj()).sum(-1, keepdim=True)
        phase = inner / inner.abs().clamp(min=torch.finfo(inner.dtype).tiny)
        weights = self.weights.to(channels.dtype).reshape(*self.weights.shape, 1, 1)
        averages: Tensor = (grouped * phase.conj() * weights).sum(4).mean(2, keepdim=True)
        return averages

    def spread(self, values: Tensor, symbols: int) -> Tensor:
        """Repeat the values of each precoder on its resource elements.

        Parameters
        ----------
        values
            (batch, transmitters, OFDM symbols or 1, groups, ...).
        symbols
            Number of OFDM symbols.

        Returns
        -------
        Tensor
            (batch, transmitters, OFDM symbols, subcarriers, ...).
        """
        spread = values.index_select(3, self.group)
        return spread.expand(*spread.shape[:2], symbols, *spread.shape[3:])
