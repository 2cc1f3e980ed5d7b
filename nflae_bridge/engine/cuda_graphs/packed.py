"""Lay out the answer to a batch in one piece of memory, so that one copy brings it to the host."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.precoding import Precoding
from simulator.problems.algebra import Real

FLAGS = ("feasible", "fallback", "sum_rate", "usable", "exact")
"""Columns of the table with one number per drop; `usable`: every user's energy is positive and finite; `exact`: the
answer stands. Else PyTorch computes it again: the network's where no answer without WMMSE steps meets C4, those of
schemes where K x K algebra loses digits (`simulator.downlink.rounding.loses_digits`)."""

ALIGNMENT = 256
"""Bytes to whose multiples arrays in one memory are aligned."""

_PER_USER = ("power", "lambda", "sinr", "rate")
_SCORE = "near_field_score"
_NEAR = 0.5  # score above which a user is near-field


class UnusableChannels(Exception):
    """Report that a channel is not finite, or zero at every antenna."""


class AnswerSize(NamedTuple):
    """Hold the size of an answer.

    Attributes
    ----------
    drops, users, antennas
        Size of the batch.
    scored
        Whether it has near-field scores.
    """

    drops: int
    users: int
    antennas: int
    scored: bool

    @property
    def columns(self) -> int:
        """Return the columns of the table."""
        return (len(_PER_USER) + self.scored) * self.users + len(FLAGS)

    @property
    def table_bytes(self) -> int:
        """Return the size of the table, bytes, up to the start of the precoders."""
        return -(-8 * self.drops * self.columns // ALIGNMENT) * ALIGNMENT

    @property
    def total_bytes(self) -> int:
        """Return the size of the answer, bytes."""
        return self.table_bytes + 8 * self.drops * self.users * self.antennas


@cache
def _columns(users: int) -> dict[str, slice]:
    """Return the columns of the table by the quantities that they hold."""
    columns = {name: slice(place * users, (place + 1) * users) for place, name in enumerate(_PER_USER)}
    start = len(_PER_USER) * users
    columns |= {name: slice(start + place, start + place + 1) for place, name in enumerate(FLAGS)}
    start += len(FLAGS)
    return columns | {_SCORE: slice(start, start + users)}


@dataclass(frozen=True)
class PackedAnswer:
    """Hold the table and the precoders of several drops.

    Attributes
    ----------
    size
        Size of the answer.
    memory
        uint8 (bytes,): a table, float64 (drops, columns), of P_k / P, lambda_k / P, SINRs and rates of all users, the
        `FLAGS`, and near-field scores where there are some; then the precoders, complex64 (drops, users, antennas).
    """

    size: AnswerSize
    memory: Tensor

    @staticmethod
    def allocate(size: AnswerSize, **memory: Any) -> PackedAnswer:
        """Allocate an answer.

        Parameters
        ----------
        size
            Size of the answer.
        **memory
            Options of `torch.empty`: ``device`` or ``pin_memory``.

        Returns
        -------
        PackedAnswer
        """
        return PackedAnswer(size, torch.empty(size.total_bytes, dtype=torch.uint8, **memory))

    @cached_property
    def table(self) -> Tensor:
        """The table, float64 (drops, columns)."""
        values = self.memory[: 8 * self.size.drops * self.size.columns].view(torch.float64)
        return values.view(self.size.drops, self.size.columns)

    @cached_property
    def precoder(self) -> Tensor:
        """The precoders, complex64 (drops, users, antennas)."""
        values = self.memory[self.size.table_bytes :].view(torch.complex64)
        return values.view(self.size.drops, self.size.users, self.size.antennas)

    def column(self, name: str) -> slice:
        """Return the columns of the table that hold a quantity.

        Parameters
        ----------
        name
            Name in the result schema, or one of `FLAGS`.

        Returns
        -------
        slice
        """
        return _columns(self.size.users)[name]

    def per_drop(self, name: str) -> Tensor:
        """Return one of `FLAGS`, float64 (drops,)."""
        return self.table[:, self.column(name)].squeeze(-1)

    def holds(self, flag: str) -> bool:
        """Return whether one of `FLAGS` is set on every drop."""
        values = self.per_drop(flag)
        return bool(values.item() if len(values) == 1 else values.all())

    def precoding(self, budget: LinkBudget, compute_labels: Callable[[], tuple[Tensor, Tensor]]) -> Precoding:
        """Return the answer as a precoding.

        Parameters
        ----------
        budget
            Link budget.
        compute_labels
            As in `simulator.downlink.precoding.Precoding`.

        Returns
        -------
        Precoding
        """
        power = per_drop(budget.power, self.table).unsqueeze(-1) if isinstance(budget.power, Tensor) else budget.power
        return Precoding(
            self.precoder,
            self.table[:, self.column("power")] * power,
            self.table[:, self.column("lambda")] * power,
            self.per_drop("feasible") > 0,
            self.per_drop("fallback") > 0,
            compute_labels,
            lambda: self.table[:, self.column("sinr")],
        )

    def arrays(self, power: float | Real, names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
        """Return arrays of the result schema; those of an answer on the host share its memory where they can.

        Parameters
        ----------
        power
            P, W, a number or float64 (drops or 1, 1).
        names
            Names of the arrays, see `matlab_io.result.RESULT_ARRAYS`.

        Returns
        -------
        dict
            Arrays by name, drops first.
        """
        memory, columns = self.memory.numpy(), _columns(self.size.users)
        table = memory[: 8 * self.size.drops * self.size.columns].view(np.float64).reshape(self.size.drops, -1)
        found: dict[str, npt.NDArray[Any]] = {}
        for name in names:
            if name == "precoder":
                precoder = memory[self.size.table_bytes :].view(np.complex64)
                found[name] = precoder.reshape(self.size.drops, self.size.users, -1)
            elif name in ("power", "lambda"):
                found[name] = table[:, columns[name]] * power
            elif name == "near_field":
                found[name] = table[:, columns[_SCORE]] > _NEAR
            elif name in FLAGS:
                column = table[:, columns[name].start]
                found[name] = column.copy() if name == "sum_rate" else column > 0
            else:
                found[name] = table[:, columns[name]].copy()
        return found
