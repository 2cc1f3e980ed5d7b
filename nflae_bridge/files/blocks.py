"""Read the drops of a channel file in blocks and check them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError
from nflae_bridge.files.budget.user_noise import UserNoise
from nflae_bridge.files.validation import BadDrop, Channels, fault_of, good_drops

__all__ = ["Block", "OnBadDrop", "blocks", "describe_bad_drop", "drop_name", "read_block"]

OnBadDrop = Literal["error", "skip"]


@dataclass(frozen=True)
class Block:
    """Hold consecutive drops of a file, without the bad ones.

    Parameters
    ----------
    start : int
        First drop, counted from 0.
    good : numpy.ndarray
        Bool, (drops,), true where the drop can be precoded.
    channels : numpy.ndarray
        Complex64, (good drops, users, antennas).
    receive_combiner : numpy.ndarray or None
        Complex64, (drops, users, receive antennas), where these were combined; bad drops included.
    near_field : numpy.ndarray or None
        Given near-field labels, bool (good drops, users).
    true_channels : numpy.ndarray or None
        Channels on which the precoders are judged, complex64 (good drops, users, antennas); None: `channels`.
    """

    start: int
    good: npt.NDArray[np.bool_]
    channels: Channels
    receive_combiner: npt.NDArray[np.complex64] | None = None
    near_field: npt.NDArray[np.bool_] | None = None
    true_channels: Channels | None = None


def blocks(
    file: ChannelFile,
    stop: int,
    batch: int,
    on_bad_drop: OnBadDrop,
    noise: UserNoise | None = None,
    near_field: npt.NDArray[np.bool_] | None = None,
) -> Iterator[Block]:
    """Read the first drops of a file in checked blocks.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    stop : int
        Number of drops to read.
    batch : int
        Drops per block.
    on_bad_drop : {"error", "skip"}
        See `read_block`.
    noise, near_field : UserNoise and numpy.ndarray, optional
        See `read_block`.

    Yields
    ------
    Block
    """
    for start in range(0, stop, batch):
        yield read_block(file, start, min(start + batch, stop), on_bad_drop, noise, near_field)


def read_block(
    file: ChannelFile,
    start: int,
    stop: int,
    on_bad_drop: OnBadDrop,
    noise: UserNoise | None = None,
    near_field: npt.NDArray[np.bool_] | None = None,
) -> Block:
    """Read consecutive drops of a file and check them.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    start, stop : int
        First drop, and the one after the last, counted from 0.
    on_bad_drop : {"error", "skip"}
        Raise an error for the first bad drop, or leave bad drops out.
    noise : UserNoise, optional
        Noise powers to which the channels are referred: h_k is multiplied by sqrt(sigma_ref^2 / sigma_k^2).
    near_field : numpy.ndarray, optional
        Near-field labels of every drop of the file, bool (drops, users), see `nflae_bridge.files.labels.read_labels`.

    Returns
    -------
    Block

    Raises
    ------
    NflaeError
        If a drop has NaN, Inf or an all-zero user and `on_bad_drop` is ``"error"``.
    """
    channels, combiner = file.read_combined(start, stop)
    good = good_drops(channels)
    if noise is not None:
        amplitude = noise.amplitude(start, stop)
        channels *= amplitude if channels.ndim == amplitude.ndim else amplitude[:, :, None]
    labels = None if near_field is None else near_field[start:stop][good]
    if good.all():
        return Block(start, good, channels, combiner, labels)
    if on_bad_drop == "error":
        first = int(np.flatnonzero(~good)[0])
        raise NflaeError(describe_bad_drop(file, fault_of(channels[first], start + first)))
    return Block(start, good, channels[good], combiner, labels)


def describe_bad_drop(file: ChannelFile, bad: BadDrop, can_skip: bool = True) -> str:
    """Describe a bad drop in one line, with indices counted from 1 as in MATLAB.

    Parameters
    ----------
    file : ChannelFile
        File that holds the drop.
    bad : BadDrop
        Its first fault.
    can_skip : bool
        The command has the option ``--on-bad-drop``.

    Returns
    -------
    str
    """
    remedy = ", or leave such drops out with --on-bad-drop skip" if can_skip else ""
    return f"{file.path}: {file.variable}: {drop_name(file, bad.drop)}, {bad.describe()}; correct the channels{remedy}"


def drop_name(file: ChannelFile, drop: int) -> str:
    """Name a drop as ``drop 7``, or with two drop axes ``drop 2, subcarrier 3``, counted from 1.

    Parameters
    ----------
    file : ChannelFile
        File that holds the drop.
    drop : int
        Index in linear order, counted from 0.

    Returns
    -------
    str
    """
    letters = list(file.drop_letters)
    if not letters:
        return "drop 1"
    indices = [str(int(index) + 1) for index in np.unravel_index(drop, file.drop_axes, order="F")]
    positions = {letter: [at for axis, at in zip(letters, indices, strict=True) if axis == letter] for letter in "sf"}
    names = {"s": "drop", "f": "subcarrier"}
    return ", ".join(f"{names[letter]} {' x '.join(positions[letter])}" for letter in "sf" if positions[letter])
