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


_LARGEST_CARD = 16 << 20


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


def model_folder(model: str, device_type: str = "cpu") -> Path:
    """Find the checkpoint of a model.

    Parameters
    ----------
    model
        Name of a model of the package, a folder, or ``auto``: tiny on the CPU, small on CUDA.
    device_type
        ``cpu`` or ``cuda``.

    Returns
    -------
    Path

    Raises
    ------
    NflaeError
        If there is no such model; the message lists those of the package.
    """
    name = {"cpu": "tiny", "cuda": "small"}[device_type] if model == "auto" else model
    if (SHIPPED / name / "model.json").is_file():
        return SHIPPED / name
    if Path(model).is_dir():
        return Path(model)
    shipped = ", ".join(entry.name for entry in shipped_models())
    raise NflaeError(f"no model {model!r}: give auto, a shipped one ({shipped}) or a folder `nflae train` wrote")


def portable_model(model: str, device_type: str = "cpu") -> str:
    """Return a name by which another process, on another device, finds the same model.

    Parameters
    ----------
    model, device_type
        As in `model_folder`.

    Returns
    -------
    str
        Name of a model of the package, or an absolute path.

    Raises
    ------
    NflaeError
        If there is no such model.
    """
    folder = model_folder(model, device_type)
    return folder.name if folder.parent == SHIPPED else str(folder.resolve())


def load_model(model: str, device: torch.device) -> Checkpoint:
    """Load a model.

    Parameters
    ----------
    model
        As in `model_folder`.
    device
        Device that ``auto`` chooses for.

    Returns
    -------
    Checkpoint

    Raises
    ------
    NflaeError
        If the model is missing or damaged.
    """
    from nflae_bridge.network.checkpoint import load_checkpoint

    return load_checkpoint(model_folder(model, device.type))
