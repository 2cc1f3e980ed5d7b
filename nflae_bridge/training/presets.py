"""Define the training runs of ``nflae train --preset``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.training.data import DropDistribution, DropSource, PublishedDrops
from nflae_bridge.training.loss import LossWeights


@dataclass(frozen=True)
class Recipe:
    """Definition of a training run; the same recipe on the same machine gives the same network.

    Attributes
    ----------
    network : NetworkConfig
        Architecture.
    data : DropSource
        Source of training and validation drops.
    loss : LossWeights
        Weights and variants of the loss.
    steps : int
        Optimiser steps.
    learning_rate : float
        Largest learning rate.
    weight_decay : float
        Weight decay of AdamW.
    betas : tuple of float
        Momentum coefficients of AdamW.
    warm_up : int
        First steps, over which the learning rate rises linearly.
    decay : float
        Fraction of the steps, at the end, over which the learning rate falls to 0. Between warm-up and decay it is
        constant, so that a longer run passes through the same states as a shorter one.
    validate_every : int
        Steps between validations; the run delivers the state of the best one.
    judge : {"score", "loss"}
        Criterion of the best state: the largest score (sum rate over that of WMMSE plus near/far accuracy), or the
        least loss.
    save_every : int
        Steps between rows of the log and between saved states; at most so many are lost when the process ends.
    seed : int
        Seed of weights and drops.
    """

    network: NetworkConfig
    data: DropSource = field(default_factory=DropDistribution)
    loss: LossWeights = field(default_factory=LossWeights)
    steps: int = 16_000
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.98)
    warm_up: int = 200
    decay: float = 0.4
    validate_every: int = 500
    judge: Literal["score", "loss"] = "score"
    save_every: int = 100
    seed: int = 2026


RANDOM_BACKBONE = "gpt2-random"

_RELATIVE_LOSS = LossWeights(min_rate=1.0)
# Data, loss and optimiser common to the published network and its two comparisons.
_AS_PUBLISHED: dict[str, Any] = {
    "data": PublishedDrops(),
    "loss": LossWeights(min_rate=10.0, near_field=5.0, relative=False, projected=False),
    "steps": 500 * 80,
    "learning_rate": 1e-4,
    "betas": (0.9, 0.999),
    "warm_up": 0,
    "decay": 0.0,
    "validate_every": 80,
    "judge": "loss",
}

PRESETS: dict[str, Recipe] = {
    "tiny": Recipe(
        NetworkConfig(EncoderConfig(edge_width=16), BackboneConfig(width=32, layers=3, heads=2)),
        loss=_RELATIVE_LOSS,
        steps=12_000,
        learning_rate=2e-3,
    ),
    "small": Recipe(
        NetworkConfig(EncoderConfig(), BackboneConfig(width=128, layers=6, heads=8)),
        loss=_RELATIVE_LOSS,
        steps=9_000,
        learning_rate=7e-4,
    ),
    "gpt2": Recipe(
        NetworkConfig(
            EncoderConfig(blocks=2),
            BackboneConfig(source="gpt2", width=128, heads=8, frozen=True, attention="causal"),
        ),
        loss=_RELATIVE_LOSS,
        learning_rate=5e-4,
    ),
    "paper": Recipe(
        NetworkConfig(
            EncoderConfig(kind="raw", blocks=3, antennas=256),
            BackboneConfig(source="gpt2", frozen=True, positions=1024, attention="causal"),
        ),
        **_AS_PUBLISHED,
    ),
    "transformer": Recipe(
        NetworkConfig(
            EncoderConfig(kind="raw", blocks=8, antennas=256), BackboneConfig(family="none", width=768), head_width=64
        ),
        **_AS_PUBLISHED,
    ),
    "cnn": Recipe(
        NetworkConfig(EncoderConfig(kind="cnn"), BackboneConfig(family="none", width=256), head_width=64),
        **_AS_PUBLISHED,
    ),
}


def recipe(preset: str, backbone: str | None = None, steps: int | None = None, seed: int | None = None) -> Recipe:
    """Return the recipe of a preset, with some of its fields replaced.

    Parameters
    ----------
    preset : str
        Name of the preset.
    backbone : str, optional
        Hub name or folder that replaces the preset's backbone; ``gpt2-random`` for the shape of GPT-2 small,
        randomly initialised and trained as a whole.
    steps : int, optional
        Optimiser steps.
    seed : int, optional
        Seed of weights and drops.

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    NflaeError
        If the preset is unknown, or if a backbone is given for a preset that builds its own.
    """
    if preset not in PRESETS:
        raise NflaeError(f"unknown preset {preset!r}: there are {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    if backbone is not None:
        trunk = chosen.network.backbone
        if trunk.source is None:
            raise NflaeError(f"preset {preset!r} builds its own backbone; --backbone goes with gpt2 and paper")
        if backbone == RANDOM_BACKBONE:
            trunk = replace(trunk, source=None, width=768, layers=12, heads=12, frozen=False)
        else:
            trunk = replace(trunk, source=backbone)
        chosen = replace(chosen, network=replace(chosen.network, backbone=trunk))
    if steps is not None:
        chosen = replace(chosen, steps=steps)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    return chosen
