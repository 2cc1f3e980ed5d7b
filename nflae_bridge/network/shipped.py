"""Find and load models: those of the package and those that a user has trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matlab_io.errors import NflaeError
from nflae_bridge.network.card import CARD, DEFAULT_TASK, HOLDS, other_task, read_card, task_of_card

if TYPE_CHECKING:  # `nflae models` and --help stay free of torch
    import torch

    from nflae_bridge.network.checkpoint import Checkpoint

SHIPPED = Path(__file__).parent / "checkpoints"

_AUTO = {"cpu": ("tiny",), "cuda": ("small", "tiny")}

EFFORTS: dict[str, tuple[str, int]] = {"fast": ("nano", 0), "balanced": ("nano", 4), "best": ("auto", 0)}
"""Model and refinement steps of precoding by the name of an effort, the least first."""


@dataclass(frozen=True)
class ModelEntry:
    """Hold a model of the package.

    Attributes
    ----------
    name
        Its name.
    folder
        Its checkpoint.
    card
        Content of ``model.json``.
    """

    name: str
    folder: Path
    card: dict[str, Any]


def shipped_models() -> list[ModelEntry]:
    """Return the models of the package, by name."""
    return [
        ModelEntry(card.parent.name, card.parent, json.loads(card.read_text()))
        for card in sorted(SHIPPED.glob(f"*/{CARD}"))
    ]


def model_folder(model: str, device_type: str = "cpu", task: str | None = DEFAULT_TASK) -> Path:
    """Find the checkpoint of a model.

    Parameters
    ----------
    model
        Name of a model of the package, a folder, or ``auto``: tiny on the CPU, small on CUDA; ``TASK-tiny`` and, if
        shipped, ``TASK-small`` for other tasks than precoding.
    device_type
        ``cpu`` or ``cuda``.
    task
        Task that the model is needed for; None: a model of any task.

    Returns
    -------
    Path

    Raises
    ------
    NflaeError
        If there is no such model, or it is of another task; the message lists those of the package for the task.
    """
    folder = _auto_folder(device_type, task or DEFAULT_TASK) if model == "auto" else SHIPPED / model
    if folder is None or not (folder / CARD).is_file():
        folder = None if model == "auto" else Path(model)
    if folder is None or not folder.is_dir():
        raise _no_model(model, device_type, task)
    if task is not None and (folder / CARD).is_file():
        card = read_card(folder)
        found, holds = task_of_card(card), card.get(HOLDS, [])
        if found != task and not (isinstance(holds, list) and task in holds):
            raise other_task(folder.resolve().name, found, task)
    return folder


def model_of_effort(effort: str | None, model: str, refinements: int) -> tuple[str, int]:
    """Return the model and the refinement steps of an effort, or those given.

    Parameters
    ----------
    effort
        Key of `EFFORTS`; None: the model and the steps given.
    model, refinements
        The model, ``auto`` where none is given, and the number of WMMSE steps, 0 where none is given.

    Returns
    -------
    model : str
        Name of the model.
    refinements : int
        Number of steps.

    Raises
    ------
    NflaeError
        If the effort is unknown, or model or steps are given beside it.
    """
    if effort is None:
        return model, refinements
    if effort not in EFFORTS:
        raise NflaeError(f"unknown effort {effort!r}: expected {', '.join(EFFORTS)}")
    if model != "auto" or refinements:
        given = f"model {model!r}" if model != "auto" else f"refine {refinements}"
        raise NflaeError(f"effort {effort!r} chooses model and refinement; leave out {given} or the effort")
    return EFFORTS[effort]


def _no_model(model: str, device_type: str, task: str | None) -> NflaeError:
    """Return the error of a model that is not found, with the models of the package for the task."""
    needed = "" if task in (None, DEFAULT_TASK) else f" for task {task}"
    shipped = ", ".join(entry.name for entry in shipped_models() if task in (None, task_of_card(entry.card)))
    auto = "auto, " if _auto_folder(device_type, task or DEFAULT_TASK) else ""
    choices = f"give {auto}a shipped one ({shipped}) or" if shipped else "none is shipped; give"
    return NflaeError(f"no model {model!r}{needed}: {choices} a folder `nflae train` wrote")


def _auto_folder(device_type: str, task: str) -> Path | None:
    """Return the shipped checkpoint that ``auto`` takes; None where none is shipped for the task."""
    prefix = "" if task == DEFAULT_TASK else f"{task}-"
    folders = (SHIPPED / f"{prefix}{size}" for size in _AUTO[device_type])
    return next((folder for folder in folders if (folder / CARD).is_file()), None)


def portable_model(model: str, device_type: str = "cpu", task: str | None = DEFAULT_TASK) -> str:
    """Return a name by which another process, on another device, finds the same model.

    Parameters
    ----------
    model, device_type, task
        As in `model_folder`.

    Returns
    -------
    str
        Name of a model of the package, or an absolute path.

    Raises
    ------
    NflaeError
        If there is no such model, or it is of another task.
    """
    folder = model_folder(model, device_type, task)
    return folder.name if folder.parent == SHIPPED else str(folder.resolve())


def load_model(model: str, device: torch.device, task: str | None = DEFAULT_TASK) -> Checkpoint:
    """Load a model.

    Parameters
    ----------
    model
        As in `model_folder`.
    device
        Device that ``auto`` chooses for.
    task
        As in `model_folder`.

    Returns
    -------
    Checkpoint

    Raises
    ------
    NflaeError
        If the model is missing, damaged or of another task.
    """
    from nflae_bridge.network.checkpoint import load_checkpoint

    return load_checkpoint(model_folder(model, device.type, task)).for_task(task)
