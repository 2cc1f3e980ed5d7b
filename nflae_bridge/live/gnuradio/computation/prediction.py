"""Predict the channels of a stream some items ahead, from the last items of each run of its sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from nflae_bridge.api.predict import PredictedChannels, predict
from nflae_bridge.live.client.history import History
from nflae_bridge.live.errors import BadChannels
from nflae_bridge.live.gnuradio.computation.items import METHOD_KEY
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.inlet import InputItems, Warn
from nflae_bridge.live.gnuradio.pmt import Pmt

Snapshot = npt.NDArray[np.complex64]


class Predict(Protocol):
    """Predict the channels after a history, as `nflae_bridge.predict` does.

    A history that is no sequence raises `BadChannels`; None is returned while the server is not available.
    """

    def __call__(self, history: Snapshot, *, ahead: int) -> PredictedChannels | None:
        """Predict the next snapshots of all users."""
        ...


class LocalPredict:
    """Predict in this process; a `Predict`.

    Parameters
    ----------
    **options
        Those of `nflae_bridge.predict`.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __call__(self, history: Snapshot, *, ahead: int) -> PredictedChannels:
        """Predict the next snapshots of all users.

        Parameters
        ----------
        history : numpy.ndarray
            Complex64, (snapshots, users, antennas), oldest first; NaN in gaps.
        ahead : int
            Number of snapshots to predict.

        Returns
        -------
        PredictedChannels
            Prediction.

        Raises
        ------
        BadChannels
            If the history is no sequence, or has too many gaps.
        """
        try:
            return predict(history, ahead=ahead, **self._options)
        except NflaeError as error:
            raise BadChannels(str(error)) from None


@dataclass(frozen=True)
class Predicted:
    """Hold the channel for which an item is precoded.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (users, antennas).
    csi_error_db : numpy.ndarray
        Estimated error per user, dB, (users,); NaN if unknown.
    method : str
        Method, or the methods of all users, separated by commas.
    """

    channels: Snapshot
    csi_error_db: npt.NDArray[np.float64]
    method: str

    @property
    def metadata(self) -> dict[str, Pmt]:
        """Method and error as tags and PDU metadata carry them."""
        return {METHOD_KEY: self.method, "nflae_csi_error_db": self.csi_error_db.astype(np.float32)}


class ItemPredictor:
    """Predict from the items of a stream, in their order.

    The history begins anew with each run of the sender, at numbers that do not rise, at another size, after more
    missing items than it holds, and where its snapshots are found to be no sequence. Until it has twice as many
    snapshots as are predicted, the last one is held.

    Parameters
    ----------
    predict : Predict
        Computation.
    ahead : int
        Number of items to predict.
    length : int
        Number of items in a full history.
    counts : Counts
        Counts to update.
    warn : callable
        Reports the beginnings of a history.
    """

    def __init__(self, predict: Predict, ahead: int, length: int, counts: Counts, warn: Warn) -> None:
        self._predict, self._ahead, self._counts, self._warn = predict, ahead, counts, warn
        self._history = History(length, ahead)
        self._place = (0, -1)  # run and number of the last item
        self._size: tuple[int, ...] = ()
        self._last: Snapshot | None = None
        self._is_faulty = False

    def __call__(self, run: int, number: int, snapshot: Snapshot | None) -> Predicted | None:
        """Predict the channel some items after an item.

        Parameters
        ----------
        run : int
            Run of the sender.
        number : int
            Number of the item.
        snapshot : numpy.ndarray or None
            Channels, complex64 (users, antennas), as h_k; None for an unusable item.

        Returns
        -------
        Predicted or None
            None if no item of the history is usable.
        """
        self._append(run, number, snapshot)
        if self._last is None:
            return None
        if not self._history.ready:
            return self._hold(f"the last item is held until the history has {2 * self._ahead} items")
        try:
            found = self._predict(self._history.snapshots, ahead=self._ahead)
        except BadChannels as fault:
            return self._begin_anew(number, snapshot, str(fault))
        if found is None:
            return self._hold("")
        self._is_faulty = False
        if snapshot is None:
            self._counts.filled += 1
        used = dict.fromkeys(found.method)
        method = ",".join(found.method if len(used) > 1 else used)
        return Predicted(found.channels[-1], found.csi_error_db[-1], method)

    def predict_items(self, items: Sequence[InputItems], channels: Snapshot, faults: list[str]) -> list[dict[str, Pmt]]:
        """Replace the channels of items by their predictions; a predicted item has no fault.

        Parameters
        ----------
        items : sequence of InputItems
            Items, in order.
        channels : numpy.ndarray
            Their channels, complex64 (items, users, antennas), as h_k.
        faults : list of str
            Fault of each, empty for a usable item.

        Returns
        -------
        list of dict
            Method and estimated error of each item; empty where nothing is predicted.
        """
        found: list[dict[str, Pmt]] = []
        for block in items:
            for number in range(block.number, block.number + len(block.channels)):
                row = len(found)
                predicted = self(block.run, number, None if faults[row] else channels[row].copy())
                found.append({} if predicted is None else predicted.metadata)
                if predicted is None:
                    continue
                if faults[row]:
                    self._warn("filled", f"item {number} is a gap in the history: {faults[row]}")
                channels[row], faults[row] = predicted.channels, ""
        return found

    def warm_up(self, users: int, antennas: int) -> None:
        """Compute a prediction that is not used, so that the first item meets no loading.

        Parameters
        ----------
        users, antennas : int
            Size of an item.
        """
        waves = np.exp(1j * np.outer(np.arange(1, users + 1), np.arange(antennas)))
        turns = np.exp(0.1j * np.arange(self._history.length))
        self._predict((turns[:, None, None] * waves).astype(np.complex64), ahead=self._ahead)

    def _append(self, run: int, number: int, snapshot: Snapshot | None) -> None:
        last_run, last = self._place
        missing = number - last - 1
        resized = snapshot is not None and snapshot.shape != self._size
        if run != last_run or not 0 <= missing < self._history.length or resized:
            self._clear()
        self._place = run, number
        for _ in range(missing if len(self._history) else 0):
            self._history.push(None)
        self._history.push(snapshot)
        if snapshot is not None:
            self._last, self._size = snapshot, snapshot.shape

    def _clear(self) -> None:
        self._history.clear()
        self._last = None

    def _begin_anew(self, number: int, snapshot: Snapshot | None, fault: str) -> Predicted | None:
        self._clear()
        self._history.push(snapshot)
        self._last = snapshot
        self._counts.histories += 1
        if not self._is_faulty:
            self._warn("history", f"item {number}: the history begins anew: {fault.removeprefix('history: ')}")
        self._is_faulty = True
        return self._hold("") if snapshot is not None else None

    def _hold(self, reason: str) -> Predicted:
        assert self._last is not None
        if reason and not self._counts.held:
            self._warn("warm_up", reason)
        self._counts.held += 1
        return Predicted(self._last, np.full(len(self._last), np.nan), "hold")
