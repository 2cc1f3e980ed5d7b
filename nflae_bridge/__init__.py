"""Compute near-field multi-user precoders with a GPT-2-backbone network, in files, in Python or over ZeroMQ."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from matlab_io import extras as _extras
from matlab_io.errors import MatFileError, NflaeError
from matlab_io.version import __version__

if TYPE_CHECKING:
    from matlab_io.result import Result
    from nflae_bridge.api.estimate import EstimatedChannels, estimate
    from nflae_bridge.api.feedback import Feedback, decode_feedback, feedback
    from nflae_bridge.api.precode import precode
    from nflae_bridge.api.predict import PredictedChannels, predict
    from nflae_bridge.live.client import AsyncClient, Client
    from nflae_bridge.live.errors import (
        BadChannels,
        BadRequest,
        BridgeError,
        ConnectionLost,
        Expired,
        NoAnswer,
        NoTrack,
        ServerBusy,
        ServerFault,
        ServerStopping,
        TooLarge,
    )
    from simulator.downlink.budget import BudgetError
    from simulator.schemes.options import SchemeError

_MODULES = {
    "AsyncClient": "nflae_bridge.live.client",
    "BadChannels": "nflae_bridge.live.errors",
    "BadRequest": "nflae_bridge.live.errors",
    "BridgeError": "nflae_bridge.live.errors",
    "BudgetError": "simulator.downlink.budget",
    "Client": "nflae_bridge.live.client",
    "ConnectionLost": "nflae_bridge.live.errors",
    "EstimatedChannels": "nflae_bridge.api.estimate",
    "Expired": "nflae_bridge.live.errors",
    "Feedback": "nflae_bridge.api.feedback",
    "NoAnswer": "nflae_bridge.live.errors",
    "NoTrack": "nflae_bridge.live.errors",
    "PredictedChannels": "nflae_bridge.api.predict",
    "Result": "matlab_io.result",
    "SchemeError": "simulator.schemes.options",
    "ServerBusy": "nflae_bridge.live.errors",
    "ServerFault": "nflae_bridge.live.errors",
    "ServerStopping": "nflae_bridge.live.errors",
    "TooLarge": "nflae_bridge.live.errors",
    "estimate": "nflae_bridge.api.estimate",
    "decode_feedback": "nflae_bridge.api.feedback",
    "feedback": "nflae_bridge.api.feedback",
    "precode": "nflae_bridge.api.precode",
    "predict": "nflae_bridge.api.predict",
}

__all__ = [
    "AsyncClient",
    "BadChannels",
    "BadRequest",
    "BridgeError",
    "BudgetError",
    "Client",
    "ConnectionLost",
    "EstimatedChannels",
    "Expired",
    "Feedback",
    "MatFileError",
    "NflaeError",
    "NoAnswer",
    "NoTrack",
    "PredictedChannels",
    "Result",
    "SchemeError",
    "ServerBusy",
    "ServerFault",
    "ServerStopping",
    "TooLarge",
    "__version__",
    "decode_feedback",
    "estimate",
    "feedback",
    "precode",
    "predict",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: PyTorch takes a second, which `nflae --help` and a client do without.
    if name in _MODULES:
        try:
            return getattr(import_module(_MODULES[name]), name)
        except ModuleNotFoundError as error:
            raise _extras.explain_import(error, f"nflae_bridge.{name}") from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
