"""nflae-bridge: near-field multi-user precoding by a GPT-2-backbone network, for the tools engineers use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nflae_bridge.errors import NflaeError

if TYPE_CHECKING:
    from nflae_bridge.api import Result, precode

__all__ = ["NflaeError", "Result", "precode"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes a second to import: `nflae --help` shouldn't wait for it
    if name in ("precode", "Result"):
        from nflae_bridge import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
