"""Answer the requests of readers on a ROUTER socket, which distinguishes them, unlike a REP socket.

A REQ socket whose request went to a program that then ended waits for ever. It accepts an answer to it from the next
program at the same address, so readers that connect and send no request are sent an empty answer, after which
GNU Radio's block sends its request again. For that the identity of a silent reader has to be known: ZeroMQ numbers its
peers consecutively (5 bytes: zero, and the number, big-endian), from a number that a probe finds.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from dataclasses import dataclass

import zmq

from nflae_bridge.live.gnuradio.sockets.endpoints import Context, Socket

# Requests held here; those beyond wait in the socket.
_MAX_REQUESTS = 1000
# Time after which a reader without a request is taken for one that waits, s.
_SILENT_SECONDS = 1.0
# Time in which a reader that was sent an empty answer may replace a request that crossed it, s.
_SETTLE_SECONDS = 0.1
_IDENTITY = struct.Struct(">BI")


@dataclass
class Request:
    """Hold the request of a reader.

    Parameters
    ----------
    reader : bytes
        Identity of the reader.
    envelope : list of bytes
        Frames before the body of the answer.
    items : int
        Largest number of items in the answer.
    not_before : float
        Earliest time of the answer, on the clock of `time.monotonic`, s.
    """

    reader: bytes
    envelope: list[bytes]
    items: int
    not_before: float = 0.0


class ReplySocket:
    """Hold the open requests of the readers of a ROUTER socket.

    Parameters
    ----------
    context : zmq.Context
        Context of the socket.
    socket : zmq.Socket
        ROUTER socket with ROUTER_MANDATORY, not yet bound.
    """

    def __init__(self, context: Context, socket: Socket) -> None:
        self._socket = socket
        self._requests: deque[Request] = deque()
        self._first_seen: dict[bytes, float] = {}
        self._silent: dict[bytes, float] = {}
        self._prompted: set[bytes] = set()
        self._next_number = _probe(context, socket)

    @property
    def full(self) -> bool:
        """True while no more requests are read."""
        return len(self._requests) >= _MAX_REQUESTS

    def joined(self, readers: int) -> None:
        """Record that readers have connected.

        Parameters
        ----------
        readers : int
            Their number.
        """
        now = time.monotonic()
        for _ in range(readers):
            self._silent[_identity(self._next_number)] = now
            self._next_number += 1

    def read(self) -> None:
        """Read the requests that have arrived."""
        while not self.full:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if b"" in frames[1:-1]:
                self._add(frames)

    def prompt(self, empty: bytes) -> int:
        """Send an empty answer to readers that have connected and sent no request.

        Parameters
        ----------
        empty : bytes
            Answer without items.

        Returns
        -------
        int
            Number of readers that it was sent to.
        """
        due = [reader for reader, connected in self._silent.items() if time.monotonic() - connected >= _SILENT_SECONDS]
        prompted = 0
        for reader in due:
            del self._silent[reader]
            if self._send([reader, b"", empty]):
                self._prompted.add(reader)
                prompted += 1
        return prompted

    def next_request(self, before: float) -> Request | None:
        """Return the oldest request that may be answered now.

        Parameters
        ----------
        before : float
            Only of readers whose first request arrived before this time, s.

        Returns
        -------
        Request or None
            Request.
        """
        now = time.monotonic()
        for request in self._requests:
            if request.not_before <= now and self._first_seen[request.reader] < before:
                return request
        return None

    def answer(self, request: Request, message: bytes) -> bool:
        """Send the answer to a request; return False, and remove the request, if its reader has left.

        Parameters
        ----------
        request : Request
            Request of `next_request`.
        message : bytes
            Answer.
        """
        self._requests.remove(request)
        self._prompted.discard(request.reader)
        return self._send([*request.envelope, message])

    def release(self, empty: bytes) -> None:
        """Answer all open requests without items, so that their readers may send them elsewhere.

        Parameters
        ----------
        empty : bytes
            Answer without items.
        """
        self.read()
        while self._requests:
            self._send([*self._requests.popleft().envelope, empty])

    def _add(self, frames: list[bytes]) -> None:
        reader, end = frames[0], frames.index(b"", 1) + 1
        body = frames[-1]
        items = struct.unpack("<I", body)[0] if len(body) == 4 else 1
        request = Request(reader, frames[:end], max(1, items))
        if reader in self._prompted:
            request.not_before = time.monotonic() + _SETTLE_SECONDS
            self._requests = deque(other for other in self._requests if other.reader != reader)
        self._silent.pop(reader, None)
        if len(self._first_seen) > _MAX_REQUESTS:
            waiting = {other.reader for other in self._requests}
            self._first_seen = {other: seen for other, seen in self._first_seen.items() if other in waiting}
        self._first_seen.setdefault(reader, time.monotonic())
        if len(reader) == _IDENTITY.size and reader[0] == 0:
            self._next_number = max(self._next_number, _IDENTITY.unpack(reader)[1] + 1)
        self._requests.append(request)

    def _send(self, frames: list[bytes]) -> bool:
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return False
        return True


def _identity(number: int) -> bytes:
    return _IDENTITY.pack(0, number % (1 << 32))


def _probe(context: Context, socket: Socket) -> int:
    """Return the number that the socket's next peer is given."""
    address = f"inproc://nflae-probe-{id(socket)}"
    socket.bind(address)
    with context.socket(zmq.DEALER) as probe:
        probe.setsockopt(zmq.LINGER, 0)
        probe.connect(address)
        probe.send(b"")
        identity, _ = socket.recv_multipart()
    socket.unbind(address)
    return int(_IDENTITY.unpack(identity)[1]) + 1
