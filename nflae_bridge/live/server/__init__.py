"""Run ``nflae serve``: the server loop on a ROUTER socket, micro-batches of requests, and the device's thread."""

from __future__ import annotations

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import check_device_name
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.transport import check_transport
from nflae_bridge.network.card import read_card
from nflae_bridge.network.shipped import model_folder, model_of_effort

__all__ = ["ServerSettings", "serve"]


def serve(settings: ServerSettings, log: EventLog) -> None:
    """Serve until SIGTERM or SIGINT, then answer the accepted requests and return; runs in the main thread.

    Addresses, ports, keys, the name of the device and the card of the model are checked before PyTorch is imported,
    which takes the most of the start; the addresses are bound once the device is known to be usable.

    Parameters
    ----------
    settings : ServerSettings
        Settings.
    log : EventLog
        Log of events.

    Raises
    ------
    NflaeError
        If an address, a key, a model or a device is unusable, and if a second signal ends the server at once.
    """
    for name, value, kind in (("settings", settings, ServerSettings), ("log", log, EventLog)):
        if not isinstance(value, kind):
            raise NflaeError(f"{name} must be {kind.__name__}(...), got {type(value).__name__}")
    check_device_name(settings.device)
    check_transport(settings)
    model, _ = model_of_effort(settings.effort, settings.model, 0)
    read_card(model_folder(model))
    from nflae_bridge.live.server.loop import run_server

    run_server(settings, log)
