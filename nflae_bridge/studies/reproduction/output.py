"""Manage the files of the results and write an experiment's Markdown page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from matlab_io.errors import NflaeError
from nflae_bridge.plots.look import FORMATS
from nflae_bridge.studies.reproduction.experiment import Check, Experiment
from nflae_bridge.studies.reproduction.study import Study

# Rows as they are computed, then the files made of them.
JOURNAL_SUFFIX, RESULTS = ".jsonl", (".csv", ".md", *(f".{kind}" for kind in FORMATS))


def clear(folder: Path, names: Sequence[str]) -> None:
    """Remove the results of some experiments; trained networks stay, since each belongs to its recipe.

    Parameters
    ----------
    folder
        The folder.
    names
        Names of the experiments.
    """
    for name in names:
        for ending in (*RESULTS, JOURNAL_SUFFIX):
            (folder / (name + ending)).unlink(missing_ok=True)


def require_no_strays(folder: Path, names: Sequence[str]) -> None:
    """Require that results in the folder have their rows, that is, come from this program.

    Parameters
    ----------
    folder
        The folder.
    names
        Names of the experiments.

    Raises
    ------
    NflaeError
        If there are results without rows.
    """
    for name in names:
        journal = folder / (name + JOURNAL_SUFFIX)
        strays = [name + ending for ending in RESULTS if (folder / (name + ending)).exists()]
        if strays and not journal.exists():
            raise NflaeError(
                f"{folder}: holds results of another origin ({', '.join(strays)}); "
                "name another folder, or give --overwrite to replace them"
            )


def page(experiment: Experiment, study: Study, rows: pd.DataFrame, checks: Sequence[Check], picture: str) -> str:
    """Return an experiment's page: command, reductions, figure, table, checks and remarks.

    Parameters
    ----------
    experiment
        The experiment.
    study
        The run.
    rows
        Rows of all units.
    checks
        Expectations on the results.
    picture
        File name of the figure; "" without one.

    Returns
    -------
    str
        Markdown.
    """
    parts = [f"# {experiment.title}", f"`{_command(experiment, study)}` ({experiment.source})"]
    parts += [f"**{line}.**" for line in experiment.cuts(study)]
    parts += [f"![{experiment.title}]({picture})"] if picture else []
    parts.append(markdown_table(experiment.table(rows)))
    if checks:
        found = pd.DataFrame(
            {"met": ["yes" if check.met else "**no**" for check in checks], "found": [check.found for check in checks]},
            index=pd.Index([check.claim for check in checks], name="expectation"),
        )
        parts.append(markdown_table(found))
    parts += experiment.remarks
    return "\n\n".join(parts) + "\n"


def _command(experiment: Experiment, study: Study) -> str:
    other_backbone = "backbone" in experiment.identity(study) and study.backbone != "gpt2"
    backbone = ["--backbone", study.backbone] if other_backbone else []
    words = ["nflae", "reproduce", experiment.name, "-o", "DIR", "--budget", study.compute_budget.name, *backbone]
    return shlex.join([*words, "--seed", str(study.seed)])


def markdown_table(table: pd.DataFrame) -> str:
    """Format a table in Markdown, its index first, with up to four decimals.

    Parameters
    ----------
    table
        The table.

    Returns
    -------
    str
        Markdown.
    """
    rows = [[table.index.name or "", *table.columns], ["---"] * (1 + table.shape[1])]
    rows += [[index, *values] for index, values in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value).replace("|", "\\|")
