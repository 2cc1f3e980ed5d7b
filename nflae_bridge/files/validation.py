"""Drops nobody can precode for: NaN, Inf, or a user whose channel is zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Channels = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class BadDrop:
    """A drop's first fault. drop, user, antenna: counted from 0; antenna None: the whole user is zero."""

    drop: int
    user: int
    antenna: int | None
    fault: str

    def describe(self, first: int) -> str:
        """Which user's, which antenna's, what; counted from ``first``: 1 as in MATLAB, 0 as in Python."""
        antenna = "" if self.antenna is None else f", antenna {self.antenna + first}"
        return f"user {self.user + first}{antenna} is {self.fault} (counted from {first})"


def good_drops(channels: Channels) -> npt.NDArray[np.bool_]:
    """Where every number is finite and no user is all zero; channels (drops, users, antennas), result (drops,)."""
    parts = np.ascontiguousarray(channels).view(np.float32)
    energy = np.einsum("skn,skn->sk", parts, parts)
    if energy.min(initial=1) > 0 and energy.max(initial=0) < np.inf:  # neither holds if there is a NaN
        return np.ones(len(channels), np.bool_)
    # Faults there may be; but finite channels can have an energy beyond float32, or below it.
    usable = np.isfinite(channels).all(axis=2) & np.any(channels != 0, axis=2)
    return np.asarray(usable.all(axis=1))


def fault_of(channels: Channels, drop: int) -> BadDrop:
    """The first fault of a bad drop, channels (users, antennas): its first NaN or Inf, else its all-zero user."""
    places = np.argwhere(~np.isfinite(channels))
    if len(places):
        user, antenna = (int(index) for index in places[0])
        return BadDrop(drop, user, antenna, "NaN" if np.isnan(channels[user, antenna]) else "Inf")
    return BadDrop(drop, int(np.flatnonzero(~np.any(channels != 0, axis=1))[0]), None, "zero at every antenna")


def first_bad_drop(channels: Channels) -> BadDrop | None:
    """The first of them, if any; channels (drops, users, antennas)."""
    good = good_drops(channels)
    if good.all():
        return None
    drop = int(np.flatnonzero(~good)[0])
    return fault_of(channels[drop], drop)
