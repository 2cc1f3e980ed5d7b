"""What an experiment is: units of work that give rows, and how the rows are shown and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.studies.reproduction.compute_budget import ComputeBudget
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from nflae_bridge.training.presets import RANDOM_BACKBONE

Row = dict[str, str | float | int | None]


@dataclass(frozen=True)
class Unit:
    """A piece of work that is done once and kept: a point of a curve, say.

    key: names it among the experiment's units. compute(note): its rows; note: tells the user what is going on.
    """

    key: str
    compute: Callable[[Note], list[Row]]


@dataclass(frozen=True)
class Check:
    """Something that should be so, whether it is, and what was found."""

    claim: str
    met: bool
    found: str


def _nothing(study: Study, rows: pd.DataFrame) -> list[Check]:
    return []


@dataclass(frozen=True)
class Experiment:
    """A table or figure, from the work to the page.

    name: as in `reproduction.EXPERIMENTS`. title: what is shown. source: the papers' figure or table, if it has one.
    units(study): the work, in order. draw(study, rows): the picture. table(rows): the rows as a reader wants them.
    checks(study, rows): what should be so. remarks: what a reader has to know, a paragraph each.
    networks: the learned baselines it trains, by preset; full_networks: those of a full run, where they are others.
    cut: how a quick run is cut beside their training, if it is; None: the budget changes nothing.
    """

    name: str
    title: str
    source: str
    units: Callable[[Study], Sequence[Unit]]
    draw: Callable[[Study, pd.DataFrame], Figure]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    checks: Callable[[Study, pd.DataFrame], list[Check]] = _nothing
    remarks: tuple[str, ...] = field(default=())
    networks: tuple[str, ...] = ()
    cut: str | None = None
    full_networks: tuple[str, ...] | None = None

    def trains(self, compute_budget: ComputeBudget) -> tuple[str, ...]:
        """The learned baselines it trains under a budget, by preset."""
        return self.networks if compute_budget.name == "quick" or self.full_networks is None else self.full_networks

    def cuts(self, study: Study) -> list[str]:
        """What a plot of this experiment has to own up to, a line each."""
        networks = self.trains(study.compute_budget)
        cuts = [study.compute_budget.cuts(networks, self.cut)]
        if "paper" in networks and study.backbone == RANDOM_BACKBONE:
            cuts.append("GPT-2 raw has a randomly initialised backbone, trained whole, instead of the pretrained one")
        return [line for line in cuts if line]

    def identity(self, study: Study) -> dict[str, str]:
        """All that the experiment's rows depend on."""
        backbone = {"backbone": study.backbone} if "paper" in self.trains(study.compute_budget) else {}
        return {"experiment": self.name, "budget": study.compute_budget.name, "seed": str(study.seed), **backbone}
