"""nflae-bridge: near-field multi-user precoding by a GPT-2-backbone network, for the tools engineers use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nflae_bridge.errors import NflaeError

if TYPE_CHECKING:
    from nflae_bridge.api import precode
    from nflae_bridge.client import AsyncClient, Client
    from nflae_bridge.result import Result

_HOMES = {"precode": "api", "Result": "result", "Client": "client", "AsyncClient": "client"}

__all__ = ["AsyncClient", "Client", "NflaeError", "Result", "precode"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes a second to import: `nflae --help` and a client shouldn't wait for it
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
