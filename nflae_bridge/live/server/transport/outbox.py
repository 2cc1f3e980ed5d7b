"""Send answers without blocking, within a limit of unread bytes per client."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.server.transport.interface import Delivery

# ZeroMQ limits unread answers by their number; large answers are limited here, by their bytes.
_MAX_SMALL_BYTES = 64 << 10
_MAX_UNREAD_BYTES = 128 << 20


class Outbox:
    """Send answers through a ROUTER socket without blocking.

    Parameters
    ----------
    socket : zmq.Socket
        ROUTER socket with ``ROUTER_MANDATORY``.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._unread: dict[bytes, list[tuple[zmq.MessageTracker, int]]] = {}

    def send(self, envelope: Sequence[Frame], frames: Sequence[Frame]) -> Delivery:
        """Send an answer, or discard it.

        Parameters
        ----------
        envelope : sequence of bytes or memoryview
            Envelope of the request.
        frames : sequence of bytes or memoryview
            Frames of the answer.

        Returns
        -------
        {"sent", "disconnected", "unread"}
            ``unread`` if the client leaves too many answers unread.
        """
        size = sum(map(len, frames))
        try:
            if size < _MAX_SMALL_BYTES:
                self._socket.send_multipart([*envelope, *frames], zmq.NOBLOCK)
                return "sent"
            return self._send_large(envelope, frames, size)
        except zmq.Again:
            return "unread"
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return "disconnected"

    def _send_large(self, envelope: Sequence[Frame], frames: Sequence[Frame], size: int) -> Delivery:
        for peer in [peer for peer, unread in self._unread.items() if all(tracker.done for tracker, _ in unread)]:
            del self._unread[peer]
        unread = [entry for entry in self._unread.get(bytes(envelope[0]), ()) if not entry[0].done]
        if unread and sum(waiting for _, waiting in unread) + size > _MAX_UNREAD_BYTES:
            return "unread"
        self._socket.send_multipart(envelope, zmq.NOBLOCK | zmq.SNDMORE)
        # One frame at a time: send_multipart would track the last one only.
        more = [zmq.SNDMORE] * (len(frames) - 1) + [0]
        parts = [
            self._socket.send(frame, zmq.NOBLOCK | flag, copy=False, track=True)
            for frame, flag in zip(frames, more, strict=True)
        ]
        self._unread[bytes(envelope[0])] = [*unread, (zmq.MessageTracker(*parts), size)]
        return "sent"
