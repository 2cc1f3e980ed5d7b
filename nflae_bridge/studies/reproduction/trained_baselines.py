"""The learned baselines: trained when an experiment first asks for them, then kept in its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from nflae_bridge.network.checkpoint import Checkpoint, load_checkpoint
from nflae_bridge.studies.reproduction.compute_budget import ComputeBudget
from nflae_bridge.studies.reproduction.operating_point import OperatingPoint
from nflae_bridge.training.data import PublishedDrops
from nflae_bridge.training.loop import Trainer, holds_run
from nflae_bridge.training.presets import Recipe, recipe

Note = Callable[[str], None]

_FINISHED = "finished"


def baseline_recipe(
    network: str,
    setting: OperatingPoint,
    compute_budget: ComputeBudget,
    backbone: str,
    seed: int,
    gamma2: float | None = None,
) -> Recipe:
    """The published recipe for one network and setting, cut to the compute_budget.

    network: preset ``paper``, ``transformer`` or ``cnn``; or ``tiny``, our own network under the published loss and on
    the published drops. backbone: for ``paper``. gamma2: weight of the near/far error in the loss; None: the papers' 5.
    """
    published = recipe("paper", backbone)
    of = published.network if network == "paper" else recipe(network).network
    epoch = compute_budget.train_drops // compute_budget.batch
    steps = compute_budget.steps[network]
    return replace(
        published,
        network=replace(of, encoder=replace(of.encoder, antennas=setting.array.antennas)),
        data=PublishedDrops(
            users=setting.users,
            array=setting.array,
            train=compute_budget.train_drops,
            validate=compute_budget.validation_drops,
            batch=compute_budget.batch,
            alpha_c=setting.alpha_c,
            min_rate=setting.min_rate,
            snr_db=setting.snr_db,
        ),
        loss=published.loss if gamma2 is None else replace(published.loss, near_field=gamma2),
        steps=steps,
        learning_rate=compute_budget.learning_rate,
        validate_every=min(epoch, max(1, steps // 4)),
        seed=seed,
    )


def run_folder(runs: Path, chosen: Recipe) -> Path:
    """Where in ``runs`` the network of a recipe is kept: a place of its own for each recipe."""
    content = json.dumps(asdict(chosen), sort_keys=True)
    return runs / hashlib.sha256(content.encode()).hexdigest()[:12]


def train_baseline(name: str, chosen: Recipe, runs: Path, device: torch.device, note: Note) -> tuple[Checkpoint, Path]:
    """The network of a recipe, trained if it has not been, and the run's folder (with its ``log.csv``).

    A run that was interrupted goes on. note: told how far training is.
    Raises NflaeError if the backbone can't be had or the folder is damaged.
    """
    folder = run_folder(runs, chosen)
    if not (folder / _FINISHED).exists():
        note(f"training {name}")
        trainer = Trainer(name, chosen, folder, device, resume=holds_run(folder))
        for at in trainer.run():
            note(f"training {name}: step {at.step} of {at.steps}, loss {at.loss:.3f}")
        (folder / _FINISHED).touch()
        trainer.discard_state()
    return load_checkpoint(folder), folder
