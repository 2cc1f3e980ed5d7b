"""A running stream: sockets opened, the loop run, what happens told in the log."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import numpy as np
import zmq

from nflae_bridge.live.addresses import stays_on_this_machine
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.endpoints import Context, Endpoint
from nflae_bridge.live.gnuradio.inlet import Inlet
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.outlets import Outlet, PduOutlet, StreamOutlet, What
from nflae_bridge.live.gnuradio.relay import Precode, Relay, RelayOptions
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.signals import stopped_by_signals

# For messages already sent to leave, once everything is closed.
_LINGER_SECONDS = 5.0


@dataclass(frozen=True)
class StreamSettings:
    """csi: where channels come from. outputs: what goes where. result_tags: tags on the precoders tell the results.
    terms: size and link budget of a drop. status_seconds: between two status lines of the log.
    """

    csi: Endpoint
    outputs: dict[What, Endpoint]
    terms: LinkParameters
    relay: RelayOptions
    result_tags: bool = False
    status_seconds: float = 10.0


def stream(settings: StreamSettings, make_precode: Callable[[], Precode], log: EventLog) -> Counts:
    """Relay until SIGTERM or SIGINT; then finish what was taken, and return what went through.

    make_precode: called once the sockets are there, because loading a model takes its time.
    Raises NflaeError where an address can't be had, and what precoding raises; the log tells the counts in any case.
    """
    asked_to_stop = threading.Event()
    counts = Counts()
    context: Context = zmq.Context()
    with ExitStack() as stack, stopped_by_signals(asked_to_stop.set):
        stack.callback(context.term)
        inlet, outlets = _open(context, settings, counts, log, stack)
        precode = make_precode()
        _warm_up(precode, settings.terms)
        meter = _Meter(counts, log, settings.status_seconds)
        log.info("ready", pid=os.getpid(), users=settings.terms.users, antennas=settings.terms.antennas)
        try:
            Relay(
                inlet,
                outlets,
                precode,
                settings.relay,
                counts,
                warn=lambda event, text: log.warning(event, text=text),
                tick=meter.tick,
                stopping=asked_to_stop.is_set,
            ).run()
        finally:
            meter.tell("stopped", meter.began, 0)
    return counts


def _open(
    context: Context, settings: StreamSettings, counts: Counts, log: EventLog, stack: ExitStack
) -> tuple[Inlet, list[Outlet]]:
    outlets: list[Outlet] = []
    for what, endpoint in settings.outputs.items():
        outlet = _outlet(context, settings, what, endpoint)
        stack.callback(outlet.close, _LINGER_SECONDS)
        outlets.append(outlet)
    inlet = Inlet(
        context,
        settings.csi,
        settings.terms,
        counts,
        warn=lambda event, text: log.warning(event, text=text),
        resizable=all(endpoint.pdu for endpoint in settings.outputs.values()),
    )
    stack.callback(inlet.close)
    _tell_endpoint(log, "csi", inlet.endpoint, inlet.address)
    for outlet in outlets:
        _tell_endpoint(log, outlet.what, outlet.endpoint, outlet.address)
    return inlet, outlets


def _tell_endpoint(log: EventLog, stream: str, endpoint: Endpoint, address: str) -> None:
    log.info(
        "listening" if endpoint.bind else "connecting",
        stream=stream,
        kind=endpoint.kind,
        address=address,
        tags=int(endpoint.tags),
        pdu=int(endpoint.pdu),
    )
    if endpoint.bind and not stays_on_this_machine(address):
        log.warning("exposed", address=address, text="whoever reaches this address can use it; nothing is encrypted")


def _outlet(context: Context, settings: StreamSettings, what: What, endpoint: Endpoint) -> Outlet:
    users, length = settings.terms.users, settings.terms.length
    item_bytes = {"precoders": 8 * length, "labels": users, "powers": 4 * users}[what]
    if endpoint.pdu:
        return PduOutlet(context, endpoint, what, item_bytes)
    largest = item_bytes * settings.relay.max_batch
    return StreamOutlet(context, endpoint, what, largest, with_facts=settings.result_tags and what == "precoders")


def _warm_up(precode: Precode, terms: LinkParameters) -> None:
    """Compute something, so that the first item finds everything loaded; engines compile at the second call."""
    angles = np.random.default_rng(0).random((1, terms.users, terms.antennas))
    channels = np.exp(2j * np.pi * angles).astype(np.complex64)
    for _ in range(2):
        precode(
            channels,
            power=terms.power,
            noise_power=terms.noise_power,
            alpha_c=terms.alpha_c,
            min_rate=terms.min_rate,
        )


class _Meter:
    """Tells the counts every so many seconds."""

    def __init__(self, counts: Counts, log: EventLog, seconds: float) -> None:
        self._counts, self._log, self._seconds = counts, log, seconds
        self.began = self._last = time.monotonic()
        self._sent = 0

    def tick(self) -> None:
        """Tell them, if it is time."""
        if time.monotonic() - self._last >= self._seconds:
            self.tell("status", self._last, self._sent)
            self._last, self._sent = time.monotonic(), self._counts.sent

    def tell(self, event: str, since: float, sent: int) -> None:
        """One line: the counts, and items a second since a moment when ``sent`` had been sent."""
        pace = (self._counts.sent - sent) / max(1e-9, time.monotonic() - since)
        self._log.info(event, **asdict(self._counts), items_per_s=round(pace, 1))
