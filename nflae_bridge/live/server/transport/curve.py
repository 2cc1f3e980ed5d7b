"""Exchange messages with clients that hold registered keys, over ZeroMQ's ROUTER socket with CURVE."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence

import zmq

from nflae_bridge.live.addresses import bind
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.protocol.keys import read_key_pair
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.transport.interface import Delivery, Gate
from nflae_bridge.live.server.transport.key_guard import KeyGuard
from nflae_bridge.live.server.transport.outbox import Outbox

_MAX_QUEUED_ANSWERS = 1024  # small answers per client; further ones are discarded
_MAX_QUEUED_REQUESTS = 16  # per client, before they are received
_MESSAGES_PER_TURN = 64
_HEARTBEAT_MS = 5_000
_HEARTBEAT_TIMEOUT_MS = 20_000
_HANDSHAKE_MS = 10_000
_WAKEUP_ADDRESS = "inproc://wakeup"
_WAKEUP_ID = uuid.uuid4().hex.encode()  # random, because peers choose their routing identities


class CurveRouter:
    """Hold a bound ROUTER socket and the guard that admits clients.

    ZeroMQ limits the size of a frame and the number of messages per client, not the number of frames of a message.

    Parameters
    ----------
    settings : ServerSettings
        Addresses, keys and limits.
    log : EventLog
        Log of refused clients.

    Raises
    ------
    NflaeError
        If an address or a key is unusable; the message names it.
    """

    def __init__(self, settings: ServerSettings, log: EventLog) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.guard: KeyGuard | None = None
        self._wakeups = threading.local()
        self._closed = False
        self._socket = self._context.socket(zmq.ROUTER)
        self._outbox = Outbox(self._socket)
        try:
            self._prepare(settings, log)
            self.addresses = [bind(self._socket, address) for address in settings.bind]
            self._socket.bind(_WAKEUP_ADDRESS)
        except BaseException:
            self.close(0)
            raise

    def _prepare(self, settings: ServerSettings, log: EventLog) -> None:
        socket = self._socket
        socket.setsockopt(zmq.MAXMSGSIZE, settings.max_message_bytes)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to a client that has disconnected is an error
        socket.setsockopt(zmq.SNDHWM, _MAX_QUEUED_ANSWERS)
        socket.setsockopt(zmq.RCVHWM, _MAX_QUEUED_REQUESTS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.IPV6, any("[" in address for address in settings.bind))
        assert settings.server_key is not None
        assert settings.client_keys is not None
        public, secret = read_key_pair(settings.server_key)
        self.guard = KeyGuard(self._context, settings.client_keys, log)
        socket.curve_publickey = public
        socket.curve_secretkey = secret
        socket.curve_server = True

    def open(self, gate: Gate) -> None:
        """Deliver messages from now on; they are received before the gate sees them."""

    def wake(self) -> None:
        """Have `receive` return; safe in any thread, and without effect once the sockets are closed."""
        try:
            socket = getattr(self._wakeups, "socket", None)
            if socket is None:
                socket = self._wakeups.socket = self._context.socket(zmq.DEALER)
                socket.routing_id = _WAKEUP_ID
                socket.linger = 0
                socket.connect(_WAKEUP_ADDRESS)
            socket.send(b"")
        except zmq.ZMQError:
            if not self._closed:
                raise

    def is_connected(self, identity: bytes) -> bool:
        """Return True: ZeroMQ reports a lost client when an answer is sent to it."""
        return True

    def receive(self, timeout: float) -> list[list[Frame]]:
        """Wait for messages and return them, see `Transport.receive`."""
        messages: list[list[Frame]] = []
        self._socket.rcvtimeo = round(1e3 * timeout)
        try:
            while len(messages) < _MESSAGES_PER_TURN:
                message = self._socket.recv_multipart()
                if message[0] != _WAKEUP_ID:
                    messages.append(list(message))
                self._socket.rcvtimeo = 0
        except zmq.Again:
            pass
        return messages

    def send(self, envelope: Sequence[Frame], frames: Sequence[Frame]) -> Delivery:
        """Send an answer without blocking, or discard it.

        Parameters
        ----------
        envelope : sequence of bytes or memoryview
            Identity of the client, and the rest of the request's envelope.
        frames : sequence of bytes or memoryview
            Frames of the answer.

        Returns
        -------
        {"sent", "disconnected", "unread"}
            ``unread`` if the client leaves too many answers unread.
        """
        return self._outbox.send(envelope, frames)

    def close(self, linger: float) -> None:
        """Close the sockets; answers already sent have `linger` seconds to leave."""
        self._closed = True
        self._socket.close(linger=round(1e3 * linger))
        if self.guard is not None:
            self.guard.stop()
        self._context.destroy(linger=0)
