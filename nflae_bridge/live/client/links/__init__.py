"""Connect a client to its server: a plain socket within a host, else ZeroMQ, which has a thread of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nflae_bridge.live.addresses import is_local
from nflae_bridge.live.client.links.interface import Link
from nflae_bridge.live.client.links.plain import PlainLink
from nflae_bridge.live.client.links.zeromq import ZeroMQLink

if TYPE_CHECKING:
    from nflae_bridge.live.client.connection import ServerAddress

__all__ = ["Link", "PlainLink", "ZeroMQLink", "blocking_link"]


def blocking_link(server: ServerAddress) -> Link:
    """Return the link of a client whose calls block.

    Parameters
    ----------
    server : ServerAddress
        Server to connect to.

    Returns
    -------
    Link
        A `PlainLink` within the host and without keys: nothing has to be done between two calls there, as a peer cannot
        vanish without the end of its connection. Else a `ZeroMQLink`.

    Raises
    ------
    BadRequest
        If the address or a key is unusable.
    """
    return PlainLink(server) if server.server_key is None and is_local(server.address) else ZeroMQLink(server)
