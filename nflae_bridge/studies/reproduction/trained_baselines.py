"""Train the learned baselines, once per recipe, and keep them in the folder of the results."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from nflae_bridge.network.checkpoint import Checkpoint, load_checkpoint
from nflae_bridge.studies.reproduction.compute_budget import ComputeBudget
from nflae_bridge.studies.reproduction.operating_point import OperatingPoint
from nflae_bridge.training.data import PublishedDrops
from nflae_bridge.training.loop import Trainer, holds_run
from nflae_bridge.training.presets import recipe
from nflae_bridge.training.recipe import Recipe

# Receives a note on the current activity.
Note = Callable[[str], None]

_FINISHED = "finished"


def named(note: Note, name: str) -> Note:
    """Begin a named activity.

    Parameters
    ----------
    note
        Receives the notes.
    name
        Name of the activity.

    Returns
    -------
    Note
        Receives notes on the activity, and passes them on under its name.
    """
    note(name)
    return lambda text: note(f"{name}: {text}")


def baseline_recipe(
    network: str,
    point: OperatingPoint,
    compute_budget: ComputeBudget,
    backbone: str,
    seed: int,
    gamma2: float | None = None,
) -> Recipe:
    """Make the published training recipe for one network and operating point.

    Parameters
    ----------
    network
        Preset ``paper``, ``transformer`` or ``cnn``; or ``tiny``, this package's network with the published loss and
        drops.
    point
        Operating point of the training drops.
    compute_budget
        Drops, steps and learning rate.
    backbone
        Backbone of ``paper``.
    seed
        Seed of the weights.
    gamma2
        Weight of the near/far error in the loss; the papers' 5 by default.

    Returns
    -------
    Recipe
        The recipe.
    """
    published = recipe("paper", backbone)
    preset = published.network if network == "paper" else recipe(network).network
    epoch = compute_budget.train_drops // compute_budget.batch
    steps = compute_budget.steps[network]
    return replace(
        published,
        network=replace(preset, encoder=replace(preset.encoder, antennas=point.array.antennas)),
        data=PublishedDrops(
            users=point.users,
            array=point.array,
            train=compute_budget.train_drops,
            validate=compute_budget.validation_drops,
            batch=compute_budget.batch,
            alpha_c=point.alpha_c,
            min_rate=point.min_rate,
            snr_db=point.snr_db,
        ),
        loss=published.loss if gamma2 is None else replace(published.loss, near_field=gamma2),
        steps=steps,
        learning_rate=compute_budget.learning_rate,
        validate_every=min(epoch, max(1, steps // 4)),
        seed=seed,
    )


def run_folder(runs: Path, chosen: Recipe) -> Path:
    """Return the folder of a recipe's training run, a different one for every recipe.

    Parameters
    ----------
    runs
        Folder of all training runs.
    chosen
        The recipe.

    Returns
    -------
    Path
        Folder below ``runs``.
    """
    content = json.dumps(asdict(chosen), sort_keys=True)
    return runs / hashlib.sha256(content.encode()).hexdigest()[:12]


def finished_mark(runs: Path, chosen: Recipe) -> Path:
    """Return the file that is in the folder of a recipe's training run once it is finished.

    Parameters
    ----------
    runs, chosen
        As in `run_folder`.

    Returns
    -------
    Path
        The file.
    """
    return run_folder(runs, chosen) / _FINISHED


def continue_training(
    name: str, chosen: Recipe, runs: Path, device: torch.device, note: Note, minutes: float = math.inf
) -> bool:
    """Train the network of a recipe for some minutes; an interrupted run resumes.

    Parameters
    ----------
    name, chosen, runs, device, note
        As in `train_baseline`.
    minutes
        Time after which the training stops, with its state saved.

    Returns
    -------
    bool
        The run is finished.

    Raises
    ------
    NflaeError
        As `train_baseline`.
    """
    folder = run_folder(runs, chosen)
    if finished_mark(runs, chosen).exists():
        return True
    note(f"training {name}")
    trainer = Trainer(name, chosen, folder, device, resume=holds_run(folder))
    for step in trainer.run(minutes):
        note(f"training {name}: step {step.step} of {step.steps}, loss {step.loss:.3f}")
    if trainer.step < chosen.steps:
        return False
    finished_mark(runs, chosen).touch()
    trainer.discard_state()
    return True


def train_baseline(name: str, chosen: Recipe, runs: Path, device: torch.device, note: Note) -> tuple[Checkpoint, Path]:
    """Train the network of a recipe, unless its run is finished; an interrupted run resumes.

    Parameters
    ----------
    name
        Name of the network in notes.
    chosen
        The recipe.
    runs
        Folder of all training runs.
    device
        Device of the training.
    note
        Receives the progress.

    Returns
    -------
    Checkpoint
        The trained network.
    Path
        Folder of the run, with its ``log.csv``.

    Raises
    ------
    NflaeError
        If the backbone cannot be loaded or the folder is damaged.
    """
    continue_training(name, chosen, runs, device, note)
    folder = run_folder(runs, chosen)
    return load_checkpoint(folder), folder
