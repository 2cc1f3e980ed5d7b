"""Read the card of a model, the file ``model.json`` of its checkpoint, without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matlab_io.errors import NflaeError

CARD = "model.json"
DEFAULT_TASK = "precode"
"""Task of cards that name none; its models are named without a prefix."""
HOLDS = "holds"
"""Key of the card: names of further tasks for which the model holds a network."""
_LARGEST_CARD = 16 << 20


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
    path = folder / CARD
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
