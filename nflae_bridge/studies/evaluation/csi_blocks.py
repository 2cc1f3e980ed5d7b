"""Yield blocks of drops whose precoders come from other channels than those on which they are judged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.blocks import Block, OnBadDrop, read_block
from nflae_bridge.files.budget.user_noise import UserNoise
from nflae_bridge.studies.link.source import FileDrops
from nflae_bridge.studies.link.transmitter_csi import TransmitterCsi
from simulator.csi.models import CsiModel

Labels = npt.NDArray[np.bool_]


def check_same_drops(known: ChannelFile, true: ChannelFile) -> None:
    """Check that two variables of a file hold the same users and drops.

    Parameters
    ----------
    known, true
        Channels that the transmitter knows, and true ones.

    Raises
    ------
    NflaeError
        If they are the same variable or of other sizes, or receive antennas are combined, which would differ.
    """
    if known.variable == true.variable:
        raise NflaeError(
            f"{true.path}: --h-true {true.variable} is also the variable of the precoders' CSI; name the estimate with"
            " --var"
        )
    sizes = [f"{file.antennas} antennas x {file.users} users x {file.drops} drops" for file in (known, true)]
    if sizes[0] != sizes[1] or known.drop_axes != true.drop_axes:
        raise NflaeError(
            f"{true.path}: {true.variable} is {sizes[1]} (layout {true.layout}), but {known.variable} is {sizes[0]}"
            f" (layout {known.layout}); expected the same drops in the same layout"
        )
    check_one_receiver(known, "--h-true")


def check_one_receiver(file: ChannelFile, option: str) -> None:
    """Check that no receive antennas are combined by the CSI.

    Parameters
    ----------
    file
        Channels that the transmitter knows.
    option
        Option that needs it, for the message.

    Raises
    ------
    NflaeError
        If they are.
    """
    if file.receive_mode not in ("", "each"):
        raise NflaeError(
            f"{file.path}: {file.variable}: {option} does not go with --receive-antennas {file.receive_mode}; pass each"
        )


def paired_blocks(
    known: ChannelFile,
    true: ChannelFile,
    stop: int,
    batch: int,
    on_bad_drop: OnBadDrop,
    noise: UserNoise | None,
    near_field: Labels | None,
) -> Iterator[Block]:
    """Read the first drops of two variables in checked blocks; a drop that is bad in either is left out.

    Parameters
    ----------
    known, true
        Channels that the transmitter knows, and true ones; see `check_same_drops`.
    stop, batch, on_bad_drop, noise, near_field
        As for `nflae_bridge.files.blocks.blocks`.

    Yields
    ------
    Block
        With true channels.
    """
    for start in range(0, stop, batch):
        ends = start, min(start + batch, stop)
        one = read_block(known, *ends, on_bad_drop, noise, near_field)
        other = read_block(true, *ends, on_bad_drop, noise)
        good = one.good & other.good
        labels = None if one.near_field is None else one.near_field[other.good[one.good]]
        channels, judged = one.channels[other.good[one.good]], other.channels[one.good[other.good]]
        yield Block(start, good, channels, None, labels, judged)


class DegradedDrops:
    """Hold the drops of a file, and apply a CSI model to them.

    Parameters
    ----------
    file
        Open file, of one receive antenna per user.
    csi
        CSI model.
    stop, batch, on_bad_drop, noise
        As for `nflae_bridge.files.blocks.blocks`.
    near_field
        Labels of every drop of the file, bool (drops, users); None: none.
    seed
        Seed of the CSI errors.

    Raises
    ------
    NflaeError
        As `FileDrops`.
    """

    def __init__(
        self,
        file: ChannelFile,
        csi: CsiModel,
        stop: int,
        batch: int,
        on_bad_drop: OnBadDrop,
        noise: UserNoise | None,
        near_field: Labels | None,
        seed: int,
    ) -> None:
        check_one_receiver(file, f"--csi {csi}")
        predictor = None
        if csi.predicts:
            from nflae_bridge.tasks.predict import load_predictor

            predictor = load_predictor()
        self._source = FileDrops(file, stop, batch, csi, 1, on_bad_drop, noise)
        self._csi, self._batch, self._labels, self._seed = TransmitterCsi(csi, predictor), batch, near_field, seed

    @property
    def drops(self) -> int:
        """Number of drops that have CSI."""
        return len(self._source.drops)

    @property
    def notes(self) -> list[str]:
        """Reasons why outdated CSI is that of another channel, see `FileDrops`."""
        return self._source.notes

    def blocks(self) -> Iterator[Block]:
        """Yield the drops with their CSI, the same in every pass.

        Yields
        ------
        Block
            With true channels; drops without CSI count as bad.
        """
        for index in range(self._source.batches_per_pass):
            drops = self._source.drops[index * self._batch : (index + 1) * self._batch]
            batch = self._source.recipe(index).batch()
            known = self._csi.estimate(batch, self._seed, index)[batch.known_of].contiguous().numpy()
            good = np.zeros(int(drops[-1] - drops[0]) + 1, np.bool_)
            good[drops - drops[0]] = True
            labels = None if self._labels is None else self._labels[drops]
            yield Block(int(drops[0]), good, known, None, labels, batch.channels.numpy())
