"""The shipped models and the ones a user has trained."""

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


@dataclass(frozen=True)
class ModelEntry:
    """A model in the package: its name, folder and what its ``model.json`` says."""

    name: str
    folder: Path
    card: dict[str, Any]


def shipped_models() -> list[ModelEntry]:
    """The models that come with the package, by name."""
    return [
        ModelEntry(card.parent.name, card.parent, json.loads(card.read_text()))
        for card in sorted(SHIPPED.glob("*/model.json"))
    ]


def model_folder(model: str, device_type: str = "cpu") -> Path:
    """Where ``model`` lies: a shipped name, a folder, or ``auto``: tiny on the CPU, small on CUDA.

    Raises NflaeError, listing the shipped models, if there is no such model.
    """
    name = {"cpu": "tiny", "cuda": "small"}[device_type] if model == "auto" else model
    if (SHIPPED / name / "model.json").is_file():
        return SHIPPED / name
    if Path(model).is_dir():
        return Path(model)
    shipped = ", ".join(entry.name for entry in shipped_models())
    raise NflaeError(f"no model {model!r}: give auto, a shipped one ({shipped}) or a folder `nflae train` wrote")


def portable_model(model: str, device_type: str = "cpu") -> str:
    """``model`` said so that another process, on another device, takes the same one: a shipped name or a whole path.

    Raises NflaeError as `model_folder`.
    """
    folder = model_folder(model, device_type)
    return folder.name if folder.parent == SHIPPED else str(folder.resolve())


def load_model(model: str, device: torch.device) -> Checkpoint:
    """Load ``model`` (see `model_folder`) for ``device``. Raises NflaeError if it is missing or damaged."""
    from nflae_bridge.network.checkpoint import load_checkpoint

    return load_checkpoint(model_folder(model, device.type))
