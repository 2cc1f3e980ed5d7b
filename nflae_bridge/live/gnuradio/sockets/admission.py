"""Admit the senders of a bound socket one after the other, as ZeroMQ's authentication handler.

ZeroMQ accepts a connection before its program knows that the former one has ended, and merges the messages of both. A
peer of libzmq sends nothing before it is admitted: if the socket is replaced, it loses nothing and connects anew.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import zmq

from nflae_bridge.live.gnuradio.sockets.endpoints import Context, Socket

_ADDRESS = "inproc://zeromq.zap.01"
_WAIT_SECONDS = 1.0  # of a second sender for the end of the first, whose messages are read by then


@dataclass(frozen=True)
class _Request:
    """A connection that waits, with the frames that lead to it, its number, and its socket's domain."""

    route: list[bytes]
    version: bytes
    number: bytes
    domain: str
    arrived: float = field(default_factory=time.monotonic)


class Admission:
    """Hold the connections to a bound socket that wait for admission.

    Parameters
    ----------
    context : zmq.Context
        Context of the socket; it has one handler.

    Attributes
    ----------
    requests : zmq.Socket
        Socket that becomes readable when a connection waits.

    References
    ----------
    ZeroMQ RFC 27, "ZeroMQ Authentication Protocol".
    """

    def __init__(self, context: Context) -> None:
        self.requests: Socket = context.socket(zmq.ROUTER)
        self.requests.linger = 0
        self.requests.bind(_ADDRESS)
        self._waiting: list[_Request] = []
        self._domain, self._admitted, self._read_at = "", -math.inf, math.inf

    def protect(self, socket: Socket) -> None:
        """Take over the admission to a socket, before it is bound; connections to the former one are forgotten.

        Parameters
        ----------
        socket : zmq.Socket
            Socket.
        """
        self._domain = f"sender-{time.monotonic_ns()}"
        self._admitted, self._read_at = -math.inf, math.inf
        socket.setsockopt_string(zmq.ZAP_DOMAIN, self._domain)

    @property
    def is_awaited(self) -> bool:
        """A connection was waiting at the last `read`."""
        return bool(self._waiting)

    def read(self) -> None:
        """Read the connections that have begun to wait."""
        while self.requests.poll(0):
            identity, empty, version, number, domain, *_ = self.requests.recv_multipart()
            self._waiting.append(_Request([identity, empty], version, number, domain.decode()))
        self._waiting = [request for request in self._waiting if request.domain == self._domain]

    def admit(self, connected: bool, is_read: bool = True) -> None:
        """Admit the first connection of those read that waits, if no other one is connected; else after a time.

        Parameters
        ----------
        connected : bool
            A sender is connected.
        is_read : bool
            Its messages are read as far as they have arrived: it would be known by now if it had left.
        """
        now = time.monotonic()
        if not self._waiting:
            self._read_at = math.inf
        elif is_read:
            self._read_at = min(self._read_at, now)
        while self._waiting:
            alone = not connected and now - self._admitted > _WAIT_SECONDS
            since = max(self._waiting[0].arrived, self._read_at) if connected else self._waiting[0].arrived
            if not alone and now - since < _WAIT_SECONDS:
                return
            request = self._waiting.pop(0)
            self._admitted = now
            self.requests.send_multipart([*request.route, request.version, request.number, b"200", b"OK", b"", b""])

    def close(self) -> None:
        """Close the handler's socket."""
        self.requests.close()
