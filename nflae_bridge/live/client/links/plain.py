"""Connect to a server of this host by a plain socket, which is used in the calls of the client alone.

ZeroMQ hands every message over to a thread of its own and back, which takes longer than the exchange of the bytes.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket as sockets
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import zmq

from nflae_bridge.live.addresses import explain_failure
from nflae_bridge.live.client.links.interface import UNKNOWN_PEER, mismatch, no_socket
from nflae_bridge.live.errors import BadRequest, WireError
from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.protocol.zmtp import (
    CLIENT,
    GREETING,
    NoZeroMQ,
    OtherMechanism,
    ProtocolViolation,
    Reader,
    encode_message,
    send_some,
)

if TYPE_CHECKING:
    from nflae_bridge.live.client.connection import ServerAddress

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # s, between attempts to connect
_PAUSE_WITHOUT_HANDSHAKE = 0.25  # s, after a loss
_READ_BYTES = 128 << 10
_MAX_FRAME_BYTES = 1 << 40  # more than any host has
_LONGEST_PATH = 107  # bytes, of a socket file
_MAX_UNREAD = 1024  # messages
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)
_VERSION_BYTES = 12  # of the greeting, up to the mechanism


class PlainLink:
    """Hold the connection to a server of this host; see `Link`. The first call makes it.

    Parameters
    ----------
    server : ServerAddress
        Server to connect to, on this host and without keys.

    Raises
    ------
    BadRequest
        If the address is unusable.
    """

    def __init__(self, server: ServerAddress) -> None:
        self._family, self._place = _place_of(server.address)
        self._address = server.address
        self._socket: sockets.socket | None = None
        self.reset()

    def reset(self) -> None:
        """End the connection; the next wait makes a new one."""
        self.close()
        self.accepted = False
        self._has_given_up = False
        self._lost: str | None = None
        self._pause, self._retry_at = _FIRST_PAUSE, 0.0
        self._messages: deque[list[Frame]] = deque()

    def close(self) -> None:
        """Disconnect at once; everything unsent is discarded."""
        self.established = self._is_connected = False
        if self._socket is not None:
            socket, self._socket = self._socket, None
            try:
                if os.getpid() == self._process:  # else its parent's; a child of fork keeps a connection open
                    socket.shutdown(sockets.SHUT_RDWR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
            finally:
                socket.close()

    def give_up(self) -> None:
        """Connect no more until `reset`."""
        self._has_given_up = True
        self.close()

    def can_send(self) -> bool:
        """Return whether a message can be sent."""
        return self.established

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send a message; return False if no server is connected. What the system does not take leaves in `receive`."""
        if not self.established:
            return False
        self._outbox.extend(map(memoryview, encode_message(frames)))
        self._flush()
        return self.established

    def receive(self, seconds: float) -> list[Frame] | None:
        """Return the next message, None if there is none within a time, s, or no server is connected."""
        left = seconds
        end = time.monotonic() + seconds if seconds > 0 else 0.0
        while not self._messages and self._socket is not None:
            if left > 0:
                self._poll(left)
            elif self._outbox and self._is_connected:
                self._flush()
            self._read()
            left = end - time.monotonic()
            if left <= 0:
                break
        return self._messages.popleft() if self._messages else None

    def wait(self, seconds: float) -> None:
        """Connect, and wait until a server can be sent a message, at most a time, s."""
        end = time.monotonic() + seconds
        while not self.established and self._lost is None and (left := end - time.monotonic()) > 0:
            if self._socket is None:
                pause = math.inf if self._has_given_up else self._retry_at - time.monotonic()
                if pause > 0:
                    time.sleep(min(pause, left))
                    continue
            if not self._is_connected:
                self._connect()
            if self._socket is not None:
                self._poll(left)
                self._read()

    def loss(self) -> str | None:
        """Return the loss of the connection since the last call, as `Connection.loss` does."""
        if len(self._messages) < _MAX_UNREAD:
            self._read()
        found, self._lost = self._lost, None
        return found

    def _connect(self) -> None:
        """Begin to connect, or go on with it."""
        if self._socket is None:
            self._open()
        assert self._socket is not None
        failure = self._socket.connect_ex(self._place)
        if failure in _UNDER_WAY:
            return
        self._is_connected = self.accepted = failure in (0, errno.EISCONN)
        if not self._is_connected:  # EAGAIN: more programs connect than a Unix socket holds
            self._end()
            return
        if self._family != sockets.AF_UNIX:
            self._socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        # The mechanism after the server's only: ZeroMQ ends the connection at another than its own, at times before its
        # own can be read.
        self._outbox.append(memoryview(GREETING[:_VERSION_BYTES]))
        self._greeting_left = GREETING[_VERSION_BYTES:]
        self._flush()

    def _open(self) -> None:
        """Make the socket and what belongs to it."""
        outbox: deque[memoryview] = deque()
        reader, poller = Reader(_MAX_FRAME_BYTES, b"", _Gate(), CLIENT), select.poll()
        try:
            socket = sockets.socket(self._family, sockets.SOCK_STREAM)
        except OSError as error:
            if error.errno is None:  # of a signal handler
                raise
            raise no_socket(self._address, error) from None
        try:
            socket.setblocking(False)
            poller.register(socket, select.POLLOUT)
            self._process, self._events = os.getpid(), select.POLLOUT
            self._outbox, self._reader, self._poller, self._socket = outbox, reader, poller, socket
        except BaseException:
            socket.close()
            raise

    def _end(self, loss: str | None = None) -> None:
        """End the connection, for a reason to be reported or for another attempt after a pause."""
        is_never_ready = loss is not None and not self.established  # a forwarder whose target is absent, for instance
        self.close()
        self._lost = loss if self._lost is None else self._lost
        self._retry_at = time.monotonic() + max(self._pause, _PAUSE_WITHOUT_HANDSHAKE if is_never_ready else 0.0)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _poll(self, seconds: float) -> None:
        """Wait until bytes can be read, or sent if some wait, at most a time, s."""
        events = select.POLLOUT if not self._is_connected or self._outbox else 0
        events |= select.POLLIN if self._is_connected else 0
        if events != self._events:
            self._events = events
            self._poller.modify(self._socket, events)  # type: ignore[arg-type]
        self._poller.poll(math.ceil(1e3 * seconds))
        if self._outbox and self._is_connected:
            self._flush()

    def _flush(self) -> None:
        assert self._socket is not None
        try:
            send_some(self._socket, self._outbox)
        except OSError as error:
            if error.errno is None:  # of a signal handler
                raise
            self._end("")

    def _read(self) -> None:
        """Read what has arrived, at most once."""
        if self._socket is None or not self._is_connected:
            return
        target = self._reader.target()
        data = b""
        try:
            if target is None:
                data = self._socket.recv(_READ_BYTES)
            count = len(data) if target is None else self._socket.recv_into(target)
        except OSError as error:
            if error.errno is None:  # of a signal handler
                raise
            if error.errno == errno.EAGAIN:
                return
            count = 0
        if not count:
            self._end("")
            return
        if target is None:
            self._reader.feed(data)
        else:
            self._reader.wrote(count)
        self._parse()

    def _parse(self) -> None:
        try:
            while (frames := self._reader.next()) is not None:
                if frames:
                    self._messages.append([each if isinstance(each, bytes) else each.toreadonly() for each in frames])
        except NoZeroMQ:
            self._end()
        except OtherMechanism:
            self._end(mismatch(has_keys=False))
        except ProtocolViolation:
            self._end(UNKNOWN_PEER)
        except MemoryError:
            self._end("")
        else:
            if self._reader.is_ready and not self.established:
                self.established, self._pause = True, _FIRST_PAUSE
            if self._reader.replies:
                self._outbox.append(memoryview(self._greeting_left + self._reader.replies))
                self._greeting_left = self._reader.replies = b""
                self._flush()


class _Gate:
    """Receive every frame of an answer."""

    def admit(self, message: list[Frame], size: int) -> bool:
        """Return True."""
        return True

    def reject(self, message: list[Frame], error: WireError) -> None:
        """Report a message that is no answer."""
        raise ProtocolViolation(str(error))


def _place_of(address: str) -> tuple[int, str | tuple[str, int]]:
    """Return family and place of an address of this host; raise BadRequest for a path that is too long."""
    transport, _, rest = address.partition("://")
    if transport == "ipc":
        if len(rest.encode(errors="surrogateescape")) > _LONGEST_PATH:
            raise BadRequest(f"{address}: {explain_failure(zmq.ZMQError(errno.ENAMETOOLONG))}")
        return sockets.AF_UNIX, "\0" + rest[1:] if rest.startswith("@") else rest
    host, _, port = rest.rpartition(":")
    host = host.strip("[]").partition("%")[0]  # the loopback interface is the only one that has the address
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    return family, ("127.0.0.1" if host == "localhost" else host, int(port))
