"""Describe a run of ``nflae reproduce`` and provide its schemes by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.shipped import load_model
from nflae_bridge.plots.look import FigureLook
from nflae_bridge.plots.names import NETWORK_NAMES
from nflae_bridge.studies.reproduction.compute_budget import ComputeBudget
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.trained_baselines import Note, baseline_recipe, train_baseline
from nflae_bridge.training.recipe import Recipe
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import Scheme
from simulator.schemes import scheme

SHIPPED = ("small", "tiny")
LEARNED = ("paper", "transformer", "cnn")
# In the papers these have the power limit alone, without C3 and C4.
CLASSICAL = ("wmmse", "ldma", "noma", "sdma")
CONSTRAINED = ("optimiser", *SHIPPED, *LEARNED)


@dataclass(frozen=True)
class Study:
    """Parameters of a run.

    Parameters
    ----------
    folder
        Folder of the results; training runs of the learned baselines are in ``runs`` below it.
    compute_budget
        Amount of work.
    backbone
        Backbone of the raw-encoder GPT-2: a hub name, a folder, or ``gpt2-random``.
    seed
        Seed of weights and test drops.
    device
        Device of all computation.
    look
        Size and style of the figures.
    figures
        Format of the figures.
    """

    folder: Path
    compute_budget: ComputeBudget
    backbone: str
    seed: int
    device: torch.device
    look: FigureLook = field(default_factory=FigureLook)
    figures: str = "png"

    def scheme(self, name: str, point: OperatingPoint, note: Note) -> Scheme:
        """Return the scheme for drops of an operating point, trained first if it is a learned baseline.

        Where the compute budget does not train for every point, baselines are those of the published point.

        Parameters
        ----------
        name
            ``optimiser``, a shipped model, a learned baseline's preset, or a scheme of the registry.
        point
            Operating point.
        note
            Receives the progress.
        """
        if name == "optimiser":
            return optimise
        if name in SHIPPED:
            return self.engines[name]
        if name in LEARNED:
            return self.retrained(name, self.trained_at(point), note)
        return scheme(name)

    def trained_at(self, point: OperatingPoint) -> OperatingPoint:
        """Return the operating point at which the learned baselines for this one are trained."""
        return point if self.compute_budget.per_point else replace(PUBLISHED, array=point.array)

    def recipe(self, network: str, point: OperatingPoint, gamma2: float | None = None) -> Recipe:
        """Return the training recipe of a learned baseline.

        Parameters
        ----------
        network, point, gamma2
            As in `baseline_recipe`.
        """
        return baseline_recipe(network, point, self.compute_budget, self.backbone, self.seed, gamma2)

    def retrained(self, network: str, point: OperatingPoint, note: Note, gamma2: float | None = None) -> Engine:
        """Return a learned baseline trained for this operating point, without fallback to RZF.

        Parameters
        ----------
        network, point, gamma2
            As in `baseline_recipe`.
        note
            Receives the progress.
        """
        checkpoint, _ = self.run_of(network, point, note, gamma2)
        return Engine(checkpoint, self.device, with_fallback=False)

    def run_of(
        self, network: str, point: OperatingPoint, note: Note, gamma2: float | None = None
    ) -> tuple[Checkpoint, Path]:
        """Return a learned baseline and the folder of its training run.

        Parameters
        ----------
        network, point, gamma2
            As in `baseline_recipe`.
        note
            Receives the progress.
        """
        chosen = self.recipe(network, point, gamma2)
        return train_baseline(NETWORK_NAMES[network], chosen, self.folder / "runs", self.device, note)

    @cached_property
    def engines(self) -> dict[str, Engine]:
        """The shipped models, as schemes."""
        return {name: Engine(load_model(name, self.device), self.device) for name in SHIPPED}
