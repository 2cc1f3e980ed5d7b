"""Check the sizes in a model's card against the shapes in its weight file, before a network of these sizes is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.model import PrecodingNetwork

Shapes = dict[str, tuple[int, ...]]

_LARGEST = {
    "width": 1 << 14,
    "heads": 1 << 10,
    "positions": 1 << 20,
    "blocks": 100,
    "antennas": 1 << 16,
    "edge_width": 1 << 12,
    "head_width": 1 << 16,
}


def stored_shapes(path: Path) -> Shapes:
    """Read the shapes of the tensors of a safetensors file from its header.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict of str to tuple of int
        Shapes by name.

    Raises
    ------
    NflaeError
        If the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except FileNotFoundError:
        raise NflaeError(f"{path} is missing; copy or train the model again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise NflaeError(f"{path} is damaged ({error}); copy or train the model again") from error


def checked_config(card: dict[str, Any], shapes: Shapes) -> NetworkConfig:
    """Make the configuration of a card, with sizes that the stored tensors bear out.

    Parameters
    ----------
    card
        Content of ``model.json``.
    shapes
        Shapes of the stored tensors.

    Returns
    -------
    NetworkConfig

    Raises
    ------
    KeyError, TypeError, ValueError
        If a field is missing, of another type or out of its range.
    """
    network = card["network"]
    config = NetworkConfig(
        EncoderConfig(**network["encoder"]), BackboneConfig(**network["backbone"]), network.get("head_width", 0)
    )
    sizes = {**vars(config.encoder), **vars(config.backbone), "head_width": config.head_width}
    for name, largest in (_LARGEST | {"layers": len(shapes)}).items():
        size = sizes[name]
        if type(size) is not int or not 0 <= size <= largest:
            raise ValueError(f"{name} is {size!r:.40}, not a whole number up to {largest}")
    if config.backbone.source is not None and not isinstance(config.backbone.source, str):
        raise TypeError("source is not text")
    if config.encoder.kind != "gram":
        axes = {axis for shape in shapes.values() for axis in shape}
        if not axes & {config.encoder.antennas, 2 * config.encoder.antennas}:
            raise ValueError(f"no weights for {config.encoder.antennas} antennas")
    return config


def expected_shapes(config: NetworkConfig) -> Shapes:
    """Return the shapes of a network without allocating it; the backbone must have no source.

    Parameters
    ----------
    config
        The network's configuration.

    Returns
    -------
    dict of str to tuple of int
        Shapes by name.
    """
    with torch.device("meta"):
        skeleton = PrecodingNetwork(config)
    return {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
