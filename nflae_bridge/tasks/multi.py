"""Declare several tasks at once: precoding, prediction and estimation by one network on a shared trunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.csi.beam_gain import BeamGainConfig, BeamGainNetwork
from nflae_bridge.network.csi.temporal_gram import TemporalGramConfig
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.network.trunks.joint import JointNetwork, PatchTrunk, TaskTrunk
from nflae_bridge.tasks.task import Measures, Parts, Task, find_task, register
from nflae_bridge.training.recipe import CPU, DataSource, Preset, Recipe

_PATCH = 8  # beams per token of estimation


@dataclass(frozen=True)
class MultiConfig:
    """Configure the network for several tasks; trunks of one size.

    Attributes
    ----------
    precode : NetworkConfig
        Network for precoding.
    predict : TemporalGramConfig
        Network for prediction.
    estimate : BeamGainConfig
        Network for estimation; as wide as the trunk, which runs over patches of 8 beams after its convolutions.
    """

    precode: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(EncoderConfig(edge_width=16), BackboneConfig(width=32, layers=3, heads=2))
    )
    predict: TemporalGramConfig = field(default_factory=lambda: TemporalGramConfig(width=32, layers=3, heads=2))
    estimate: BeamGainConfig = field(default_factory=lambda: BeamGainConfig(width=32))


TASKS = tuple(each.name for each in fields(MultiConfig))


@dataclass(frozen=True)
class MultiBatch:
    """Batch of one of the tasks.

    Attributes
    ----------
    task : str
        Its name.
    batch : Any
        Batch of that task.
    """

    task: str
    batch: Any

    def to(self, device: torch.device) -> MultiBatch:
        """Return the batch on ``device``."""
        return MultiBatch(self.task, self.batch.to(device))


@dataclass(frozen=True)
class AlternatingData:
    """Batches of the tasks in turn, each from the task's own source.

    Attributes
    ----------
    sources : tuple of DataSource
        Sources, in the order of `TASKS`.
    thinning : int
        One validation batch in so many is used.
    """

    sources: tuple[DataSource, ...]
    thinning: int = 1

    def training(self, seed: int, step: int, device: torch.device = CPU) -> MultiBatch:
        """Return the batch of a step.

        Parameters
        ----------
        seed : int
            Seed of the run.
        step : int
            Step, from 0.
        device : torch.device
            Device on which the batch is drawn.

        Returns
        -------
        MultiBatch
            Batch of the task of the step.
        """
        turn, index = divmod(step, len(self.sources))
        return MultiBatch(TASKS[index], self.sources[index].training(seed, turn, device))

    def validation(self) -> list[MultiBatch]:
        """Return validation batches of all tasks."""
        return [
            MultiBatch(task, batch)
            for task, source in zip(TASKS, self.sources, strict=True)
            for batch in source.validation()[:: self.thinning]
        ]


def _build(config: MultiConfig, offline: bool) -> JointNetwork:
    parts = {task: find_task(task).build(getattr(config, task), offline) for task in TASKS}
    network = JointNetwork(parts, {"estimate": _attach})
    network.config = config
    return network


def _attach(part: TaskNetwork, trunk: TaskTrunk) -> None:
    assert isinstance(part, BeamGainNetwork)
    part.layers.append(PatchTrunk(trunk, _PATCH))


def _prepare(network: JointNetwork, batch: MultiBatch, settings: tuple[Any, ...]) -> MultiBatch:
    prepare = find_task(batch.task).prepare
    return MultiBatch(batch.task, prepare(network.parts[batch.task], batch.batch, settings[TASKS.index(batch.task)]))


def _loss(network: JointNetwork, batch: MultiBatch, settings: tuple[Any, ...]) -> Parts:
    part = network.parts[batch.task]
    loss: Tensor = find_task(batch.task).loss(part, batch.batch, settings[TASKS.index(batch.task)])["loss"]
    absent = torch.full_like(loss.detach(), torch.nan)
    return {"loss": loss, **{f"{task}_loss": loss if task == batch.task else absent for task in TASKS}}


def _measure_names() -> Iterator[tuple[str, str]]:
    for task in TASKS:
        for name in find_task(task).measures:
            yield task, name


def _validation(batches: Sequence[MultiBatch], settings: tuple[Any, ...]) -> Callable[[JointNetwork], Measures]:
    measures = {
        task: find_task(task).validation([each.batch for each in batches if each.task == task], weights)
        for task, weights in zip(TASKS, settings, strict=True)
    }

    def measure(network: JointNetwork) -> Measures:
        found = {task: measures[task](network.parts[task]) for task in TASKS}
        result = {f"{task}_{name}": found[task][name] for task, name in _measure_names()}
        scores = {f"{task}_score": find_task(task).score(found[task]) for task in TASKS}
        return result | scores | {"loss": sum(each["loss"] for each in found.values()) / len(found)}

    return measure


def _score(measures: Measures) -> float:
    return sum(measures[f"{task}_score"] for task in TASKS)


def _presets() -> dict[str, Preset]:
    single = [next(iter(find_task(task).presets.values())).recipe for task in TASKS]
    recipe = Recipe(
        MultiConfig(),
        AlternatingData(tuple(each.data for each in single), thinning=4),
        tuple(each.loss for each in single),
        steps=6_000,
        learning_rate=2e-3,
        validate_every=1_500,
    )
    return {"multi-tiny": Preset("precoding, prediction and estimation in turn on one GPT-2 of width 32", recipe)}


MULTI = register(
    Task(
        name="multi",
        summary="precoding, prediction and estimation by one network",
        config=MultiConfig,
        build=_build,
        parts=tuple(f"{task}_loss" for task in TASKS),
        loss=_loss,
        measures=(
            *(f"{task}_{name}" for task, name in _measure_names()),
            *(f"{task}_score" for task in TASKS),
        ),
        validation=_validation,
        score=_score,
        score_meaning="sum of the scores of the tasks",
        presets=_presets(),
        guard="that of each task",
        rivals=(),
        parts_of=JointNetwork.separate,
        prepare=_prepare,
    )
)
