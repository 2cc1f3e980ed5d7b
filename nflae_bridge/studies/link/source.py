"""Where the drops of a link come from: a channel file, gone through again and again, or a scenario."""

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
from nflae_bridge.files.validation import Channels
from simulator.channels.csi import CsiModel, jakes_correlation
from simulator.channels.scenario import ScenarioName, scenario
from simulator.link_level.randomness import generator_of

Indices = npt.NDArray[np.int64]

# 5G with 120 kHz between subcarriers, as at 30 GHz.
SLOT_SECONDS = 125e-6


@dataclass(frozen=True)
class Batch:
    """Drops to send blocks over.

    channels: complex64 (drops, users, antennas), the true ones. known: the same, of the drops whose CSI the precoders
    are computed from (before what else is wrong with it). known_of: int64 (drops,), each drop's index into ``known``.
    slot_correlation: of ``known`` from one slot to the next, where ageing has still to be drawn.
    """

    channels: Tensor
    known: Tensor
    known_of: Tensor
    slot_correlation: float | None


class BatchRecipe(Protocol):
    """What a worker makes a batch from; plain values and arrays, so that it can be sent there."""

    def batch(self) -> Batch:
        """The batch, on the CPU."""
        ...


class DropSource(Protocol):
    """Drops in batches; batch ``index`` is the same whenever it is asked for."""

    @property
    def users(self) -> int:
        """Users a drop."""
        ...

    @property
    def a_pass(self) -> int:
        """Batches after which every drop has been sent over equally often."""
        ...

    def recipe(self, index: int) -> BatchRecipe:
        """What batch ``index`` (0, 1, ...) is made from."""
        ...

    def batches(self, drops: int) -> int:
        """How many batches hold at least so many drops."""
        ...

    def identity(self) -> dict[str, str]:
        """What tells these drops from others."""
        ...


@dataclass(frozen=True)
class GivenDrops:
    """A `BatchRecipe` of the drops themselves, as in `Batch`."""

    channels: Channels
    known: Channels | None
    known_of: Indices

    def batch(self) -> Batch:
        """The batch."""
        channels = torch.from_numpy(self.channels)
        known = channels if self.known is None else torch.from_numpy(self.known)
        return Batch(channels, known, torch.from_numpy(self.known_of), None)


class FileDrops:
    """The drops of a channel file, successive slots of it if their CSI is to be late.

    refresh: a precoder serves this many successive drops. drops: read at most so many of the file's first.
    Raises NflaeError for a bad drop (see `pipeline.blocks`) and if no drop is left to send over.
    """

    def __init__(
        self, file: ChannelFile, drops: int, size: int, csi: CsiModel, refresh: int, on_bad_drop: OnBadDrop
    ) -> None:
        self.users = file.users
        # The first drops have no older ones to be known by.
        stop = min(file.drops, drops + csi.slots * (file.drops // _slots(file)))
        parts = list(blocks(file, stop, size, on_bad_drop))
        good = np.concatenate([part.good for part in parts])
        self._channels = np.zeros((stop, file.users, file.antennas), np.complex64)
        self._channels[good] = np.concatenate([part.channels for part in parts])
        self._known_of = _known_drops(file, stop, csi.slots, refresh)
        usable = good & (self._known_of >= 0)
        usable &= good[np.maximum(self._known_of, 0)]
        self._usable = np.flatnonzero(usable)
        self._size = size
        if not len(self._usable):
            late = f" whose CSI of {csi.slots} slots before is there" if csi.slots else ""
            raise NflaeError(f"{file.path}: {file.variable}: none of {stop} drops is one to send over{late}")

    @property
    def a_pass(self) -> int:
        """See `DropSource`."""
        return -(-len(self._usable) // self._size)

    @property
    def drops(self) -> Indices:
        """The drops sent over in a pass, counted from 0 in the file."""
        return self._usable

    def recipe(self, index: int) -> GivenDrops:
        """See `DropSource`."""
        start = index % self.a_pass * self._size
        drops = self._usable[start : start + self._size]
        known, known_of = np.unique(self._known_of[drops], return_inverse=True)
        same = np.array_equal(known, drops)
        return GivenDrops(self._channels[drops], None if same else self._channels[known], known_of.astype(np.int64))

    def batches(self, drops: int) -> int:
        """See `DropSource`."""
        passes, rest = divmod(drops, len(self._usable))
        return passes * self.a_pass + -(-rest // self._size)

    def identity(self) -> dict[str, str]:
        """See `DropSource`."""
        digest = hashlib.sha256()
        for array in (self._channels, self._usable, self._known_of):
            digest.update(array.tobytes())
        return {
            "drops of the file used": str(len(self._usable)),
            "drops a batch": str(self._size),
            "channels and the drops they are known by (digest)": digest.hexdigest()[:16],
        }


def _slots(file: ChannelFile) -> int:
    """The length of the file's axis of drops, its subcarriers apart."""
    letters = [letter for letter in file.layout if letter in "sf"]
    sizes = dict(zip(letters, file.drop_axes, strict=True))
    return sizes.get("s", 1)


def _known_drops(file: ChannelFile, stop: int, slots: int, refresh: int) -> Indices:
    """For each drop the one its precoder is computed from: ``slots`` before the last refresh; -1: before the first."""
    letters = [letter for letter in file.layout if letter in "sf"] or ["s"]
    sizes = file.drop_axes or (1,)
    places = dict(zip(letters, np.unravel_index(np.arange(stop), sizes, order="F"), strict=True))
    slot = places.get("s", np.zeros(stop, np.int64))
    known = slot - slot % refresh - slots
    earlier = tuple(np.maximum(known, 0) if letter == "s" else places[letter] for letter in letters)
    found = np.ravel_multi_index(earlier, sizes, order="F")
    return np.where(known >= 0, found, -1).astype(np.int64)


@dataclass(frozen=True)
class DrawnDrops:
    """A `BatchRecipe` of drops drawn where they are needed."""

    name: ScenarioName
    users: int
    antennas: int
    drops: int
    speed: float
    seed: int
    index: int

    def batch(self) -> Batch:
        """The batch."""
        scene = scenario(self.name, self.users, self.antennas)
        channels = scene.draw(self.drops, generator_of(self.seed, "drops", self.index)).channels
        correlation = jakes_correlation(self.speed, scene.array.carrier, SLOT_SECONDS)
        return Batch(channels, channels, torch.arange(self.drops), correlation)


@dataclass(frozen=True)
class ScenarioDrops:
    """Fresh drops of a scenario. size: drops a batch. speed: of the users, m/s, by which their CSI ages."""

    name: ScenarioName
    users: int
    antennas: int
    size: int
    speed: float
    seed: int

    @property
    def a_pass(self) -> int:
        """See `DropSource`."""
        return 1

    def recipe(self, index: int) -> DrawnDrops:
        """See `DropSource`."""
        return DrawnDrops(self.name, self.users, self.antennas, self.size, self.speed, self.seed, index)

    def batches(self, drops: int) -> int:
        """See `DropSource`."""
        return -(-drops // self.size)

    def identity(self) -> dict[str, str]:
        """See `DropSource`."""
        return {
            "scenario": f"{self.name} with {self.users} users and {self.antennas} antennas",
            "speed": f"{self.speed:g}",
            "drops a batch": str(self.size),
        }
