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
from nflae_bridge.files.csi.series import check_series
from nflae_bridge.files.slots import Indices, SlotAxis
from nflae_bridge.files.validation import Channels
from simulator.channels.scenario import ScenarioName, scenario
from simulator.csi.impairments import jakes_correlation
from simulator.csi.models import CsiModel
from simulator.link_level.randomness import generator_of

# 5G NR with 120 kHz subcarrier spacing, as at 30 GHz.
SLOT_SECONDS = 125e-6
_CHECKED_DROPS = 256  # by which drops are judged to be no sequence, where that is a note only


@dataclass(frozen=True)
class Batch:
    """Drops to send blocks over.

    Parameters
    ----------
    channels
        True channels, complex64 (drops, users, antennas).
    snapshots
        Channels that become known to the transmitter, before any error, complex64 (snapshots, users, antennas).
    history
        Snapshots that each set of precoders is computed from, oldest first, index into ``snapshots``, int64 (precoders,
        history).
    known_of
        Index into ``history`` for each drop, int64 (drops,).
    slot_correlation
        Correlation of the channels from one slot to the next, where ageing is still to be drawn; else None.
    near_field
        Given near-field labels, bool (precoders, users); None: none.
    """

    channels: Tensor
    snapshots: Tensor
    history: Tensor
    known_of: Tensor
    slot_correlation: float | None
    near_field: Tensor | None = None


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

    @property
    def batches_at_once(self) -> int:
        """Successive batches that are computed together: several where a pass holds few drops."""
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
    channels, snapshots, history, known_of
        As in `Batch`; ``snapshots`` is None where it equals the channels.
    near_field
        As in `Batch`.
    """

    channels: Channels
    snapshots: Channels | None
    history: Indices
    known_of: Indices
    near_field: npt.NDArray[np.bool_] | None = None

    def batch(self) -> Batch:
        """Return the batch, on the CPU."""
        channels = torch.from_numpy(self.channels)
        snapshots = channels if self.snapshots is None else torch.from_numpy(self.snapshots)
        labels = None if self.near_field is None else torch.from_numpy(self.near_field)
        return Batch(channels, snapshots, torch.from_numpy(self.history), torch.from_numpy(self.known_of), None, labels)


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
        Model of the CSI; its delay and its history are taken from the file's successive drops.
    refresh
        Successive drops that one precoder serves.
    on_bad_drop
        As in `nflae_bridge.files.blocks`.
    noise
        Noise power per user or drop; the noise power swept is then their reference.
    near_field
        Labels of every drop of the file, bool (drops, users); None: none. A precoder for several drops has those of the
        first.

    Attributes
    ----------
    notes : list of str
        Reasons why outdated CSI is that of another channel: drops that are no sequence.

    Raises
    ------
    NflaeError
        For a bad drop, unless skipped, if no usable drop is left, and if a history is needed and drops are no sequence.
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
        near_field: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.users, self._labels = file.users, near_field
        # The first drops of the file have no earlier drops to take outdated CSI from.
        axis, earlier = SlotAxis.of(file), csi.slots + csi.history - 1
        stop = min(file.drops, drops + earlier * (file.drops // axis.slots))
        parts = list(blocks(file, stop, size, on_bad_drop, noise))
        good = np.concatenate([part.good for part in parts])
        self._channels = np.zeros((stop, file.users, file.antennas), np.complex64)
        self._channels[good] = np.concatenate([part.channels for part in parts])
        slot = axis.slot_of(np.arange(stop))
        newest = (slot - slot % refresh - csi.slots)[:, None]
        self._histories = axis.at(np.arange(stop), newest - np.arange(csi.history)[::-1])
        known = (self._histories >= 0) & good[np.maximum(self._histories, 0)]
        self._usable = np.flatnonzero(good & known.all(-1))
        self._size = size
        self.notes = self._check_sequence(file, axis, good, csi) if earlier else []
        if not len(self._usable):
            outdated = f" with CSI from {csi.slots} slots before" if csi.slots else ""
            history = f" and a history of {csi.history} slots" if csi.history > 1 else ""
            raise NflaeError(f"{file.path}: {file.variable}: none of {stop} drops can be used{outdated}{history}")

    def _check_sequence(
        self, file: ChannelFile, axis: SlotAxis, good: npt.NDArray[np.bool_], csi: CsiModel
    ) -> list[str]:
        """Return what is wrong with the sequence; refuse drops in which nothing can be predicted from those before."""
        count = len(good) if csi.history > 1 else min(len(good), _CHECKED_DROPS)
        missing = torch.from_numpy(np.repeat(~good[:count, None], file.users, axis=1))
        channels, remedy = torch.from_numpy(self._channels[:count]), "choose a --csi that needs no history"
        try:
            found = check_series(file, axis, np.arange(count), channels, missing, remedy, csi.history == 1)
        except NflaeError as error:
            raise NflaeError(f"{file.path}: {file.variable}: {error}") from None
        return [f"CSI {csi}: {problem}" for problem in found[:1]]

    @property
    def batches_per_pass(self) -> int:
        """Batches after which every drop has been used equally often."""
        return -(-len(self._usable) // self._size)

    @property
    def batches_at_once(self) -> int:
        """Successive passes that have as many drops as a batch may have."""
        return max(1, self._size // len(self._usable))

    @property
    def drops(self) -> Indices:
        """Drops used in a pass, int64, counted from 0 in the file."""
        return self._usable

    def recipe(self, index: int) -> FileBatch:
        """Return the recipe of batch ``index`` (0, 1, ...)."""
        start = index % self.batches_per_pass * self._size
        drops = self._usable[start : start + self._size]
        histories, first, known_of = np.unique(self._histories[drops], axis=0, return_index=True, return_inverse=True)
        snapshots, history = np.unique(histories, return_inverse=True)
        known = None if np.array_equal(snapshots, drops) else self._channels[snapshots]
        indices = history.reshape(histories.shape).astype(np.int64)
        labels = None if self._labels is None else self._labels[drops[first]]
        return FileBatch(self._channels[drops], known, indices, known_of.reshape(-1).astype(np.int64), labels)

    def batches(self, drops: int) -> int:
        """Return the number of batches that hold at least ``drops`` drops."""
        passes, rest = divmod(drops, len(self._usable))
        return passes * self.batches_per_pass + -(-rest // self._size)

    def identity(self) -> dict[str, str]:
        """Return what distinguishes these drops from others, in words."""
        digest = hashlib.sha256()
        for array in (self._channels, self._usable, self._histories, self._labels):
            digest.update(b"" if array is None else array.tobytes())
        return {
            "drops of the file used": str(len(self._usable)),
            "drops per batch": str(self._size),
            "channels and the drops they are known by (digest)": digest.hexdigest()[:16],
        }


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
        each = torch.arange(self.drops)
        return Batch(channels, channels, each.unsqueeze(-1), each, correlation)


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

    @property
    def batches_at_once(self) -> int:
        """Successive batches that are computed together."""
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
