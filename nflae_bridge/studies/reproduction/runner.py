"""Run experiments: unit after unit, each kept on disk once computed, then table, figure and page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import write_atomically
from nflae_bridge.network.trunks.backbone import Backbone
from nflae_bridge.studies.journal import Journal
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row
from nflae_bridge.studies.reproduction.output import JOURNAL_SUFFIX, page
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from nflae_bridge.studies.reproduction.work_plan import WorkLeft, WorkPlan
from nflae_bridge.training.presets import RANDOM_BACKBONE, recipe

_REMEDY = "give --overwrite to replace it"


@dataclass(frozen=True)
class Outcome:
    """Result of an experiment.

    Parameters
    ----------
    paths
        Files written.
    checks
        Expectations on the results.
    not_drawn
        Why there is no figure; "" where it is drawn.
    """

    paths: list[Path]
    checks: list[Check]
    not_drawn: str = ""


@dataclass(frozen=True)
class _Done:
    key: str
    rows: list[Row]


def require_same_runs(experiments: Sequence[Experiment], study: Study) -> None:
    """Require, before any work, that rows in the folder belong to the same run.

    Parameters
    ----------
    experiments
        The experiments.
    study
        The run.

    Raises
    ------
    NflaeError
        If rows are damaged or those of another run.
    """
    for experiment in experiments:
        if (study.folder / (experiment.name + JOURNAL_SUFFIX)).exists():
            _journal(experiment, study).close()


def require_backbone(experiments: Sequence[Experiment], study: Study, note: Callable[[str], None]) -> None:
    """Require, before any work, that the backbone can be loaded where the raw-encoder GPT-2 is trained.

    Parameters
    ----------
    experiments
        The experiments.
    study
        The run.
    note
        Receives the source of the backbone.

    Raises
    ------
    NflaeError
        If the backbone can be loaded neither from the hub nor from a folder.
    """
    needing = [experiment.name for experiment in experiments if "paper" in experiment.trains(study.compute_budget)]
    backbone = study.backbone
    if not needing or backbone == RANDOM_BACKBONE:
        return
    note(f"{backbone}; downloaded from the hub unless it is on this machine")
    try:
        Backbone(recipe("paper", backbone).network.backbone)
    except NflaeError as error:
        raise NflaeError(
            f"{', '.join(needing)}: the pretrained backbone {backbone!r} cannot be loaded from the hub or a folder; "
            "give --backbone DIR with GPT-2's config.json and model.safetensors, or --backbone "
            f"{RANDOM_BACKBONE} for a randomly initialised one of the same shape, which every plot states"
        ) from error


def plan_work(experiments: Sequence[Experiment], study: Study) -> WorkPlan:
    """Plan the units of experiments that are not done yet, in the order of the experiments.

    Parameters
    ----------
    experiments
        The experiments.
    study
        The run.

    Returns
    -------
    WorkPlan
        The plan.

    Raises
    ------
    NflaeError
        As `require_same_runs`.
    """
    units = {experiment.name: experiment.units(study) for experiment in experiments}
    return WorkPlan(units, finished_units(experiments, study))


def finished_units(experiments: Sequence[Experiment], study: Study) -> dict[str, set[str]]:
    """Return the keys of the units whose rows are on disk.

    Parameters
    ----------
    experiments
        The experiments.
    study
        The run.

    Returns
    -------
    dict of str to set of str
        Keys by experiment.

    Raises
    ------
    NflaeError
        As `require_same_runs`.
    """
    finished: dict[str, set[str]] = {experiment.name: set() for experiment in experiments}
    for experiment in experiments:
        if (study.folder / (experiment.name + JOURNAL_SUFFIX)).exists():
            journal = _journal(experiment, study)
            finished[experiment.name] |= {entry.key for entry in journal.entries}
            journal.close()
    return finished


def run(
    experiment: Experiment,
    study: Study,
    advance: Callable[[int, str, WorkLeft], None],
    plan: WorkPlan | None = None,
) -> Outcome:
    """Compute the units of an experiment that are not done yet and write its files.

    Parameters
    ----------
    experiment
        The experiment.
    study
        The run.
    advance
        Called with the number of units done, a note and the work left.
    plan
        Work of this experiment and of others; by default of this one alone.

    Returns
    -------
    Outcome
        Files and checks.

    Raises
    ------
    NflaeError
        If the folder holds rows of another compute budget, backbone or seed.
    """
    plan = plan or plan_work([experiment], study)
    journal = _journal(experiment, study)
    try:
        done = {entry.key: entry.rows for entry in journal.entries}
        units = experiment.units(study)
        for unit in units:
            if unit.key in done:
                continue
            advance(len(done), unit.key, plan.left(experiment.name))
            plan.begin(experiment.name, unit.key)
            rows = unit.compute(_noting(experiment.name, advance, len(done), unit.key, plan))
            plan.finish()
            journal.add({"key": unit.key, "rows": rows})
            done[unit.key] = rows
    finally:
        journal.close()
    advance(len(units), "", plan.left(experiment.name))
    return _write(experiment, study, pd.DataFrame([row for unit in units for row in done[unit.key]]))


def _journal(experiment: Experiment, study: Study) -> Journal[_Done]:
    return Journal(study.folder / (experiment.name + JOURNAL_SUFFIX), experiment.identity(study), _parse, _REMEDY)


def _noting(
    experiment: str, advance: Callable[[int, str, WorkLeft], None], done: int, key: str, plan: WorkPlan
) -> Note:
    def note(text: str) -> None:
        plan.note(text)
        advance(done, f"{key}: {text}", plan.left(experiment))

    return note


def _parse(content: dict[str, Any]) -> _Done:
    return _Done(content["key"], content["rows"])


def _write(experiment: Experiment, study: Study, rows: pd.DataFrame) -> Outcome:
    checks = experiment.checks(study, rows)
    table, picture, text = (
        study.folder / (experiment.name + ending) for ending in (".csv", f".{study.figures}", ".md")
    )
    write_atomically(table, rows.to_csv(index=False, float_format="%.6g"))
    try:
        drawn = study.look.render(lambda: experiment.draw(study, rows), study.figures)
    except NflaeError as error:  # a size without room
        write_atomically(text, page(experiment, study, rows, checks, ""))
        return Outcome([table, text], checks, str(error))
    write_atomically(text, page(experiment, study, rows, checks, picture.name))
    write_atomically(picture, drawn)
    return Outcome([table, picture, text], checks)
