"""``nflae serve``: a ROUTER socket in front, one owner of the device behind, micro-batches between them."""

from nflae_bridge.server.front import serve
from nflae_bridge.server.settings import ServerSettings

__all__ = ["ServerSettings", "serve"]
