"""Exchange messages with clients: plain connections within limits, or ZeroMQ's CURVE for clients with keys."""

from __future__ import annotations

from itertools import combinations

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import is_local
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.keys import read_client_keys, read_key_pair
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.transport.connections import Connections
from nflae_bridge.live.server.transport.curve import CurveRouter
from nflae_bridge.live.server.transport.interface import Delivery, Gate, Transport
from nflae_bridge.live.server.transport.key_guard import reread_on_hangup
from nflae_bridge.live.server.transport.listeners import check_bindable
from nflae_bridge.live.view.http import check_port

__all__ = ["Delivery", "Gate", "Transport", "check_transport", "open_transport", "reread_on_hangup"]


def check_transport(settings: ServerSettings) -> None:
    """Check that a server's addresses and ports can be bound and its keys be read, without accepting connections.

    Parameters
    ----------
    settings : ServerSettings
        Addresses, keys, and the ports of metrics and live view.

    Raises
    ------
    NflaeError
        As for `open_transport`, and if a port is given twice.
    """
    if settings.server_key is not None and settings.client_keys is not None:
        read_key_pair(settings.server_key)
        read_client_keys(settings.client_keys)
    else:
        _check_reach(settings)
    places = [(f"--bind {address}", *check_bindable(address)) for address in settings.bind]
    if settings.metrics_port is not None:
        places.append((f"--metrics-port {settings.metrics_port}", "127.0.0.1", settings.metrics_port))
        check_port(*places[-1])
    if settings.view is not None:
        places.append((f"--http {settings.view.address}", settings.view.host, settings.view.port))
        check_port(*places[-1])
    for (option, host, port), (other, other_host, other_port) in combinations(places, 2):
        if _is_one(host, other_host, port, other_port):
            raise NflaeError(f"{other} is that of {option}: give another address, or leave one of them out")


def _is_one(host: str, other: str, port: int, other_port: int) -> bool:
    """Return whether two addresses exclude each other: a port of one host, or of all of them, or a file."""
    if not (port and other_port):
        return host == other and host.startswith(("/", "@"))
    return port == other_port and (host == other or bool({host, other} & {"0.0.0.0", "::"}))


def open_transport(settings: ServerSettings, log: EventLog) -> Transport:
    """Bind a server's addresses, with all limits and keys set before any client can connect.

    Parameters
    ----------
    settings : ServerSettings
        Addresses, keys and limits.
    log : EventLog
        Log of events.

    Returns
    -------
    Transport
        Bound; it delivers messages once it is opened.

    Raises
    ------
    NflaeError
        If an address cannot be bound, or is in reach of other machines without keys; the message names it.
    """
    if settings.server_key is not None:
        return CurveRouter(settings, log)
    _check_reach(settings)
    return Connections(settings.bind, settings.max_message_bytes, log)


def _check_reach(settings: ServerSettings) -> None:
    """Refuse addresses in reach of other machines, for a server without keys."""
    for address in settings.bind:
        if not (settings.insecure or is_local(address)):
            raise NflaeError(
                f"--bind {address} is in reach of other machines: give --server-key and --client-keys (`nflae keys`"
                " makes them), or --insecure to serve every program that can reach the address"
            )
