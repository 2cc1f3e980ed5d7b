"""Code a snapshot like the Type II codebook of 3GPP: a few orthogonal beams, their amplitudes and phases.

A report holds the norm, the rotation of the DFT grid (4 positions per antenna axis), which L of its N orthogonal beams
(the rank of the subset), which of them is the strongest, and amplitude (3 bits) and phase (3 bits) of the others
relative to it. L is the largest number for which this fits. Unlike in the standard, L is not limited to 6, and the
norm (5 bits) is part of the report.

References
----------
3GPP TS 38.214, section 5.2.2.2.3 (Type II codebook).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry, to_antennas, to_beams
from simulator.csi.feedback.digits import join_digits, split_digits, subset_of_rank, subset_rank
from simulator.csi.feedback.quantisers import (
    AMPLITUDE_LEVELS,
    NORM_LEVELS,
    norms_of_levels,
    quantise_norms,
    quantise_ratios,
    ratios_of_levels,
)

_ROTATIONS = 4  # per antenna axis
_PHASES = 8


@dataclass(frozen=True)
class TypeTwo:
    """`SnapshotCodec` of orthogonal beams.

    Parameters
    ----------
    bits
        Bits per report.
    antennas
        N.
    geometry
        Line or panel.
    reference
        Largest norm, see `quantise_norms`.
    """

    bits: int
    antennas: int
    geometry: ArrayGeometry
    reference: float

    @staticmethod
    def least_bits(antennas: int, geometry: ArrayGeometry) -> int:
        """Return the number of bits of a report with one beam.

        Parameters
        ----------
        antennas, geometry
            The array.

        Returns
        -------
        int
            Bits.
        """
        return (math.prod(_radices(1, antennas, geometry)) - 1).bit_length()

    @cached_property
    def beams(self) -> int:
        """Number L of beams."""
        count = 1
        while count < self.antennas and (
            math.prod(_radices(count + 1, self.antennas, self.geometry)) <= 1 << self.bits
        ):
            count += 1
        return count

    @property
    def radices(self) -> list[int]:
        """Radices of the report's digits."""
        return _radices(self.beams, self.antennas, self.geometry)

    def encode(self, channels: Tensor) -> list[int]:
        """Code snapshots.

        Parameters
        ----------
        channels
            complex128 (users, antennas).

        Returns
        -------
        list of int
            One number below 2^bits per user.
        """
        beams = to_beams(channels.unsqueeze(1) * self._rotations().conj(), self.geometry)
        strongest = beams.abs().square().topk(self.beams, -1).values.sum(-1)
        rotation = strongest.argmax(-1)
        chosen = beams[torch.arange(len(channels)), rotation]
        members = chosen.abs().topk(self.beams, -1).indices.sort(-1).values
        gains = chosen.gather(1, members)
        leader = gains.abs().argmax(-1, keepdim=True)
        reference = gains.gather(1, leader)
        reference = torch.where(reference == 0, 1.0, reference)
        amplitude, phase = quantise_ratios(gains / reference, _PHASES)
        norm = quantise_norms(torch.linalg.vector_norm(channels, dim=1), self.reference)
        others = _others(self.beams, leader)
        rows = torch.stack([amplitude.gather(1, others), phase.gather(1, others)], -1).flatten(1).tolist()
        fields = zip(norm.tolist(), rotation.tolist(), members.tolist(), leader.flatten().tolist(), rows, strict=True)
        return [
            join_digits([level, turn, subset_rank(subset, self.antennas), lead, *row], self.radices)
            for level, turn, subset, lead, row in fields
        ]

    def decode(self, numbers: Sequence[int]) -> Tensor:
        """Invert `encode` as far as the bits allow.

        Parameters
        ----------
        numbers
            One per user.

        Returns
        -------
        Tensor
            complex128 (users, antennas).
        """
        size, total = self.beams, math.prod(self.radices)
        rows = [split_digits(number % total, self.radices) for number in numbers]
        norm, rotation, leader = (torch.tensor([row[place] for row in rows]) for place in (0, 1, 3))
        members = torch.tensor([subset_of_rank(row[2], size, self.antennas) for row in rows])
        levels = torch.tensor([row[4:] for row in rows], dtype=torch.int64).reshape(len(rows), size - 1, 2)
        gains = torch.ones(len(rows), size, dtype=torch.complex128)
        ratios = ratios_of_levels(levels[..., 0], levels[..., 1], _PHASES)
        gains = gains.scatter(1, _others(size, leader.unsqueeze(1)), ratios)
        beams = torch.zeros(len(rows), self.antennas, dtype=torch.complex128).scatter(1, members, gains)
        waves = to_antennas(beams, self.geometry) * self._rotations()[rotation]
        scale = norms_of_levels(norm, self.reference) / torch.linalg.vector_norm(gains, dim=1)
        scaled: Tensor = waves * scale.unsqueeze(1)
        return scaled

    def _rotations(self) -> Tensor:
        """Return the phases by which the grids are rotated, complex128 (rotations, antennas)."""
        rotations = torch.ones(1, 1, dtype=torch.complex128)
        for size in self.geometry.grid(self.antennas):
            turn = torch.arange(_ROTATIONS, dtype=torch.float64).unsqueeze(1) / _ROTATIONS
            phase = 2 * math.pi * turn * torch.arange(size, dtype=torch.float64) / size
            axis = torch.polar(torch.ones_like(phase), phase)
            rotations = (rotations[:, None, :, None] * axis[None, :, None, :]).flatten(2).flatten(0, 1)
        return rotations


def _radices(beams: int, antennas: int, geometry: ArrayGeometry) -> list[int]:
    rotations = _ROTATIONS ** len(geometry.grid(antennas))
    return [NORM_LEVELS, rotations, math.comb(antennas, beams), beams, *[AMPLITUDE_LEVELS, _PHASES] * (beams - 1)]


def _others(size: int, leader: Tensor) -> Tensor:
    """Return all places but the leader's, in order, int64 (users, size - 1)."""
    places = torch.arange(size - 1).expand(len(leader), -1)
    return places + (places >= leader).long()
