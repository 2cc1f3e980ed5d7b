"""Parse and write ZMTP 3.1, the protocol of ZeroMQ's connections, within limits on all that a peer can send.

Only what ROUTER and DEALER sockets of mechanism NULL need is implemented.

References
----------
ZeroMQ RFC 23 and 37, rfc.zeromq.org.
"""

from __future__ import annotations

import itertools
import socket as sockets
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.headers import Frame

GREETING = b"\xff" + bytes(7) + b"\x01\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)

_MORE, _LONG, _COMMAND = 1, 2, 4
_MAX_COMMAND = 4096
_MAX_DISCARDED_FRAMES = 4096  # of a message that is refused
# Frames of a message are kept without admission up to this sum of their sizes.
SMALL_BYTES = 64 << 10
_JOINED_BYTES = 16 << 10
_PARTS_PER_CALL = 64
_DISCARDED = memoryview(bytearray(256 << 10))


@dataclass(frozen=True)
class Role:
    """Hold what the end of a connection is.

    Parameters
    ----------
    kind : bytes
        Type of its socket.
    peers : tuple of bytes
        Types of socket that it accepts.
    max_frames : int
        Largest number of frames of a message.
    """

    kind: bytes
    peers: tuple[bytes, ...]
    max_frames: int


SERVER = Role(b"ROUTER", (b"REQ", b"DEALER", b"ROUTER"), 11)  # an envelope of 8, header, channels, labels
CLIENT = Role(b"DEALER", (b"ROUTER", b"DEALER", b"REP"), 64)


class FrameGate(Protocol):
    """Decide on large frames before they are received."""

    def admit(self, message: list[Frame], size: int) -> bool:
        """Return whether to receive a large frame.

        Parameters
        ----------
        message : list of bytes or memoryview
            Identity of the peer, and the frames that have arrived.
        size : int
            Size of the next frame, bytes.

        Returns
        -------
        bool
            False for a refusal, which has been answered.
        """

    def reject(self, message: list[Frame], error: WireError) -> None:
        """Answer a message that is not received completely with an error.

        Parameters
        ----------
        message : list of bytes or memoryview
            Identity of the peer, and the frames that have arrived.
        error : WireError
            Fault.
        """


class ProtocolViolation(Exception):
    """Report a peer whose connection has to be closed."""


class NoZeroMQ(ProtocolViolation):
    """Report a peer that does not speak the protocol at all."""


class OtherMechanism(ProtocolViolation):
    """Report a peer with another security mechanism than NULL."""


def _command(name: bytes, data: bytes) -> bytes:
    body = bytes([len(name)]) + name + data
    return bytes([_COMMAND, len(body)]) + body


class Reader:
    """Parse the bytes of one peer.

    Parameters
    ----------
    max_frame_bytes : int
        Largest frame; a larger one is a violation.
    identity : bytes
        Identity of the peer, put before its frames for the gate.
    gate : FrameGate
        Admission of large frames, before they are received. A message that is refused is read and discarded.
    role : Role
        What this end of the connection is.

    Attributes
    ----------
    replies : bytes
        Bytes of the protocol itself to send to the peer, emptied by the caller.
    is_ready : bool
        The handshake is complete.
    """

    def __init__(self, max_frame_bytes: int, identity: bytes, gate: FrameGate, role: Role = SERVER) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._identity = identity
        self._gate = gate
        self._role = role
        self._buffer = b""
        self._at = 0
        self._greeted = False
        self.is_ready = False
        self.replies = b""
        self._frames: list[Frame] = []
        self._count = 0  # frames of the message so far
        self._small_bytes = 0
        self._refused = False  # the rest of the message is discarded
        self._more = False  # flag of the frame in progress
        self._large: memoryview | None = None
        self._filled = 0
        self._discarding = False
        self._to_discard = 0

    @property
    def is_within_message(self) -> bool:
        """A part of a message, or of the handshake, has arrived and the rest has not."""
        return not self.is_ready or self._at < len(self._buffer) or self._count > 0

    def target(self) -> memoryview | None:
        """Return the memory that the next bytes of the peer have to be written to; None where `feed` takes them."""
        if self._large is not None:
            return self._large[self._filled :]
        return _DISCARDED[: self._to_discard] if self._to_discard else None

    def wrote(self, count: int) -> None:
        """Count bytes written to `target`."""
        if self._large is not None:
            self._filled += count
        else:
            self._to_discard -= count

    def feed(self, data: bytes) -> None:
        """Append bytes of the peer."""
        rest = self._buffer[self._at :]
        self._buffer, self._at = rest + data if rest else data, 0

    def next(self) -> list[Frame] | None:
        """Parse the next message or command.

        Returns
        -------
        list of bytes or memoryview, or None
            Frames of a message; empty for a command or a discarded message; None where more bytes are needed.

        Raises
        ------
        ProtocolViolation
            If the peer does not keep to the protocol or exceeds a limit.
        """
        if not self._greeted and not self._read_greeting():
            return None
        while True:
            if self._large is not None:
                if self._filled < len(self._large):
                    return None
                self._frames.append(self._large)
                self._large = None
            elif self._discarding:
                if self._to_discard:
                    return None
                self._discarding = False
            else:
                body = self._read_frame()
                if body is None:
                    return None
                if isinstance(body, bool):
                    if body:  # a command
                        return []
                    continue
                if not self._refused:
                    self._frames.append(body)
            if self._more:
                continue
            frames, self._frames, self._small_bytes, self._count = self._frames, [], 0, 0
            refused, self._refused = self._refused, False
            return [] if refused else frames

    def _read_greeting(self) -> bool:
        seen = self._buffer[self._at : self._at + len(GREETING)]
        if seen[:1] not in (b"", b"\xff") or (len(seen) > 9 and not seen[9] & 1) or (len(seen) > 10 and seen[10] < 3):
            raise NoZeroMQ("not a ZeroMQ peer of version 4 or later")
        if len(seen) < len(GREETING):
            return False
        mechanism = seen[12:32].rstrip(b"\0")
        if mechanism != b"NULL":
            raise OtherMechanism(f"mechanism {mechanism[:20].decode('ascii', 'replace')}: this server has no keys")
        self._at += len(GREETING)
        self._greeted = True
        kind = self._role.kind
        self.replies += _command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind)
        return True

    def _read_frame(self) -> bytes | bool | None:
        """Return the next small frame; True after a command, False after the start of a large one, None without one."""
        buffer, at = self._buffer, self._at
        left = len(buffer) - at
        if left < 2:
            return None
        flags = buffer[at]
        if flags & _LONG:
            if left < 9:
                return None
            size, start = int.from_bytes(buffer[at + 1 : at + 9], "big"), at + 9
        else:
            size, start = buffer[at + 1], at + 2
        if flags & _COMMAND:
            return self._read_command(start, size)
        self._check_frame(size)
        small = self._small_bytes + size <= SMALL_BYTES
        if small and len(buffer) - start < size:
            return None
        self._more = bool(flags & _MORE)
        self._count += 1
        if small:
            self._at = start + size
            self._small_bytes += 0 if self._refused else size
            return buffer[start : self._at]
        self._begin_large(start, size)
        return False

    def _check_frame(self, size: int) -> None:
        if not self.is_ready:
            raise ProtocolViolation("a message before the handshake")
        if size > self._max_frame_bytes:
            reason = f"a frame of {size} bytes: at most {self._max_frame_bytes} are read"
            raise ProtocolViolation(reason)
        if self._count >= _MAX_DISCARDED_FRAMES:
            raise ProtocolViolation(f"more than {_MAX_DISCARDED_FRAMES} frames in a message")
        most = self._role.max_frames
        if self._count >= most and not self._refused:
            fault = WireError("bad_request", f"more than {most} frames: see the protocol for those of a request")
            self._gate.reject([self._identity, *self._frames], fault)
            self._refused, self._frames = True, []

    def _begin_large(self, start: int, size: int) -> None:
        self._refused = self._refused or not self._gate.admit([self._identity, *self._frames], size)
        arrived = self._buffer[start : start + size]
        self._at = start + len(arrived)
        if self._refused:
            self._frames = []
            self._discarding, self._to_discard = True, size - len(arrived)
            return
        self._large = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]
        self._large[: len(arrived)] = arrived
        self._filled = len(arrived)

    def _read_command(self, start: int, size: int) -> bool | None:
        if size > _MAX_COMMAND:
            raise ProtocolViolation(f"a command of {size} bytes")
        if len(self._buffer) - start < size:
            return None
        body = self._buffer[start : start + size]
        self._at = start + size
        name, data = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
        if name == b"READY" and not self.is_ready:
            kind = _metadata(data).get(b"socket-type", b"")
            if kind not in self._role.peers:
                shown = kind[:10].decode("ascii", "replace")
                raise ProtocolViolation(f"a peer of socket type {shown!r}: connect a REQ or a DEALER")
            self.is_ready = True
        elif name == b"PING":
            self.replies += _command(b"PONG", data[2:18])
        elif not self.is_ready:
            raise ProtocolViolation("no READY command in the handshake")
        return True


def _metadata(data: bytes) -> dict[bytes, bytes]:
    """Return the properties of a READY command, names in lower case; malformed ones are left out."""
    found, at = {}, 0
    while at < len(data):
        stop = at + 1 + data[at]
        size = int.from_bytes(data[stop : stop + 4], "big")
        found[data[at + 1 : stop].lower()] = data[stop + 4 : stop + 4 + size]
        at = stop + 4 + size
    return found


def encode_message(frames: Sequence[Frame]) -> list[Frame]:
    """Encode a message for the connection.

    Parameters
    ----------
    frames : sequence of bytes or memoryview
        Frames.

    Returns
    -------
    list of bytes or memoryview
        Bytes to send; large frames are not copied.
    """
    parts: list[Frame] = []
    joined: list[Frame] = []
    last = len(frames) - 1
    for index, frame in enumerate(frames):
        size = len(frame)
        flags = 0 if index == last else _MORE
        joined.append(bytes((flags, size)) if size < 256 else struct.pack(">BQ", flags | _LONG, size))
        if size < _JOINED_BYTES:
            joined.append(frame)
        else:
            parts += [b"".join(joined), frame]
            joined = []
    return [*parts, b"".join(joined)] if joined else parts


def send_some(socket: sockets.socket, outbox: deque[memoryview]) -> int:
    """Send as many of the bytes that wait as the system takes without blocking, and remove them.

    Parameters
    ----------
    socket : socket.socket
        Non-blocking socket.
    outbox : deque of memoryview
        Bytes that wait.

    Returns
    -------
    int
        Bytes sent.

    Raises
    ------
    OSError
        If the connection has ended.
    """
    total = 0
    with suppress(BlockingIOError):
        while outbox:
            sent = socket.sendmsg(list(itertools.islice(outbox, _PARTS_PER_CALL)))
            total += sent
            while outbox and sent >= len(outbox[0]):
                sent -= len(outbox.popleft())
            if sent:
                outbox[0] = outbox[0][sent:]
    return total
