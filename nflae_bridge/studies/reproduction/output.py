"""An experiment's Markdown page: what was run, the picture, the table, what should be so and is or is not."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pandas as pd

from matlab_io.errors import NflaeError
from nflae_bridge.studies.reproduction.experiment import Check, Experiment
from nflae_bridge.studies.reproduction.study import Study

# The rows as they come, then what is made of them.
JOURNAL_SUFFIX, RESULTS = ".jsonl", (".csv", ".png", ".md")


def prepare(folder: Path) -> None:
    """Make the folder if it is missing. Raises NflaeError if it is a file, or can't be made or written to."""
    if folder.exists() and not folder.is_dir():
        raise NflaeError(f"{folder}: is a file; name a folder for the results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # permissions don't tell all: not for root, not on every file system
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NflaeError(
            f"{folder}: can't be written to ({reason}); name another folder, or change its permissions"
        ) from error


def clear(folder: Path, names: Sequence[str]) -> None:
    """Remove what the folder holds of these experiments; networks trained stay, each is that of its recipe."""
    for name in names:
        for ending in (*RESULTS, JOURNAL_SUFFIX):
            (folder / (name + ending)).unlink(missing_ok=True)


def require_no_strays(folder: Path, names: Sequence[str]) -> None:
    """Raises NflaeError if the folder holds results of these experiments without rows: somebody else's."""
    for name in names:
        journal = folder / (name + JOURNAL_SUFFIX)
        strays = [name + ending for ending in RESULTS if (folder / (name + ending)).exists()]
        if strays and not journal.exists():
            raise NflaeError(
                f"{folder}: holds results that no run here left ({', '.join(strays)}); "
                "name another folder, or give --overwrite to replace them"
            )


def page(experiment: Experiment, study: Study, rows: pd.DataFrame, checks: Sequence[Check], picture: str) -> str:
    """The page as text."""
    parts = [f"# {experiment.title}", f"`{_command(experiment, study)}` ({experiment.source})"]
    parts += [f"**{line}.**" for line in experiment.cuts(study)]
    parts += [f"![{experiment.title}]({picture})", markdown_table(experiment.table(rows))]
    if checks:
        found = pd.DataFrame(
            {"met": ["yes" if check.met else "**no**" for check in checks], "found": [check.found for check in checks]},
            index=pd.Index([check.claim for check in checks], name="what should be so"),
        )
        parts.append(markdown_table(found))
    parts += experiment.remarks
    return "\n\n".join(parts) + "\n"


def _command(experiment: Experiment, study: Study) -> str:
    describe = "paper" in experiment.trains(study.compute_budget) and study.backbone != "gpt2"
    backbone = ["--backbone", study.backbone] if describe else []
    words = ["nflae", "reproduce", experiment.name, "-o", "DIR", "--budget", study.compute_budget.name, *backbone]
    return shlex.join([*words, "--seed", str(study.seed)])


def markdown_table(table: pd.DataFrame) -> str:
    """A frame as a Markdown table, its index first; four digits after the point at most."""
    rows = [[table.index.name or "", *table.columns], ["---"] * (1 + table.shape[1])]
    rows += [[index, *values] for index, values in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}".rstrip("0").rstrip(".")
    return str(value).replace("|", "\\|")
