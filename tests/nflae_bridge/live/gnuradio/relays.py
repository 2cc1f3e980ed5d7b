"""A relay in a thread of this process, and peers to talk to it as gr-zeromq's blocks do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch  # noqa: F401  loaded before a test counts seconds
import zmq

from nflae_bridge.api.precode import precode
from nflae_bridge.live.gnuradio.computation.items import Stream
from nflae_bridge.live.gnuradio.computation.prediction import ItemPredictor, Predict
from nflae_bridge.live.gnuradio.computation.tracking import ItemTracker
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.inlet import Inlet
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.outlets import Outlet, PduOutlet, StreamOutlet
from nflae_bridge.live.gnuradio.relay import Precode, Relay, RelayOptions
from nflae_bridge.live.gnuradio.sockets.endpoints import parse_endpoint
from tests.ports import free_tcp_port
from tests.sockets import bounded_context

USERS, ANTENNAS = 3, 16
PARAMETERS = LinkParameters(USERS, ANTENNAS)
PATIENCE_MS = 60_000


def patient(**options: Any) -> RelayOptions:
    """Options of a relay that takes its time at the end, whatever the load of the machine."""
    return RelayOptions(drain_seconds=5, stop_seconds=10, **options)


def rzf(channels: npt.NDArray[np.complex64], **budget: float) -> Any:
    return precode(channels, scheme="rzf", **budget)  # type: ignore[arg-type]


def wait_until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@dataclass
class RunningRelay:
    """Endpoints are given without an address: each end binds to a free port of its own.

    It is none of those that the system gives to connections: a relay binds to it again after its sender has left.

    csi: e.g. ``sub,tags``. outputs: e.g. ``{"precoders": "push,tags"}``.
    """

    csi: str
    outputs: dict[Stream, str]
    options: RelayOptions = field(default_factory=lambda: patient())
    precode: Precode = rzf
    result_tags: bool = False
    messages: int = 64
    address: str = ""
    predict: Predict | None = None
    ahead: int = 2
    history: int = 8
    track_seconds: float | None = None

    def __post_init__(self) -> None:
        self.counts, self.warnings = Counts(), list[tuple[str, str]]()
        self.events = list[tuple[str, dict[str, object]]]()
        self.output_events = list[tuple[str, dict[str, object]]]()
        self.error: BaseException | None = None
        self.peers: list[zmq.Socket[bytes]] = []
        self.context = bounded_context()
        self._stop = threading.Event()
        everything_pdu = all("pdu" in output for output in self.outputs.values())
        self.inlet = Inlet(
            self.context,
            parse_endpoint(anywhere(self.csi), is_input=True),
            PARAMETERS,
            self.counts,
            lambda event, text: self.warnings.append((event, text)),
            resizable=everything_pdu,
            messages=self.messages,
            write=lambda event, **fields: self.events.append((event, fields)),
        )
        self.outlets = [self._outlet(stream, output) for stream, output in self.outputs.items()]
        self.relay = Relay(
            self.inlet,
            self.outlets,
            lambda: self.precode,
            self.options,
            self.counts,
            lambda event, text: self.warnings.append((event, text)),
            tick=lambda: None,
            stopping=self._stop.is_set,
            predictor=None if self.predict is None else self._predictor(self.predict),
            tracker=None if self.track_seconds is None else self._tracker(self.track_seconds),
        )
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _predictor(self, predict: Predict) -> ItemPredictor:
        return ItemPredictor(
            predict, self.ahead, self.history, self.counts, lambda event, text: self.warnings.append((event, text))
        )

    def _tracker(self, seconds: float) -> ItemTracker:
        return ItemTracker(seconds, 10.0, 0.0, 30e9, lambda event, text: self.warnings.append((event, text)))

    def _outlet(self, stream: Stream, output: str) -> Outlet:
        endpoint = parse_endpoint(anywhere(output, self.address), is_input=False)
        if endpoint.pdu:
            return PduOutlet(self.context, endpoint, stream, 1 << 20, write=self._output_event)
        return StreamOutlet(
            self.context, endpoint, stream, 1 << 20, result_tags=self.result_tags, write=self._output_event
        )

    def _output_event(self, event: str, **fields: object) -> None:
        self.output_events.append((event, fields))

    def _run(self) -> None:
        try:
            self.relay.run()
        except BaseException as error:
            self.error = error

    def peer(self, kind: int, address: str, hwm: int = 1000) -> zmq.Socket[bytes]:
        """A socket connected to one of the relay's addresses."""
        socket = self.context.socket(kind)
        socket.set_hwm(hwm)
        socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
        socket.setsockopt(zmq.SNDTIMEO, PATIENCE_MS)
        socket.setsockopt(zmq.LINGER, 0)
        if kind == zmq.SUB:
            socket.subscribe("")
        socket.connect(address)
        self.peers.append(socket)
        return socket

    def order_stop(self) -> None:
        """As a signal would; returns when the relay has noticed it."""
        self._stop.set()
        wait_until(lambda: self.relay._stop_at is not None)

    def stop(self) -> None:
        """As a signal would; returns when the relay has."""
        self._stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.inlet.sender.close()
        for outlet in self.outlets:
            outlet.close(0)
        self.context.destroy(linger=0)


def anywhere(text: str, address: str = "") -> str:
    """``push,tags`` as ``push:tcp://127.0.0.1:PORT,bind,tags``."""
    kind, _, options = text.partition(",")
    return f"{kind}:{address or f'tcp://127.0.0.1:{free_tcp_port()}'},bind" + (f",{options}" if options else "")
