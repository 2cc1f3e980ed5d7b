"""Keep the last snapshots of the channels, from which `Client.predict` predicts the next ones."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.client.requests import convert
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.protocol.headers import MAX_HISTORY

DEFAULT_LENGTH = 16


class History:
    """Keep the last snapshots of all users, oldest first.

    Parameters
    ----------
    length : int
        Number of snapshots that are kept.
    ahead : int
        Number of snapshots to be predicted, which takes a history of twice as many.

    Raises
    ------
    BadRequest
        If a number is less than 1 or above 256, or the history is too short for the prediction.

    Examples
    --------
    >>> history = History(16, ahead=2)
    >>> history.push(np.ones((4, 64), complex), time=0.0)
    >>> history.ready
    False
    """

    def __init__(self, length: int = DEFAULT_LENGTH, ahead: int = 1) -> None:
        for name, value in (("length", length), ("ahead", ahead)):
            if not 1 <= convert(name, "int", value) <= MAX_HISTORY:
                raise BadRequest(f"{name} must be a whole number of snapshots from 1 to {MAX_HISTORY}, got {value}")
        if length < 2 * ahead:
            raise BadRequest(f"a history of {length} snapshots predicts {length // 2}: give a length of {2 * ahead}")
        self.length, self.ahead = int(length), int(ahead)
        self._snapshots: deque[npt.NDArray[np.complex64] | None] = deque(maxlen=self.length)
        self._times: deque[float] = deque(maxlen=self.length)
        self._shape: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._snapshots)

    @property
    def ready(self) -> bool:
        """True once there are enough snapshots for the prediction, gaps included."""
        return len(self._snapshots) >= 2 * self.ahead

    @property
    def snapshots(self) -> npt.NDArray[np.complex64]:
        """The snapshots, complex64 (snapshots, users, antennas), oldest first; NaN in gaps."""
        if self._shape is None:
            raise BadRequest("the history has no snapshot yet: push one")
        gap = np.full(self._shape, np.nan, np.complex64)
        return np.stack([gap if snapshot is None else snapshot for snapshot in self._snapshots])

    @property
    def times(self) -> npt.NDArray[np.float64] | None:
        """Times of the snapshots, s, (snapshots,); None if they were pushed without."""
        return np.array(self._times) if self._times else None

    def push(self, snapshot: npt.ArrayLike | None, time: float | None = None) -> None:
        """Append a snapshot; the oldest one is dropped from a full history.

        Parameters
        ----------
        snapshot : array_like or None
            Channels of all users, complex (users, antennas); None or NaN for a gap.
        time : float, optional
            Time of the snapshot, s, later than the last one; by default the snapshots are evenly spaced.

        Raises
        ------
        BadRequest
            If size or time do not continue the history; `clear` begins a new one.
        """
        channels = convert("snapshot", "npt.ArrayLike | None", snapshot)
        if channels is not None:
            self._check_channels(channels)
        time = convert("time", "float | None", time)
        self._check_time(time)
        if channels is None and self._shape is None:
            return  # a gap before the first snapshot
        if channels is not None:
            self._shape = channels.shape[0], channels.shape[1]
        self._snapshots.append(None if channels is None else channels.astype(np.complex64))
        if time is not None:
            self._times.append(time)

    def clear(self) -> None:
        """Remove all snapshots, as after a change of the users, their order, or the gain of the receiver."""
        self._snapshots.clear()
        self._times.clear()
        self._shape = None

    def _check_channels(self, channels: npt.NDArray[np.generic]) -> None:
        if channels.ndim != 2 or not np.iscomplexobj(channels) or not channels.size:
            raise BadRequest(
                f"a snapshot must be complex (users, antennas), got {channels.dtype} of shape {channels.shape}"
            )
        if self._shape is not None and channels.shape != self._shape:
            raise BadRequest(
                f"a snapshot of {channels.shape[0]} users and {channels.shape[1]} antennas follows ones of"
                f" {self._shape[0]} and {self._shape[1]}: clear() begins a new history"
            )

    def _check_time(self, time: float | None) -> None:
        if self._snapshots and (time is None) == bool(self._times):
            raise BadRequest("push a time with every snapshot of a history, or with none")
        if time is not None and not math.isfinite(time):
            raise BadRequest(f"the time of a snapshot must be finite, in seconds, got {time}")
        if time is not None and self._times and time <= self._times[-1]:
            raise BadRequest(
                f"a snapshot at {time:g} s follows one at {self._times[-1]:g} s: push them in the order of time"
            )
