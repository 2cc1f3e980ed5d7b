"""Run a stream: open the sockets, run the relay, and log its events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from matlab_io.version import __version__
from nflae_bridge.live.addresses import is_local
from nflae_bridge.live.gnuradio.computation.items import Stream, item_bytes
from nflae_bridge.live.gnuradio.computation.prediction import ItemPredictor
from nflae_bridge.live.gnuradio.counts import Counts, Journal
from nflae_bridge.live.gnuradio.inlet import Inlet, Warn
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.outlets import Outlet, PduOutlet, StreamOutlet
from nflae_bridge.live.gnuradio.relay import Precode, Relay, RelayOptions
from nflae_bridge.live.gnuradio.sockets.endpoints import Context, Endpoint
from nflae_bridge.live.gnuradio.sockets.peers import Write
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.signals import stopped_by_signals
from nflae_bridge.live.view import open_view
from nflae_bridge.live.view.address import ViewSettings
from nflae_bridge.live.view.latency import LatencyHistogram

if TYPE_CHECKING:  # requires PyTorch
    from nflae_bridge.live.gnuradio.computation.tracking import ItemTracker

# Time for messages already sent to leave after the sockets are closed: a stop takes less than a second in all.
_LINGER_SECONDS = 0.2


@dataclass(frozen=True)
class StreamSettings:
    """Hold the settings of a stream.

    Parameters
    ----------
    csi : Endpoint
        Input of the channels.
    outputs : dict
        Endpoints by stream: ``precoders``, ``labels``, ``powers``.
    parameters : LinkParameters
        Size and link budget of an item.
    relay : RelayOptions
        Options of the relay.
    result_tags : bool
        Add tags with the further results to the precoders.
    status_seconds : float
        Interval of the status lines in the log, s.
    journal : pathlib.Path or None
        File that keeps the number of unfinished items; None for no file.
    view : ViewSettings or None
        Settings of the live view; None for no view.
    scheme, computation : str
        Scheme, and server or device that computes, as the live view names them.
    """

    csi: Endpoint
    outputs: dict[Stream, Endpoint]
    parameters: LinkParameters
    relay: RelayOptions
    result_tags: bool = False
    status_seconds: float = 10.0
    journal: Path | None = None
    view: ViewSettings | None = None
    scheme: str = ""
    computation: str = ""


@dataclass(frozen=True)
class Computation:
    """Hold the functions that make what a stream computes with, once its sockets are open.

    Parameters
    ----------
    make_precode : callable
        Returns the precoding function for the counts to update; called in a thread, because loading a model
        takes seconds.
    make_predictor : callable or None
        Returns the prediction for the counts to update and the function that reports; None for no prediction.
    make_tracker : callable or None
        Returns the tracks of users for the function that reports; None for no tracks.
    """

    make_precode: Callable[[Counts], Precode]
    make_predictor: Callable[[Counts, Warn], ItemPredictor] | None = None
    make_tracker: Callable[[Warn], ItemTracker] | None = None


def stream(settings: StreamSettings, computation: Computation, log: EventLog) -> None:
    """Relay until SIGTERM or SIGINT, then pass on the items already received, for half a second at most.

    A computation that is not over by then is abandoned, and its thread still runs.

    Parameters
    ----------
    settings : StreamSettings
        Settings.
    computation : Computation
        Precoding, prediction and tracks.
    log : EventLog
        Log of events; the counts are written at the end in any case.

    Raises
    ------
    NflaeError
        If an address or the journal is unusable, and whatever precoding raises.
    """
    stopped: list[bool] = []
    counts = Counts()
    context: Context = zmq.Context()
    context.linger = 0  # of sockets that are left open by an exception; ZeroMQ itself waits for ever
    with ExitStack() as stack, stopped_by_signals(lambda: stopped.append(True)):
        stack.callback(context.term)
        inlet, outlets = _open(context, settings, counts, log, stack)
        record = _open_journal(settings.journal, counts, log, stack)
        meter = _Meter(counts, log, settings.status_seconds, record)
        warn, parameters = _warner(log), settings.parameters
        predictor = computation.make_predictor and computation.make_predictor(counts, warn)
        tracker = computation.make_tracker and computation.make_tracker(warn)
        latency = LatencyHistogram()
        sampler = open_view(settings.view, lambda: _state(latency, counts, settings, meter), log)
        relay = Relay(
            inlet,
            outlets,
            lambda: _warmed_up(computation.make_precode(counts), predictor, tracker, parameters),
            settings.relay,
            counts,
            warn=warn,
            tick=meter.tick,
            stopping=lambda: bool(stopped),
            ready=lambda: log.info("ready", pid=os.getpid(), users=parameters.users, antennas=parameters.antennas),
            predictor=predictor,
            tracker=tracker,
            sampler=sampler,
            latency=latency,
        )
        try:
            relay.run()
        finally:
            meter.stop()


def _state(latency: LatencyHistogram, counts: Counts, settings: StreamSettings, meter: _Meter) -> dict[str, Any]:
    """Return what the live view shows of a stream beside its items."""
    return {
        "program": "nflae stream",
        "version": __version__,
        "model": settings.scheme,
        "device": settings.computation,
        "uptime_s": round(meter.seconds, 1),
        "queue_depth": counts.unfinished,
        "drops_per_second": round(counts.sent / max(1.0, meter.seconds), 1),
        "counts": {name: count for name, count in asdict(counts).items() if name != "lag_ms"},
        "latency": latency.describe(),
    }


def _open_journal(path: Path | None, counts: Counts, log: EventLog, stack: ExitStack) -> Callable[[], None]:
    """Count the unfinished items of the former program as lost; return the function that writes the present ones."""
    if path is None:
        return lambda: None
    journal = Journal(path)
    stack.callback(journal.close)
    if journal.lost:
        counts.lost += journal.lost
        counts.gaps += 1
        log.warning(
            "lost_in_restart",
            items=journal.lost,
            message="the former program had received these items and did not send them; what its sender had queued for"
            " it is missing too, and not counted",
        )
    return lambda: journal.write(counts)


def _open(
    context: Context, settings: StreamSettings, counts: Counts, log: EventLog, stack: ExitStack
) -> tuple[Inlet, list[Outlet]]:
    outlets: list[Outlet] = []
    for name, endpoint in settings.outputs.items():
        outlet = _outlet(context, settings, name, endpoint, _writer(log, name))
        stack.callback(outlet.close, _LINGER_SECONDS)
        outlets.append(outlet)
    inlet = Inlet(
        context,
        settings.csi,
        settings.parameters,
        counts,
        warn=_warner(log),
        resizable=all(endpoint.pdu for endpoint in settings.outputs.values()),
        write=_writer(log, "csi"),
    )
    stack.callback(inlet.sender.close)
    _log_endpoint(log, "csi", inlet.endpoint, inlet.sender.address)
    for outlet in outlets:
        _log_endpoint(log, outlet.stream, outlet.endpoint, outlet.address)
    _log_assumptions(log, settings.csi)
    return inlet, outlets


def _log_assumptions(log: EventLog, csi: Endpoint) -> None:
    """Write what the messages of the input do not tell."""
    if csi.pdu and not csi.pmt:
        log.warning(
            "pmt_assumed",
            message="PDUs are read as GNU Radio 3.10.5 and later write them; for 3.9.0 to 3.10.4, which exchange real"
            " and imaginary parts, add ,pmt=3.9 or the precoders are wrong; ,pmt=3.10 confirms",
        )
    elif not (csi.tags or csi.pdu):
        log.info(
            "untagged",
            message="items are counted from each connection on; items lost in a restart of this program are not"
            " detected without ,tags",
        )


def _warner(log: EventLog) -> Warn:
    """Return a function that writes a warning of an event and a text."""

    def warn(event: str, text: str) -> None:
        log.warning(event, message=text)

    return warn


def _writer(log: EventLog, name: str) -> Write:
    """Return a function that writes the events of the peers of a stream; failures are limited in number."""

    def write(event: str, **fields: object) -> None:
        (log.info if event == "connected" else log.warning)(event, stream=name, **fields)

    return write


def _log_endpoint(log: EventLog, name: str, endpoint: Endpoint, address: str) -> None:
    log.info(
        "listening" if endpoint.bind else "connecting",
        stream=name,
        kind=endpoint.kind,
        address=address,
        tags=int(endpoint.tags),
        pdu=int(endpoint.pdu),
    )
    if endpoint.bind and not is_local(address):
        log.warning("exposed", address=address, message="other machines can reach this address; nothing is encrypted")


def _outlet(context: Context, settings: StreamSettings, name: Stream, endpoint: Endpoint, write: Write) -> Outlet:
    size = item_bytes(name, settings.parameters.users, settings.parameters.antennas)
    if endpoint.pdu:
        return PduOutlet(context, endpoint, name, size, write)
    result_tags = settings.result_tags and name == "precoders"
    return StreamOutlet(context, endpoint, name, size * settings.relay.max_batch, result_tags, write)


def _warmed_up(
    precode: Precode, predictor: ItemPredictor | None, tracker: ItemTracker | None, parameters: LinkParameters
) -> Precode:
    """Compute trial batches, so that the first item meets no loading; engines compile at the second call."""
    angles = np.random.default_rng(0).random((1, parameters.users, parameters.antennas))
    channels = np.exp(2j * np.pi * angles).astype(np.complex64)
    for _ in range(2):
        precode(channels, **asdict(parameters.budget))
    for each in (predictor, tracker):
        if each is not None:
            each.warm_up(users=parameters.users, antennas=parameters.antennas)
    return precode


class _Meter:
    """Write the counts to the journal, and at intervals to the log."""

    def __init__(self, counts: Counts, log: EventLog, seconds: float, record: Callable[[], None]) -> None:
        self._counts, self._log, self._seconds, self._record = counts, log, seconds, record
        self._began = self._last = time.monotonic()
        self._sent = 0

    @property
    def seconds(self) -> float:
        """Time since the start, s."""
        return time.monotonic() - self._began

    def stop(self) -> None:
        """Write the counts of the whole run."""
        self._record()
        self._write("stopped", self._began, 0)

    def tick(self) -> None:
        """Write the counts, to the log if the interval has passed."""
        self._record()
        if time.monotonic() - self._last >= self._seconds:
            self._write("status", self._last, self._sent)
            self._last, self._sent = time.monotonic(), self._counts.sent
            self._counts.lag_ms = 0.0

    def _write(self, event: str, since: float, sent: int) -> None:
        """Write the counts, and the items per second since a moment at which `sent` had been sent."""
        pace = (self._counts.sent - sent) / max(1e-9, time.monotonic() - since)
        self._log.info(event, **asdict(self._counts), items_per_s=round(pace, 1))
