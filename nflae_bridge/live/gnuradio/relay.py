"""Run the loop from inlet to outlets: gather items, precode them, and send them to every output.

The next items are gathered only when all outputs have taken the last. Outputs that wait (push, rep) thus make the input
wait, and with it a sender on a push socket: nothing is lost. The computation runs in a thread of its own; meanwhile the
loop serves peers, requests, the log and signals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.errors import NflaeError
from matlab_io.result import RESULT_ARRAYS, Result
from nflae_bridge.files.validation import fault_of, good_drops
from nflae_bridge.live.gnuradio.computation.items import (
    STREAM_ARRAYS,
    OutputItems,
    Stream,
    first_items,
    item_numbers,
    result_metadata,
    zero_items,
)
from nflae_bridge.live.gnuradio.computation.prediction import ItemPredictor
from nflae_bridge.live.gnuradio.computation.worker import Worker
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.inlet import Inlet, InputItems, Warn
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.outlets import Outlet
from nflae_bridge.live.gnuradio.pmt import Pmt
from nflae_bridge.live.view.latency import LatencyHistogram
from nflae_bridge.live.view.sampler import Sample, Sampler

if TYPE_CHECKING:  # requires PyTorch
    from nflae_bridge.live.gnuradio.computation.tracking import ItemTracker

_POLL_SECONDS = 0.05
# Time after which an output without a reader is reported, s.
_NO_READER_SECONDS = 1.0


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
    drain_seconds, stop_seconds : float
        Times after a stop at which no more messages are read, and at which the loop ends whatever waits, s.
    """

    max_batch: int = 64
    scaled: bool = False
    direct: bool = False
    with_results: bool = False
    on_bad_drop: Literal["error", "skip"] = "skip"
    drain_seconds: float = 0.3
    stop_seconds: float = 0.5


class Relay:
    """Pass items from an inlet through a precoding function to outlets, in order and without loss.

    Parameters
    ----------
    inlet : Inlet
        Input.
    outlets : sequence of Outlet
        Outputs.
    prepare : callable
        Returns the precoding function; called in the thread of the computation.
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
    ready : callable
        Called when `prepare` has returned.
    predictor : ItemPredictor or None
        Prediction of the channels for which items are precoded; None for the channels of the items.
    tracker : ItemTracker or None
        Tracks of the users, by the channels of the items themselves; None for no tracks.
    sampler : Sampler or None
        Receives the last items and results while a page of the live view is open.
    latency : LatencyHistogram or None
        Counts the times from the arrival of items to their answers.
    """

    def __init__(
        self,
        inlet: Inlet,
        outlets: Sequence[Outlet],
        prepare: Callable[[], Precode],
        options: RelayOptions,
        counts: Counts,
        warn: Warn,
        tick: Callable[[], None],
        stopping: Callable[[], bool],
        ready: Callable[[], None] = lambda: None,
        predictor: ItemPredictor | None = None,
        tracker: ItemTracker | None = None,
        sampler: Sampler | None = None,
        latency: LatencyHistogram | None = None,
    ) -> None:
        self._inlet, self._outlets, self._prepare, self._options = inlet, outlets, prepare, options
        self._counts, self._warn, self._tick, self._stopping, self._ready = counts, warn, tick, stopping, ready
        self._predictor, self._tracker, self._sampler = predictor, tracker, sampler
        self._latency = LatencyHistogram() if latency is None else latency
        self._worker = Worker()
        self._precode: Precode | None = None
        self._batch: list[InputItems] = []
        self._failure: NflaeError | None = None  # of the item after the batch
        self._discarded = [0 for _ in outlets]
        self._delivered = self._progress = False
        self._waiting_since: float | None = None
        self._stop_at: float | None = None
        self._ended_run = 0

    def run(self) -> None:
        """Run until stopped; then pass on what has arrived, as far as time permits.

        Raises
        ------
        NflaeError
            For an unusable drop with ``on_bad_drop="error"``, when the outputs have taken the items before it, and
            whatever the precoding function raises.
        """
        self._worker.submit(self._prepare)
        try:
            while not self._is_over() and (self._failure is None or self._batch):
                self._tick()
                self._follow()
                self._progress = self._step()
                if not self._progress:
                    self._poll()
            if self._failure is not None:
                raise self._failure
        finally:
            if self._delivered:
                self._settle(max(outlet.waiting for outlet in self._outlets))
            self._counts.unsent = self._counts.unfinished
            self._worker.close()

    def _is_over(self) -> bool:
        """Return whether a stop was ordered and nothing is left to do, or no time."""
        if not self._stopping():
            return False
        if self._stop_at is None:
            self._stop_at, self._progress = time.monotonic(), True
        if self._precode is None or time.monotonic() - self._stop_at > self._options.stop_seconds:
            return True
        sender = self._inlet.sender
        awaits_answer = self._may_begin() and sender.connected and sender.request_open
        return not (self._worker.busy or self._batch or self._progress or awaits_answer)

    def _may_begin(self) -> bool:
        return self._stop_at is None or time.monotonic() - self._stop_at < self._options.drain_seconds

    def _follow(self) -> None:
        """Read the events of all peers, and report an output without a reader."""
        sender = self._inlet.sender
        sender.follow()
        if sender.run in sender.ended and self._ended_run != sender.run:
            self._ended_run = sender.run
            for outlet in self._outlets:
                outlet.sender_left(sender.run, sender.began)
        for outlet in self._outlets:  # after the sender: who is found to have come at the same time came later
            outlet.follow()
        now = time.monotonic()
        unread = [outlet for outlet in self._outlets if outlet.waiting and not outlet.has_reader]
        if not unread:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        elif now - self._waiting_since > _NO_READER_SECONDS:
            self._waiting_since = math.inf
            for outlet in unread:
                self._warn(
                    "no_reader", f"{outlet.stream}: items wait at {outlet.address}, where no reader is connected"
                )

    def _step(self) -> bool:
        """Do what can be done without waiting; return whether anything was done."""
        latest = self._inlet.endpoint.latest
        if latest and self._precode is not None and (self._worker.busy or self._batch):
            self._inlet.skip_to_newest()
        if self._precode is None and not latest:
            self._inlet.read_ahead()
        if self._worker.busy:
            return self._worker.done and self._take_result()
        if self._batch:
            return self._flush()
        return self._may_begin() and self._begin()

    def _take_result(self) -> bool:
        """Take the precoding function, or computed items, from the worker."""
        result = self._worker.result()
        if self._precode is None:
            self._precode = result
            self._inlet.sender.subscribe()
            self._ready()
            return True
        blocks, self._failure = result
        if self._failure is not None:
            self._batch = first_items(self._batch, sum(block.drops for block in blocks))
            if not blocks:
                return True
        for outlet in self._outlets:
            outlet.put(blocks, self._inlet.dialect)
        self._discarded = [0 for _ in self._outlets]
        self._delivered = True
        self._flush()
        if self._failure is not None and self._batch:
            self._warn("bad_drop", f"{self._failure}; the items before it wait for their readers")
        return True

    def _begin(self) -> bool:
        """Start the computation of the items that have arrived; return whether there are any."""
        items = self._inlet.gather(self._options.max_batch, request=self._stop_at is None)
        wanted = [
            block
            for block in items
            if any(outlet.accepts(self._inlet.sender.run_of(block.run)) for outlet in self._outlets)
        ]
        self._counts.stale += _drops(items) - _drops(wanted)
        if wanted:
            self._batch = wanted
            self._worker.submit(lambda: self._precoded_until_failure(wanted))
        return bool(items)

    def _flush(self) -> bool:
        """Send what the outputs take; return whether they have taken anything."""
        before = [outlet.waiting for outlet in self._outlets]
        for index, outlet in enumerate(self._outlets):
            self._discarded[index] += outlet.advance(self._inlet.sender.run_of)
        after = [outlet.waiting for outlet in self._outlets]
        if not any(after):
            self._settle(0)
        return after != before

    def _settle(self, waiting: int) -> None:
        """Count the items of the batch that the outputs have taken or discarded."""
        stale = max(self._discarded)
        lag = time.monotonic() - min(block.arrived for block in self._batch)
        self._latency.count(lag)  # first: items are counted as sent together with their time
        self._counts.stale += stale
        self._counts.sent += _drops(self._batch) - stale - waiting
        self._counts.lag_ms = max(self._counts.lag_ms, round(1e3 * lag, 1))
        self._batch, self._delivered = [], False

    def _poll(self) -> None:
        """Wait for an event of a socket or the end of the computation, for a moment at most."""
        poller = zmq.Poller()
        idle = not (self._worker.busy or self._batch) and self._may_begin()
        self._inlet.sender.register(
            poller, messages=idle or (self._inlet.endpoint.latest and self._precode is not None)
        )
        for outlet in self._outlets:
            outlet.register(poller)
        self._worker.register(poller)
        poller.poll(round(1e3 * _POLL_SECONDS))

    def _precoded_until_failure(self, items: list[InputItems]) -> tuple[list[OutputItems], NflaeError | None]:
        """Compute items; with ``on_bad_drop="error"`` those before the first unusable one, and its error."""
        failure = None
        if self._options.on_bad_drop == "error":
            faults = [fault for block in items for fault in _faults([block], block.channels)]
            bad = next((row for row, fault in enumerate(faults) if fault), None)
            if bad is not None:
                failure = _failure(item_numbers(items)[bad], faults[bad])
                items = first_items(items, bad)
        return list(self._precoded(items)), failure

    def _precoded(self, items: list[InputItems]) -> Iterator[OutputItems]:
        """Compute consecutive items of equal parameters together."""
        for parameters, alike in groupby(items, key=lambda block: block.parameters):
            group = list(alike)
            values, results = self._compute(group, parameters)
            start = 0
            for block in group:
                part = slice(start, start + len(block.channels))
                own = {stream: array[part] for stream, array in values.items()}
                yield OutputItems(block.number, own, results[part], block.tags, block.metadata, block.run)
                start = part.stop

    def _compute(
        self, items: list[InputItems], parameters: LinkParameters
    ) -> tuple[dict[Stream, npt.NDArray[Any]], list[dict[str, Pmt]]]:
        """Compute the values of each stream, zero for unusable drops, and the further results per drop."""
        channels = np.concatenate([block.channels for block in items])
        if self._options.direct:
            channels = channels.conj()
        values = zero_items(*channels.shape)
        faults = _faults(items, channels)
        results: list[dict[str, Pmt]] = [{} for _ in channels]
        tracked = results if self._tracker is None else self._tracker.track_items(items, channels)
        if self._predictor is not None:
            results = self._predictor.predict_items(items, channels, faults)
        good = np.array([not fault for fault in faults])
        if good.any():
            kept = channels if good.all() else channels[good]
            assert self._precode is not None
            result = self._precode(kept, **asdict(parameters.budget))
            if self._sampler is not None and self._sampler.is_open:
                self._sampler.offer(_sample(kept, result, parameters))
            self._fill(values, good, result)
            for row, drop in enumerate(np.flatnonzero(good).tolist() if self._options.with_results else ()):
                results[drop] |= result_metadata(result, row)
            for drop in np.flatnonzero(good)[~np.isfinite(result.sum_rate)].tolist():
                faults[drop] = (
                    "its rates are not finite numbers: scale the channels, power and noise power to a common unit"
                )
                for array in values.values():
                    array[drop] = 0
        numbers = item_numbers(items)
        for drop, fault in enumerate(faults):
            if fault:
                self._report_fault(numbers[drop], fault)
                results[drop] = {"nflae_error": fault}
        if not (self._options.with_results or self._predictor or self._tracker):
            return values, []
        return values, [found | where for found, where in zip(results, tracked, strict=True)]

    def _fill(self, values: dict[Stream, npt.NDArray[Any]], good: npt.NDArray[np.bool_], result: Result) -> None:
        for stream, name in STREAM_ARRAYS.items():
            values[stream][good] = getattr(result, name)
        if self._options.scaled:
            values["precoders"][good] *= np.sqrt(result.power)[..., None]

    def _report_fault(self, number: int, fault: str) -> None:
        """Count an unusable item; raise NflaeError for it with ``on_bad_drop="error"``."""
        if self._options.on_bad_drop == "error":
            raise _failure(number, fault)
        self._counts.bad += 1
        self._warn("bad_drop", f"item {number} is answered with zeros: {fault}")


def _sample(channels: npt.NDArray[np.complex64], result: Result, parameters: LinkParameters) -> Sample:
    """Return results for the live view."""
    arrays = {entry.name: getattr(result, entry.field) for entry in RESULT_ARRAYS}
    budget = asdict(parameters.budget)
    return Sample(channels, arrays, budget["noise_power"], info=budget)


def _failure(number: int, fault: str) -> NflaeError:
    return NflaeError(f"item {number}: {fault}; --on-bad-drop skip answers such items with zeros")


def _drops(items: list[InputItems]) -> int:
    return sum(len(block.channels) for block in items)


def _faults(items: list[InputItems], channels: npt.NDArray[np.complex64]) -> list[str]:
    """Return the fault of each drop, empty for a usable one."""
    faults = [block.fault for block in items for _ in block.channels]
    for drop in np.flatnonzero(~good_drops(channels)).tolist():
        if not faults[drop]:
            faults[drop] = fault_of(channels[drop], drop).describe()
    return faults
