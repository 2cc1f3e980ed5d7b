"""Define the configuration of a network, as a checkpoint's card holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

INVARIANT = ("gram", "kernel")
"""Kinds of encoders that take Gamma alone, for any number of antennas."""


@dataclass(frozen=True)
class BackboneConfig:
    """Configure a language model's architecture, or its weights, as a trunk over users.

    Parameters
    ----------
    family
        ``gpt2``, ``llama`` or ``qwen2``: architecture of a backbone built from this configuration. ``none``: no trunk;
        the embedding, ``width`` wide, goes straight to the heads.
    source
        None: built from width, layers and heads, randomly initialised. Otherwise the hub's name of pretrained weights
        ("gpt2", "meta-llama/Llama-3.2-1B", ...) or a local folder with them.
    width, layers, heads
        Size of a backbone built here; with a source its own configuration applies.
    positions
        Users with a position embedding of their own; later users share the last one.
    frozen
        Train layer norms and position embeddings ("addition") alone, not attention and MLP.
    attention
        ``causal``; or ``coherence``: attention between all users, biased by their channels' coherence, with the same
        position for all, so that the network is equivariant by construction.
    """

    family: Literal["gpt2", "llama", "qwen2", "none"] = "gpt2"
    source: str | None = None
    width: int = 64
    layers: int = 4
    heads: int = 4
    positions: int = 64
    frozen: bool = False
    attention: Literal["causal", "coherence"] = "coherence"


@dataclass(frozen=True)
class EncoderConfig:
    """Configure the encoder of channels, one token per user.

    Parameters
    ----------
    kind
        ``gram`` (any number of antennas, invariant to CSI scale and user phase), ``kernel`` (the same invariances at
        the least cost: messages weighted by coherences, without attention), ``raw`` (as published: real and imaginary
        parts of every antenna, for one number of antennas) or ``cnn`` (the same parts as an image of users by
        antennas).
    blocks
        Bidirectional transformer blocks before the backbone; rounds of messages in ``kernel``; none in a ``cnn``.
    antennas
        N, for ``raw`` and ``cnn`` only.
    edge_width
        Width of the messages between pairs of users, for ``gram`` and ``kernel`` only.
    """

    kind: Literal["gram", "kernel", "raw", "cnn"] = "gram"
    blocks: int = 0
    antennas: int = 256
    edge_width: int = 32


@dataclass(frozen=True)
class NetworkConfig:
    """Configure encoder, backbone and heads.

    Parameters
    ----------
    encoder, backbone
        Their configurations.
    head_width
        Hidden units of each head's MLP; 0: linear heads.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head_width: int = 0


def pretrained_source(config: object) -> str | None:
    """Return the source of a configuration's backbone weights, of any task.

    Parameters
    ----------
    config
        Configuration of a network.

    Returns
    -------
    str or None
        Hub name or folder; None for a network without a pretrained backbone.
    """
    backbone = getattr(config, "backbone", None)
    return backbone.source if isinstance(backbone, BackboneConfig) else None
