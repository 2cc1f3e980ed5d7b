"""Implement ``nflae models``: list the shipped models, from their cards alone."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import click

from matlab_io.errors import NflaeError
from nflae_bridge.cli.terminal import Table, fact
from nflae_bridge.network.shipped import ModelEntry, model_folder, read_card, shipped_models


@click.command(
    "models",
    short_help="List the shipped models, or the details of one.",
    epilog="""\b
    Examples:
      nflae models
      nflae models tiny
      nflae models runs/mine""",
)
@click.argument("model", required=False, metavar="[NAME|DIR]")
def command(model: str | None) -> None:
    """List the shipped models and the devices on which auto takes each; with NAME or DIR, the details of one model."""
    if model is not None:
        _details(_entry(model_folder(model)))
        return
    entries = shipped_models()
    if not entries:
        fact("models", "none is shipped with this installation; train one with nflae train")
        return
    rows = Table(("model", "parameters", "preset", "steps", "rate over WMMSE-200", "near/far accuracy", "auto on"))
    for entry in entries:
        validation = entry.card.get("validation", {})
        rows.add_row(
            entry.name,
            f"{parameter_count(entry.folder):,}",
            str(entry.card.get("preset", "")),
            str(entry.card.get("step", "")),
            _number(validation.get("rate_over_wmmse")),
            _number(validation.get("accuracy")),
            ", ".join(kind for kind in ("cpu", "cuda") if _is_auto(entry.folder, kind)),
        )
    rows.show()
    click.echo("Use: nflae precode --model NAME. The figures are those of the validation drops of the training.")


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
    fact("use", f"nflae precode IN.mat -o OUT.mat --model {entry.folder}")


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [leaf for key, inner in value.items() for leaf in _flat(f"{prefix}.{key}" if prefix else key, inner)]


def _is_auto(folder: Path, device_type: str) -> bool:
    try:
        return model_folder("auto", device_type) == folder
    except NflaeError:
        return False


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
