"""Run ``nflae serve``: the server loop on a ROUTER socket, micro-batches of requests, and the device's thread."""

from nflae_bridge.live.server.loop import serve
from nflae_bridge.live.server.settings import ServerSettings

__all__ = ["ServerSettings", "serve"]
