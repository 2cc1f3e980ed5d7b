"""Run the training loop: optimiser steps, validation, a log, and resumption of interrupted runs."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.network.card import CARD
from nflae_bridge.network.checkpoint import WEIGHTS, Checkpoint, save_checkpoint
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.tasks.task import Measures, Task, task_of
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.steps.state import read_state, remove_state, save_state
from nflae_bridge.training.steps.step import TrainingStep

LOG = "log.csv"
_STATE = "last.safetensors"
_READ_EVERY = 20  # steps
_QUICKLY_SAVED = 0.5  # s
_SAVING_SHARE = 20  # time between states, in times that one takes to save


@dataclass(frozen=True)
class Progress:
    """State of a run, for a progress bar.

    Attributes
    ----------
    step, steps : int
        Steps done, and steps of the run.
    loss : float
        Training loss of the last step read: on a GPU, every twentieth.
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
        self.task = task_of(recipe.network)
        self.network = _network(name, recipe, self.task, start).to(device)
        self.optimisation = TrainingStep(self.network, self.task, recipe, device)
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.measure = self.task.validation([batch.to(device) for batch in recipe.data.validation()], recipe.loss)
        self.columns = log_columns(self.task)
        self._unlogged: list[Tensor] = []  # loss and parts of the steps since the last row of the log
        self._unsaved: tuple[TaskNetwork, dict[str, Any]] | None = None  # the best network and its card
        self._saved, self._saving = time.monotonic(), 0.0
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder, resume)
        if resume and holds_run(folder):
            self._resume()
        else:
            self._write_log(self.columns, mode="w")

    def run(self, minutes: float = math.inf) -> Iterator[Progress]:
        """Train to the last step of the recipe; yield the progress after each step.

        Parameters
        ----------
        minutes : float
            Time after which the run stops at the next step, with its state saved.
        """
        began = time.monotonic()
        started, loss = began - self.seconds, math.nan
        while self.step < self.recipe.steps:
            self._unlogged.append(self.train_one())
            self.step += 1
            last = self.step == self.recipe.steps
            # On a GPU, reading a value waits for the steps under way.
            if last or self.device.type == "cpu" or self.step % _READ_EVERY == 0:
                loss = float(self._unlogged[-1][0])
            validate = last or self.step % self.recipe.validate_every == 0
            stop = time.monotonic() - began >= 60 * minutes
            self.seconds = time.monotonic() - started
            if validate or self.step % self.recipe.save_every == 0:
                self._log(self._validate() if validate else None)
                self._save(unless_costly=not (last or stop))
            elif stop:
                self._save()
            yield Progress(self.step, self.recipe.steps, loss, self.best)
            if stop:
                break

    def train_one(self) -> Tensor:
        """Take one optimiser step on its batch; return the loss and its parts, float64 (1 + parts,)."""
        batch = self.recipe.data.training(self.recipe.seed, self.step, self.device).to(self.device)
        return self.optimisation.take(batch, learning_rate(self.recipe, self.step))

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
            self._unsaved = copy.deepcopy(self.network), card
        return measures

    def _log(self, measures: Measures | None) -> None:
        means = torch.stack(self._unlogged).nanmean(0)
        self._unlogged.clear()
        names = (*self.task.measures, "loss")
        measured = [measures[name] for name in names] if measures else [""] * len(names)
        rate = learning_rate(self.recipe, self.step - 1)
        row = [self.step, self.seconds, rate, *means.tolist(), *measured]
        self._write_log([f"{value:.6g}" if isinstance(value, float) else value for value in row], mode="a")

    def _write_log(self, row: object, mode: str) -> None:
        with (self.folder / LOG).open(mode, newline="") as file:
            csv.writer(file).writerow(row)  # type: ignore[arg-type]

    def _save(self, unless_costly: bool = False) -> None:
        """Save the best model and the state; ``unless_costly``: unless that takes over a twentieth of the time."""
        began = time.monotonic()
        if unless_costly and self._saving > _QUICKLY_SAVED and began - self._saved < _SAVING_SHARE * self._saving:
            return
        if self._unsaved is not None:
            save_checkpoint(self.folder, *self._unsaved)
            self._unsaved = None
        self._save_state()
        self._saved = time.monotonic()
        self._saving = self._saved - began

    def _save_state(self) -> None:
        tensors = {f"network.{name}": value for name, value in self._trained_state().items()}
        states = self.optimisation.optimiser.state
        for index, state in enumerate(states.get(p, {}) for p in self.optimisation.parameters):
            tensors |= {f"optimiser.{index}.{key}": value for key, value in state.items()}
        if self._unlogged:
            tensors["unlogged"] = torch.stack(self._unlogged)
        progress = {"step": self.step, "seconds": self.seconds, "best": self.best, "history": self.history,
                    "recipe": _identity(self.recipe), "fixed": self._fixed}  # fmt: skip
        save_state(self.folder / _STATE, tensors, progress, self.step)

    def _trained_state(self) -> dict[str, Tensor]:
        """Return trained parameters and buffers; the others are made as at the start of the run."""
        fixed = {name for name, parameter in self.network.named_parameters() if not parameter.requires_grad}
        return {name: value for name, value in self.network.state_dict().items() if name not in fixed}

    @cached_property
    def _fixed(self) -> str:
        """SHA-256 of the parameters that are not trained."""
        digest = hashlib.sha256()
        for parameter in self.network.parameters():
            if not parameter.requires_grad:
                digest.update(parameter.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def discard_state(self) -> None:
        """Remove the saved state, which is several times the size of the model; keep the log and the model."""
        remove_state(self.folder / _STATE)

    def _resume(self) -> None:
        tensors, progress = read_state(self.folder / _STATE)
        try:
            step, seconds, best = int(progress["step"]), float(progress["seconds"]), float(progress["best"])
            same = progress["recipe"] == _identity(self.recipe)
            self.history = progress["history"]
        except (ValueError, KeyError, TypeError) as error:
            raise NflaeError(f"{self.folder / _STATE} holds no saved state ({error}); start in a new folder") from error
        if not same:
            raise NflaeError(f"{self.folder} holds a run of another recipe or seed; choose another folder")
        if progress.get("fixed", self._fixed) != self._fixed:
            raise NflaeError(
                f"{self.folder} holds a run with other untrained parameters; give the same --start and --backbone"
            )
        stored = {
            name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")
        }
        self.network.load_state_dict(stored, strict=False)
        for index, parameter in enumerate(self.optimisation.parameters):
            prefix = f"optimiser.{index}."
            state = {
                name.removeprefix(prefix): value.to(self.device)
                for name, value in tensors.items()
                if name.startswith(prefix)
            }
            if state:
                self.optimisation.optimiser.state[parameter] = state
        self._unlogged = list(tensors.get("unlogged", torch.empty(0)).to(self.device))
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


def _network(name: str, recipe: Recipe, task: Task, start: Checkpoint | None) -> TaskNetwork:
    """Build the network with random weights or those of ``start``; the parameters of the recipe have gradients."""
    torch.manual_seed(recipe.seed)
    network = task.build(recipe.network, False)
    if start is not None:
        stored = start.network.state_dict()
        if start.network.config != recipe.network or stored.keys() != network.state_dict().keys():
            raise NflaeError(
                f"model {start.name} is not the network of preset {name}; start from a model of that preset"
            )
        network.load_state_dict(stored)
    if recipe.part is not None:
        if recipe.part not in dict(network.named_modules()):
            raise NflaeError(f"the model to start from has no {recipe.part}, which preset {name} trains")
        network.requires_grad_(False).get_submodule(recipe.part).requires_grad_(True)
    return network


def check_folder(folder: Path, resume: bool) -> None:
    """Check that a new run does not replace another.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    resume : bool
        Continue the run in the folder.

    Raises
    ------
    NflaeError
        If the folder holds a run and ``resume`` is false.
    """
    if holds_run(folder) and not resume:
        raise NflaeError(f"{folder} holds a run already; continue it with --resume, or choose another folder")


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
