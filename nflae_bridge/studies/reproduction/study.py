"""What experiments share: the budget, the folder, and every scheme by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.shipped import load_model
from nflae_bridge.studies.reproduction.effort import NETWORK_NAMES, Effort
from nflae_bridge.studies.reproduction.experiment import Experiment, Note
from nflae_bridge.studies.reproduction.learned import baseline_recipe, trained
from nflae_bridge.studies.reproduction.setting import PUBLISHED, Setting
from nflae_bridge.training.presets import RANDOM_BACKBONE
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

    folder: where everything goes; the learned baselines' runs into ``runs`` below it. effort: the budget.
    backbone: of the raw-encoder GPT-2: a hub name, a folder, or ``gpt2-random``. seed: of weights and test drops.
    """

    folder: Path
    effort: Effort
    backbone: str
    seed: int
    device: torch.device

    def scheme(self, name: str, setting: Setting, note: Note) -> Scheme:
        """The scheme of this name for drops of a setting; a learned baseline is trained first if it has to be.

        With a budget that does not train for every point, baselines are those of the published setting.
        """
        if name == "optimiser":
            return optimise
        if name in SHIPPED:
            return self.engines[name]
        if name in LEARNED:
            at = setting if self.effort.per_point else replace(PUBLISHED, array=setting.array)
            return self.retrained(name, at, note)
        return scheme(name)

    def retrained(self, network: str, setting: Setting, note: Note, gamma2: float | None = None) -> Engine:
        """A learned baseline trained for just this setting, as a scheme: its own answer, with no guard."""
        checkpoint, _ = self.run_of(network, setting, note, gamma2)
        return Engine(checkpoint, self.device, with_fallback=False)

    def run_of(
        self, network: str, setting: Setting, note: Note, gamma2: float | None = None
    ) -> tuple[Checkpoint, Path]:
        """A learned baseline and the folder of its training run."""
        chosen = baseline_recipe(network, setting, self.effort, self.backbone, self.seed, gamma2)
        return trained(NETWORK_NAMES[network], chosen, self.folder / "runs", self.device, note)

    @cached_property
    def engines(self) -> dict[str, Engine]:
        """The shipped models as schemes."""
        return {name: Engine(load_model(name, self.device), self.device) for name in SHIPPED}

    def cuts(self, experiment: Experiment) -> list[str]:
        """What a plot of this experiment has to own up to, a line each."""
        networks = experiment.trains(self.effort)
        describe = [self.effort.cuts(networks, experiment.cut)]
        if "paper" in networks and self.backbone == RANDOM_BACKBONE:
            describe.append(
                "GPT-2 raw has a randomly initialised backbone, trained whole, instead of the pretrained one"
            )
        return [line for line in describe if line]

    def identity(self, experiment: Experiment) -> dict[str, str]:
        """All that an experiment's rows depend on."""
        backbone = {"backbone": self.backbone} if "paper" in experiment.trains(self.effort) else {}
        return {"experiment": experiment.name, "budget": self.effort.name, "seed": str(self.seed), **backbone}
