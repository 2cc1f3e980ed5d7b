"""An experiment's Markdown page: what was run, the picture, the table, what should be so and is or is not."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd

from nflae_bridge.studies.reproduction.experiment import Check, Experiment
from nflae_bridge.studies.reproduction.study import Study


def page(experiment: Experiment, study: Study, rows: pd.DataFrame, checks: Sequence[Check], picture: str) -> str:
    """The page as text."""
    parts = [f"# {experiment.title}", f"`{_command(experiment, study)}` ({experiment.source})"]
    parts += [f"**{line}.**" for line in study.cuts(experiment)]
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
    describe = "paper" in experiment.trains(study.effort) and study.backbone != "gpt2"
    backbone = ["--backbone", study.backbone] if describe else []
    words = ["nflae", "reproduce", experiment.name, "-o", "DIR", "--budget", study.effort.name, *backbone]
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
