"""Find the recipes of ``nflae train --preset``, which the tasks declare."""

from __future__ import annotations

from dataclasses import replace

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.tasks.task import find_task, task_names
from nflae_bridge.training.recipe import Preset, Recipe

RANDOM_BACKBONE, FROZEN_RANDOM_BACKBONE = "gpt2-random", "gpt2-random-frozen"


def presets() -> dict[str, Preset]:
    """Return the presets of all tasks, by name."""
    return {name: preset for task in task_names() for name, preset in find_task(task).presets.items()}


def recipe(preset: str, backbone: str | None = None, steps: int | None = None, seed: int | None = None) -> Recipe:
    """Return the recipe of a preset, with some of its fields replaced.

    Parameters
    ----------
    preset : str
        Name of the preset.
    backbone : str, optional
        Hub name or folder that replaces the preset's backbone; ``gpt2-random`` for the shape of GPT-2 small,
        randomly initialised and trained as a whole, ``gpt2-random-frozen`` for the same with attention and MLP frozen.
    steps : int, optional
        Optimiser steps.
    seed : int, optional
        Seed of weights and data.

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    NflaeError
        If the preset is unknown, or if a backbone is given for a preset that builds its own.
    """
    known = presets()
    if preset not in known:
        raise NflaeError(f"unknown preset {preset!r}: there are {', '.join(known)}")
    chosen = known[preset].recipe
    if backbone is not None:
        trunk = _loaded_backbone(chosen)
        if trunk is None:
            others = " and ".join(name for name, other in known.items() if _loaded_backbone(other.recipe))
            raise NflaeError(f"preset {preset!r} builds its own backbone; --backbone goes with {others}")
        if backbone in (RANDOM_BACKBONE, FROZEN_RANDOM_BACKBONE):
            frozen = backbone == FROZEN_RANDOM_BACKBONE
            trunk = replace(trunk, source=None, width=768, layers=12, heads=12, frozen=frozen)
        else:
            trunk = replace(trunk, source=backbone)
        chosen = replace(chosen, network=replace(chosen.network, backbone=trunk))
    if steps is not None:
        chosen = replace(chosen, steps=steps)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    return chosen


def _loaded_backbone(chosen: Recipe) -> BackboneConfig | None:
    """Return the configuration of a backbone whose weights are loaded; None for one built here, or none."""
    trunk = getattr(chosen.network, "backbone", None)
    return trunk if isinstance(trunk, BackboneConfig) and trunk.source is not None else None
