"""Follow the peers of a socket: arrivals, departures, refusals and absences, by libzmq's monitor."""

from __future__ import annotations

import os
import socket as system_sockets
import time
from collections.abc import Callable

import zmq

from nflae_bridge.live.client.links.monitor import Monitor
from nflae_bridge.live.gnuradio.sockets.endpoints import BLOCKS, Endpoint, Socket
from nflae_bridge.live.gnuradio.sockets.zmtp import socket_type_at

# Writes an event ("connected", "disconnected", "refused", "not_admitted", "absent") with its fields.
Write = Callable[..., None]

_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
)
_EVENTS = (
    zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
) | sum(_FAILURES)


class PeerLog:
    """Write the events of an endpoint; on a connecting one a repeated failure is written once.

    Parameters
    ----------
    endpoint : Endpoint
        Endpoint.
    write : callable
        Writes an event.
    """

    def __init__(self, endpoint: Endpoint, write: Write) -> None:
        self._endpoint, self._write = endpoint, write
        self._last = ""

    def is_news(self, event: str) -> bool:
        """Return whether an event would be written."""
        return self._endpoint.bind or event == "connected" or event != self._last

    def __call__(self, event: str, **fields: object) -> None:
        """Write an event, unless it repeats a failure."""
        if self.is_news(event):
            self._write(event, **fields)
        self._last = event


class PeerMonitor:
    """Hold the peers of one socket, each with the time at which it connected.

    Parameters
    ----------
    socket : zmq.Socket
        Socket, before it is bound or connected.
    endpoint : Endpoint
        Its endpoint.
    log : PeerLog
        Log of the events.

    Attributes
    ----------
    joined : dict of int to float
        Time of the connection by the file descriptor of each connected peer, on the clock of `time.monotonic`, s.
    monitor : zmq.Socket
        Socket that becomes readable when an event has occurred.
    left : bool
        A peer has disconnected.
    failed : bool
        The last attempt to connect has failed.
    new : int
        Peers connected since `read` was called last.
    """

    def __init__(self, socket: Socket, endpoint: Endpoint, log: PeerLog) -> None:
        self._endpoint, self._log = endpoint, log
        self._events = Monitor(socket, _EVENTS)
        self.monitor = self._events.reader
        self.joined: dict[int, float] = {}
        self.left = self.failed = False
        self.new = 0
        self._pending: list[int] = []
        self._failure = 0
        self._names: dict[int, str] = {}

    def read(self) -> None:
        """Read the events that have occurred."""
        self.new = 0
        for event, value in self._events.read():
            self._apply(event, value)

    def close(self) -> None:
        """Stop following; before the socket is closed."""
        self._events.close()

    def _apply(self, event: int, value: int) -> None:
        if event in (zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED):
            self._pending.append(value)
            self._names[value] = _name_of(value)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED and self._pending:
            # The event lacks the descriptor; a peer completes its handshake within moments, or never.
            number = self._pending.pop()
            self.joined[number] = time.monotonic()
            self.new += 1
            self.failed = False
            self._log("connected", peer=self._names.get(number, ""))
        elif event in _FAILURES:
            self._failure = event  # of the peer whose end is the next event
        elif event == zmq.EVENT_DISCONNECTED:
            failure, self._failure = self._failure, 0
            self._settle(value, bool(failure))
            self._disconnected(value, has_left=failure == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
        elif event == zmq.EVENT_CLOSED and not self._endpoint.bind:
            self.failed = True
            self._log("absent", message=f"nothing listens there; a {BLOCKS[self._endpoint.kind]} is awaited")

    def _settle(self, number: int, failed: bool) -> None:
        """Exchange a peer that has disconnected with the one that was taken for it when a handshake succeeded."""
        if failed and number in self.joined and self._pending:
            self.joined[self._pending[-1]] = self.joined.pop(number)
            self._pending[-1] = number
        elif not failed and number in self._pending and self.joined:
            other = next(reversed(self.joined))
            self.joined[number] = self.joined.pop(other)
            self._pending[self._pending.index(number)] = other

    def _disconnected(self, number: int, has_left: bool) -> None:
        name = self._names.pop(number, "")
        if self.joined.pop(number, None) is not None:
            self.left = True
            self._log("disconnected", peer=name)
            return
        if number in self._pending:
            self._pending.remove(number)
        self.failed = True
        if has_left and self._endpoint.bind:
            again = f"a {BLOCKS[self._endpoint.kind]} that still runs connects again"
            self._log("not_admitted", peer=name, message=f"its connection ended before it was admitted; {again}")
        elif self._log.is_news("refused"):
            self._log("refused", peer=name, message=self._reason())

    def _reason(self) -> str:
        expected = f"{self._endpoint.kind} goes with a {BLOCKS[self._endpoint.kind]}"
        found = "" if self._endpoint.bind else socket_type_at(self._endpoint.address)
        if found:
            return f"the socket there is a {found}; {expected}"
        return f"the peer is no ZeroMQ socket, or one of another kind; {expected}"


def _name_of(descriptor: int) -> str:
    """Return the address at the other end of a connection, empty if it is closed already."""
    try:
        with system_sockets.socket(fileno=os.dup(descriptor)) as connection:
            host, port = connection.getpeername()[:2]
            return f"{host}:{port}"
    except (OSError, ValueError):
        return ""
