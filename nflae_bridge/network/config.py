"""What defines a network, and what a checkpoint's JSON holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class BackboneConfig:
    """A language model's architecture, or its weights, used as a trunk over users; see `network.backbone`.

    family: ``gpt2``, ``llama`` or ``qwen2``; the architecture of a backbone built from this config. ``none``: no trunk;
        the embedding, ``width`` wide, goes straight to the heads.
    source: None to build it from width, layers and heads, randomly initialised; else the hub's name of pretrained
        weights ("gpt2", "meta-llama/Llama-3.2-1B", ...) or a local folder that holds them.
    width, layers, heads: of a backbone built here; with a source its own config decides.
    positions: users the position embeddings tell apart; later users share the last.
    frozen: keep attention and MLP as they are; train layer norms and position embeddings ("addition") alone.
    attention: ``causal``, or ``coherence``: every user sees every other, biased by their channels' coherence,
        and positions tell nothing, so that the network is equivariant by construction.
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
    """How channels become one token a user.

    kind: ``gram`` (any number of antennas, invariant to CSI scale and user phase), ``raw`` (the papers': real and
        imaginary parts of every antenna, so one number of antennas) or ``cnn`` (the same parts as an image of users by
        antennas).
    blocks: bidirectional transformer blocks before the backbone; none in a ``cnn``.
    antennas: for ``raw`` and ``cnn`` only, N.
    edge_width: for ``gram`` only, width of the messages between pairs of users.
    """

    kind: Literal["gram", "raw", "cnn"] = "gram"
    blocks: int = 0
    antennas: int = 256
    edge_width: int = 32


@dataclass(frozen=True)
class NetworkConfig:
    """Encoder, backbone and heads.

    head_width: hidden units of each head's MLP; 0: heads are linear.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head_width: int = 0
