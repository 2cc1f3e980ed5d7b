"""Blocks of GNU Radio 3.10 in the category ``[nflae]`` of GNU Radio Companion, and their installation.

The classes require GNU Radio's Python; `requests`, `sizes` and `installation` do not.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nflae_bridge.live.gnuradio.blocks.downlink import DownlinkChannel
    from nflae_bridge.live.gnuradio.blocks.evm import EvmProbe
    from nflae_bridge.live.gnuradio.blocks.precoder import Precoder
    from nflae_bridge.live.gnuradio.blocks.recorder import CsiRecorder

_MODULES = {"CsiRecorder": "recorder", "DownlinkChannel": "downlink", "EvmProbe": "evm", "Precoder": "precoder"}

__all__ = ["CsiRecorder", "DownlinkChannel", "EvmProbe", "Precoder"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        try:
            return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        except ModuleNotFoundError as error:
            if error.name not in ("gnuradio", "pmt"):
                raise
            text = (
                f"{name} requires GNU Radio's Python, and {sys.executable} has no GNU Radio: `nflae gnuradio install`"
            )
            raise ModuleNotFoundError(text, name=error.name) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
