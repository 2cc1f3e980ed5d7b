"""Lay out the inputs of a CUDA graph in one piece of memory, on the device and in page-locked memory alike."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nflae_bridge.engine.cuda_graphs.packed import ALIGNMENT
from nflae_bridge.engine.device_problem import DeviceProblem
from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.constraints import Limits
from simulator.downlink.gram import compute_amplitude_scale
from simulator.downlink.precoding import ChannelBatch

FEW = 16
"""Drops up to which the copies from and to the host are part of the graph."""
LARGEST = 1024
"""Drops that one graph computes."""


class Shape(NamedTuple):
    """Name the properties that a captured graph fixes.

    Attributes
    ----------
    drops, users, antennas
        Size of the batch that the graph computes.
    constrains_near_field, demands_rates
        Whether C3, C4 can bind.
    labelled
        Whether the batch comes with near-field labels.
    on_host
        Whether channels come from the host's memory and the answer goes there.
    scored
        Whether the answer has near-field scores.
    variant
        Computation: the WMMSE steps of the network's answer, or a scheme.
    """

    drops: int
    users: int
    antennas: int
    constrains_near_field: bool
    demands_rates: bool
    labelled: bool
    on_host: bool
    scored: bool
    variant: int | str

    @staticmethod
    def of(batch: ChannelBatch, budget: LinkBudget, scored: bool, variant: int | str) -> Shape:
        """Return the shape of the graph for a batch.

        Parameters
        ----------
        batch, budget
            Channels and link budget.
        scored, variant
            As the attributes.

        Returns
        -------
        Shape
        """
        drops, users, antennas = batch.channels.shape
        return Shape(
            graph_size(drops),
            users,
            antennas,
            budget.constrains_near_field,
            budget.demands_rates,
            batch.near_field is not None,
            batch.channels.device.type == "cpu",
            scored,
            variant,
        )

    def with_scores(self) -> Shape:
        """Return the shape of the same batch whose answer has near-field scores."""
        return self._replace(scored=True)

    @property
    def holds_copies(self) -> bool:
        """Return whether copies from and to the host are part of the graph, by way of page-locked memory of its own."""
        return self.on_host and self.drops <= FEW


class GraphInputs:
    """Hold the inputs of a graph as views of one memory.

    Parameters
    ----------
    shape
        Shape of the graph.
    **memory
        Options of `torch.empty`: ``device`` or ``pin_memory``.
    """

    def __init__(self, shape: Shape, **memory: Any) -> None:
        drops, users, antennas = shape.drops, shape.users, shape.antennas
        sizes = (8 * drops * users * antennas, *[8 * drops] * 3, drops * users)
        places = [-(-size // ALIGNMENT) * ALIGNMENT for size in sizes]
        self.shape = shape
        self.memory = torch.empty(sum(places), dtype=torch.uint8, **memory)
        parts = [part[:size] for part, size in zip(torch.split(self.memory, places), sizes, strict=True)]
        self.channels = parts[0].view(torch.complex64).view(drops, users, antennas)
        self.amplitude_scale, self.alpha_c, self.min_rate = (part.view(torch.float64) for part in parts[1:4])
        self.near_field = parts[4].view(torch.bool).view(drops, users)
        self._filled: tuple[float, ...] | None = None
        # Random channels fill it, also drops beyond those of a batch.
        generator = torch.Generator().manual_seed(0)
        self.channels.copy_(torch.randn(self.channels.shape, dtype=torch.complex64, generator=generator))
        for values, start in ((self.amplitude_scale, 1), (self.alpha_c, 1), (self.min_rate, 0), (self.near_field, 0)):
            values.fill_(start)

    def problem(self) -> DeviceProblem:
        """Return the problem that the inputs state; without C3 no user counts as near-field, whatever the labels."""
        given = self.shape.labelled or not self.shape.constrains_near_field
        limits = Limits(
            self.alpha_c if self.shape.constrains_near_field else None,
            self.min_rate if self.shape.demands_rates else None,
        )
        near_field = self.near_field if given else None
        return DeviceProblem(self.channels, self.amplitude_scale, self.alpha_c, self.min_rate, limits, near_field)

    def fill(self, batch: ChannelBatch, budget: LinkBudget) -> None:
        """Write the budget, unless it lies there already, and the labels where C3 can bind.

        Parameters
        ----------
        batch
            Batch, of whose channels nothing is written.
        budget
            Link budget.
        """
        self._fill(budget, len(batch.channels))
        if batch.near_field is None or not self.shape.constrains_near_field:
            return
        limited = per_drop(budget.alpha_c, self.alpha_c).unsqueeze(-1) < 1
        self.near_field[: len(batch.channels)] = batch.near_field.to(self.alpha_c.device) & limited

    def _fill(self, budget: LinkBudget, drops: int) -> None:
        values = (budget.power, budget.noise_power, budget.alpha_c, budget.min_rate)
        numbers = tuple(float(value) for value in values if not isinstance(value, Tensor))
        if len(numbers) == len(values):
            if numbers != self._filled:
                self.amplitude_scale.fill_(math.sqrt(numbers[0] / numbers[1]))
                self.alpha_c.fill_(numbers[2])
                self.min_rate.fill_(numbers[3])
                self._filled = numbers
            return
        self._filled = None
        self.amplitude_scale[:drops] = compute_amplitude_scale(budget, self.amplitude_scale.device)
        self.alpha_c[:drops] = per_drop(budget.alpha_c, self.amplitude_scale)
        self.min_rate[:drops] = per_drop(budget.min_rate, self.amplitude_scale)


def graph_size(drops: int) -> int:
    """Return the size of the graph for a batch: at most an eighth more, in steps of an eighth of a power of two.

    Parameters
    ----------
    drops
        Drops of the batch.

    Returns
    -------
    int
        At most `LARGEST`.
    """
    step = max(1, (1 << (drops - 1).bit_length()) // 16)
    return min(LARGEST, -(-drops // step) * step)
