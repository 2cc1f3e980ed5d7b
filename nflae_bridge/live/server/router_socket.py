"""Bind the server's ROUTER socket, with its limits and CURVE keys set before any client can connect."""

from __future__ import annotations

import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import bind, check_well_formed, is_local
from nflae_bridge.live.keys import read_key_pair
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.server.key_guard import KeyGuard
from nflae_bridge.live.server.settings import ServerSettings

# Small answers queued per client; further ones are discarded, so that a client that does not read fills no memory.
_MAX_QUEUED_ANSWERS = 1024
_HEARTBEAT_MS = 5_000
_HEARTBEAT_TIMEOUT_MS = 20_000
_HANDSHAKE_MS = 10_000


class RouterSocket:
    """Hold a bound ROUTER socket and, with CURVE, the guard that admits clients.

    Parameters
    ----------
    context : zmq.Context
        Context of the socket.
    settings : ServerSettings
        Addresses, keys and limits.
    log : EventLog
        Log of refused clients.

    Raises
    ------
    NflaeError
        If an address cannot be bound, or is in reach of other machines without keys; the message names it.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], settings: ServerSettings, log: EventLog) -> None:
        for address in settings.bind:
            check_well_formed(address)
        _check_exposure(settings)
        self.guard: KeyGuard | None = None
        self.socket = context.socket(zmq.ROUTER)
        try:
            self._prepare(context, settings, log)
            self.addresses = [bind(self.socket, address) for address in settings.bind]
        except BaseException:
            self.close(linger_ms=0)
            raise

    def _prepare(self, context: zmq.Context[zmq.Socket[bytes]], settings: ServerSettings, log: EventLog) -> None:
        socket = self.socket
        socket.setsockopt(zmq.MAXMSGSIZE, settings.max_message_bytes)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to a client that has disconnected is an error
        socket.setsockopt(zmq.SNDHWM, _MAX_QUEUED_ANSWERS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.IPV6, any("[" in address for address in settings.bind))
        if settings.server_key is None:
            return
        public, secret = read_key_pair(settings.server_key)
        assert settings.client_keys is not None
        self.guard = KeyGuard(context, settings.client_keys, log)
        socket.curve_publickey = public
        socket.curve_secretkey = secret
        socket.curve_server = True

    def close(self, linger_ms: int) -> None:
        """Close the socket; messages already sent have `linger_ms` milliseconds to leave."""
        self.socket.close(linger=linger_ms)
        if self.guard is not None:
            self.guard.stop()


def _check_exposure(settings: ServerSettings) -> None:
    if (settings.server_key is None) != (settings.client_keys is None):
        raise NflaeError("--server-key and --client-keys must be given together")
    if settings.insecure or settings.server_key is not None:
        return
    for address in settings.bind:
        if not is_local(address):
            raise NflaeError(
                f"--bind {address} is in reach of other machines: give --server-key and --client-keys (`nflae keys`"
                " makes them), or --insecure to serve every program that can reach the address"
            )
