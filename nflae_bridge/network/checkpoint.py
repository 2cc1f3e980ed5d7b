"""Read and write checkpoints: folders with ``model.safetensors``, ``model.json`` and, once exported, ONNX graphs.

Nothing in a checkpoint is ever executed as Python.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.network.card import CARD, HOLDS, other_task, read_card, task_of_card
from nflae_bridge.network.card_check import checked_config, expected_shapes, stored_shapes
from nflae_bridge.network.config import pretrained_source
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.tasks.task import find_task, task_of

FORMAT = 1
WEIGHTS = "model.safetensors"
CHECKSUM = "weights_sha256"
"""Key of the card: SHA-256 of the weights' file."""
GRAPHS = ("powers.onnx", "wavefront.onnx", "coefficients.onnx")
"""Exported parts of the network; see `nflae_bridge.network.export`."""


@dataclass(frozen=True)
class Checkpoint:
    """Hold a network ready for use and its card.

    Attributes
    ----------
    name
        Name of the folder.
    network
        The network.
    card
        Content of ``model.json``: task, recipe, seed, steps, validation.
    folder
        The folder with the exported graphs; None for a network without any.
    """

    name: str
    network: TaskNetwork
    card: dict[str, Any]
    folder: Path | None = None

    @property
    def task(self) -> str:
        """Name of the network's task."""
        return task_of(self.network.config).name

    def for_task(self, task: str | None) -> Checkpoint:
        """Return this model, or the network for a task that it holds.

        Parameters
        ----------
        task
            Name of the task; None: this model, whatever its task.

        Returns
        -------
        Checkpoint

        Raises
        ------
        NflaeError
            If the model is of another task and holds no network for this one.
        """
        if task in (None, self.task):
            return self
        parts_of = find_task(self.task).parts_of
        parts = {} if parts_of is None else parts_of(self.network)
        if task not in parts:
            raise other_task(self.name, self.task, str(task))
        return Checkpoint(self.name, parts[task].eval(), self.card)

    def history(self) -> list[dict[str, Any]]:
        """Return the runs that made this model, first to last: preset, seed, step and seconds of each."""
        recipe = self.card.get("recipe", {})
        run = {"seed": recipe.get("seed"), "steps": recipe.get("steps")}
        run |= {name: self.card.get(name) for name in ("preset", "step", "train_seconds")}
        return [*self.card.get("history", []), run]


def save_checkpoint(folder: Path, network: TaskNetwork, card: dict[str, Any]) -> None:
    """Write the trained parameters and the card; each file is replaced whole or not at all.

    Parameters of a frozen pretrained backbone are left out: the card names their source. Exported graphs of earlier
    weights are removed; `nflae_bridge.network.export.export_checkpoint` writes those of the new ones.

    Parameters
    ----------
    folder
        The checkpoint, created if missing.
    network
        The network.
    card
        Further content of ``model.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in GRAPHS:
        (folder / name).unlink(missing_ok=True)
    save_tensors(folder / WEIGHTS, _stored(network))
    checksum = file_hash(folder / WEIGHTS)
    task = task_of(network.config)
    held = {} if task.parts_of is None else {HOLDS: sorted(task.parts_of(network))}
    content = {
        "format": FORMAT,
        "task": task.name,
        **held,
        "network": asdict(network.config),
        **card,
        CHECKSUM: checksum,
    }
    write_atomically(folder / CARD, json.dumps(content, indent=2) + "\n")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    folder
        The checkpoint.

    Returns
    -------
    Checkpoint

    Raises
    ------
    NflaeError
        If a file is missing, damaged or does not fit the others; the message names it.
    """
    card = read_card(folder)
    if "network" not in card:
        raise NflaeError(f"{folder / CARD} is damaged (no field 'network'); train or copy the model again")
    shapes = stored_shapes(folder / WEIGHTS)
    mismatch = NflaeError(f"{folder / WEIGHTS} does not hold the network that {CARD} describes; copy the model again")
    try:
        task = find_task(task_of_card(card))
        config = checked_config(card, shapes, task)
    except KeyError as error:
        raise NflaeError(f"{folder / CARD} is damaged (no field {error}); train or copy the model again") from error
    except NflaeError as error:
        raise NflaeError(f"{folder / CARD}: {error}") from error
    except (ValueError, TypeError) as error:
        raise NflaeError(f"{folder / CARD} is damaged ({error}); train or copy the model again") from error
    if card.get("format") != FORMAT:
        raise NflaeError(f"{folder / CARD} has format {card.get('format')}, this version reads {FORMAT}")
    try:
        if pretrained_source(config) is None and expected_shapes(config, task) != shapes:
            raise mismatch
        network = task.build(config, True)
    except NflaeError:
        raise
    except Exception as error:  # a card with impossible sizes fails wherever the first of them is used
        reason = str(error).strip().splitlines()[0]
        raise NflaeError(f"{folder / CARD} describes no network ({reason}); copy the model again") from error
    if {name: tuple(tensor.shape) for name, tensor in _stored(network).items()} != shapes:
        raise mismatch
    network.load_state_dict(_checked_weights(folder, card), strict=False)
    return Checkpoint(folder.name, network.eval(), card, folder)


def _checked_weights(folder: Path, card: dict[str, Any]) -> dict[str, Tensor]:
    """Return finite weights with the checksum of the card; cards of earlier versions have none."""
    path = folder / WEIGHTS
    if card.get(CHECKSUM, file_hash(path)) != file_hash(path):
        raise NflaeError(f"{path} is not the file of which {CARD} holds the checksum; copy the model again")
    tensors, _ = read_tensors(path)
    unusable = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if unusable:
        raise NflaeError(f"{path} holds NaN or Inf in {unusable[0]}; train or copy the model again")
    return tensors


def file_hash(path: Path) -> str:
    """Return a file's SHA-256.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any] | None = None) -> None:
    """Write tensors, and notes that JSON can hold, as safetensors to a temporary file, then rename.

    Parameters
    ----------
    path
        The file.
    tensors
        Tensors by name.
    notes
        Notes for the file's header.
    """
    part = path.with_name(path.name + ".part")
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, part, None if notes is None else {"notes": json.dumps(notes)})
    part.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file's tensors and notes.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    tensors : dict of str to Tensor
        Tensors by name.
    notes : dict
        Notes of the file's header.

    Raises
    ------
    NflaeError
        If the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes: dict[str, Any] = json.loads((file.metadata() or {}).get("notes", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise NflaeError(f"{path} is missing; copy or train the model again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise NflaeError(f"{path} is damaged ({error}); copy or train the model again") from error
    return tensors, notes


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text or bytes to a temporary file beside ``path``, then rename.

    Parameters
    ----------
    path
        The file.
    content
        Its content; text as UTF-8.
    """
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def _stored(network: TaskNetwork) -> dict[str, Tensor]:
    pretrained = pretrained_source(network.config) is not None
    fixed = {name for name, parameter in network.named_parameters() if pretrained and not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in fixed}
