"""Run the training loop: optimiser steps, validation, a log, and resumption of interrupted runs."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import (
    CARD,
    WEIGHTS,
    Checkpoint,
    read_tensors,
    save_checkpoint,
    save_tensors,
)
from nflae_bridge.tasks.task import Measures, Parts, Task, task_of
from nflae_bridge.training.recipe import Recipe

LOG = "log.csv"
_STATE = "last.safetensors"


@dataclass(frozen=True)
class Progress:
    """State of a run, for a progress bar.

    Attributes
    ----------
    step, steps : int
        Steps done, and steps of the run.
    loss : float
        Training loss of the last step.
    best : float
        Criterion of the best state so far, larger is better, see `judged`.
    """

    step: int
    steps: int
    loss: float
    best: float


def learning_rate(recipe: Recipe, step: int) -> float:
    """Compute the learning rate: linear warm-up, constant, then half a cosine down to zero.

    Parameters
    ----------
    recipe : Recipe
        Recipe of the run.
    step : int
        Step, from 0.

    Returns
    -------
    float
        Learning rate.
    """
    rising = min(1.0, (step + 1) / max(1, recipe.warm_up))
    left = (recipe.steps - step) / max(1.0, recipe.decay * recipe.steps)
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
    return recipe.learning_rate * rising * falling


def judged(recipe: Recipe, task: Task, measures: Measures) -> float:
    """Compute the criterion of the best state, larger is better: the score of the task, or the negative loss.

    Parameters
    ----------
    recipe : Recipe
        Recipe of the run.
    task : Task
        Its task.
    measures : dict of str to float
        Measures of a validation.

    Returns
    -------
    float
        Criterion.
    """
    return -measures["loss"] if recipe.judge == "loss" else task.score(measures)


def log_columns(task: Task) -> tuple[str, ...]:
    """Return the columns of the log: step, seconds, learning rate, parts of the loss, measures, validation loss.

    A measure with the name of a part has the prefix ``validation_``, as the loss has.

    Parameters
    ----------
    task : Task
        Task of the run.

    Returns
    -------
    tuple of str
        Names of the columns.
    """
    parts = ("loss", *task.parts)
    measures = (f"validation_{name}" if name in parts else name for name in (*task.measures, "loss"))
    return ("step", "seconds", "learning_rate", *parts, *measures)


class Trainer:
    """Training run in a folder: ``log.csv``, the best state (``model.safetensors``, ``model.json``) and the last one.

    Parameters
    ----------
    name : str
        Name of the preset.
    recipe : Recipe
        Recipe of the run.
    folder : Path
        Folder of the run; made if missing.
    device : torch.device
        Device of the training.
    resume : bool
        Continue the run in the folder.
    start : Checkpoint, optional
        Model of the recipe's network whose weights replace random ones.

    Raises
    ------
    NflaeError
        If the folder holds another run, or a run and ``resume`` is false; if ``start`` has another network, or is None
        where the recipe trains a part of a model.
    """

    def __init__(
        self,
        name: str,
        recipe: Recipe,
        folder: Path,
        device: torch.device,
        resume: bool,
        start: Checkpoint | None = None,
    ) -> None:
        if recipe.part is not None:
            if start is None:
                raise NflaeError(f"preset {name} trains {recipe.part} of a model; name the model, as with --start tiny")
            recipe = replace(recipe, network=start.network.config)
        self.name, self.recipe, self.folder, self.device = name, recipe, folder, device
        self.history = [] if start is None else start.history()
        torch.manual_seed(recipe.seed)
        self.task = task_of(recipe.network)
        self.network = self.task.build(recipe.network, False)
        if start is not None:
            stored = start.network.state_dict()
            if start.network.config != recipe.network or stored.keys() != self.network.state_dict().keys():
                raise NflaeError(
                    f"model {start.name} is not the network of preset {name}; start from a model of that preset"
                )
            self.network.load_state_dict(stored)
        self.network.to(device)
        if recipe.part is not None:
            if recipe.part not in dict(self.network.named_modules()):
                raise NflaeError(f"the model to start from has no {recipe.part}, which preset {name} trains")
            self.network.requires_grad_(False).get_submodule(recipe.part).requires_grad_(True)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            self.parameters, recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.measure = self.task.validation([batch.to(device) for batch in recipe.data.validation()], recipe.loss)
        self.columns = log_columns(self.task)
        folder.mkdir(parents=True, exist_ok=True)
        if holds_run(folder):
            if not resume:
                raise NflaeError(f"{folder} holds a run already; continue it with --resume, or choose another folder")
            self._resume()
        else:
            self._write_log(self.columns, mode="w")

    def run(self) -> Iterator[Progress]:
        """Train to the last step of the recipe; yield the progress after each step."""
        started = time.monotonic() - self.seconds
        sums: list[Tensor] = []
        while self.step < self.recipe.steps:
            parts = self.train_one()
            self.step += 1
            sums.append(torch.stack([parts[name].detach() for name in ("loss", *self.task.parts)]).cpu())
            last = self.step == self.recipe.steps
            validate = last or self.step % self.recipe.validate_every == 0
            if validate or self.step % self.recipe.save_every == 0:
                self.seconds = time.monotonic() - started
                self._log(torch.stack(sums).double().nanmean(0), self._validate() if validate else None)
                self._save_state()
                sums.clear()
            yield Progress(self.step, self.recipe.steps, float(parts["loss"].detach()), self.best)

    def train_one(self) -> Parts:
        """Take one optimiser step on its batch."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        batch = self.recipe.data.training(self.recipe.seed, self.step).to(self.device)
        self.network.train()
        parts = self.task.loss(self.network, batch, self.recipe.loss)
        self.optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        if torch.isfinite(norm):  # a drop at the limit of feasibility can give an infinite gradient
            self.optimiser.step()
        return parts

    def _validate(self) -> Measures:
        self.network.eval()
        measures = self.measure(self.network)
        reached = judged(self.recipe, self.task, measures)
        if reached > self.best:
            self.best = reached
            card = {
                "preset": self.name,
                "history": self.history,
                "recipe": asdict(self.recipe),
                "step": self.step,
                "train_seconds": round(self.seconds),
                "hardware": f"{self.device.type}, {torch.get_num_threads()} threads",
                "torch": str(torch.__version__),
                "validation": measures,
            }
            save_checkpoint(self.folder, self.network, card)
        return measures

    def _log(self, means: Tensor, measures: Measures | None) -> None:
        names = (*self.task.measures, "loss")
        measured = [measures[name] for name in names] if measures else [""] * len(names)
        rate = learning_rate(self.recipe, self.step - 1)
        row = [self.step, self.seconds, rate, *means.tolist(), *measured]
        self._write_log([f"{value:.6g}" if isinstance(value, float) else value for value in row], mode="a")

    def _write_log(self, row: object, mode: str) -> None:
        with (self.folder / LOG).open(mode, newline="") as file:
            csv.writer(file).writerow(row)  # type: ignore[arg-type]

    def _save_state(self) -> None:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, state in enumerate(self.optimiser.state.get(p, {}) for p in self.parameters):
            tensors |= {f"optimiser.{index}.{key}": value for key, value in state.items()}
        # In the same file as the weights: an interruption between two files would leave them of different steps.
        progress = {"step": self.step, "seconds": self.seconds, "best": self.best, "history": self.history,
                    "recipe": _identity(self.recipe)}  # fmt: skip
        save_tensors(self.folder / _STATE, tensors, progress)

    def discard_state(self) -> None:
        """Remove the saved state, which is several times the size of the model; keep the log and the model."""
        (self.folder / _STATE).unlink(missing_ok=True)

    def _resume(self) -> None:
        tensors, progress = read_tensors(self.folder / _STATE)
        try:
            step, seconds, best = int(progress["step"]), float(progress["seconds"]), float(progress["best"])
            same = progress["recipe"] == _identity(self.recipe)
            self.history = progress["history"]
        except (ValueError, KeyError, TypeError) as error:
            raise NflaeError(f"{self.folder / _STATE} holds no saved state ({error}); start in a new folder") from error
        if not same:
            raise NflaeError(f"{self.folder} holds a run of another recipe or seed; choose another folder")
        self.network.load_state_dict(
            {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        )
        for index, parameter in enumerate(self.parameters):
            prefix = f"optimiser.{index}."
            state = {
                name.removeprefix(prefix): value.to(self.device) if value.ndim else value
                for name, value in tensors.items()
                if name.startswith(prefix)
            }
            if state:
                self.optimiser.state[parameter] = state
        self.step, self.seconds, self.best = step, seconds, best
        self._trim_log()

    def _trim_log(self) -> None:
        """Remove the log rows of steps after the saved state, which will be trained and logged again."""
        log = self.folder / LOG
        rows = list(csv.reader(log.read_text().splitlines())) if log.is_file() else []
        kept = [row for row in rows[1:] if len(row) == len(self.columns) and int(row[0]) <= self.step]
        self._write_log(self.columns, mode="w")
        for row in kept:
            self._write_log(row, mode="a")


def holds_run(folder: Path) -> bool:
    """Return whether the folder holds a run that can be resumed.

    Parameters
    ----------
    folder : Path
        Folder of the run.

    Returns
    -------
    bool
        The folder holds a saved state.
    """
    return (folder / _STATE).is_file()


def _identity(recipe: Recipe) -> dict[str, Any]:
    """Return all of the recipe that a resumed run must share, all but its length, as JSON holds it."""
    content = asdict(recipe)
    del content["steps"]
    identity: dict[str, Any] = json.loads(json.dumps(content))
    return identity


def is_model(folder: Path) -> bool:
    """Return whether the folder holds a checkpoint.

    Parameters
    ----------
    folder : Path
        Folder of the model.

    Returns
    -------
    bool
        The folder holds a card and weights.
    """
    return (folder / CARD).is_file() and (folder / WEIGHTS).is_file()
