"""Code a snapshot as a few spherical waves: orthogonal matching pursuit over directions and curvatures.

The dictionary holds, per antenna axis, twice as many directions as antennas, and for a line the curvatures from the
plane wave to the nearest distance (`simulator.schemes.codebooks.polar_domain_curvatures`). A report holds the norm, the
rank of the subset of M waves, which of them is the strongest, and amplitude (3 bits) and phase of the others
relative to it. M is the largest number for which phases of 3 bits fit; bits left over refine the phases. The gains are
quantised jointly: each in turn to the level nearest to the least-squares gain beside the quantised others.

References
----------
M. Cui, L. Dai, "Channel estimation for extremely large-scale MIMO: far-field or near-field?", IEEE Transactions on
Communications, 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry
from simulator.csi.feedback.digits import join_digits, split_digits, subset_of_rank, subset_rank
from simulator.csi.feedback.quantisers import (
    AMPLITUDE_LEVELS,
    NORM_LEVELS,
    norms_of_levels,
    quantise_norms,
    quantise_ratios,
    ratios_of_levels,
)
from simulator.schemes.codebooks import polar_domain_curvatures

_OVERSAMPLING = 2
_COHERENCE = 0.6  # of waves of one direction and neighbouring curvatures
_LEAST_PHASES = 8
_MOST_PHASES = 64
_ROUNDS = 3  # of joint quantisation
_RIDGE = 1e-5


@dataclass(frozen=True)
class Polar:
    """`SnapshotCodec` of spherical waves.

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
        """Return the number of bits of a report with one wave.

        Parameters
        ----------
        antennas, geometry
            The array.

        Returns
        -------
        int
            Bits.
        """
        return (math.prod(_radices(1, _LEAST_PHASES, _atoms(antennas, geometry))) - 1).bit_length()

    @cached_property
    def waves(self) -> int:
        """Number M of waves."""
        size, count = _atoms(self.antennas, self.geometry), 1
        while count < self.antennas and math.prod(_radices(count + 1, _LEAST_PHASES, size)) <= 1 << self.bits:
            count += 1
        return count

    @cached_property
    def phases(self) -> int:
        """Number of phases of a gain."""
        size, phases = _atoms(self.antennas, self.geometry), _LEAST_PHASES
        while phases < _MOST_PHASES and math.prod(_radices(self.waves, 2 * phases, size)) <= 1 << self.bits:
            phases *= 2
        return phases

    @property
    def radices(self) -> list[int]:
        """Radices of the report's digits."""
        return _radices(self.waves, self.phases, _atoms(self.antennas, self.geometry))

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
        norms = torch.linalg.vector_norm(channels, dim=1)
        unit = channels / norms.clamp(min=torch.finfo(norms.dtype).tiny).unsqueeze(1)
        members = matching_pursuit(unit, self.waves, self.geometry).sort(-1).values
        leader, amplitude, phase = _joint_levels(self._waves(members), unit, self.phases)
        others = _others(self.waves, leader)
        rows = torch.stack([amplitude.gather(1, others), phase.gather(1, others)], -1).flatten(1).tolist()
        level = quantise_norms(norms, self.reference).tolist()
        size = _atoms(self.antennas, self.geometry)
        fields = zip(level, members.tolist(), leader.flatten().tolist(), rows, strict=True)
        return [
            join_digits([norm, subset_rank(subset, size), lead, *row], self.radices)
            for norm, subset, lead, row in fields
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
        count, total, size = self.waves, math.prod(self.radices), _atoms(self.antennas, self.geometry)
        rows = [split_digits(number % total, self.radices) for number in numbers]
        norm, leader = (torch.tensor([row[place] for row in rows]) for place in (0, 2))
        members = torch.tensor([subset_of_rank(row[1], count, size) for row in rows])
        levels = torch.tensor([row[3:] for row in rows], dtype=torch.int64).reshape(len(rows), count - 1, 2)
        gains = torch.ones(len(rows), count, dtype=torch.complex128)
        ratios = ratios_of_levels(levels[..., 0], levels[..., 1], self.phases)
        gains = gains.scatter(1, _others(count, leader.unsqueeze(1)), ratios)
        wave = (gains.unsqueeze(1) @ self._waves(members)).squeeze(1)
        norms = torch.linalg.vector_norm(wave, dim=1).clamp(min=1e-12)
        scaled: Tensor = wave * (norms_of_levels(norm, self.reference) / norms).unsqueeze(1)
        return scaled

    def _waves(self, members: Tensor) -> Tensor:
        """Return the unit-norm waves of given numbers, complex128 (users, waves, antennas)."""
        return _dictionary(self.antennas, self.geometry)[members]


def matching_pursuit(channels: Tensor, count: int, geometry: ArrayGeometry) -> Tensor:
    """Choose waves by orthogonal matching pursuit.

    Parameters
    ----------
    channels
        complex128 (users, antennas).
    count
        Number of waves.
    geometry
        Line or panel.

    Returns
    -------
    Tensor
        Numbers of the waves, all different, int64 (users, count).
    """
    antennas = channels.shape[-1]
    dictionary = _dictionary(antennas, geometry)
    transposed = dictionary.conj().T.to(torch.complex64)
    members = torch.empty(len(channels), 0, dtype=torch.int64)
    rest = channels
    for _ in range(count):
        match = (rest.to(torch.complex64) @ transposed).abs()
        members = torch.cat([members, match.scatter(1, members, -1.0).argmax(-1, keepdim=True)], 1)
        waves = dictionary[members]
        rest = channels - (_least_squares(waves, channels).unsqueeze(1) @ waves).squeeze(1)
    return members


def _joint_levels(waves: Tensor, channels: Tensor, phases: int) -> tuple[Tensor, Tensor, Tensor]:
    """Quantise the gains of waves jointly; return leader (users, 1), amplitude and phase levels (users, waves)."""
    gram = waves.conj() @ waves.mT  # w_i^H w_j
    projection = (waves.conj() @ channels.unsqueeze(-1)).squeeze(-1)
    gains = _least_squares(waves, channels)
    leader = gains.abs().argmax(-1, keepdim=True)
    scale = gains.gather(1, leader)
    scale = torch.where(scale == 0, 1.0, scale)
    amplitude, phase = quantise_ratios(gains / scale, phases)
    level = ratios_of_levels(amplitude, phase, phases)
    for _ in range(_ROUNDS):
        for place in range(waves.shape[1]):
            inner = (gram[:, place] * level).sum(-1) - gram[:, place, place] * level[:, place]
            wanted = projection[:, place] / scale[:, 0] - inner
            new_amplitude, new_phase = quantise_ratios(wanted, phases)
            is_leader = leader[:, 0] == place
            amplitude[:, place] = torch.where(is_leader, amplitude[:, place], new_amplitude)
            phase[:, place] = torch.where(is_leader, phase[:, place], new_phase)
            level[:, place] = ratios_of_levels(amplitude[:, place], phase[:, place], phases)
        fit = (gram @ level.unsqueeze(-1)).squeeze(-1)
        power = (level.conj() * fit).sum(-1).real.clamp(min=1e-12)
        scale = ((level.conj() * projection).sum(-1) / power).unsqueeze(1)
        scale = torch.where(scale == 0, 1.0, scale)
    return leader, amplitude, phase


def _least_squares(waves: Tensor, channels: Tensor) -> Tensor:
    """Return gains g that minimise ||h - sum_m g_m w_m||^2, slightly regularised, complex128 (users, waves)."""
    gram = waves.conj() @ waves.mT + _RIDGE * torch.eye(waves.shape[1], dtype=waves.dtype)
    gains: Tensor = torch.linalg.solve(gram, (waves.conj() @ channels.unsqueeze(-1))).squeeze(-1)
    return gains


def _curvatures(antennas: int, geometry: ArrayGeometry) -> list[float]:
    if geometry.kind == "panel":
        return [0.0]
    # Not negative: waves that spread from the user's antenna, in the convention y = h^H x.
    return [value for value in polar_domain_curvatures(antennas, _COHERENCE) if value >= 0]


def _atoms(antennas: int, geometry: ArrayGeometry) -> int:
    directions: int = antennas * _OVERSAMPLING ** len(geometry.grid(antennas))
    return directions * len(_curvatures(antennas, geometry))


@cache
def _dictionary(antennas: int, geometry: ArrayGeometry) -> Tensor:
    """Return all waves, unit norm, complex128 (atoms, antennas)."""
    waves = torch.ones(1, 1, dtype=torch.complex128)
    for size in geometry.grid(antennas):
        direction = torch.arange(_OVERSAMPLING * size, dtype=torch.float64).unsqueeze(1) / (_OVERSAMPLING * size)
        phase = 2 * math.pi * direction * torch.arange(size, dtype=torch.float64)
        axis = torch.polar(torch.ones_like(phase), phase)
        waves = (waves[:, None, :, None] * axis[None, :, None, :]).flatten(2).flatten(0, 1)
    position = (torch.arange(antennas, dtype=torch.float64) - (antennas - 1) / 2) / antennas
    curvature = torch.tensor(_curvatures(antennas, geometry), dtype=torch.float64).unsqueeze(1)
    bend = -2 * math.pi * curvature * position.square()
    bends = torch.polar(torch.ones_like(bend), bend)
    return (bends.unsqueeze(1) * waves).flatten(0, 1) / math.sqrt(antennas)


def _radices(waves: int, phases: int, atoms: int) -> list[int]:
    return [NORM_LEVELS, math.comb(atoms, waves), waves, *[AMPLITUDE_LEVELS, phases] * (waves - 1)]


def _others(size: int, leader: Tensor) -> Tensor:
    """Return all places but the leader's, in order, int64 (users, size - 1)."""
    places = torch.arange(size - 1).expand(len(leader), -1)
    return places + (places >= leader).long()
