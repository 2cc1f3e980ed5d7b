"""Implement ``nflae models``: list the shipped models, from their cards alone."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import click

from matlab_io.errors import NflaeError
from matlab_io.extras import require_extra
from nflae_bridge.cli.terminal import Table, fact
from nflae_bridge.network.card import HOLDS, read_card, task_of_card
from nflae_bridge.network.shipped import ModelEntry, model_folder, shipped_models


@click.command(
    "models",
    short_help="List the shipped models; details of models, or a comparison.",
    epilog="""\b
    Examples:
      nflae models
      nflae models --task precode
      nflae models tiny
      nflae models runs/mine
      nflae models tiny small runs/mine --compare""",
)
@click.argument("models", nargs=-1, metavar="[NAME|DIR]...")
@click.option("--task", metavar="TASK", help="List the models for this task only.")
@click.option(
    "--compare", is_flag=True, help="Compare the models and the classical rivals on the validation data of their tasks."
)
@click.option("--batches", type=click.IntRange(min=1), help="Validation batches of --compare.  [default: all]")
def command(models: tuple[str, ...], task: str | None, compare: bool, batches: int | None) -> None:
    """List the shipped models, their tasks and the devices on which auto takes each; details of the models named.

    The figures are those of the validation data of the training.
    """
    if batches is not None and not compare:
        raise click.UsageError("--batches applies together with --compare: add that, or leave --batches out")
    if compare:
        if not models:
            raise click.UsageError("--compare needs the models to compare, by name or folder")
        _compare(models, task, batches)
        return
    for model in models:
        _details(_entry(model_folder(model, task=task)))
    if models:
        return
    entries = [entry for entry in shipped_models() if task in (None, task_of_card(entry.card))]
    if not entries:
        if task is not None:
            from nflae_bridge.tasks.task import check_task

            check_task(task)
        wanted = "" if task is None else f" for task {task!r}"
        fact("models", f"none is shipped with this installation{wanted}; train one with nflae train")
        return
    rows = Table(("model", "task", "parameters", "preset", "steps", "validation", "auto on"))
    for entry in entries:
        found = task_of_card(entry.card)
        rows.add_row(
            entry.name,
            found,
            f"{parameter_count(entry.folder):,}",
            str(entry.card.get("preset", "")),
            str(entry.card.get("step", "")),
            _measures(entry.card.get("validation", {})),
            ", ".join(kind for kind in ("cpu", "cuda") if _is_auto(entry.folder, kind, found)),
        )
    rows.show()
    click.echo("Use: --model NAME of the command for the task, such as nflae precode.")


def parameter_count(folder: Path) -> int:
    """Count the parameters of a model from the header of its weight file.

    Parameters
    ----------
    folder : Path
        Folder of the model, with ``model.safetensors``.

    Returns
    -------
    int
        Number of stored values.

    Raises
    ------
    NflaeError
        If the file is missing or damaged.
    """
    path = folder / "model.safetensors"
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 1 << 26)))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except FileNotFoundError:
        raise NflaeError(f"{path} is missing; copy or train the model again") from None
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise NflaeError(f"{path} is damaged ({error}); copy or train the model again") from None


def _entry(folder: Path) -> ModelEntry:
    return ModelEntry(folder.resolve().name, folder, read_card(folder))


def _details(entry: ModelEntry) -> None:
    fact("model", entry.name)
    fact("folder", str(entry.folder))
    fact("parameters", f"{parameter_count(entry.folder):,} stored")
    for name, value in _flat("", {key: value for key, value in entry.card.items() if key != "format"}):
        fact(name, str(value))
    show_usage(entry.card, entry.folder)


def show_usage(card: dict[str, Any], folder: Path) -> None:
    """Print the commands that take a model, those that are named as its task or as a task that it holds.

    Parameters
    ----------
    card : dict
        Content of its card.
    folder : Path
        Folder of the model.
    """
    context = click.get_current_context()
    group = context.find_root().command
    commands = group.list_commands(context) if isinstance(group, click.Group) else []
    for task in (task_of_card(card), *card.get(HOLDS, [])):
        if task in commands:
            fact("use", f"nflae {task} IN.mat -o OUT.mat --model {folder}")


def _compare(models: tuple[str, ...], task: str | None, batches: int | None) -> None:
    """Print a table of the models and rivals, by task."""
    require_extra("engine", "nflae models --compare")
    import torch

    from nflae_bridge.network.shipped import load_model
    from nflae_bridge.studies.models import compare_models

    loaded = [load_model(model, torch.device("cpu"), task) for model in models]
    for declared, merits in compare_models(loaded, batches):
        rows = Table(
            ("method", "parameters", "alone", "guarded", "not the network's"), f"{declared.name}: {declared.figure}"
        )
        for merit in merits:
            cells = ["", f"{merit.figure:.4f}", "", ""]
            if merit.guarded is not None and merit.fallback is not None:
                cells = [f"{merit.parameters:,}", cells[1], f"{merit.guarded:.4f}", f"{merit.fallback:.1%}"]
            rows.add_row(merit.method, *cells)
        rows.show()
        click.echo(f"guard: {declared.guard}\n")


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [leaf for key, inner in value.items() for leaf in _flat(f"{prefix}.{key}" if prefix else key, inner)]


def _is_auto(folder: Path, device_type: str, task: str) -> bool:
    try:
        return model_folder("auto", device_type, task) == folder
    except NflaeError:
        return False


def _measures(validation: dict[str, Any]) -> str:
    """Return the measures of a card's validation, without the loss, whose scale depends on the preset."""
    return ", ".join(f"{name} {value:.4f}" for name, value in validation.items() if name != "loss")
