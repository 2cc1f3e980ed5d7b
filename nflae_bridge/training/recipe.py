"""Define a training run, of any task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import torch

CPU = torch.device("cpu")


class Batch(Protocol):
    """Batch of training data; its content is known to the task alone."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on ``device``."""
        ...


class DataSource(Protocol):
    """Source of training and validation batches, a frozen dataclass; the same (seed, step) gives the same batch.

    Batches of a GPU and of a CPU may differ.
    """

    def training(self, seed: int, step: int, device: torch.device) -> Batch:
        """Return the batch of one optimiser step.

        Parameters
        ----------
        seed : int
            Seed of the run.
        step : int
            Step, from 0.
        device : torch.device
            Device of the training, on which the batch is drawn if the source can.

        Returns
        -------
        Batch
            The batch of the step.
        """
        ...

    def validation(self) -> list[Any]:
        """Return the fixed validation batches, which training does not contain."""
        ...


@dataclass(frozen=True)
class Streams:
    """Streams of random numbers of one batch: the same on any device for the first, of its device for the second.

    Attributes
    ----------
    host : torch.Generator
        For numbers that the host decides by, such as the size of the batch: a transfer from a GPU would wait for it.
    tensors : torch.Generator
        For the tensors of the batch, on its device; on a CPU the same generator.
    """

    host: torch.Generator
    tensors: torch.Generator

    @staticmethod
    def of(seed: int, step: int, device: torch.device = CPU) -> Streams:
        """Return the streams of a step, so that a resumed run draws the batches of an unbroken one.

        Parameters
        ----------
        seed, step : int
            Seed of the run, and step.
        device : torch.device
            Device of the batch.

        Returns
        -------
        Streams
        """
        number = seed * 10_000_019 + step
        host = torch.Generator().manual_seed(number)
        return Streams(host, host if device.type == "cpu" else torch.Generator(device).manual_seed(number))


@dataclass(frozen=True)
class Recipe:
    """Definition of a training run; the same recipe on the same machine gives the same network.

    Attributes
    ----------
    network : Any
        Configuration of the network; its type determines the task.
    data : DataSource
        Source of training and validation batches.
    loss : Any
        Weights and variants of the task's loss, a frozen dataclass; None where there are none.
    part : str, optional
        Module of the network that is trained, ``encoder.classifier``; the others keep the weights of the model that the
        run starts from, whose configuration replaces ``network``. None: the whole network is trained.
    steps : int
        Optimiser steps.
    learning_rate : float
        Largest learning rate.
    weight_decay : float
        Weight decay of AdamW.
    betas : tuple of float
        Momentum coefficients of AdamW.
    warm_up : int
        First steps, over which the learning rate rises linearly.
    decay : float
        Fraction of the steps, at the end, over which the learning rate falls to 0. Between warm-up and decay it is
        constant, so that a longer run passes through the same states as a shorter one.
    validate_every : int
        Steps between validations; the run delivers the state of the best one.
    judge : {"score", "loss"}
        Criterion of the best state: the largest score of the task, or the least loss.
    save_every : int
        Steps between rows of the log and between saved states; at most so many are lost when the process ends.
    seed : int
        Seed of weights and data.
    """

    network: Any
    data: DataSource
    loss: Any = None
    part: str | None = None
    steps: int = 16_000
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.98)
    warm_up: int = 200
    decay: float = 0.4
    validate_every: int = 500
    judge: Literal["score", "loss"] = "score"
    save_every: int = 100
    seed: int = 2026


@dataclass(frozen=True)
class Preset:
    """Recipe of ``nflae train --preset``.

    Attributes
    ----------
    summary : str
        Description in one line, without a full stop.
    recipe : Recipe
        The recipe.
    """

    summary: str
    recipe: Recipe
