"""Measure the error vector magnitude of received symbols per user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pmt
from gnuradio import gr

from matlab_io.errors import NflaeError
from nflae_bridge.live.gnuradio.blocks.requests import LATE_KEY
from nflae_bridge.live.gnuradio.blocks.sizes import vector_of
from nflae_bridge.live.gnuradio.pmt import encode


class EvmProbe(gr.sync_block):
    """Compare received with sent symbols: 10 log10(sum |r - s|^2 / sum |s|^2) per user, over some items at a time.

    Inputs: symbols sent and received, vectors of users * symbols complex numbers, user after user. Message ports:
    ``evm`` has a dictionary per report, of ``evm_db`` (f32vector), ``items``, ``late`` (items tagged as such) and
    ``last_item``; ``constellation`` a PDU of the received symbols of its last item, for a QT GUI Constellation Sink. At
    the end the figures of the whole run are logged.

    Parameters
    ----------
    users, symbols : int
        Sizes; symbols per user and item.
    items : int
        Items per report.
    log : bool
        Log every report.
    callback : callable or None
        Called with the EVM per user, dB, float64 (users,), at every report.

    Raises
    ------
    NflaeError
        If `items` is below 1.
    """

    def __init__(
        self,
        users: int,
        symbols: int,
        items: int = 50,
        log: bool = True,
        callback: Callable[[npt.NDArray[np.float64]], object] | None = None,
    ) -> None:
        block = vector_of(users=users, symbols=symbols)
        gr.sync_block.__init__(self, "nflae EVM Probe", [block, block], None)
        if items < 1:
            raise NflaeError(f"items per report must be at least 1, got {items}")
        self._users, self._items, self._log, self._callback = users, items, log, callback
        self._ports = {name: pmt.intern(name) for name in ("evm", "constellation")}
        for port in self._ports.values():
            self.message_port_register_out(port)
        self._late_key = pmt.intern(LATE_KEY)
        self._evm = np.full(users, np.nan)
        self.start()

    def start(self) -> bool:
        """Begin anew."""
        self._energy = np.zeros((2, 2, self._users))  # of the run and of the report: errors, symbols
        self._counts = np.zeros((2, 2), int)  # of the run and of the report: items, late items
        return True

    def stop(self) -> bool:
        """Log the figures of the run."""
        if self._counts[0, 0]:
            self._write("whole run", 0)
        return True

    def evm_db(self) -> list[float]:
        """Return the EVM per user of the last report, dB; NaN before the first."""
        return [float(value) for value in self._evm]

    def work(self, input_items: list[npt.NDArray[Any]], output_items: list[npt.NDArray[Any]]) -> int:
        """Add the errors of some items, up to the next report.

        Parameters
        ----------
        input_items, output_items : list of numpy.ndarray
            Vectors per port, one per row.

        Returns
        -------
        int
            Items compared.
        """
        count = min(len(input_items[0]), self._items - int(self._counts[1, 0]))
        sent, received = (items[:count].reshape(count, self._users, -1) for items in input_items)
        errors = (np.abs(received - sent) ** 2).sum((0, 2), np.float64)
        self._energy += [errors, (np.abs(sent) ** 2).sum((0, 2), np.float64)]
        late = self.get_tags_in_window(1, 0, count, self._late_key)
        self._counts += [count, len({tag.offset for tag in late})]
        if self._counts[1, 0] == self._items:
            self._report(received[-1], self.nitems_read(0) + count - 1)
        return int(count)

    def _report(self, received: npt.NDArray[np.complex64], last: int) -> None:
        self._evm = _decibels(*self._energy[1])
        items, late = self._counts[1].tolist()
        fields = {"evm_db": self._evm.astype(np.float32), "items": items, "late": late, "last_item": np.uint64(last)}
        self.message_port_pub(self._ports["evm"], pmt.deserialize_str(encode(fields)))
        vector = pmt.init_c32vector(received.size, received.ravel())
        self.message_port_pub(self._ports["constellation"], pmt.cons(pmt.make_dict(), vector))
        if self._log:
            self._write(f"items to {last}", 1)
        if self._callback is not None:
            self._callback(self._evm.copy())
        self._energy[1], self._counts[1] = 0, 0

    def _write(self, part: str, row: int) -> None:
        values = " ".join(f"{value:.1f}" for value in _decibels(*self._energy[row]))
        items, late = self._counts[row]
        self.logger.info(f"{part}: EVM of users 1 to {self._users} in dB: {values}; {items} items, {late} late")


def _decibels(errors: npt.NDArray[np.float64], energy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 10 * np.log10(errors / energy)
