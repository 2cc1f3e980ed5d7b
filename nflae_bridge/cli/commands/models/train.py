"""Implement ``nflae train``: train a network."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from click.core import ParameterSource

from matlab_io.errors import NflaeError
from matlab_io.extras import require_extra
from nflae_bridge.cli.commands.models.models import show_usage
from nflae_bridge.cli.options.common import (
    BudgetOptions,
    ChannelOptions,
    budget_options,
    channel_options,
    device_option,
    near_field_option,
    on_bad_drop_option,
    refuse_options,
)
from nflae_bridge.cli.terminal import Table, announce, fact, progress

if TYPE_CHECKING:
    import torch

    from nflae_bridge.network.checkpoint import Checkpoint
    from nflae_bridge.training.loop import Trainer
    from nflae_bridge.training.recipe import Recipe
    from nflae_bridge.training.sources.channel_file import ChannelDrops


@click.command(
    "train",
    short_help="Train a network.",
    epilog="""\b
    Examples:
      nflae train --list
      nflae train --preset tiny -o runs/tiny
      nflae train --preset tiny -o runs/tiny --resume --minutes 10
      nflae train --preset tiny -o runs/longer --start tiny --seed 7
      nflae train --preset classifier -o runs/labels --start runs/tiny
      nflae train --preset gpt2 -o runs/gpt2 --backbone /models/gpt2
      nflae train --channels site.mat -o runs/site --snr-db 15
      nflae precode channels.mat -o precoders.mat --model runs/tiny

    \b
    Files in DIR:
      log.csv                          losses and validation figures
      model.safetensors, model.json    best model so far
      last.safetensors                 state from which --resume continues, with further files
                                       last.STEP.N.safetensors where it exceeds 15 MB""",
)
@click.option(
    "--list",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=lambda context, _, given: _list_presets(context) if given else None,
    help="List the presets of all tasks, and exit.",
)
@click.option("--preset", metavar="NAME", help="Preset: network, data, loss and steps; see --list.")
@click.option(
    "--channels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="In place of --preset: fine-tune the model of --start on the drops of this file, four fifths of them, and"
    " compare it with its start on the others.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the run."
)
@click.option("--resume", is_flag=True, help="Continue the run in DIR.")
@click.option(
    "--start",
    metavar="NAME|DIR",
    help="Start from the weights of this model instead of random ones.  [default: auto with --channels]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after this time, set-up included; --resume continues the run.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), help="Optimiser steps.  [default: of the preset; 1000 with --channels]"
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of weights and data.  [default: of the preset; 0 with --channels]"
)
@click.option(
    "--backbone",
    metavar="NAME|DIR|gpt2-random[-frozen]",
    help="Backbone of presets that load one (gpt2, paper): hub name, folder, or random weights, trained or frozen.  "
    "[default: gpt2]",
)
@device_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]")
@channel_options
@near_field_option
@budget_options
@on_bad_drop_option
def command(
    preset: str | None,
    channels: Path | None,
    output: Path,
    resume: bool,
    start: str | None,
    minutes: float | None,
    steps: int | None,
    seed: int | None,
    backbone: str | None,
    device: str,
    threads: int | None,
    labels: str | None,
    on_bad_drop: Literal["error", "skip"],
    reading: ChannelOptions,
    request: BudgetOptions,
) -> None:
    """Train a network. A run can be interrupted at any time and continued with --resume.

    With --channels a trained model is fine-tuned on the channels in FILE. It replaces its start only if the sum rate on
    held-out drops has grown by more than chance.
    """
    if (preset is None) == (channels is None):
        raise click.UsageError("give either --preset, see --list, or --channels FILE.")
    if channels is None:
        own = ("preset", "output", "resume", "start", "minutes", "steps", "seed", "backbone", "device", "threads")
        refuse_options("applies together with --channels FILE.", but=own)
    if channels is not None and backbone is not None:
        raise click.UsageError("--channels trains the network of --start: leave --backbone out.")
    require_extra("train", "nflae train")
    began = time.monotonic()
    import torch

    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.training.loop import check_folder, holds_run

    if threads is not None:
        torch.set_num_threads(threads)
    if output.exists() and not output.is_dir():
        raise NflaeError(f"{output}: is a file; name a folder for the run")
    where = choose_device(device)
    if resume and not holds_run(output):
        raise NflaeError(f"{output} holds no run to resume; omit --resume to start one there")
    check_folder(output, resume)
    if preset is not None:
        run = _preset_run(preset, where, start, steps, seed, backbone)
    else:
        assert channels is not None
        run = _channel_run(channels, where, start or "auto", steps, seed, reading, request, labels, on_bad_drop)
    trainer = _trainer(run, output, where, resume)
    _train(trainer, minutes, began)
    if trainer.step < run.recipe.steps:
        fact("stopped", f"at step {trainer.step} after {minutes:g} min; continue with: {_again()}")
    if run.source is not None:
        _judge(run, trainer, output)
    elif trainer.step == run.recipe.steps:
        _finish(trainer, output)


@dataclass(frozen=True)
class _Run:
    """Hold a run: its name, recipe, model to start from, and the drops of a file."""

    name: str
    recipe: Recipe
    start: Checkpoint | None
    source: ChannelDrops | None = None


def _preset_run(
    preset: str, where: torch.device, start: str | None, steps: int | None, seed: int | None, backbone: str | None
) -> _Run:
    from nflae_bridge.network.shipped import load_model
    from nflae_bridge.tasks.task import task_of
    from nflae_bridge.training.presets import recipe

    chosen = recipe(preset, backbone, steps, seed)
    first = load_model(start, where, task_of(chosen.network).name) if start else None
    return _Run(preset, chosen, first)


def _channel_run(
    path: Path,
    where: torch.device,
    start: str,
    steps: int | None,
    seed: int | None,
    reading: ChannelOptions,
    request: BudgetOptions,
    labels: str | None,
    on_bad_drop: Literal["error", "skip"],
) -> _Run:
    """Read the file and print how it is read and split."""
    from nflae_bridge.engine.engine import Engine
    from nflae_bridge.files.budget.choice import choose_budget
    from nflae_bridge.network.shipped import load_model
    from nflae_bridge.studies.fine_tuning import PRESET, fine_tuning_recipe
    from nflae_bridge.training.sources.channel_file import read_channel_drops

    first = load_model(start, where)
    with reading.open(path) as file:
        choice = choose_budget(request, file, progress)
        announce(file, choice, request.yes)
        near_field = Engine(first).near_field
        source, notes = read_channel_drops(file, choice, labels, near_field, on_bad_drop, seed or 0)
    for note in (*notes, source.split.describe()):
        fact("drops", note)
    return _Run(PRESET, fine_tuning_recipe(first, source, steps, seed), first, source)


def _trainer(run: _Run, output: Path, where: torch.device, resume: bool) -> Trainer:
    """Set up the trainer and print its run."""
    from nflae_bridge.training.loop import Trainer

    recipe, named = run.recipe, "preset " + run.name
    if run.source is not None and run.start is not None:
        named = f"model {run.start.name} fine-tuned on {run.source.file}"
    trainer = Trainer(run.name, recipe, output, where, resume, run.start)
    if trainer.step > recipe.steps:
        raise NflaeError(f"{output}: the run is at step {trainer.step}, beyond --steps {recipe.steps}: pass more steps")
    trained, total = trainer.network.parameter_counts()
    fact("run", f"{named}, {recipe.steps} steps, seed {recipe.seed}, on {where}; log in {output / 'log.csv'}")
    fact("parameters", f"{trained:,} trained of {total:,}")
    if trainer.step:
        fact("resumed", f"at step {trainer.step}")
    return trainer


def _train(trainer: Trainer, minutes: float | None, began: float) -> None:
    """Take the steps, with a progress bar; an interruption is said with the command that continues."""
    from nflae_bridge.training.loop import holds_run

    judged = trainer.recipe.judge
    sign = -1 if judged == "loss" else 1
    left = math.inf if minutes is None else minutes - (time.monotonic() - began) / 60
    try:
        with progress("train", trainer.recipe.steps, "steps", already=trainer.step) as advance:
            for at in trainer.run(left):
                best = f"best {judged} {sign * at.best:.4f}  " if at.best > float("-inf") else ""
                advance(at.step, f"loss {at.loss:.4f}  {best}".rstrip())
    except KeyboardInterrupt:
        if not holds_run(trainer.folder):
            raise NflaeError(f"interrupted at step {trainer.step}, before the first state was saved") from None
        raise NflaeError(f"interrupted at step {trainer.step}; continue with: {_again()}") from None


def _judge(run: _Run, trainer: Trainer, output: Path) -> None:
    """Print whether fine-tuning has helped, and which model the folder holds."""
    from nflae_bridge.studies.fine_tuning import judge
    from nflae_bridge.training.loop import is_model

    assert run.source is not None
    assert run.start is not None
    if not is_model(output):
        every = trainer.recipe.validate_every
        fact("not compared", f"the first model is written at step {every}; continue with: {_again()}")
        return
    found = judge(output, run.start, run.source)
    fact("held-out drops", f"start {found.start:.4f}, fine-tuned {found.tuned:.4f}, WMMSE-200 {found.wmmse:.4f} bps/Hz")
    if found.difference.block > 1:
        fact("interval", f"bootstrap of blocks of {found.difference.block} successive drops, which are correlated")
    fact("outcome", found.describe())
    kept = "the fine-tuned model" if found.is_gain else f"the start model {run.start.name}, which it does not replace"
    fact("kept", f"{output} holds {kept}")
    _export(output)


def _finish(trainer: Trainer, output: Path) -> None:
    """Print the result of a run, and export and describe its model."""
    from nflae_bridge.training.loop import is_model

    judge = trainer.recipe.judge
    meaning = "of the validation drops" if judge == "loss" else trainer.task.score_meaning
    fact(f"best {judge}", f"{-trainer.best if judge == 'loss' else trainer.best:.4f} ({meaning})")
    if is_model(output):
        _export(output)


def _export(output: Path) -> None:
    """Export the model of a folder for small batches, and print the commands that take it."""
    from nflae_bridge.network.card import read_card
    from nflae_bridge.network.export import export_checkpoint

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


def _again() -> str:
    """Return the command that continues the run: that of this process with --resume."""
    context = click.get_current_context()
    words = [
        word
        for parameter in context.command.params
        if isinstance(parameter, click.Option) and parameter.name is not None
        if context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
        if parameter.name not in ("minutes", "resume")
        for word in _words(parameter, context)
    ]
    return shlex.join(["nflae", "train", *words, "--resume"])


def _words(option: click.Option, context: click.Context) -> list[str]:
    """Return an option and its value as they are typed."""
    value = context.params.get(str(option.name))
    if value is None or option.is_flag:
        return [option.opts[0]] if value else []
    if isinstance(value, tuple):
        return [option.opts[0], "x".join(map(str, value))]
    return [option.opts[0], f"{value:.12g}" if isinstance(value, float) else str(value)]
