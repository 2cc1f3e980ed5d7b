"""Write and read beam models: folders with ``model.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matlab_io.errors import NflaeError
from matlab_io.sequences import Sequences
from nflae_bridge.beams.comparison import NETWORK, Choice, all_forecasters, selected_scores
from nflae_bridge.beams.network import network_inputs
from nflae_bridge.network.checkpoint import read_tensors, save_tensors, write_atomically
from simulator.beams.registry import Scores, State
from simulator.beams.windows import Windows, flight_digests, same_mast

__all__ = ["BeamModel", "load_model", "save_model"]

_CARD, _WEIGHTS = "model.json", "model.safetensors"
_KIND, _FORMAT = "beam-forecast", 3


@dataclass(frozen=True)
class BeamModel:
    """Hold the chosen forecasters with their states, and what they were fitted on.

    Parameters
    ----------
    folder
        Folder of the model.
    past, ahead, beams
        Sizes of the windows.
    split
        Kind of the split of its training.
    positions
        Whether it requires positions.
    axes
        Number of coordinates of the positions of its training, 2 or 3 with heights; 0: none.
    choice
        Chosen forecasters; ``by_folder`` counts in ``names``.
    names
        Names of the folders of its training.
    masts
        Latitude and longitude of their masts, degrees; None where unknown.
    flights
        Digests of the flights of its training part, with folder and sequence.
    states
        State by forecaster.
    """

    folder: Path
    past: int
    ahead: int
    beams: int
    split: str
    positions: bool
    axes: int
    choice: Choice
    names: list[str]
    masts: list[list[float] | None]
    flights: dict[str, str]
    states: dict[str, State]

    def inputs(self) -> tuple[str, ...]:
        """Return the names of the inputs of the network, none if it was not chosen."""
        return network_inputs(self.states[NETWORK]) if NETWORK in self.choice.names() else ()

    def scores(self, windows: Windows, folders: Sequence[Sequences], missing: Sequence[str] = ()) -> Scores:
        """Forecast by the forecaster of each folder.

        Parameters
        ----------
        windows
            Windows of the folders.
        folders
            The folders; those of the training are recognised by their names, their sites by their masts.
        missing
            Inputs that are taken as absent.

        Returns
        -------
        Scores
            (windows, ahead, beams).
        """
        own = [self.names.index(each.name) if each.name in self.names else -1 for each in folders]
        sites = np.array([self._site(each) for each in folders])
        position = windows.position
        if position is not None:
            position = position[..., : self.axes] if position.shape[-1] >= self.axes > 0 else None
        placed = replace(windows, position=position, folder=np.array(own)[windows.folder], site=sites[windows.folder])
        return self.forecast(placed, missing)

    def forecast(self, windows: Windows, missing: Sequence[str] = ()) -> Scores:
        """Forecast by the forecasters chosen for the folders of windows.

        Parameters
        ----------
        windows
            Windows whose folders and sites count in ``names``; -1: none of the training.
        missing
            Inputs that are taken as absent.

        Returns
        -------
        Scores
            (windows, ahead, beams).
        """
        methods = all_forecasters(self.positions, missing=missing)
        scores = {name: methods[name].scores(windows, self.states[name]) for name in self.choice.names()}
        return selected_scores(self.choice, windows, scores)

    def _site(self, samples: Sequences) -> int:
        """Return the first folder of the training with the same mast, without masts of the same name, else -1."""
        for number, (name, mast) in enumerate(zip(self.names, self.masts, strict=True)):
            if mast is None and samples.mast is None and name == samples.name:
                return number
            if mast is not None and same_mast(replace(samples, mast=np.array([mast])), samples):
                return number
        return -1

    def check(self, folders: Sequence[Sequences]) -> None:
        """Check that folders can be evaluated: beams, positions, and nothing of the training among them.

        Parameters
        ----------
        folders
            The folders.

        Raises
        ------
        NflaeError
            If one has another number of beams, no positions though they are required, a sequence of the training part,
            or, after a split by site, a mast of it.
        """
        for each in folders:
            if each.powers.shape[1] != self.beams:
                raise NflaeError(
                    f"{each.path}: has {each.powers.shape[1]} beams, the model {self.folder} forecasts {self.beams};"
                    " give folders of its codebook, or train on these"
                )
            if self.positions and each.user is None:
                raise NflaeError(
                    f"{each.path}: has no positions, and the model {self.folder} requires them; train one with"
                    " --no-positions"
                )
            if self.positions and each.user is not None and self.axes > each.user.shape[1]:
                raise NflaeError(
                    f"{each.path}: has no heights (unit1_height, unit2_height), and the model {self.folder} requires"
                    " them; train one without, or with --no-positions"
                )
            known = [(flight, self.flights[key]) for key, flight in flight_digests(each).items() if key in self.flights]
            if known:
                raise NflaeError(
                    f"{each.path}: {len(known)} of its sequences are in the training part of {self.folder} (sequence"
                    f" {known[0][0]} is {known[0][1]}); give folders with others, those held out are in its beams.csv"
                )
            if self.split == "site" and self._site(each) >= 0:
                raise NflaeError(
                    f"{each.path}: its mast is that of {self.names[self._site(each)]}, in the training part of"
                    f" {self.folder}, which was split by site; give folders of other masts"
                )


def save_model(model: BeamModel, validation: Mapping[str, float]) -> None:
    """Write a model; the weights come first, so that a card never stands without them.

    Parameters
    ----------
    model
        The model.
    validation
        Share of hits on validation windows by forecaster, for the card.
    """
    choice: dict[str, str | tuple[str, ...]] = {"default": model.choice.default}
    choice |= {model.names[number]: name for number, name in model.choice.by_folder.items()}
    card = {
        "format": _FORMAT,
        "kind": _KIND,
        **{name: getattr(model, name) for name in ("past", "ahead", "beams", "split", "positions", "axes")},
        "forecasters": choice,
        "validation_top1": dict(validation),
        "folders": model.names,
        "masts": model.masts,
        "flights": model.flights,
    }
    tensors = {
        f"{name}/{key}": torch.from_numpy(np.array(value))
        for name in model.choice.names()
        for key, value in model.states[name].items()
    }
    save_tensors(model.folder / _WEIGHTS, tensors)
    write_atomically(model.folder / _CARD, json.dumps(card, indent=2) + "\n")


def load_model(folder: Path) -> BeamModel:
    """Read a model.

    Parameters
    ----------
    folder
        Folder of the model.

    Returns
    -------
    BeamModel

    Raises
    ------
    NflaeError
        If a file is missing or damaged, or is of another kind.
    """
    path = folder / _CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise NflaeError(f"{path}: no such file; name a folder written by nflae beams train") from None
    except (OSError, ValueError) as error:
        raise NflaeError(f"{path}: damaged ({error}); train the model again") from error
    if not isinstance(card, dict) or card.get("kind") != _KIND or card.get("format") != _FORMAT:
        raise NflaeError(f"{path}: is no beam model of format {_FORMAT}; name a folder written by nflae beams train")
    tensors, _ = read_tensors(folder / _WEIGHTS)
    states: dict[str, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        method, _, name = key.partition("/")
        states.setdefault(method, {})[name] = tensor.numpy()
    try:
        names = list(card["folders"])
        chosen = dict(card["forecasters"])
        default = tuple(map(str, chosen.pop("default")))
        choice = Choice(default, {names.index(name): method for name, method in chosen.items()})
        sizes = {name: int(card[name]) for name in ("past", "ahead", "beams")}
        positions, axes = bool(card["positions"]), int(card["axes"])
        methods = all_forecasters(positions)
        missing = [name for name in choice.names() if methods[name].fit is not None and name not in states]
        if missing:
            raise NflaeError(f"{folder / _WEIGHTS}: holds no state of {missing[0]}; train the model again")
        stored: dict[str, State] = {name: states.get(name, {}) for name in choice.names()}
        rest = (card["split"], positions, axes, choice, names, list(card["masts"]), dict(card["flights"]))
    except (KeyError, ValueError, TypeError) as error:
        raise NflaeError(f"{path}: damaged ({error}); train the model again") from error
    return BeamModel(folder, sizes["past"], sizes["ahead"], sizes["beams"], *rest, stored)
