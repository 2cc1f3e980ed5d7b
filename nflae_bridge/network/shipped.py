"""Find and load models: those of the package and those that a user has trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matlab_io.errors import NflaeError

if TYPE_CHECKING:  # `nflae models` and --help stay free of torch
    import torch

    from nflae_bridge.network.checkpoint import Checkpoint

SHIPPED = Path(__file__).parent / "checkpoints"


DEFAULT_TASK = "precode"
"""Task of cards that name none; its models are named without a prefix."""
HOLDS = "holds"
"""Key of the card: names of further tasks for which the model holds a network."""
_AUTO = {"cpu": ("tiny",), "cuda": ("small", "tiny")}
_LARGEST_CARD = 16 << 20

EFFORTS: dict[str, tuple[str, int]] = {"fast": ("nano", 0), "balanced": ("nano", 2), "best": ("auto", 0)}
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
        for card in sorted(SHIPPED.glob("*/model.json"))
    ]


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a model.

    Parameters
    ----------
    folder
        The checkpoint.

    Returns
    -------
    dict
        Content of ``model.json``.

    Raises
    ------
    NflaeError
        If the file is missing, unreadable or not a JSON object.
    """
    path = folder / "model.json"
    try:
        if path.stat().st_size > _LARGEST_CARD:
            raise ValueError(f"more than {_LARGEST_CARD >> 20} MB")
        card = json.loads(path.read_text())
    except FileNotFoundError:
        raise NflaeError(f"{folder} is not a model (no {path.name}); nflae models lists the shipped ones") from None
    except (OSError, ValueError, RecursionError) as error:
        raise NflaeError(f"{path} is damaged ({error}); train or copy the model again") from error
    if not isinstance(card, dict):
        raise NflaeError(f"{path} is damaged (not a JSON object); train or copy the model again")
    return card


def task_of_card(card: dict[str, Any]) -> str:
    """Return the name of a model's task.

    Parameters
    ----------
    card
        Content of ``model.json``.

    Returns
    -------
    str
        Name of the task; ``precode`` for cards of earlier versions, which name none.
    """
    return str(card.get("task", DEFAULT_TASK))


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
    if folder is None or not (folder / "model.json").is_file():
        folder = None if model == "auto" else Path(model)
    if folder is None or not folder.is_dir():
        raise _no_model(model, device_type, task)
    if task is not None and (folder / "model.json").is_file():
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


def other_task(model: str, found: str, needed: str) -> NflaeError:
    """Return the error of a model of another task than the one needed.

    Parameters
    ----------
    model
        Name of the model.
    found, needed
        Names of the tasks.

    Returns
    -------
    NflaeError
    """
    return NflaeError(
        f"model {model} is for task {found}, expected one for task {needed}; nflae models --task {needed} lists those"
    )


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
    return next((folder for folder in folders if (folder / "model.json").is_file()), None)


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
