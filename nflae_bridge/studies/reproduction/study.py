"""What experiments share: the budget, the folder, and every scheme by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.shipped import load_model
from nflae_bridge.plots.names import NETWORK_NAMES
from nflae_bridge.studies.reproduction.compute_budget import ComputeBudget
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.trained_baselines import Note, baseline_recipe, train_baseline
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import Scheme
from simulator.schemes import scheme

SHIPPED = ("small", "tiny")
LEARNED = ("paper", "transformer", "cnn")
# The papers give these the whole power, whoever is near, and ask no minimum rate of them.
CLASSICAL = ("wmmse", "ldma", "noma", "sdma")
CONSTRAINED = ("optimiser", *SHIPPED, *LEARNED)


@dataclass(frozen=True)
class Study:
    """A run of ``nflae reproduce``.

    folder: where everything goes; the learned baselines' runs into ``runs`` below it. compute_budget: the budget.
    backbone: of the raw-encoder GPT-2: a hub name, a folder, or ``gpt2-random``. seed: of weights and test drops.
    """

    folder: Path
    compute_budget: ComputeBudget
    backbone: str
    seed: int
    device: torch.device

    def scheme(self, name: str, setting: OperatingPoint, note: Note) -> Scheme:
        """The scheme of this name for drops of a setting; a learned baseline is trained first if it has to be.

        With a budget that does not train for every point, baselines are those of the published setting.
        """
        if name == "optimiser":
            return optimise
        if name in SHIPPED:
            return self.engines[name]
        if name in LEARNED:
            at = setting if self.compute_budget.per_point else replace(PUBLISHED, array=setting.array)
            return self.retrained(name, at, note)
        return scheme(name)

    def retrained(self, network: str, setting: OperatingPoint, note: Note, gamma2: float | None = None) -> Engine:
        """A learned baseline trained for just this setting, as a scheme: its own answer, with no guard."""
        checkpoint, _ = self.run_of(network, setting, note, gamma2)
        return Engine(checkpoint, self.device, with_fallback=False)

    def run_of(
        self, network: str, setting: OperatingPoint, note: Note, gamma2: float | None = None
    ) -> tuple[Checkpoint, Path]:
        """A learned baseline and the folder of its training run."""
        chosen = baseline_recipe(network, setting, self.compute_budget, self.backbone, self.seed, gamma2)
        return train_baseline(NETWORK_NAMES[network], chosen, self.folder / "runs", self.device, note)

    @cached_property
    def engines(self) -> dict[str, Engine]:
        """The shipped models as schemes."""
        return {name: Engine(load_model(name, self.device), self.device) for name in SHIPPED}
