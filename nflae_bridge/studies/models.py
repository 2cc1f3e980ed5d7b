"""Compare models with each other and with the classical rivals of their tasks, on the validation data of the tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import Checkpoint
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.tasks.task import Comparison, Task, find_task


@dataclass(frozen=True)
class Merit:
    """Figures of one method on the validation data of one task.

    Attributes
    ----------
    task : str
        Name of the task.
    method : str
        Name of the model or of the rival.
    figure : float
        Mean figure of merit of the method by itself, larger is better.
    guarded : float or None
        Mean figure of merit of the guard's answer; None for a rival.
    fallback : float or None
        Fraction of rows on which the guard's answer is not the network's; None for a rival.
    parameters : int or None
        Parameters of the network, a part's with what it shares; None for a rival.
    """

    task: str
    method: str
    figure: float
    guarded: float | None = None
    fallback: float | None = None
    parameters: int | None = None


def compare_models(models: Sequence[Checkpoint], batches: int | None = None) -> Iterator[tuple[Task, list[Merit]]]:
    """Compare models, task by task, with the rivals of each task; a model of several tasks counts for each of them.

    Parameters
    ----------
    models : Sequence of Checkpoint
        The models.
    batches : int, optional
        Number of validation batches, from the first of the task's presets; all by default.

    Yields
    ------
    tuple of Task and list of Merit
        A task, and its models and rivals in this order.

    Raises
    ------
    NflaeError
        If a task of the models has no guard to compare by.
    """
    networks: dict[str, list[tuple[str, TaskNetwork]]] = {}
    for model in models:
        task = find_task(model.task)
        parts = {task.name: model.network} if task.parts_of is None else task.parts_of(model.network)
        for name, network in parts.items():
            networks.setdefault(name, []).append((model.name, network))
    for name, candidates in networks.items():
        task = find_task(name)
        yield task, _merits(task, candidates, batches)


def _merits(task: Task, candidates: list[tuple[str, TaskNetwork]], batches: int | None) -> list[Merit]:
    if task.compare is None:
        raise NflaeError(f"models for task {task.name} are not compared: {task.guard}")
    data = next(iter(task.presets.values())).recipe.data.validation()[:batches]
    found: list[list[Comparison]] = []
    for _, network in candidates:
        network.eval()
        with torch.no_grad():
            found.append([task.compare(network, batch) for batch in data])
    merits = [
        Merit(
            task.name,
            name,
            _mean([one.figures["nflae"] for one in each]),
            _mean([one.guarded for one in each]),
            _mean([one.fallback for one in each]),
            network.parameter_counts()[1],
        )
        for (name, network), each in zip(candidates, found, strict=True)
    ]
    rivals = [name for name in found[0][0].figures if name != "nflae"]
    return merits + [Merit(task.name, name, _mean([one.figures[name] for one in found[0]])) for name in rivals]


def _mean(values: list[torch.Tensor]) -> float:
    return float(torch.cat([each.double().flatten().cpu() for each in values]).mean())
