"""Supply the drops of a link study: from a channel file, passed over repeatedly, or from a scenario."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.blocks import OnBadDrop, blocks
from nflae_bridge.files.budget.user_noise import UserNoise
from nflae_bridge.files.validation import Channels
from simulator.channels.scenario import ScenarioName, scenario
from simulator.csi.impairments import jakes_correlation
from simulator.csi.models import CsiModel
from simulator.link_level.randomness import generator_of

Indices = npt.NDArray[np.int64]

# 5G NR with 120 kHz subcarrier spacing, as at 30 GHz.
SLOT_SECONDS = 125e-6


@dataclass(frozen=True)
class Batch:
    """Drops to send blocks over.

    Parameters
    ----------
    channels
        True channels, complex64 (drops, users, antennas).
    known
        Channels whose CSI the precoders are computed from, before estimation errors; the same shape but for the drops.
    known_of
        Index into ``known`` for each drop, int64 (drops,).
    slot_correlation
        Correlation of ``known`` from one slot to the next, where ageing is still to be drawn; else None.
    """

    channels: Tensor
    known: Tensor
    known_of: Tensor
    slot_correlation: float | None


class BatchRecipe(Protocol):
    """Recipe of a batch: plain values and arrays, which can be sent to a worker."""

    def batch(self) -> Batch:
        """Return the batch, on the CPU."""
        ...


class DropSource(Protocol):
    """Source of drops in batches; a batch depends on its index alone."""

    @property
    def users(self) -> int:
        """Users per drop."""
        ...

    @property
    def batches_per_pass(self) -> int:
        """Batches after which every drop has been used equally often."""
        ...

    def recipe(self, index: int) -> BatchRecipe:
        """Return the recipe of batch ``index`` (0, 1, ...)."""
        ...

    def batches(self, drops: int) -> int:
        """Return the number of batches that hold at least ``drops`` drops."""
        ...

    def identity(self) -> dict[str, str]:
        """Return what distinguishes these drops from others, in words."""
        ...


@dataclass(frozen=True)
class FileBatch:
    """`BatchRecipe` that holds the drops themselves.

    Parameters
    ----------
    channels, known, known_of
        As in `Batch`; ``known`` is None where it equals the channels.
    """

    channels: Channels
    known: Channels | None
    known_of: Indices

    def batch(self) -> Batch:
        """Return the batch, on the CPU."""
        channels = torch.from_numpy(self.channels)
        known = channels if self.known is None else torch.from_numpy(self.known)
        return Batch(channels, known, torch.from_numpy(self.known_of), None)


class FileDrops:
    """`DropSource` of a channel file; of successive slots, if their CSI is to be outdated.

    Parameters
    ----------
    file
        The channel file.
    drops
        Read at most this many drops, the file's first.
    size
        Drops per batch.
    csi
        Model of the CSI; its delay is taken from the file's successive drops.
    refresh
        Successive drops that one precoder serves.
    on_bad_drop
        As in `nflae_bridge.files.blocks`.
    noise
        Noise power per user or drop; the noise power swept is then their reference.

    Raises
    ------
    NflaeError
        For a bad drop, unless skipped, and if no usable drop is left.
    """

    def __init__(
        self,
        file: ChannelFile,
        drops: int,
        size: int,
        csi: CsiModel,
        refresh: int,
        on_bad_drop: OnBadDrop,
        noise: UserNoise | None = None,
    ) -> None:
        self.users = file.users
        # The first drops of the file have no earlier drop to take outdated CSI from.
        stop = min(file.drops, drops + csi.slots * (file.drops // _slots(file)))
        parts = list(blocks(file, stop, size, on_bad_drop, noise))
        good = np.concatenate([part.good for part in parts])
        self._channels = np.zeros((stop, file.users, file.antennas), np.complex64)
        self._channels[good] = np.concatenate([part.channels for part in parts])
        self._known_of = _known_drops(file, stop, csi.slots, refresh)
        usable = good & (self._known_of >= 0)
        usable &= good[np.maximum(self._known_of, 0)]
        self._usable = np.flatnonzero(usable)
        self._size = size
        if not len(self._usable):
            outdated = f" with CSI from {csi.slots} slots before" if csi.slots else ""
            raise NflaeError(f"{file.path}: {file.variable}: none of {stop} drops can be used{outdated}")

    @property
    def batches_per_pass(self) -> int:
        """Batches after which every drop has been used equally often."""
        return -(-len(self._usable) // self._size)

    @property
    def drops(self) -> Indices:
        """Drops used in a pass, int64, counted from 0 in the file."""
        return self._usable

    def recipe(self, index: int) -> FileBatch:
        """Return the recipe of batch ``index`` (0, 1, ...)."""
        start = index % self.batches_per_pass * self._size
        drops = self._usable[start : start + self._size]
        known, known_of = np.unique(self._known_of[drops], return_inverse=True)
        same = np.array_equal(known, drops)
        return FileBatch(self._channels[drops], None if same else self._channels[known], known_of.astype(np.int64))

    def batches(self, drops: int) -> int:
        """Return the number of batches that hold at least ``drops`` drops."""
        passes, rest = divmod(drops, len(self._usable))
        return passes * self.batches_per_pass + -(-rest // self._size)

    def identity(self) -> dict[str, str]:
        """Return what distinguishes these drops from others, in words."""
        digest = hashlib.sha256()
        for array in (self._channels, self._usable, self._known_of):
            digest.update(array.tobytes())
        return {
            "drops of the file used": str(len(self._usable)),
            "drops per batch": str(self._size),
            "channels and the drops they are known by (digest)": digest.hexdigest()[:16],
        }


def _slots(file: ChannelFile) -> int:
    """Return the length of the file's axis of drops, subcarriers excluded."""
    letters = list(file.drop_letters)
    if letters.count("s") > 1:
        raise NflaeError(
            f"{file.path}: layout {file.layout} has several axes of drops, and the blocks of the link follow one axis"
            " of time; save the channels with one"
        )
    sizes = dict(zip(letters, file.drop_axes, strict=True))
    return sizes.get("s", 1)


def _known_drops(file: ChannelFile, stop: int, slots: int, refresh: int) -> Indices:
    """Return for each drop the one its precoder is computed from, ``slots`` before the last refresh; -1 for none."""
    letters = list(file.drop_letters) or ["s"]
    sizes = file.drop_axes or (1,)
    positions = dict(zip(letters, np.unravel_index(np.arange(stop), sizes, order="F"), strict=True))
    slot = positions.get("s", np.zeros(stop, np.int64))
    known = slot - slot % refresh - slots
    earlier = tuple(np.maximum(known, 0) if letter == "s" else positions[letter] for letter in letters)
    found = np.ravel_multi_index(earlier, sizes, order="F")
    return np.where(known >= 0, found, -1).astype(np.int64)


@dataclass(frozen=True)
class ScenarioBatch:
    """`BatchRecipe` that draws the drops on the worker.

    Parameters
    ----------
    name, users, antennas
        Scenario, K and N.
    drops
        Drops in the batch.
    speed
        Speed of the users, m/s.
    seed, index
        Seed of the study and number of the batch.
    """

    name: ScenarioName
    users: int
    antennas: int
    drops: int
    speed: float
    seed: int
    index: int

    def batch(self) -> Batch:
        """Return the batch, on the CPU."""
        scene = scenario(self.name, self.users, self.antennas)
        channels = scene.draw(self.drops, generator_of(self.seed, "drops", self.index)).channels
        correlation = jakes_correlation(self.speed, scene.array.carrier, SLOT_SECONDS)
        return Batch(channels, channels, torch.arange(self.drops), correlation)


@dataclass(frozen=True)
class ScenarioDrops:
    """`DropSource` of fresh drops of a scenario.

    Parameters
    ----------
    name, users, antennas
        Scenario, K and N.
    size
        Drops per batch.
    speed
        Speed of the users, m/s, by which their CSI ages.
    seed
        Seed of the study.
    """

    name: ScenarioName
    users: int
    antennas: int
    size: int
    speed: float
    seed: int

    @property
    def batches_per_pass(self) -> int:
        """Batches after which every drop has been used equally often."""
        return 1

    def recipe(self, index: int) -> ScenarioBatch:
        """Return the recipe of batch ``index`` (0, 1, ...)."""
        return ScenarioBatch(self.name, self.users, self.antennas, self.size, self.speed, self.seed, index)

    def batches(self, drops: int) -> int:
        """Return the number of batches that hold at least ``drops`` drops."""
        return -(-drops // self.size)

    def identity(self) -> dict[str, str]:
        """Return what distinguishes these drops from others, in words."""
        return {
            "scenario": f"{self.name} with {self.users} users and {self.antennas} antennas",
            "speed": f"{self.speed:g}",
            "drops per batch": str(self.size),
        }
