"""Run a stream: open the sockets, run the relay, and log its events."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np
import zmq

from nflae_bridge.live.addresses import is_local
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.endpoints import Context, Endpoint
from nflae_bridge.live.gnuradio.inlet import Inlet
from nflae_bridge.live.gnuradio.items import Stream, item_bytes
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.outlets import Outlet, PduOutlet, StreamOutlet
from nflae_bridge.live.gnuradio.relay import Precode, Relay, RelayOptions
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.signals import stopped_by_signals

# Time for messages already sent to leave after the sockets are closed.
_LINGER_SECONDS = 5.0


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
    """

    csi: Endpoint
    outputs: dict[Stream, Endpoint]
    parameters: LinkParameters
    relay: RelayOptions
    result_tags: bool = False
    status_seconds: float = 10.0


def stream(settings: StreamSettings, make_precode: Callable[[], Precode], log: EventLog) -> Counts:
    """Relay until SIGTERM or SIGINT, then pass on the items already received.

    Parameters
    ----------
    settings : StreamSettings
        Settings.
    make_precode : callable
        Returns the precoding function; called after the sockets are open, because loading a model takes seconds.
    log : EventLog
        Log of events; the counts are written at the end in any case.

    Returns
    -------
    Counts
        Counts of the whole run.

    Raises
    ------
    NflaeError
        If an address is unusable, and whatever precoding raises.
    """
    stop_event = threading.Event()
    counts = Counts()
    context: Context = zmq.Context()
    with ExitStack() as stack, stopped_by_signals(stop_event.set):
        stack.callback(context.term)
        inlet, outlets = _open(context, settings, counts, log, stack)
        precode = make_precode()
        _warm_up(precode, settings.parameters)
        meter = _Meter(counts, log, settings.status_seconds)
        log.info("ready", pid=os.getpid(), users=settings.parameters.users, antennas=settings.parameters.antennas)
        try:
            Relay(
                inlet,
                outlets,
                precode,
                settings.relay,
                counts,
                warn=lambda event, text: log.warning(event, message=text),
                tick=meter.tick,
                stopping=stop_event.is_set,
            ).run()
        finally:
            meter.write("stopped", meter.began, 0)
    return counts


def _open(
    context: Context, settings: StreamSettings, counts: Counts, log: EventLog, stack: ExitStack
) -> tuple[Inlet, list[Outlet]]:
    outlets: list[Outlet] = []
    for name, endpoint in settings.outputs.items():
        outlet = _outlet(context, settings, name, endpoint)
        stack.callback(outlet.close, _LINGER_SECONDS)
        outlets.append(outlet)
    inlet = Inlet(
        context,
        settings.csi,
        settings.parameters,
        counts,
        warn=lambda event, text: log.warning(event, message=text),
        resizable=all(endpoint.pdu for endpoint in settings.outputs.values()),
    )
    stack.callback(inlet.close)
    _log_endpoint(log, "csi", inlet.endpoint, inlet.address)
    for outlet in outlets:
        _log_endpoint(log, outlet.stream, outlet.endpoint, outlet.address)
    return inlet, outlets


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


def _outlet(context: Context, settings: StreamSettings, name: Stream, endpoint: Endpoint) -> Outlet:
    size = item_bytes(name, settings.parameters.users, settings.parameters.antennas)
    if endpoint.pdu:
        return PduOutlet(context, endpoint, name, size)
    result_tags = settings.result_tags and name == "precoders"
    return StreamOutlet(context, endpoint, name, size * settings.relay.max_batch, result_tags)


def _warm_up(precode: Precode, parameters: LinkParameters) -> None:
    """Compute trial batches, so that the first item meets no loading; engines compile at the second call."""
    angles = np.random.default_rng(0).random((1, parameters.users, parameters.antennas))
    channels = np.exp(2j * np.pi * angles).astype(np.complex64)
    for _ in range(2):
        precode(channels, **asdict(parameters.budget))


class _Meter:
    """Write the counts to the log at intervals."""

    def __init__(self, counts: Counts, log: EventLog, seconds: float) -> None:
        self._counts, self._log, self._seconds = counts, log, seconds
        self.began = self._last = time.monotonic()
        self._sent = 0

    def tick(self) -> None:
        """Write the counts if the interval has passed."""
        if time.monotonic() - self._last >= self._seconds:
            self.write("status", self._last, self._sent)
            self._last, self._sent = time.monotonic(), self._counts.sent

    def write(self, event: str, since: float, sent: int) -> None:
        """Write the counts, and the items per second since a moment at which `sent` had been sent."""
        pace = (self._counts.sent - sent) / max(1e-9, time.monotonic() - since)
        self._log.info(event, **asdict(self._counts), items_per_s=round(pace, 1))
