"""Define the interface of an experiment: units of work that give rows, their figure, table and checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.studies.reproduction.compute_budget import ComputeBudget
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from nflae_bridge.training.presets import RANDOM_BACKBONE

Row = dict[str, str | float | int | None]


@dataclass(frozen=True)
class Activity:
    """Part of the work of a unit.

    Parameters
    ----------
    note
        Beginning of its notes.
    seconds
        Expected time, s; ratios count, see `nflae_bridge.studies.reproduction.work_plan`.
    once
        File that is there when the activity needs no repetition by this or another unit; None where every unit does it.
    """

    note: str
    seconds: float
    once: Path | None = None


@dataclass(frozen=True)
class Unit:
    """Unit of work, computed once and kept; a point of a curve, for example.

    Parameters
    ----------
    key
        Name among the experiment's units.
    compute
        Returns the unit's rows; receives a function for notes on the current activity.
    expected
        Its activities, in order; without any the unit counts as one.
    """

    key: str
    compute: Callable[[Note], list[Row]]
    expected: Sequence[Activity] = ()


@dataclass(frozen=True)
class Check:
    """Expectation on the results.

    Parameters
    ----------
    claim
        The expectation.
    met
        True if it holds.
    found
        The values found.
    """

    claim: str
    met: bool
    found: str


def _no_checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    return []


@dataclass(frozen=True)
class Experiment:
    """Published table or figure, from the work to the page.

    Parameters
    ----------
    name
        As in `nflae_bridge.studies.reproduction.EXPERIMENTS`.
    title
        Title of figure and page.
    source
        Figure or table of the papers, if it has one.
    units
        Returns the units of work, in order.
    draw
        Returns the figure.
    table
        Returns the table of the page.
    checks
        Returns the expectations.
    remarks
        Paragraphs of the page.
    networks
        Learned baselines that are trained, by preset.
    cut
        Reductions of a quick run besides their training; None without any.
    full_networks
        Learned baselines of a full run, where they differ.
    takes_backbone
        A folder given as the backbone replaces the small trunk of the experiment's own networks.
    """

    name: str
    title: str
    source: str
    units: Callable[[Study], Sequence[Unit]]
    draw: Callable[[Study, pd.DataFrame], Figure]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    checks: Callable[[Study, pd.DataFrame], list[Check]] = _no_checks
    remarks: tuple[str, ...] = field(default=())
    networks: tuple[str, ...] = ()
    cut: str | None = None
    full_networks: tuple[str, ...] | None = None
    takes_backbone: bool = False

    def trains(self, compute_budget: ComputeBudget) -> tuple[str, ...]:
        """Return the learned baselines trained under a compute budget, by preset."""
        return self.networks if compute_budget.name == "quick" or self.full_networks is None else self.full_networks

    def cuts(self, study: Study) -> list[str]:
        """Return the reductions of the run, one line each, which figure and page state."""
        networks = self.trains(study.compute_budget)
        cuts = [study.compute_budget.cuts(networks, self.cut)]
        if "paper" in networks and study.backbone == RANDOM_BACKBONE:
            cuts.append("GPT-2 raw has a randomly initialised backbone, trained whole, instead of the pretrained one")
        return [line for line in cuts if line]

    def identity(self, study: Study) -> dict[str, str]:
        """Return everything that the experiment's rows depend on."""
        loads = "paper" in self.trains(study.compute_budget)
        loads = loads or (self.takes_backbone and Path(study.backbone).is_dir())
        backbone = {"backbone": study.backbone} if loads else {}
        return {"experiment": self.name, "budget": study.compute_budget.name, "seed": str(study.seed), **backbone}
