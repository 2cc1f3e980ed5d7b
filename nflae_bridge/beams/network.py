"""Forecast beams by the network over several inputs, trained by the training loop of all tasks."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.beams.inputs import configure, prepare
from nflae_bridge.network.card import CARD
from nflae_bridge.network.card_check import checked_config
from nflae_bridge.network.checkpoint import WEIGHTS, read_tensors
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.encoders.senses.config import HeadConfig, SensesConfig
from nflae_bridge.tasks.forecast import FORECAST, ForecastLoss
from nflae_bridge.training.loop import Trainer
from nflae_bridge.training.recipe import CPU, Recipe
from nflae_bridge.training.sources.sensed_windows import SensedWindows, Stages
from simulator.beams.centroids import normalised_db
from simulator.beams.registry import Forecaster, Scores, State
from simulator.beams.windows import Windows

__all__ = ["NetworkSettings", "network_forecaster", "network_inputs", "train_network"]

_CONFIG = "config"  # of the network, JSON as bytes
_LEAST_STEPS = 200
_SHARPNESS = 3.0  # of the targets, per dB
_FLOOR_DB = -100.0
_ROWS_AT_ONCE = 1024
_DIRECTIONS = 32


@dataclass(frozen=True)
class NetworkSettings:
    """Choose the inputs and the training of a network.

    Parameters
    ----------
    inputs
        Names of the inputs.
    epochs
        Passes over the training windows in the stage ``task``.
    mask, align
        Passes in the stages before.
    anchor
        Input with which the stage ``align`` aligns the others.
    dropout
        Probability with which an input of a window is left out in training; 0 for a single input.
    backbone
        The trunk.
    vision
        Local folder of the model of the inputs ``vision`` and ``csi-vision``.
    rows
        Windows per step.
    least_steps
        Steps of a training with fewer in its epochs, divided among the stages as the epochs are; None: 200.
    learning_rate, weight_decay
        Of the training.
    persistence
        Add the last powers to the scores, with a learned factor per sample ahead, if ``power`` is the first input.
    """

    inputs: tuple[str, ...] = ("power",)
    epochs: int = 8
    mask: int = 0
    align: int = 0
    anchor: str = "power"
    dropout: float = 0.1
    backbone: BackboneConfig = field(default_factory=lambda: SensesConfig((), ()).backbone)
    vision: str | None = None
    rows: int = 128
    least_steps: int | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    persistence: bool = True


def network_forecaster(name: str, settings: NetworkSettings, missing: Sequence[str] = ()) -> Forecaster:
    """Return the forecaster.

    Parameters
    ----------
    name
        Name in tables and models.
    settings
        Inputs and training.
    missing
        Inputs that are absent when it forecasts.

    Returns
    -------
    Forecaster
    """
    return Forecaster(
        name, lambda windows, state: _scores(windows, state, missing), lambda train, seed: _fit(train, seed, settings)
    )


def targets(windows: Windows) -> Tensor:
    """Return a distribution over the beams of each sample ahead, proportional to the power to the power of 13.

    Parameters
    ----------
    windows
        The windows.

    Returns
    -------
    Tensor
        float32 (windows, ahead, beams).
    """
    return torch.softmax(_SHARPNESS * torch.from_numpy(normalised_db(windows.future, _FLOOR_DB)), -1)


def _fit(train: Windows, seed: int, settings: NetworkSettings) -> State:
    inputs = configure(settings.inputs, train, settings.vision)
    values, present = prepare(inputs, train)
    heads = [HeadConfig("forecast", train.beams)]
    heads += [HeadConfig("reconstruct")] if settings.mask else []
    heads += [HeadConfig("align", _DIRECTIONS)] if settings.align else []
    config = SensesConfig(
        inputs,
        tuple(heads),
        train.past.shape[1],
        train.ahead,
        settings.backbone,
        settings.persistence and inputs[0].shape == (train.beams,),
    )
    epochs = settings.mask + settings.align + settings.epochs
    steps = max(epochs * math.ceil(len(train) / settings.rows), settings.least_steps or _LEAST_STEPS)
    stages = Stages(
        round(steps * settings.mask / epochs),
        round(steps * settings.align / epochs),
        dropout=settings.dropout if len(inputs) > 1 else 0.0,
    )
    data = SensedWindows.of(
        [torch.from_numpy(each) for each in values],
        torch.from_numpy(present),
        {"forecast": targets(train)},
        settings.rows,
        stages,
    )
    recipe = Recipe(
        config,
        data,
        ForecastLoss(settings.anchor),
        steps=steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warm_up=50,
        decay=1.0,
        validate_every=steps,
        save_every=steps,
        seed=seed,
    )
    return train_network(recipe)


def train_network(recipe: Recipe) -> State:
    """Train a network and return its weights and configuration.

    Parameters
    ----------
    recipe
        Recipe of the task ``forecast``.

    Returns
    -------
    State
        Trained tensors by name, and ``config``.
    """
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        for _ in Trainer("beams", recipe, Path(folder), CPU, resume=False).run():
            pass
        tensors, _ = read_tensors(Path(folder) / WEIGHTS)
        card = json.loads((Path(folder) / CARD).read_text())
    config = np.frombuffer(json.dumps(card["network"]).encode(), np.uint8)
    return {name: tensor.numpy() for name, tensor in tensors.items()} | {_CONFIG: config}


def network_inputs(state: State) -> tuple[str, ...]:
    """Return the names of the inputs of a trained network, in order.

    Parameters
    ----------
    state
        Its state.

    Returns
    -------
    tuple of str
    """
    return tuple(each["name"] for each in json.loads(bytes(state[_CONFIG]))["inputs"])


@torch.no_grad()
def _scores(windows: Windows, state: State, missing: Sequence[str]) -> Scores:
    weights = {name: torch.from_numpy(np.array(value)) for name, value in state.items() if name != _CONFIG}
    card = {"network": json.loads(bytes(state[_CONFIG]))}
    config = checked_config(card, {name: tuple(each.shape) for name, each in weights.items()}, FORECAST)
    network = FORECAST.build(config, True)
    network.load_state_dict(weights, strict=False)
    values, present = prepare(config.inputs, windows, missing)
    parts = []
    for rows in torch.split(torch.arange(len(windows)), _ROWS_AT_ONCE):
        given = [torch.from_numpy(each[rows.numpy()]) for each in values]
        parts.append(network.eval()(given, torch.from_numpy(present[rows.numpy()]))["forecast"])
    scores: Scores = torch.cat(parts).numpy()
    return scores
