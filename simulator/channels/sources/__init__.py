"""Channel sources: one module per channel generator or recording tool, all under one registry.

Each module beside `registry` is a source; helpers that several sources use are in `shared`.
"""

from simulator.channels.sources.registry import (
    Channels,
    ChannelSet,
    Request,
    Source,
    channels,
    draw,
    option_label,
    register,
    source_names,
)

__all__ = [
    "ChannelSet",
    "Channels",
    "Request",
    "Source",
    "channels",
    "draw",
    "option_label",
    "register",
    "source_names",
]
