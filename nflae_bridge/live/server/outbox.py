"""Answers on their way out, and how much of them a client may leave unread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import zmq

from nflae_bridge.live.protocol import Frame

Fate = Literal["sent", "gone", "unread"]

# ZeroMQ bounds what a client leaves unread by messages; large ones are bounded by bytes, here.
_COUNTED_BYTES = 64 << 10
_UNREAD_BYTES = 256 << 20


class Outbox:
    """Sends answers through a ROUTER without ever waiting for a client."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._unread: dict[bytes, list[tuple[zmq.MessageTracker, int]]] = {}

    def send(self, envelope: Sequence[bytes], frames: Sequence[Frame]) -> Fate:
        """Send, or find that the client has gone, or doesn't read: then the answer is thrown away."""
        size = sum(map(len, frames))
        try:
            if size < _COUNTED_BYTES:
                self._socket.send_multipart([*envelope, *frames], zmq.NOBLOCK)
                return "sent"
            return self._send_large(envelope, frames, size)
        except zmq.Again:
            return "unread"
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return "gone"

    def _send_large(self, envelope: Sequence[bytes], frames: Sequence[Frame], size: int) -> Fate:
        for peer in [peer for peer, unread in self._unread.items() if all(tracker.done for tracker, _ in unread)]:
            del self._unread[peer]
        unread = [entry for entry in self._unread.get(envelope[0], ()) if not entry[0].done]
        if unread and sum(waiting for _, waiting in unread) + size > _UNREAD_BYTES:
            return "unread"
        self._socket.send_multipart(envelope, zmq.NOBLOCK | zmq.SNDMORE)
        # One at a time: of send_multipart's frames only the last would be tracked.
        more = [zmq.SNDMORE] * (len(frames) - 1) + [0]
        parts = [
            self._socket.send(frame, zmq.NOBLOCK | flag, copy=False, track=True)
            for frame, flag in zip(frames, more, strict=True)
        ]
        self._unread[envelope[0]] = [*unread, (zmq.MessageTracker(*parts), size)]
        return "sent"
