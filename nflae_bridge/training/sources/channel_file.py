"""Draw training drops from a channel file, some of whose drops are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.blocks import OnBadDrop, blocks
from nflae_bridge.files.budget.choice import BudgetChoice
from nflae_bridge.files.labels import read_labels, strongest_antenna
from nflae_bridge.files.slots import SlotAxis
from nflae_bridge.training.data import DropDistribution, TrainingBatch
from nflae_bridge.training.recipe import CPU, Streams

Indices = npt.NDArray[np.int64]

LEAST_DROPS = 60
"""Smallest number of drops that can be split."""
_PARTS = 20  # consecutive parts of the file, of every five of which one is held out and one validates
_VALIDATED, _HELD_OUT = 1, 3
_MOST_BYTES = 2 << 30
_READ = 256  # drops at a time
_ALIKE = 2.0  # squared coherence of successive drops over that of distant ones, from which drops are snapshots


@dataclass(frozen=True)
class Split:
    """Hold the drops for training, for the choice of the best state and for the final comparison, in file order.

    Parameters
    ----------
    training, validation, held_out
        Indices into the drops used, int64.
    successive
        The drops are successive snapshots: the split is by blocks, with unused drops between them.
    """

    training: Indices
    validation: Indices
    held_out: Indices
    successive: bool

    def describe(self) -> str:
        """Describe the split in one line."""
        counts = (
            f"{len(self.training)} drops to train, {len(self.validation)} to validate, {len(self.held_out)} held out"
        )
        if self.successive:
            return f"{counts}: blocks of successive drops, which are alike, with a gap between the blocks"
        return f"{counts}, at random: successive drops are no more alike than others"


class _Sets:
    """Hold the drops of a file, which are no part of the identity of a recipe."""

    batch: TrainingBatch
    split: Split


@dataclass(frozen=True)
class ChannelDrops(_Sets):
    """`DataSource` of the drops of a channel file, each at SNRs around that of its link budget.

    Parameters
    ----------
    file
        Name of the file.
    digest
        Digest of the scaled channels and the split.
    tokens
        Drops times users per batch.
    snr_span_db
        Largest change of the SNR of a drop in training, dB, up and down.
    general
        Fraction of batches from `DropDistribution`, by which the network keeps its use for other channels.
    """

    file: str
    digest: str
    tokens: int = 1024
    snr_span_db: float = 5.0
    general: float = 0.25

    @classmethod
    def of(cls, name: str, batch: TrainingBatch, split: Split) -> ChannelDrops:
        """Return the source of drops that are in memory.

        Parameters
        ----------
        name
            Name of the file.
        batch
            All drops, scaled to P / sigma^2 = 1.
        split
            Their split.

        Returns
        -------
        ChannelDrops
        """
        digest = hashlib.sha256(np.ascontiguousarray(batch.channels.numpy()).data)
        for part in (split.training, split.validation, split.held_out):
            digest.update(part.tobytes())
        digest.update(f"{batch.alpha_c[0]} {batch.min_rate[0]}".encode())
        source = cls(name, digest.hexdigest()[:16])
        object.__setattr__(source, "batch", batch)
        object.__setattr__(source, "split", split)
        return source

    def training(self, seed: int, step: int, device: torch.device = CPU) -> TrainingBatch:
        """Return the batch of a step.

        Parameters
        ----------
        seed, step : int
            Seed of the run, and step from 0.
        device : torch.device
            Device of the batch.

        Returns
        -------
        TrainingBatch
            Drops of the training part, drawn with replacement, or of `DropDistribution`.
        """
        streams = Streams.of(seed, step, device)
        if float(torch.rand(1, generator=streams.host)) < self.general:
            return DropDistribution(tokens=self.tokens).training(seed, step, device)
        count = max(32, min(512, self.tokens // self.batch.channels.shape[1]))
        drawn = torch.randint(len(self.split.training), (count,), generator=streams.host)
        part = self.batch.select(torch.from_numpy(self.split.training)[drawn])
        change = self.snr_span_db * (2 * torch.rand(count, 1, 1, generator=streams.host) - 1)
        scaled = part.channels * 10 ** (change / 20)
        return TrainingBatch(scaled, part.near_field, part.alpha_c, part.min_rate, False).to(device)

    def validation(self) -> list[TrainingBatch]:
        """Return the drops of the validation part, in batches."""
        drops = torch.from_numpy(self.split.validation)
        return [self.batch.select(part) for part in torch.split(drops, 512)]

    def held_out(self) -> TrainingBatch:
        """Return the drops of the held-out part, in the order of the file."""
        return self.batch.select(torch.from_numpy(self.split.held_out))


def read_channel_drops(
    file: ChannelFile,
    choice: BudgetChoice,
    labels: str | None,
    near_field: Callable[[Tensor], Tensor],
    on_bad_drop: OnBadDrop,
    seed: int,
) -> tuple[ChannelDrops, list[str]]:
    """Read and split the drops of a file.

    Parameters
    ----------
    file
        Open file.
    choice
        Its link budget.
    labels
        As for `nflae_bridge.files.labels.read_labels`.
    near_field
        Labels, bool (drops, users), of channels, complex64 (drops, users, antennas), where the file has none; they
        count where ``alpha_c`` is below 1.
    on_bad_drop
        Handling of drops with NaN, Inf or an all-zero user.
    seed
        Seed of the split of drops that are not successive.

    Returns
    -------
    source : ChannelDrops
        Drops of the file.
    notes : list of str
        What is not used.

    Raises
    ------
    NflaeError
        If there are fewer than `LEAST_DROPS` usable drops, all are equal, or one is bad.
    """
    where, per_drop = f"{file.path}: {file.variable}", 8 * file.users * file.antennas
    given, _ = read_labels(file, labels)
    stop = min(file.drops, max(LEAST_DROPS, _MOST_BYTES // per_drop))
    read = list(blocks(file, stop, _READ, on_bad_drop, choice.noise, given))
    good = np.flatnonzero(np.concatenate([block.good for block in read]))
    _check_number(where, len(good), stop)
    channels = torch.from_numpy(np.concatenate([block.channels for block in read]))
    if bool((channels == channels[:1]).all()):
        raise NflaeError(f"{where}: all {len(good)} drops are equal; training needs drops that differ")
    notes = [f"the first {stop} of {file.drops} drops, {_MOST_BYTES >> 30} GiB"] if stop < file.drops else []
    notes += [f"{stop - len(good)} bad drops left out"] if len(good) < stop else []
    budget = choice.link_budget()
    alpha_c, min_rate = float(budget.alpha_c), float(budget.min_rate)
    near = torch.zeros(channels.shape[:2], dtype=torch.bool)
    if given is not None:
        near = torch.from_numpy(given[good])
    elif alpha_c < 1:
        near = torch.cat([near_field(strongest_antenna(part)) for part in torch.split(channels, _READ)])
    channels *= (float(budget.power) / float(budget.noise_power)) ** 0.5
    limits = torch.tensor([alpha_c, min_rate]).expand(len(good), 2).T
    batch = TrainingBatch(channels, near, limits[0], limits[1], False)
    return ChannelDrops.of(file.path.name, batch, split_drops(_slots(file, good), channels, seed)), notes


def _check_number(where: str, good: int, read: int) -> None:
    if good < LEAST_DROPS:
        bad = f", {read - good} of them bad" if good < read else ""
        raise NflaeError(f"{where}: holds {read} drops{bad}; training needs at least {LEAST_DROPS}, better thousands")


def split_drops(slots: Indices, channels: Tensor, seed: int) -> Split:
    """Split drops: successive snapshots by blocks of slots, others at random.

    Of every five blocks of a twentieth of the slots one is held out and one is for validation. A quarter of a block on
    both sides of these is not used.

    Parameters
    ----------
    slots
        Slot of each drop, int64 (drops,).
    channels
        complex64 (drops, users, antennas).
    seed
        Seed of a random split.

    Returns
    -------
    Split
    """
    names, slot = np.unique(slots, return_inverse=True)
    successive = len(names) >= LEAST_DROPS and _is_successive(channels, slot)
    if len(names) < LEAST_DROPS:  # few slots of many subcarriers, which are alike too
        slot, successive = np.arange(len(slots)), _is_successive(channels, np.arange(len(slots)))
    count = int(slot.max()) + 1
    place = np.arange(count)
    if not successive:
        place = np.random.default_rng(seed).permutation(count)
    part, within = np.divmod(place * _PARTS / count, 1)
    role = part.astype(int) % 5
    if successive:  # the quarter of a training block that adjoins another kind is a gap
        before, after = (role + 4) % 5, (role + 1) % 5
        other = (_VALIDATED, _HELD_OUT)
        gap = (np.isin(before, other) & (within < 0.25)) | (np.isin(after, other) & (within >= 0.75))
        role = np.where(gap & ~np.isin(role, other), -1, role)
    of_drop = role[slot]
    training = np.flatnonzero(np.isin(of_drop, (0, 2, 4)))
    validation, held_out = np.flatnonzero(of_drop == _VALIDATED), np.flatnonzero(of_drop == _HELD_OUT)
    return Split(training, validation, held_out, bool(successive))


def _is_successive(channels: Tensor, slot: Indices) -> bool:
    """Return whether drops of successive slots are more alike than distant ones."""
    _, first = np.unique(slot, return_index=True)  # one drop per slot, of one subcarrier where there are several
    unit = channels[torch.from_numpy(first)]
    unit = unit / torch.linalg.vector_norm(unit, dim=-1, keepdim=True).clamp(min=1e-30)
    half = len(unit) // 2

    def coherence(lag: int) -> float:
        return float((unit[:-lag].conj() * unit[lag:]).sum(-1).abs().square().mean())

    near, far = coherence(1), max(coherence(half), coherence(half + 1))
    return near > _ALIKE * far or near > 0.9 > far


def _slots(file: ChannelFile, good: Indices) -> Indices:
    """Return the slot of each drop; the drop itself where several axes hold drops."""
    if file.drop_letters.count("s") > 1:
        return good
    return SlotAxis.of(file).slot_of(good)
