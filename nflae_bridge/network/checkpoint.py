"""Checkpoints: a folder with ``model.safetensors`` and ``model.json``; nothing in it is ever executed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.model import PrecodingNetwork

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Checkpoint:
    """A network ready to use and what its folder says of it (recipe, seed, steps, validation)."""

    name: str
    network: PrecodingNetwork
    card: dict[str, Any]

    def history(self) -> list[dict[str, Any]]:
        """The runs that made this model, first to last: preset, seed, step and seconds of each."""
        recipe = self.card.get("recipe", {})
        run = {"seed": recipe.get("seed"), "steps": recipe.get("steps")}
        run |= {name: self.card.get(name) for name in ("preset", "step", "train_seconds")}
        return [*self.card.get("history", []), run]


def save_checkpoint(folder: Path, network: PrecodingNetwork, card: dict[str, Any]) -> None:
    """Write the trained parameters and the card; each file is replaced whole or not at all.

    Parameters of a frozen pretrained backbone are left out: the card names where they come from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "network": asdict(network.config), **card}
    save_tensors(folder / WEIGHTS, _stored(network))
    write_atomically(folder / CARD, json.dumps(content, indent=2) + "\n")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint. Raises NflaeError, naming the file, if it isn't one or doesn't fit together."""
    try:
        card = json.loads((folder / CARD).read_text())
        config = NetworkConfig(
            EncoderConfig(**card["network"]["encoder"]),
            BackboneConfig(**card["network"]["backbone"]),
            card["network"].get("head_width", 0),
        )
    except FileNotFoundError:
        raise NflaeError(f"{folder} is no model: it has no {CARD}; `nflae models` lists the shipped ones") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NflaeError(f"{folder / CARD} is damaged ({error}); train or copy the model again") from error
    if card.get("format") != FORMAT:
        raise NflaeError(f"{folder / CARD} has format {card.get('format')}, this version reads {FORMAT}")
    try:
        network = PrecodingNetwork(config)
    except NflaeError:
        raise
    except Exception as error:  # a card with impossible sizes fails wherever the first of them is used
        reason = str(error).strip().splitlines()[0]
        raise NflaeError(f"{folder / CARD} describes no network ({reason}); copy the model again") from error
    tensors, _ = read_tensors(folder / WEIGHTS)
    wanted = _stored(network)
    if tensors.keys() != wanted.keys() or any(tensors[n].shape != wanted[n].shape for n in wanted):
        raise NflaeError(f"{folder / WEIGHTS} doesn't hold the network that {CARD} describes; copy the model again")
    network.load_state_dict(tensors, strict=False)
    return Checkpoint(folder.name, network.eval(), card)


def save_tensors(path: Path, tensors: dict[str, Tensor], notes: dict[str, Any] | None = None) -> None:
    """Write tensors, and notes that JSON can hold, as safetensors to a temporary file, then rename."""
    part = path.with_name(path.name + ".part")
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, part, None if notes is None else {"notes": json.dumps(notes)})
    part.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A safetensors file's tensors and notes. Raises NflaeError, naming it, if it is missing or damaged."""
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
    """Write text or bytes to a temporary file beside ``path``, then rename."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def _stored(network: PrecodingNetwork) -> dict[str, Tensor]:
    pretrained = network.config.backbone.source is not None
    fixed = {name for name, parameter in network.named_parameters() if pretrained and not parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name not in fixed}
