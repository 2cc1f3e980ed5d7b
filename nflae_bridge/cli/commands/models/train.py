"""Implement ``nflae train``: train a network."""

from __future__ import annotations

from pathlib import Path

import click

from matlab_io.errors import NflaeError
from matlab_io.extras import require_extra
from nflae_bridge.cli.commands.models.models import show_usage
from nflae_bridge.cli.options.common import device_option
from nflae_bridge.cli.terminal import Table, fact, progress


@click.command(
    "train",
    short_help="Train a network.",
    epilog="""\b
    Examples:
      nflae train --list
      nflae train --preset tiny -o runs/tiny
      nflae train --preset tiny -o runs/tiny --resume
      nflae train --preset tiny -o runs/longer --start tiny --seed 7
      nflae train --preset classifier -o runs/labels --start runs/tiny
      nflae train --preset gpt2 -o runs/gpt2 --backbone /models/gpt2
      nflae precode channels.mat -o precoders.mat --model runs/tiny

    \b
    Files in DIR:
      log.csv                          losses and validation figures
      model.safetensors, model.json    best model so far
      last.safetensors                 state from which --resume continues""",
)
@click.option(
    "--list",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda context, _, given: _list_presets(context) if given else None,
    help="List the presets of all tasks, and exit.",
)
@click.option("--preset", required=True, metavar="NAME", help="Preset: network, data, loss and steps; see --list.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the run."
)
@click.option("--resume", is_flag=True, help="Continue the run in DIR.")
@click.option("--start", metavar="NAME|DIR", help="Start from the weights of this model instead of random ones.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps.  [default: of the preset]")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of weights and data.  [default: of the preset]")
@click.option(
    "--backbone",
    metavar="NAME|DIR|gpt2-random",
    help="Backbone of presets that load one (gpt2, paper): hub name, folder, or random weights.  [default: gpt2]",
)
@device_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
def command(
    preset: str,
    output: Path,
    resume: bool,
    start: str | None,
    steps: int | None,
    seed: int | None,
    backbone: str | None,
    device: str,
    threads: int | None,
) -> None:
    """Train a network. A run can be interrupted at any time and continued with --resume."""
    require_extra("train", "nflae train")
    import torch

    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.network.export import export_checkpoint
    from nflae_bridge.network.shipped import load_model, read_card
    from nflae_bridge.tasks.task import task_of
    from nflae_bridge.training.loop import Trainer, holds_run, is_model
    from nflae_bridge.training.presets import recipe

    if threads is not None:
        torch.set_num_threads(threads)
    if output.exists() and not output.is_dir():
        raise NflaeError(f"{output}: is a file; name a folder for the run")
    chosen, where = recipe(preset, backbone, steps, seed), choose_device(device)
    if resume and not holds_run(output):
        raise NflaeError(f"{output} holds no run to resume; omit --resume to start one there")
    fact("run", f"preset {preset}, {chosen.steps} steps, seed {chosen.seed}, on {where}; log in {output / 'log.csv'}")
    task = task_of(chosen.network)
    trainer = Trainer(preset, chosen, output, where, resume, load_model(start, where, task.name) if start else None)
    trained, total = trainer.network.parameter_counts()
    fact("parameters", f"{trained:,} trained of {total:,}")
    if trainer.step:
        fact("resumed", f"at step {trainer.step}")
    judged, sign = chosen.judge, -1 if chosen.judge == "loss" else 1
    try:
        with progress("train", chosen.steps, "steps", already=trainer.step) as advance:
            for at in trainer.run():
                best = f"best {judged} {sign * at.best:.4f}  " if at.best > float("-inf") else ""
                advance(at.step, f"loss {at.loss:.4f}  {best}".rstrip())
    except KeyboardInterrupt:
        if not holds_run(output):
            raise NflaeError(f"interrupted at step {trainer.step}, before the first state was saved") from None
        command_line = _resuming(preset, output, start, steps, seed, backbone)
        raise NflaeError(f"interrupted at step {trainer.step}; continue with: {command_line}") from None
    meaning = "of the validation drops" if chosen.judge == "loss" else task.score_meaning
    fact(f"best {judged}", f"{sign * trainer.best:.4f} ({meaning})")
    if is_model(output):
        try:
            export_checkpoint(output)
        except NflaeError as error:  # small batches take longer without
            fact("not exported", str(error))
        show_usage(read_card(output), output)


def _list_presets(context: click.Context) -> None:
    """Print the presets of all tasks."""
    require_extra("train", "nflae train")
    from nflae_bridge.tasks.task import find_task, task_names

    rows = Table(("preset", "task", "steps", "network and data"))
    for task in map(find_task, task_names()):
        for name, preset in task.presets.items():
            rows.add_row(name, task.name, f"{preset.recipe.steps:,}", preset.summary)
    rows.show()
    context.exit()


def _resuming(
    preset: str, output: Path, start: str | None, steps: int | None, seed: int | None, backbone: str | None
) -> str:
    """Return the command that continues the run."""
    options = {"--start": start, "--steps": steps, "--seed": seed, "--backbone": backbone}
    given = "".join(f" {name} {value}" for name, value in options.items() if value is not None)
    return f"nflae train --preset {preset} -o {output}{given} --resume"
