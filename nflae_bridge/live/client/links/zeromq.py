"""Connect to a server by a DEALER socket of ZeroMQ, with the events of its connection."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import zmq

from nflae_bridge.live.client.links.interface import UNKNOWN_PEER, mismatch, no_socket
from nflae_bridge.live.client.links.monitor import Monitor
from nflae_bridge.live.protocol.headers import Frame

if TYPE_CHECKING:
    from nflae_bridge.live.client.connection import ServerAddress

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_CLOSED
)


class ZeroMQLink:
    """Hold a socket that keeps requests for a connected server only; see `Link`.

    Parameters
    ----------
    server : ServerAddress
        Server to connect to.

    Raises
    ------
    BadRequest
        If the address or a key is unusable.
    """

    def __init__(self, server: ServerAddress) -> None:
        self._server = server
        self._open()

    def _open(self) -> None:
        self.established = self.accepted = False
        self._longest_wait = -1  # ms; none
        try:
            socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
            self._socket, self._events = socket, Monitor(socket, _EVENTS)
        except zmq.ZMQError as error:
            raise no_socket(self._server.address, OSError(error.errno or 0, error.strerror)) from None
        try:
            self._server.connect(self._socket)
        except BaseException:
            self.close()
            raise

    @property
    def descriptors(self) -> tuple[int, int]:
        """File descriptors that become readable when a message or an event may have arrived."""
        return self._socket.FD, self._events.reader.FD

    def close(self) -> None:
        """Disconnect at once; everything unsent is discarded."""
        if not self._socket.closed:
            self._events.close()
            self._socket.close(linger=0)

    def reset(self) -> None:
        """Replace the socket by a new one."""
        self.close()
        self._open()

    def can_send(self) -> bool:
        """Return whether a message can be sent."""
        return self.established or bool(self._state() & zmq.POLLOUT)

    def can_receive(self) -> bool:
        """Return whether a message has arrived."""
        return bool(self._state() & zmq.POLLIN)

    def _state(self) -> int:
        events = self._socket.getsockopt(zmq.EVENTS)
        assert isinstance(events, int)
        return events

    def send(self, frames: Sequence[Frame]) -> bool:
        """Send a message; return False if no server is connected."""
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self, seconds: float) -> list[Frame] | None:
        """Return the next message, None if there is none within a time, s."""
        flags = 0
        if seconds > 0:
            self._limit_wait(max(1, int(1e3 * seconds)))
        else:
            flags = zmq.NOBLOCK
        frames: list[Frame] = []
        try:
            while True:  # `recv_multipart` reads an option of the socket for each frame
                frame = self._socket.recv(flags, copy=False)
                frames.append(frame.bytes)
                if not frame.more:
                    return frames
        except zmq.Again:
            return None

    def _limit_wait(self, milliseconds: int) -> None:
        if milliseconds != self._longest_wait:
            self._longest_wait = self._socket.rcvtimeo = milliseconds

    def wait(self, seconds: float) -> None:
        """Wait until the socket can send or receive, at most a time, s."""
        self._socket.poll(max(1, int(1e3 * seconds)), zmq.POLLIN | zmq.POLLOUT)

    def loss(self) -> str | None:
        """Return the loss of the connection since the last call, as `Connection.loss` does."""
        found: str | None = None
        refused = ""
        retried = False
        for event, _ in self._events.read():
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.established, retried = True, False
            elif event in (zmq.EVENT_CONNECTED, zmq.EVENT_CLOSED):  # the latter where nothing accepts it
                self.accepted = event == zmq.EVENT_CONNECTED
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                retried = True
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                refused = "the server refuses this client's key: put its NAME.key into the folder of --client-keys"
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                refused = mismatch(self._server.server_key is not None)
            elif event == zmq.EVENT_DISCONNECTED:
                found = ""
                if not self.established and not retried:
                    refused = refused or UNKNOWN_PEER
                self.established = False
        return refused or found

    def give_up(self) -> None:
        """Connect no more until `reset`: ZeroMQ would try again for ever, fifty times a second."""
        with suppress(zmq.ZMQError):  # it has ended the connection itself
            self._socket.disconnect(self._server.address)
