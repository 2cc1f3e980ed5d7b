"""``nflae serve``: a ROUTER socket in front, one owner of the device behind, micro-batches between them."""

from nflae_bridge.live.server.loop import serve
from nflae_bridge.live.server.settings import ServerSettings

__all__ = ["ServerSettings", "serve"]
