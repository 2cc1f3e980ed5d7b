"""Exchange messages with clients over plain connections, within limits on their memory and on their share of a turn.

ZeroMQ's own ROUTER socket collects messages of any number of frames, from any number of peers, before it delivers them.
Here a large frame is admitted before it is received, and every peer has the same share of every turn.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket as sockets
import threading
import time
from collections import deque
from collections.abc import Sequence

from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.protocol.zmtp import GREETING, ProtocolViolation, Reader, encode_message, send_some
from nflae_bridge.live.server.transport.interface import Delivery, Gate
from nflae_bridge.live.server.transport.key_guard import KeyGuard
from nflae_bridge.live.server.transport.listeners import Listener

_READ_BYTES = 64 << 10
_LARGE_READ_BYTES = 512 << 10
_MESSAGES_PER_PEER = 4  # in a turn
_MESSAGES_PER_TURN = 64
_EVENTS_PER_TURN = 64
_MAX_CONNECTIONS = 512
_HANDSHAKE_SECONDS = 10.0
_STALLED_SECONDS = 60.0  # instead, for a peer that is not read because it leaves its answers unread
_BYTES_PER_SECOND = 1 << 20  # slowest rate at which a message has to arrive, after the first ten seconds
_MAX_UNREAD_BYTES = 128 << 20  # answers that wait for their clients, together
_PAUSE_BYTES = 1 << 20  # unread answers of a client above which no further requests of it are read
_HOUSEKEEPING_SECONDS = 1.0
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}


class _Connection:
    """Hold the state of one peer."""

    def __init__(self, socket: sockets.socket, identity: bytes, reader: Reader) -> None:
        self.socket = socket
        self.identity = identity
        self.reader = reader
        self.outbox: deque[memoryview] = deque()
        self.unread = 0
        self.mask = select.EPOLLIN
        self.began = self.heard = time.monotonic()  # of the message in progress; of the last byte


class Connections:
    """Accept connections and exchange messages with their peers; all methods but `wake` belong to one thread.

    Parameters
    ----------
    addresses : sequence of str
        Addresses to listen on.
    max_frame_bytes : int
        Size of a frame above which the connection is closed.
    log : EventLog
        Log of events.

    Raises
    ------
    NflaeError
        If an address cannot be bound.
    """

    def __init__(self, addresses: Sequence[str], max_frame_bytes: int, log: EventLog) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._log = log
        self.guard: KeyGuard | None = None
        self._gate: Gate | None = None
        self._epoll = select.epoll()
        self._wakeup, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._closing = threading.Lock()
        self._closed = False
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._listeners: dict[int, Listener] = {}
        self._by_file: dict[int, _Connection] = {}
        self._by_identity: dict[bytes, _Connection] = {}
        self._unparsed: dict[_Connection, None] = {}  # complete messages may be left in their buffers
        self._unsent: dict[_Connection, None] = {}  # answers of this turn, sent together
        self._unread = 0
        self._number = 0
        self._next_check = 0.0
        try:
            for address in addresses:
                listener = Listener(address)
                self._listeners[listener.socket.fileno()] = listener
        except BaseException:
            self.close(0)
            raise
        self.addresses = [listener.address for listener in self._listeners.values()]

    def open(self, gate: Gate) -> None:
        """Begin to accept connections, with the admission of their messages."""
        self._gate = gate
        for number in self._listeners:
            self._epoll.register(number, select.EPOLLIN)

    def wake(self) -> None:
        """Have `receive` return; safe in any thread, and without effect once the sockets are closed."""
        with self._closing, contextlib.suppress(BlockingIOError):  # it is full of such bytes
            if not self._closed:
                os.write(self._waker, b"\0")

    def is_connected(self, identity: bytes) -> bool:
        """Return whether the peer of an identity is connected; safe in any thread."""
        return identity in self._by_identity

    def receive(self, timeout: float) -> list[list[Frame]]:
        """Wait for messages and return them.

        Parameters
        ----------
        timeout : float
            Longest wait, s.

        Returns
        -------
        list of list of bytes or memoryview
            Messages, each after the identity of its peer; at most eight of a peer.
        """
        if self._unsent:
            self._send_all()
        for number, event in self._epoll.poll(0 if self._unparsed else timeout, _EVENTS_PER_TURN):
            connection = self._by_file.get(number)
            if connection is not None:
                if event & select.EPOLLOUT:
                    self._flush(connection)
                paused = event & select.EPOLLIN and not connection.mask & select.EPOLLIN  # by the line above
                if event & ~select.EPOLLOUT and not paused and connection.socket.fileno() >= 0:
                    self._read(connection)
            elif number == self._wakeup:
                os.read(number, 4096)
            elif number in self._listeners:
                self._accept(self._listeners[number].socket)
        messages: list[list[Frame]] = []
        for connection in list(self._unparsed):
            if len(messages) >= _MESSAGES_PER_TURN:
                break
            self._unparsed.pop(connection, None)
            self._parse(connection, messages)
        if time.monotonic() >= self._next_check:
            self._check_times()
        return messages

    def send(self, envelope: Sequence[Frame], frames: Sequence[Frame]) -> Delivery:
        """Have an answer sent at the next `receive`, without blocking, or discard it.

        Parameters
        ----------
        envelope : sequence of bytes
            Identity of the peer, and the rest of the request's envelope.
        frames : sequence of bytes or memoryview
            Frames of the answer.

        Returns
        -------
        {"sent", "disconnected", "unread"}
            ``unread`` if this client leaves the most answers unread and there is no memory for more.
        """
        connection = self._by_identity.get(bytes(envelope[0]))
        if connection is None:
            return "disconnected"
        parts = encode_message([*envelope[1:], *frames])
        size = sum(map(len, parts))
        if self._unread + size > _MAX_UNREAD_BYTES:
            self._send_all()
        while self._unread and self._unread + size > _MAX_UNREAD_BYTES:
            largest = max(self._by_file.values(), key=lambda each: each.unread)
            if largest is connection:
                return "unread"
            self._drop(largest, "it leaves its answers unread, and their memory is needed")
        self._write(connection, parts)
        return "sent"

    def close(self, linger: float) -> None:
        """Close all sockets; answers already sent have `linger` seconds to leave."""
        for listener in self._listeners.values():
            listener.close()
        self._send_all()
        deadline = time.monotonic() + linger
        while self._unread and (left := deadline - time.monotonic()) > 0:
            for number, event in self._epoll.poll(left):
                connection = self._by_file.get(number)
                if connection is None:
                    continue
                if event & (select.EPOLLHUP | select.EPOLLERR):
                    self._drop(connection)
                elif event & select.EPOLLOUT:
                    self._flush(connection)
                else:
                    self._watch(connection, select.EPOLLOUT)
        for connection in list(self._by_file.values()):
            self._drop(connection)
        self._epoll.close()
        with self._closing:
            self._closed = True
            os.close(self._wakeup)
            os.close(self._waker)

    # Connections

    def _accept(self, listener: sockets.socket) -> None:
        if len(self._by_file) >= _MAX_CONNECTIONS:
            self._make_room()
        try:
            socket, _ = listener.accept()
        except OSError as error:  # the peer has left, or no file descriptor is free
            if not isinstance(error, BlockingIOError):
                self._log.warning("not_accepted", reason=error.strerror)
                self._make_room()
            return
        socket.setblocking(False)
        if socket.family != sockets.AF_UNIX:
            socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if hasattr(sockets, name):
                    socket.setsockopt(sockets.IPPROTO_TCP, getattr(sockets, name), value)
        assert self._gate is not None
        self._number += 1
        identity = b"\0" + self._number.to_bytes(8, "big")
        connection = _Connection(socket, identity, Reader(self._max_frame_bytes, identity, self._gate))
        self._by_file[socket.fileno()] = connection
        self._by_identity[identity] = connection
        self._epoll.register(socket.fileno(), select.EPOLLIN)
        self._write(connection, [GREETING])

    def _make_room(self) -> None:
        """Close the connection that has been silent for the longest time."""
        if self._by_file:
            silent = min(self._by_file.values(), key=lambda each: (bool(each.outbox), each.heard))
            self._drop(silent, "the connection silent for the longest time makes room for a new one")

    def _drop(self, connection: _Connection, reason: str = "") -> None:
        if self._by_identity.pop(connection.identity, None) is None:
            return
        if reason:
            self._log.warning("disconnected", reason=reason)
        number = connection.socket.fileno()
        with contextlib.suppress(OSError):
            self._epoll.unregister(number)
        self._by_file.pop(number, None)
        connection.socket.close()
        self._unparsed.pop(connection, None)
        self._unsent.pop(connection, None)
        self._unread -= connection.unread
        connection.unread = 0
        connection.outbox.clear()
        if self._gate is not None:
            self._gate.disconnected(connection.identity)

    def _watch(self, connection: _Connection, mask: int) -> None:
        if mask != connection.mask:
            connection.mask = mask
            self._epoll.modify(connection.socket.fileno(), mask)

    def _check_times(self) -> None:
        """Close connections whose handshake or message does not arrive in time."""
        now = time.monotonic()
        self._next_check = now + _HOUSEKEEPING_SECONDS
        for connection in list(self._by_file.values()):
            if connection.reader.is_within_message and connection not in self._unparsed:
                limit = _STALLED_SECONDS if connection.outbox else _HANDSHAKE_SECONDS
                largest = self._max_frame_bytes if connection.reader.is_ready else 0
                if now - connection.heard > limit or now - connection.began > limit + largest / _BYTES_PER_SECOND:
                    self._drop(connection, "a handshake or a message has not arrived in time")

    # Input

    def _read(self, connection: _Connection) -> None:
        if connection.outbox and connection.unread > _PAUSE_BYTES and not connection.mask & select.EPOLLIN:
            self._drop(connection)  # only an error or the end of the connection is reported while it is not read
            return
        if connection in self._unparsed:
            return
        if not connection.reader.is_within_message:
            connection.began = time.monotonic()
        target = connection.reader.target()
        try:
            if target is None:
                data = connection.socket.recv(_READ_BYTES)
                count = len(data)
                connection.reader.feed(data)
            else:
                count = connection.socket.recv_into(target[:_LARGE_READ_BYTES])
                connection.reader.wrote(count)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self._drop(connection)
            return
        connection.heard = time.monotonic()
        self._unparsed[connection] = None

    def _parse(self, connection: _Connection, messages: list[list[Frame]]) -> None:
        reader = connection.reader
        try:
            for _ in range(_MESSAGES_PER_PEER):
                frames = reader.next()
                if frames is None:
                    break
                connection.began = connection.heard
                if frames:
                    messages.append([connection.identity, *frames])
            else:
                self._unparsed[connection] = None  # after those that have not had their turn
        except ProtocolViolation as violation:
            self._drop(connection, str(violation))
            return
        if reader.replies:
            replies, reader.replies = reader.replies, b""
            self._write(connection, [replies])

    # Output

    def _write(self, connection: _Connection, parts: Sequence[Frame]) -> None:
        """Have bytes sent at the end of the turn."""
        connection.outbox.extend(map(memoryview, parts))
        size = sum(map(len, parts))
        connection.unread += size
        self._unread += size
        if connection.mask & select.EPOLLOUT:
            self._update_mask(connection)
        else:
            self._unsent[connection] = None

    def _send_all(self) -> None:
        for connection in list(self._unsent):
            self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        """Send as much as the system takes, keep the rest."""
        self._unsent.pop(connection, None)
        try:
            sent = send_some(connection.socket, connection.outbox)
        except OSError:
            self._drop(connection)
            return
        connection.unread -= sent
        self._unread -= sent
        self._update_mask(connection)

    def _update_mask(self, connection: _Connection) -> None:
        reads = 0 if connection.unread > _PAUSE_BYTES else select.EPOLLIN
        self._watch(connection, reads | (select.EPOLLOUT if connection.outbox else 0))
