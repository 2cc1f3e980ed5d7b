"""Fine-tune a model on the drops of a channel file, and decide on held-out drops whether it has become better."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.card import HOLDS
from nflae_bridge.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nflae_bridge.network.config import INVARIANT
from nflae_bridge.studies.intervals import MeanInterval, Reals, mean_interval
from nflae_bridge.training.data import TrainingBatch
from nflae_bridge.training.loss import LossWeights
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.sources.channel_file import ChannelDrops
from nflae_bridge.training.validation import reference_rate
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch

PRESET = "channels"
"""Name of the preset in the cards of fine-tuned models."""
HELD_OUT = "held_out"
"""Key of the card: result of the comparison."""
_BLOCK = 256


@dataclass(frozen=True)
class HeldOutComparison:
    """Hold the comparison of a fine-tuned model with the model it started from, on the same held-out drops.

    Parameters
    ----------
    drops
        Number of held-out drops.
    start, tuned, wmmse
        Mean sum rates of the start model, of the fine-tuned one, and of WMMSE with 200 iterations, bps/Hz.
    difference
        Mean of the paired difference tuned - start, bps/Hz, with its interval.
    """

    drops: int
    start: float
    tuned: float
    wmmse: float
    difference: MeanInterval

    @property
    def is_gain(self) -> bool:
        """Return whether the whole interval of the difference is positive."""
        return self.difference.low > 0

    def describe(self) -> str:
        """Describe the outcome in one line."""
        mean, low, high = self.difference.mean, self.difference.low, self.difference.high
        share = 100 * mean / self.start if self.start > 0 else float("nan")
        outcome = "gain" if self.is_gain else "loss" if high < 0 else "no gain"
        return (
            f"{outcome}: {mean:+.4f} bps/Hz ({share:+.2f} %) per drop, 95 % interval {low:+.4f} to {high:+.4f}, on"
            f" {self.drops} held-out drops"
        )


def fine_tuning_recipe(start: Checkpoint, source: ChannelDrops, steps: int | None, seed: int | None) -> Recipe:
    """Return the recipe that continues the training of a model on the drops of a file.

    Parameters
    ----------
    start
        Model for precoding whose input does not depend on the array.
    source
        Drops.
    steps, seed
        Optimiser steps and seed; None: 1,000 and 0.

    Returns
    -------
    Recipe

    Raises
    ------
    NflaeError
        If the model has an encoder of raw channels, which holds for one array.
    """
    config: Any = start.network.config
    if config.encoder.kind not in INVARIANT:
        raise NflaeError(
            f"model {start.name} has the encoder {config.encoder.kind} of one array; start from one of"
            f" {', '.join(INVARIANT)}, such as tiny"
        )
    return Recipe(
        network=config,
        data=source,
        loss=LossWeights(min_rate=1.0, near_field=0.0, pooled=True, pruned=True),
        steps=1_000 if steps is None else steps,
        learning_rate=5e-4,
        warm_up=50,
        decay=0.8,
        validate_every=50,
        save_every=50,
        seed=0 if seed is None else seed,
    )


def compare_held_out(start: Checkpoint, tuned: Checkpoint, drops: TrainingBatch) -> HeldOutComparison:
    """Compare two models as they serve, with the guard and without refinement steps, on the same drops.

    Parameters
    ----------
    start, tuned
        The models.
    drops
        Drops in the order of the file, on the CPU.

    Returns
    -------
    HeldOutComparison
    """
    before, after = _sum_rates(start, drops), _sum_rates(tuned, drops)
    parts = [drops.select(part) for part in torch.split(torch.arange(len(drops.channels)), _BLOCK)]
    wmmse = torch.cat([reference_rate(part) for part in parts])
    difference = mean_interval(after - before)
    return HeldOutComparison(len(before), float(before.mean()), float(after.mean()), float(wmmse.mean()), difference)


def _sum_rates(model: Checkpoint, drops: TrainingBatch) -> Reals:
    engine, found = Engine(model, "cpu"), []
    for part in torch.split(torch.arange(len(drops.channels)), _BLOCK):
        some = drops.select(part)
        budget = LinkBudget(1.0, 1.0, some.alpha_c.double(), some.min_rate.double())
        found.append(engine(ChannelBatch(some.channels, some.near_field), budget).sum_rate.numpy())
    return np.concatenate(found)


def judge(folder: Path, start: Checkpoint, source: ChannelDrops) -> HeldOutComparison:
    """Compare the model of a run with its start; without a gain put the start model in its place.

    Parameters
    ----------
    folder
        Folder of the run, with the best state on the validation drops.
    start
        Model that the run started from.
    source
        Drops of the file.

    Returns
    -------
    HeldOutComparison
        Also written to the card.
    """
    tuned = load_checkpoint(folder)
    found = compare_held_out(start, tuned, source.held_out())
    kept = tuned if found.is_gain else start
    card = {name: value for name, value in kept.card.items() if name not in ("format", "task", HOLDS, "network")}
    card[HELD_OUT] = {**asdict(found), "kept": "fine-tuned" if found.is_gain else f"start model {start.name}"}
    save_checkpoint(folder, kept.network, card)
    return found
