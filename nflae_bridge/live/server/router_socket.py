"""The server's socket: bound, limited and guarded before anybody can connect."""

from __future__ import annotations

import zmq
from zmq.auth.thread import ThreadAuthenticator

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import bind, require_well_formed, stays_on_this_machine
from nflae_bridge.live.keys import check_client_keys, read_key_pair
from nflae_bridge.live.server.settings import ServerSettings

# Answers a client may leave unread; then more are thrown away: they must not fill the server's memory.
_UNREAD_ANSWERS = 1024
_HEARTBEAT_MS = 5_000
_SILENCE_MS = 20_000
_HANDSHAKE_MS = 10_000


class RouterSocket:
    """A bound ROUTER socket and, with CURVE, the thread that tells whom to let in.

    Raises NflaeError, naming the address, where it can't be bound or may not be without keys.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], settings: ServerSettings) -> None:
        for address in settings.bind:
            require_well_formed(address)
        _check_exposure(settings)
        self._guard: ThreadAuthenticator | None = None
        self.socket = context.socket(zmq.ROUTER)
        try:
            self._prepare(context, settings)
            self.addresses = [bind(self.socket, address) for address in settings.bind]
        except BaseException:
            self.close(linger=0)
            raise

    def _prepare(self, context: zmq.Context[zmq.Socket[bytes]], settings: ServerSettings) -> None:
        socket = self.socket
        socket.setsockopt(zmq.MAXMSGSIZE, settings.max_message_bytes)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a client that has gone is an error, which is counted
        socket.setsockopt(zmq.SNDHWM, _UNREAD_ANSWERS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS)
        socket.setsockopt(zmq.IPV6, any("[" in address for address in settings.bind))
        if settings.server_key is None:
            return
        public, secret = read_key_pair(settings.server_key)
        assert settings.client_keys is not None
        check_client_keys(settings.client_keys)
        self._guard = ThreadAuthenticator(context)
        self._guard.start()
        self._guard.configure_curve("*", settings.client_keys)
        socket.curve_publickey = public
        socket.curve_secretkey = secret
        socket.curve_server = True

    def close(self, linger: int) -> None:
        """Close, giving what was sent ``linger`` ms to leave."""
        self.socket.close(linger=linger)
        if self._guard is not None:
            self._guard.stop()


def _check_exposure(settings: ServerSettings) -> None:
    if (settings.server_key is None) != (settings.client_keys is None):
        raise NflaeError("--server-key and --client-keys go together: whom to be, and whom to let in")
    if settings.insecure or settings.server_key is not None:
        return
    for address in settings.bind:
        if not stays_on_this_machine(address):
            raise NflaeError(
                f"--bind {address} lets other machines in: give --server-key and --client-keys (`nflae keys` makes"
                " them), or --insecure if whoever reaches this address may use the server"
            )
