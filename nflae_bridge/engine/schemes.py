"""Load precoding schemes by name, the network's among them."""

from __future__ import annotations

from functools import lru_cache

from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from simulator.downlink.precoding import Scheme
from simulator.schemes import check_scheme, scheme


def load_scheme(name: str, model: str = "auto", device: str = "auto", refinements: int = 0) -> Scheme:
    """Load a precoding scheme; for ``nflae``, the engine with a model.

    Parameters
    ----------
    name
        Scheme of the registry, ``NAME`` or ``NAME:OPTION=VALUE:...``, or ``nflae``.
    model
        Model of ``nflae``: see `nflae_bridge.network.shipped.load_model`.
    device
        Device of ``nflae``: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    refinements
        Number of WMMSE steps started from the network's answer.

    Returns
    -------
    Scheme
        Callable ``(ChannelBatch, LinkBudget) -> Precoding``.

    Raises
    ------
    NflaeError
        If the model or the device is not available, or a third-party scheme cannot be loaded.
    SchemeError
        If the scheme or an option of it is unknown or a value is out of range; a `ValueError` too.
    """
    if check_scheme(name, ("nflae",)) == "nflae":
        return load_network(model, device, refinements)
    return scheme(name)


@lru_cache(maxsize=8)
def cached_scheme(name: str, model: str = "auto", device: str = "auto", refinements: int = 0) -> Scheme:
    """Load a precoding scheme once per process.

    Parameters
    ----------
    name, model, device, refinements
        As for `load_scheme`.

    Returns
    -------
    Scheme
        As of `load_scheme`.
    """
    return load_scheme(name, model, device, refinements)


def load_network(model: str = "auto", device: str = "auto", refinements: int = 0) -> Engine:
    """Load the engine with a model.

    Parameters
    ----------
    model, device, refinements
        As for `load_scheme`.

    Returns
    -------
    Engine
        The scheme ``nflae``, which also labels users for other schemes.

    Raises
    ------
    NflaeError
        If the model or the device is not available.
    """
    chosen = choose_device(device)
    return Engine(load_model(model, chosen), chosen, refinements)
