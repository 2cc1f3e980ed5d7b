"""Keep the segments of a server's clients, in a thread of its own."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import selectors
import socket as sockets
import threading
from dataclasses import dataclass
from typing import Any

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.server.computation.shares import Shares
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.shared_memory.handover import encode_handover, peer_of, take_over
from nflae_bridge.live.shared_memory.segment import IS_SUPPORTED, map_segment

_MAX_SEGMENTS = 256
_MESSAGES_PER_SEGMENT = 4  # the channels, the answer, and as much again
_QUEUES = 4  # size of all segments relative to that of all requests: answers, and results that are kept
_BACKLOG = 64


@dataclass
class _Held:
    """A connection, the process at its other end, and its segment, if it has handed one over."""

    socket: sockets.socket
    process: bytes
    segment: str = ""
    size: int = 0


def open_segments(settings: ServerSettings, log: EventLog) -> SegmentRegistry | None:
    """Offer shared memory to clients, if the settings and the system permit it.

    Parameters
    ----------
    settings : ServerSettings
        Settings. With keys there is no offer: messages are encrypted, and the loss of a client is noticed late.
    log : EventLog
        Log of events.

    Returns
    -------
    SegmentRegistry or None
        None where no memory is shared.
    """
    if not settings.shared_memory or settings.server_key is not None:
        return None
    if not IS_SUPPORTED:
        log.info("no_shared_memory", reason="this system has no sealed memory files (Linux only)")
        return None
    return SegmentRegistry(_MESSAGES_PER_SEGMENT * settings.max_message_bytes, _QUEUES * settings.queue_bytes, log)


class SegmentRegistry:
    """Accept segments of this account's processes, and forget those whose connections have ended.

    Parameters
    ----------
    largest : int
        Largest segment, bytes.
    limit : int
        Size of all segments together, bytes; a process may hold at most four times what it leaves free.
    log : EventLog
        Log of refused segments.

    Attributes
    ----------
    name : str
        Abstract name of the socket, random.
    """

    def __init__(self, largest: int, limit: int, log: EventLog) -> None:
        self._largest = largest
        self._shares = Shares(limit)
        self._log = log
        self._memory: dict[str, mmap.mmap] = {}
        self._held: dict[int, _Held] = {}
        self._wakeup, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.name = f"nflae-{secrets.token_hex(16)}"
        self._listener = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
        self._listener.bind("\0" + self.name)
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="shared memory", daemon=True)
        self._thread.start()

    def status(self) -> dict[str, Any]:
        """Return the offer to clients, and the number and size of the segments."""
        return {
            "socket": self.name,
            "max_segment_bytes": self._largest,
            "segments": len(self._memory),
            "bytes": self._shares.used,
        }

    def find(self, segment: str) -> memoryview:
        """Return the memory of a segment; safe in any thread.

        Parameters
        ----------
        segment : str
            Name of the segment.

        Returns
        -------
        memoryview
            The whole segment; it stays mapped as long as the view exists.

        Raises
        ------
        WireError
            ``no_segment`` if there is none of this name.
        """
        memory = self._memory.get(segment)
        if memory is None:
            raise WireError("no_segment", "this server has no such segment: send the request with its channels")
        return memoryview(memory)

    def close(self) -> None:
        """End the thread, and forget all segments."""
        os.write(self._waker, b"\0")
        self._thread.join()
        for held in list(self._held.values()):
            self._end(held)
        self._selector.close()
        self._listener.close()
        os.close(self._wakeup)
        os.close(self._waker)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fd == self._wakeup:
                    return
                else:
                    self._read(self._held[key.fd])

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the peer has left, or no file descriptor is free
            return
        connection.setblocking(False)
        process, account = peer_of(connection)
        held = _Held(connection, str(process).encode())
        self._held[connection.fileno()] = held
        self._selector.register(connection, selectors.EVENT_READ)
        if account != os.geteuid():
            self._refuse(held, WireError("bad_request", f"the client runs under account {account}, not the server's"))
        elif len(self._held) > _MAX_SEGMENTS:
            self._refuse(held, WireError("busy", f"this server has {_MAX_SEGMENTS} segments, as many as it maps"))

    def _read(self, held: _Held) -> None:
        """Map the segment that a connection brings, or end the connection."""
        try:
            descriptor = take_over(held.socket)
        except BlockingIOError:
            return
        except OSError:
            self._end(held)
            return
        except WireError as fault:
            self._refuse(held, fault)
            return
        try:
            if held.segment:
                raise WireError("bad_request", "one segment per connection: connect again for another one")
            self._map(held, descriptor)
        except WireError as fault:
            self._refuse(held, fault)
        finally:
            os.close(descriptor)

    def _map(self, held: _Held, descriptor: int) -> None:
        memory = map_segment(descriptor, self._largest)
        if not self._shares.take(held.process, len(memory)):
            raise WireError("busy", "the segments of this and other clients take all the memory that is mapped")
        held.segment, held.size = secrets.token_hex(16), len(memory)
        self._memory[held.segment] = memory
        with contextlib.suppress(OSError):  # the end of the connection is read next
            held.socket.send(encode_handover(held.segment))

    def _refuse(self, held: _Held, fault: WireError) -> None:
        self._log.warning("segment_refused", code=fault.code, process=held.process.decode(), message=fault)
        with contextlib.suppress(OSError):
            held.socket.send(encode_handover(error=fault))
        self._end(held)

    def _end(self, held: _Held) -> None:
        """Forget a connection and its segment, which stays mapped until the work on it has ended."""
        self._selector.unregister(held.socket)
        self._held.pop(held.socket.fileno())
        held.socket.close()
        if held.segment:
            self._memory.pop(held.segment)
            self._shares.give_back(held.process, held.size)
