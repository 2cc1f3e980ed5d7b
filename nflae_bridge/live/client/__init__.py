"""Request precoders and predictions from ``nflae serve``: `Client` for blocking calls, `AsyncClient` for asyncio."""

from nflae_bridge.live.client.asynchronous import AsyncClient
from nflae_bridge.live.client.blocking import Client
from nflae_bridge.live.client.history import History

__all__ = ["AsyncClient", "Client", "History"]
