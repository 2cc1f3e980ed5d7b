"""Load precoding schemes by name, the network's among them."""

from __future__ import annotations

from functools import lru_cache

import torch

from nflae_bridge.engine.cuda_graphs.graphs import CudaGraphs
from nflae_bridge.engine.cuda_graphs.schemes import RecordedScheme
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from simulator.downlink.precoding import Scheme
from simulator.schemes import check_scheme, scheme


def load_scheme(
    name: str, model: str = "auto", device: str = "auto", refinements: int = 0, many_batches: bool = False
) -> Scheme:
    """Load a precoding scheme; for ``nflae``, the engine with a model.

    Parameters
    ----------
    name
        Scheme of the registry, ``NAME`` or ``NAME:OPTION=VALUE:...``, or ``nflae``.
    model
        Model of ``nflae``: see `nflae_bridge.network.shipped.load_model`.
    device
        Device that computes: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    refinements
        Number of WMMSE steps started from the network's answer.
    many_batches
        As for `nflae_bridge.engine.engine.Engine`.

    Returns
    -------
    Scheme
        Callable ``(ChannelBatch, LinkBudget) -> Precoding``; one of the registry in the form of `classical_scheme`.

    Raises
    ------
    NflaeError
        If the model or the device is not available, or a third-party scheme cannot be loaded.
    SchemeError
        If the scheme or an option of it is unknown or a value is out of range; a `ValueError` too.
    """
    if check_scheme(name, ("nflae",)) == "nflae":
        return load_network(model, device, refinements, many_batches)
    return classical_scheme(name, choose_device(device))


def classical_scheme(spec: str, device: torch.device) -> Scheme:
    """Load a scheme of the registry in the form that takes the least time on a device.

    Files, the server and Python's functions compute a scheme in the same form.

    Parameters
    ----------
    spec
        ``NAME`` or ``NAME:OPTION=VALUE:...``.
    device
        Device that computes.

    Returns
    -------
    Scheme
        On a GPU a `RecordedScheme`, where there is a kernel of the scheme; else the scheme as it is registered.

    Raises
    ------
    NflaeError, SchemeError
        As for `load_scheme`.
    """
    if device.type == "cuda" and RecordedScheme.supports(spec):
        return RecordedScheme(spec, CudaGraphs(device))
    return scheme(spec)


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


def load_network(model: str = "auto", device: str = "auto", refinements: int = 0, many_batches: bool = False) -> Engine:
    """Load the engine with a model.

    Parameters
    ----------
    model, device, refinements, many_batches
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
    return Engine(load_model(model, chosen), chosen, refinements, many_batches=many_batches)
