"""Run the loop from inlet to outlets: gather items, precode them, and send them to every output.

The next items are gathered only when all outputs have taken the last. Outputs that wait (push, rep) thus make the input
wait, and with it a sender on a push socket: nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.errors import NflaeError
from matlab_io.result import Result
from nflae_bridge.files.validation import fault_of, good_drops
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.inlet import Inlet, InputItems, Warn
from nflae_bridge.live.gnuradio.items import (
    STREAM_ARRAYS,
    OutputItems,
    Stream,
    result_metadata,
    zero_items,
)
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.outlets import Outlet
from nflae_bridge.live.gnuradio.pmt import Pmt

_POLL_SECONDS = 0.1
# After a stop: for messages that have arrived already, and for readers to take the last items.
_DRAIN_SECONDS = 2.0
_FLUSH_SECONDS = 5.0


class Precode(Protocol):
    """Compute a `Result` for channels, complex64 (drops, users, antennas), and the fields of a `LinkBudget`."""

    def __call__(
        self,
        channels: npt.NDArray[np.complex64],
        *,
        power: float,
        noise_power: float,
        alpha_c: float,
        min_rate: float,
    ) -> Result:
        """Compute the result of as many drops."""
        ...


@dataclass(frozen=True)
class RelayOptions:
    """Hold the options of a relay.

    Parameters
    ----------
    max_batch : int
        Largest number of drops computed at a time.
    scaled : bool
        Send precoders sqrt(P_k) w_k instead of w_k.
    direct : bool
        The input is conj(h_k), as in y = H x.
    with_results : bool
        Some output carries tags or metadata with the further results.
    on_bad_drop : {"error", "skip"}
        Stop at an unusable drop, or answer it with zeros.
    """

    max_batch: int = 64
    scaled: bool = False
    direct: bool = False
    with_results: bool = False
    on_bad_drop: Literal["error", "skip"] = "skip"


class Relay:
    """Pass items from an inlet through a precoding function to outlets, in order and without loss.

    Parameters
    ----------
    inlet : Inlet
        Input.
    outlets : sequence of Outlet
        Outputs.
    precode : Precode
        Precoding function.
    options : RelayOptions
        Options.
    counts : Counts
        Counts to update.
    warn : callable
        Reports unusable items.
    tick : callable
        Called several times per second.
    stopping : callable
        Returns true when the loop is to end.
    """

    def __init__(
        self,
        inlet: Inlet,
        outlets: Sequence[Outlet],
        precode: Precode,
        options: RelayOptions,
        counts: Counts,
        warn: Warn,
        tick: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._inlet, self._outlets, self._precode, self._options = inlet, outlets, precode, options
        self._counts, self._warn, self._tick, self._stopping = counts, warn, tick, stopping

    def run(self) -> None:
        """Run until stopped, then pass on the messages that have arrived.

        Raises
        ------
        NflaeError
            For an unusable drop with ``on_bad_drop="error"``, and whatever the precoding function raises.
        """
        self._inlet.start()
        try:
            self._loop()
        finally:
            self._counts.unsent = self._counts.received - self._counts.sent

    def _loop(self) -> None:
        all_sent = True
        while not self._stopping():
            self._tick()
            all_sent = self._pass_on(self._inlet.gather(self._options.max_batch, _POLL_SECONDS))
        deadline = time.monotonic() + _DRAIN_SECONDS
        while all_sent and time.monotonic() < deadline:
            items = self._inlet.gather(self._options.max_batch, 0, request=False)
            all_sent = bool(items) and self._pass_on(items)

    def _pass_on(self, items: list[InputItems]) -> bool:
        """Return whether every output has taken all items before the end."""
        if not items:
            return True
        blocks = list(self._precoded(items))
        for outlet in self._outlets:
            outlet.put(blocks)
        self._flush()
        left = max(outlet.waiting for outlet in self._outlets)
        self._counts.sent += sum(len(block.channels) for block in items) - left
        return not left

    def _flush(self) -> None:
        """Advance every outlet until it is empty; for a few seconds at most after a stop."""
        deadline = None
        while True:
            for outlet in self._outlets:
                outlet.advance()
            waiting = [outlet for outlet in self._outlets if outlet.waiting]
            if not waiting:
                return
            if deadline is None and self._stopping():
                deadline = time.monotonic() + _FLUSH_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                return
            poller = zmq.Poller()
            for outlet in waiting:
                outlet.register(poller)
            poller.poll(round(1e3 * _POLL_SECONDS))
            self._tick()

    def _precoded(self, items: list[InputItems]) -> Iterator[OutputItems]:
        """Compute consecutive items of equal parameters together."""
        for parameters, alike in groupby(items, key=lambda block: block.parameters):
            group = list(alike)
            values, results = self._compute(group, parameters)
            start = 0
            for block in group:
                part = slice(start, start + len(block.channels))
                own = {stream: array[part] for stream, array in values.items()}
                yield OutputItems(block.number, own, results[part], block.tags, block.metadata)
                start = part.stop

    def _compute(
        self, items: list[InputItems], parameters: LinkParameters
    ) -> tuple[dict[Stream, npt.NDArray[Any]], list[dict[str, Pmt]]]:
        """Compute the values of each stream, zero for unusable drops, and the further results per drop."""
        channels = np.concatenate([block.channels for block in items])
        values = zero_items(*channels.shape)
        results: list[dict[str, Pmt]] = [{} for _ in channels]
        faults = _faults(items, channels)
        good = np.array([not fault for fault in faults])
        if good.any():
            kept = channels if good.all() else channels[good]
            result = self._precode(kept.conj() if self._options.direct else kept, **asdict(parameters.budget))
            self._fill(values, good, result)
            for row, drop in enumerate(np.flatnonzero(good).tolist() if self._options.with_results else ()):
                results[drop] = result_metadata(result, row)
            for drop in np.flatnonzero(good)[~np.isfinite(result.sum_rate)].tolist():
                faults[drop] = (
                    "its rates are not finite numbers: scale the channels, power and noise power to a common unit"
                )
                for array in values.values():
                    array[drop] = 0
        numbers = [block.number + row for block in items for row in range(len(block.channels))]
        for drop, fault in enumerate(faults):
            if fault:
                self._report_fault(numbers[drop], fault)
                results[drop] = {"nflae_error": fault}
        return values, results if self._options.with_results else []

    def _fill(self, values: dict[Stream, npt.NDArray[Any]], good: npt.NDArray[np.bool_], result: Result) -> None:
        for stream, name in STREAM_ARRAYS.items():
            values[stream][good] = getattr(result, name)
        if self._options.scaled:
            values["precoders"][good] *= np.sqrt(result.power)[..., None]

    def _report_fault(self, number: int, fault: str) -> None:
        """Count an unusable item; raise NflaeError for it with ``on_bad_drop="error"``."""
        if self._options.on_bad_drop == "error":
            raise NflaeError(f"item {number}: {fault}; --on-bad-drop skip answers such items with zeros")
        self._counts.bad += 1
        self._warn("bad_drop", f"item {number} is answered with zeros: {fault}")


def _faults(items: list[InputItems], channels: npt.NDArray[np.complex64]) -> list[str]:
    """Return the fault of each drop, empty for a usable one."""
    faults = [block.fault for block in items for _ in block.channels]
    for drop in np.flatnonzero(~good_drops(channels)).tolist():
        if not faults[drop]:
            faults[drop] = fault_of(channels[drop], drop).describe()
    return faults
