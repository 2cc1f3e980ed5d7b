"""Define the declaration of a task, and the registry of the tasks in this package.

A task is declared by one module of `nflae_bridge.tasks`, named as the task, that ends in ``register(Task(...))``. The
training loop, checkpoints, presets, ``nflae train`` and ``nflae models`` use declarations alone.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.network.interface import TaskNetwork
from nflae_bridge.training.recipe import Preset

Parts = dict[str, Tensor]
Measures = dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Figures of a network, its rivals and the guard on a batch; rows are drops, users or series.

    Attributes
    ----------
    figures : Mapping of str to Tensor
        Figure of merit by method, real (rows,), larger is better, measured against the truth; the network is ``nflae``.
    guarded : Tensor
        Figure of merit of the guard's answer, real (rows,). The guard decides without the truth.
    fallback : Tensor
        bool (rows,): the guard's answer is not the network's.
    """

    figures: Mapping[str, Tensor]
    guarded: Tensor
    fallback: Tensor


def _batch_itself(network: Any, batch: Any, settings: Any) -> Any:
    return batch


@dataclass(frozen=True)
class Task:
    """Declaration of a task: what a network is built from, trained on, judged by and guarded by.

    Attributes
    ----------
    name : str
        Name of the task and of its module, lower case: ``predict``. Shipped models and presets are named
        ``NAME-tiny``, ``NAME-small``; ``auto`` is ``NAME-tiny`` on the CPU and ``NAME-small``, if shipped, on CUDA.
    summary : str
        Description in one line, without a full stop.
    config : type
        Type of the network's configuration, of this task alone: a frozen dataclass of int (sizes, not negative), float,
        bool, str, Literal, None, tuples of these, and further such dataclasses. Fields named ``layers`` or ``blocks``
        count modules. A field ``backbone`` is a `nflae_bridge.network.config.BackboneConfig`. The card of a checkpoint
        holds it as JSON; a field added later needs a default.
    build : Callable
        ``build(config, offline) -> TaskNetwork``, randomly initialised from PyTorch's global generator; its attribute
        ``config`` is the configuration. It must build on the meta device as well (no transfer of values to Python, no
        NumPy). ``offline``: load a pretrained backbone from local files alone.
    parts : Sequence of str
        Names of the parts of the loss, columns of the log.
    loss : Callable
        ``loss(network, inputs, settings) -> Parts``, scalars: ``loss`` with gradient, and each of ``parts`` without.
        ``settings`` is the recipe's ``loss``, ``inputs`` the result of ``prepare``. NaN in a part leaves the batch out
        of that column. On a GPU it is captured: it transfers no values to or from the host, and no shape depends on
        values.
    measures : Sequence of str
        Names of the measures of a validation, columns of the log.
    validation : Callable
        ``validation(batches, settings) -> (network -> Measures)``: prepare what does not depend on the network once,
        then measure the network (in evaluation mode) at each validation: ``loss`` and each of ``measures``, real.
    score : Callable
        ``score(measures) -> float``, the figure that the best state maximises.
    score_meaning : str
        The score in words, for the end of a training run.
    presets : dict of str to Preset
        Recipes of ``nflae train --preset``, by name.
    guard : str
        Decision between network and rivals, in one line.
    rivals : Sequence of str
        Classical methods that the guard compares with, by their registered names.
    figure : str
        Meaning and unit of the figure of merit of ``compare``.
    compare : Callable, optional
        ``compare(network, batch) -> Comparison`` on a batch with known truth, by the guard that serves the task. None
        for a network that is never served by itself, such as a pretrained encoder.
    parts_of : Callable, optional
        ``parts_of(network) -> dict[str, TaskNetwork]``: networks of other tasks that this one holds, by task, each
        usable where a model of that task is needed. None: it holds none.
    check : Callable, optional
        ``check(config, shapes)``: raise ValueError where a configuration has sizes that the stored tensors, whose
        shapes are given by name, do not bear out and that are not seen from the shapes of the network itself.
    prepare : Callable, optional
        ``prepare(network, batch, settings) -> inputs``: compute all that the loss needs of a batch and that has no
        gradient, without restrictions; tensors in frozen dataclasses and tuples. By default the batch itself.
    """

    name: str
    summary: str
    config: type[Any]
    build: Callable[[Any, bool], TaskNetwork]
    parts: Sequence[str]
    loss: Callable[[Any, Any, Any], Parts]
    measures: Sequence[str]
    validation: Callable[[Sequence[Any], Any], Callable[[Any], Measures]]
    score: Callable[[Measures], float]
    score_meaning: str
    presets: dict[str, Preset]
    guard: str
    rivals: Sequence[str]
    figure: str = "figure of merit"
    compare: Callable[[Any, Any], Comparison] | None = None
    parts_of: Callable[[Any], dict[str, TaskNetwork]] | None = None
    check: Callable[[Any, dict[str, tuple[int, ...]]], None] | None = None
    prepare: Callable[[Any, Any, Any], Any] = _batch_itself


_REGISTERED: dict[str, Task] = {}
_NOT_TASKS = ("task",)


def register(task: Task) -> Task:
    """Add a task to the registry.

    Parameters
    ----------
    task : Task
        The declaration.

    Returns
    -------
    Task
        The same.

    Raises
    ------
    ValueError
        If another task has its name or its type of configuration.
    """
    for other in _REGISTERED.values():
        if other.name == task.name or other.config is task.config:
            raise ValueError(f"task {task.name!r} has the name or the configuration type of task {other.name!r}")
    _REGISTERED[task.name] = task
    return task


def task_names() -> list[str]:
    """Return the names of all tasks, sorted."""
    modules = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    return sorted(modules.difference(_NOT_TASKS) | _REGISTERED.keys())


def check_task(name: str) -> None:
    """Raise an error for a task that does not exist.

    Parameters
    ----------
    name : str
        Name of the task.

    Raises
    ------
    NflaeError
        If there is no such task; the message lists those there are.
    """
    if name not in task_names():
        raise NflaeError(f"unknown task {name!r:.40}: there are {', '.join(task_names())}")


def find_task(name: str) -> Task:
    """Return a task, importing its module if needed.

    Parameters
    ----------
    name : str
        Name of the task.

    Returns
    -------
    Task
        Its declaration.

    Raises
    ------
    NflaeError
        If there is no such task; the message lists those there are.
    """
    if name not in _REGISTERED:
        check_task(name)
        import_module(f"{__package__}.{name}")
    return _REGISTERED[name]


def task_of(config: object) -> Task:
    """Return the task of a network's configuration.

    Parameters
    ----------
    config : object
        The configuration.

    Returns
    -------
    Task
        The task that has configurations of this type.

    Raises
    ------
    TypeError
        If no task has.
    """
    for tasks in (list(_REGISTERED.values()), map(find_task, task_names())):
        for task in tasks:
            if type(config) is task.config:
                return task
    raise TypeError(f"no task has configurations of type {type(config).__name__}")
