"""Track the users of a stream by the waves in its items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from nflae_bridge.live.gnuradio.computation.items import TRACK_DTYPES, TRACK_SOURCE
from nflae_bridge.live.gnuradio.inlet import InputItems, Warn
from nflae_bridge.live.gnuradio.pmt import Pmt
from simulator.geometry.arrays import UniformLinearArray
from simulator.tracking.arrays import track_arrays
from simulator.tracking.result import SOURCES
from simulator.tracking.tracker import Observations, Track, Tracker

_LONGEST_GAP = 60.0  # s, of missing items over which a track is predicted


class ItemTracker:
    """Follow users from item to item, in their order.

    The time of an item is its number times the time between items: missing items, and users with NaN or zeros, are
    predicted. The track begins anew with each run of the sender, at numbers that do not rise, at another size, and
    after missing items of more than a minute.

    Parameters
    ----------
    seconds : float
        Time between items, s.
    height, tilt, carrier : float
        Height of the array's centre, m, its down-tilt, rad, and the carrier frequency, Hz.
    warn : callable
        Reports the beginnings of a track within a run.
    """

    def __init__(self, seconds: float, height: float, tilt: float, carrier: float, warn: Warn) -> None:
        self._seconds, self._mounting, self._warn = seconds, (height, tilt, carrier), warn
        self._tracker: Tracker | None = None
        self._size: tuple[int, ...] = ()
        self._run, self._first, self._last = 0, 0, -1  # run of the sender, first and last item of the track

    def track_items(self, items: Sequence[InputItems], channels: npt.NDArray[np.complex64]) -> list[dict[str, Pmt]]:
        """Track the users through further items.

        Parameters
        ----------
        items : sequence of InputItems
            Items, in order.
        channels : numpy.ndarray
            Their channels, complex64 (items, users, antennas); NaN, Inf or zeros where missing.

        Returns
        -------
        list of dict
            Values of tags and PDU metadata of each item, by name.
        """
        numbers: list[int] = []
        found: list[dict[str, Pmt]] = []
        for block in items:
            for number in range(block.number, block.number + len(block.channels)):
                reason = self._reason(block.run, number, channels.shape[1:])
                if reason is not None:
                    found += self._advance(numbers, channels[len(found) :])
                    numbers = []
                    self._begin(number, channels.shape[1:], reason)
                numbers.append(number)
                self._run, self._last = block.run, number
        return found + self._advance(numbers, channels[len(found) :])

    def warm_up(self, users: int, antennas: int) -> None:
        """Track users that are not used, so that the first item meets no loading.

        Parameters
        ----------
        users, antennas : int
            Size of an item.
        """
        waves = torch.ones(2, users, antennas, dtype=torch.complex64)
        self._new(antennas).advance(self._seconds * np.arange(2.0), Observations(waves))

    def _reason(self, run: int, number: int, size: tuple[int, ...]) -> str | None:
        """Return why the track begins anew with an item, None if it goes on; empty for the beginning of a run."""
        if self._tracker is None or run != self._run:
            return ""
        if size != self._size:
            return f"{size[0]} users and {size[1]} antennas follow {self._size[0]} and {self._size[1]}"
        if number <= self._last:
            return f"it follows item {self._last}"
        missing = number - self._last - 1
        if missing and missing * self._seconds > _LONGEST_GAP:
            return f"{missing} items are missing, {missing * self._seconds:g} s"
        return None

    def _begin(self, number: int, size: tuple[int, ...], reason: str) -> None:
        if reason:
            self._warn("track", f"item {number}: the track begins anew: {reason}")
        self._tracker, self._size, self._first = self._new(size[1]), size, number

    def _new(self, antennas: int) -> Tracker:
        height, tilt, carrier = self._mounting
        return Tracker(UniformLinearArray(antennas, carrier, height, tilt))

    def _advance(self, numbers: Sequence[int], channels: npt.NDArray[np.complex64]) -> list[dict[str, Pmt]]:
        if not numbers:
            return []
        assert self._tracker is not None
        times = self._seconds * np.array([number - self._first for number in numbers], np.float64)
        return _metadata(self._tracker.advance(times, Observations(torch.from_numpy(channels[: len(numbers)]))))


def _metadata(found: Track) -> list[dict[str, Pmt]]:
    """Return the values of tags and PDU metadata, by step."""
    arrays = track_arrays(found)
    columns = {name: arrays[name].astype(dtype) for name, dtype in TRACK_DTYPES.items()}
    return [
        {
            **{f"nflae_{name}": values[step].reshape(-1) for name, values in columns.items()},
            f"nflae_{TRACK_SOURCE}": ",".join(SOURCES[code] for code in found.source[step]),
        }
        for step in range(len(found.source))
    ]
