"""Read the drops of a channel file in blocks and check them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.validation import BadDrop, Channels, fault_of, good_drops

OnBadDrop = Literal["error", "skip"]


@dataclass(frozen=True)
class Block:
    """Drops ``start`` ... ``start + len(good) - 1`` of a file.

    good: bool (drops,), those that can be precoded for. channels: complex64 (good drops, users, antennas).
    """

    start: int
    good: npt.NDArray[np.bool_]
    channels: Channels


def blocks(file: ChannelFile, stop: int, batch: int, on_bad_drop: OnBadDrop) -> Iterator[Block]:
    """Drops 0 ... stop-1 of a file in blocks of ``batch``, checked, see `read_block`."""
    for start in range(0, stop, batch):
        yield read_block(file, start, min(start + batch, stop), on_bad_drop)


def read_block(file: ChannelFile, start: int, stop: int, on_bad_drop: OnBadDrop) -> Block:
    """Drops start ... stop-1 of a file, checked.

    Raises NflaeError for the first drop with NaN, Inf or an all-zero user, unless ``on_bad_drop`` is ``skip``.
    """
    channels = file.read(start, stop)
    good = good_drops(channels)
    if good.all():
        return Block(start, good, channels)
    if on_bad_drop == "error":
        first = int(np.flatnonzero(~good)[0])
        raise NflaeError(f"{describe_bad_drop(file, fault_of(channels[first], start + first))}")
    return Block(start, good, channels[good])


def describe_bad_drop(file: ChannelFile, bad: BadDrop) -> str:
    """A bad drop in one line, counted as MATLAB counts."""
    return (
        f"{file.path}: {file.variable}: {drop_name(file, bad.drop)}, {bad.describe(first=1)}; correct the channels, or"
        " leave such drops out with --on-bad-drop skip"
    )


def drop_name(file: ChannelFile, drop: int) -> str:
    """``drop 7``, or with two drop axes ``drop 2, subcarrier 3``; ``drop`` counted from 0, the name from 1."""
    letters = [letter for letter in file.layout if letter in "sf"]
    if not letters:
        return "drop 1"
    indices = np.unravel_index(drop, file.drop_axes, order="F")
    place = {letter: int(index) + 1 for letter, index in zip(letters, indices, strict=True)}
    names = {"s": "drop", "f": "subcarrier"}
    return ", ".join(f"{names[letter]} {place[letter]}" for letter in "sf" if letter in place)
