"""Implement ``nflae reproduce``: regenerate the published tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from matlab_io.errors import NflaeError
from matlab_io.extras import require_extra
from nflae_bridge.cli.options.common import device_option
from nflae_bridge.cli.options.plot import figure_options, format_option
from nflae_bridge.cli.outputs import make_folder
from nflae_bridge.cli.terminal import Table, fact, progress
from nflae_bridge.studies.reproduction import EXPERIMENTS

if TYPE_CHECKING:
    from nflae_bridge.plots.look import FigureLook
    from nflae_bridge.studies.reproduction.experiment import Check

_LIST = "\n".join(f"      {name:<16} {what}" for name, what in EXPERIMENTS.items())


def _chosen(ctx: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> list[str]:
    unknown = [name for name in names if name not in EXPERIMENTS and name != "all"]
    if unknown:
        raise click.BadParameter(f"no experiment {', '.join(unknown)}; give all, or of {', '.join(EXPERIMENTS)}")
    return list(EXPERIMENTS) if "all" in names else list(dict.fromkeys(names))


@click.command(
    "reproduce",
    short_help="Regenerate the published tables and figures.",
    epilog=f"""\b
    Examples:
      nflae reproduce enfr gain -o results
      nflae reproduce se-users -o results --backbone gpt2-random
      nflae reproduce all -o results --budget full --backbone /models/gpt2 --device cuda

    \b
    Experiments (all: every one):
{_LIST}

    \b
    Files in DIR, per experiment:
      NAME.csv, NAME.png, NAME.md    table, plot (or .pdf, .svg), page
      NAME.jsonl, runs/              finished rows and trained networks; the same command resumes an interrupted run""",
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...|all", callback=_chosen)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the results."
)
@click.option(
    "--budget",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="full: as published, hours on a GPU. quick: minutes on two CPU cores; the plots state what was reduced.",
)
@click.option(
    "--backbone",
    default="gpt2",
    show_default=True,
    metavar="NAME|DIR|gpt2-random",
    help="Backbone of the published network: hub name, folder, or GPT-2 small with random weights.",
)
@click.option("--seed", type=click.IntRange(min=0), default=2026, show_default=True, help="Seed of drops and weights.")
@click.option("--overwrite", is_flag=True, help="Replace the results of these experiments in DIR.")
@figure_options
@format_option
@device_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
def command(
    names: list[str],
    output: Path,
    budget: str,
    backbone: str,
    seed: int,
    overwrite: bool,
    look: FigureLook,
    kind: str,
    device: str,
    threads: int | None,
) -> None:
    """Run experiments and write their tables, plots and pages. The same command resumes an interrupted run."""
    require_extra("reproduce", "nflae reproduce")
    look.check()
    import torch

    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.studies.reproduction import load_experiment
    from nflae_bridge.studies.reproduction.compute_budget import COMPUTE_BUDGETS
    from nflae_bridge.studies.reproduction.output import clear, require_no_strays
    from nflae_bridge.studies.reproduction.runner import (
        finished_units,
        plan_work,
        require_backbone,
        require_same_runs,
        run,
    )
    from nflae_bridge.studies.reproduction.study import Study

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = [load_experiment(name) for name in names]
    study = Study(output, COMPUTE_BUDGETS[budget], backbone, seed, choose_device(device), look, kind)
    make_folder(output)
    if not overwrite:
        require_no_strays(output, names)
        require_same_runs(chosen, study)
    require_backbone(chosen, study, lambda note: fact("backbone", note))
    if overwrite:
        clear(output, names)
    not_drawn: dict[str, str] = {}
    try:
        plan = plan_work(chosen, study)
        for number, each in enumerate(chosen, start=1):
            name = each.name if len(chosen) == 1 else f"{each.name} ({number} of {len(chosen)})"
            with progress(name, len(each.units(study)), "units") as advance:
                outcome = run(each, study, advance, plan)
            fact(each.name, f"{each.title}: {', '.join(str(path) for path in outcome.paths)}")
            not_drawn[each.name] = outcome.not_drawn
            _show(outcome.checks)
    except KeyboardInterrupt:
        repeat = "repeat the command without --overwrite" if overwrite else "repeat the command"
        count = sum(map(len, finished_units(chosen, study).values()))
        kept = (
            f"interrupted; {count} finished unit{'s' * (count > 1)}" if count else "interrupted before a unit was done"
        )
        raise NflaeError(f"{kept} in {output}: {repeat} to resume") from None
    _require_drawn(not_drawn)


def _show(checks: list[Check]) -> None:
    rows = Table(("expectation", "met", "found"))
    for check in checks:
        rows.add_row(check.claim, "yes" if check.met else "no", check.found)
    if checks:
        rows.show()


def _require_drawn(not_drawn: dict[str, str]) -> None:
    missing = {name: why for name, why in not_drawn.items() if why}
    if missing:
        why = next(iter(missing.values()))
        raise NflaeError(f"{', '.join(missing)}: {why}; repeat the command with it: only the plots are left to draw")
