"""Define the configuration of a network over several inputs, as a checkpoint's card holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nflae_bridge.network.config import BackboneConfig

HeadKind = Literal["classify", "forecast", "regress", "reconstruct", "align"]


@dataclass(frozen=True)
class InputConfig:
    """Configure the encoder of one input.

    Parameters
    ----------
    name
        Name of the input: ``power``, ``position``, ...
    encoder
        ``vector``: perceptron; ``picture``: convolutions; ``points``: perceptron per point and the largest output over
        the points; ``vision``: normalisation and linear map.
    shape
        Numbers per sample: (values,), of a vision model (features,); (channels, height, width); (points, values per
        point).
    source
        Local folder of the vision model that computes the features.
    centre, spread
        Values subtracted from a vector, then divided by; empty: none.
    """

    name: str
    encoder: Literal["vector", "picture", "points", "vision"]
    shape: tuple[int, ...]
    source: str | None = None
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()


@dataclass(frozen=True)
class HeadConfig:
    """Configure a head.

    Parameters
    ----------
    kind
        ``forecast``: scores per sample ahead; ``classify``: scores per window; ``regress``: numbers per sample ahead;
        ``reconstruct``: the vectors of hidden inputs; ``align``: a direction per input, close for inputs of one window.
    outputs
        Scores or numbers; directions are of as many coordinates.
    """

    kind: HeadKind
    outputs: int = 0


@dataclass(frozen=True)
class SensesConfig:
    """Configure encoders, trunk and heads.

    Parameters
    ----------
    inputs, heads
        Inputs, in order, and heads, at most one of each kind.
    past, ahead
        Past samples, and samples ahead.
    backbone
        The trunk; causal, one token per past sample and one per sample ahead.
    persistence
        Add the last present value of the first input, a vector with a value per output, to the forecast's scores,
        weighted by a factor per sample ahead.
    dropout
        Share of the numbers of tokens and hidden states that are set to 0 in training.
    """

    inputs: tuple[InputConfig, ...]
    heads: tuple[HeadConfig, ...]
    past: int = 5
    ahead: int = 3
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(width=64, layers=2, heads=4))
    persistence: bool = False
    dropout: float = 0.1
