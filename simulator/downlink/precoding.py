"""Define the interface of precoding schemes: channels and link budget in, precoders, powers, labels and SINRs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io.result import RESULT_ARRAYS, RESULT_NAMES
from simulator.downlink.budget import LinkBudget
from simulator.downlink.sinr import rates
from simulator.geometry.near_field import far_field_test

_FIELDS = {entry.name: entry.field for entry in RESULT_ARRAYS}
# What an answer holds as tensors, unlike what it works out when asked.
_STORED = ("precoder", "power", "uplink_power", "feasible", "fallback")


@dataclass(frozen=True)
class ChannelBatch:
    """Channels of several drops, with near-field labels where they are known.

    channels: complex64 (drops, users, antennas); row k of a drop is h_k.
    near_field: bool (drops, users), or None: a scheme then finds the labels itself.
    """

    channels: Tensor
    near_field: Tensor | None = None


@dataclass(frozen=True)
class Precoding:
    """A scheme's answer for a batch of drops: what to send, and, worked out when first read, what it does.

    A transmitter that wants only beams and powers doesn't wait for the labels of users or for their rates.

    precoder: complex64 (drops, users, antennas), rows w_k of unit norm.
    power: P_k, float64 (drops, users), W.
    uplink_power: lambda of the optimal structure, float64 (drops, users), W; NaN where a scheme has none.
    feasible: bool (drops,), C4 holds. fallback: bool (drops,), what is returned is not the network's answer
        but a better one: RZF's, or, where C4 asks for it, one over directions balanced for the weakest user.
    compute_labels: gives near_field, bool (drops, users), and near_field_score, float64 (drops, users), in [0, 1].
    compute_sinr: gives the SINRs, linear, float64 (drops, users).
    needs_sic: the SINRs are those of receivers that decode and cancel other users' messages first; any other receiver
        gets less. They aren't `sinr.achieved_sinr`'s then.
    """

    precoder: Tensor
    power: Tensor
    uplink_power: Tensor
    feasible: Tensor
    fallback: Tensor
    compute_labels: Callable[[], tuple[Tensor, Tensor]]
    compute_sinr: Callable[[], Tensor]
    needs_sic: bool = False

    def to(self, device: torch.device) -> Precoding:
        """The same on another device."""

        def labels() -> tuple[Tensor, Tensor]:
            near, score = self._labels
            return near.to(device), score.to(device)

        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in _STORED}
        return replace(self, **moved, compute_labels=labels, compute_sinr=lambda: self.sinr.to(device))

    def replaced(self, drops: Tensor, other: Precoding) -> Precoding:
        """This with ``other``, which has as many drops as ``drops`` (bool) has true ones, put in their place."""

        def put(ours: Tensor, theirs: Tensor) -> Tensor:
            both = ours.clone()
            both[drops] = theirs
            return both

        def labels() -> tuple[Tensor, Tensor]:
            return put(self.near_field, other.near_field), put(self.near_field_score, other.near_field_score)

        stored: dict[str, Any] = {name: put(getattr(self, name), getattr(other, name)) for name in _STORED}
        return replace(self, **stored, compute_labels=labels, compute_sinr=lambda: put(self.sinr, other.sinr))

    @cached_property
    def _labels(self) -> tuple[Tensor, Tensor]:
        return self.compute_labels()

    @property
    def near_field(self) -> Tensor:
        """The labels C3 goes by, bool (drops, users)."""
        return self._labels[0]

    @property
    def near_field_score(self) -> Tensor:
        """How sure they are, float64 (drops, users), in [0, 1]."""
        return self._labels[1]

    @cached_property
    def sinr(self) -> Tensor:
        """Linear, float64 (drops, users)."""
        return self.compute_sinr()

    @cached_property
    def rate(self) -> Tensor:
        """log2(1 + SINR), bps/Hz, float64 (drops, users)."""
        return rates(self.sinr)

    @cached_property
    def sum_rate(self) -> Tensor:
        """Sum of the rates, bps/Hz, float64 (drops,)."""
        return self.rate.sum(-1)


Scheme = Callable[[ChannelBatch, LinkBudget], Precoding]


def near_field_labels(batch: ChannelBatch) -> Tensor:
    """The batch's near-field labels, or those of the far-field test where none were given; bool (drops, users)."""
    return far_field_test(batch.channels) if batch.near_field is None else batch.near_field


def constrained_labels(batch: ChannelBatch, budget: LinkBudget) -> Tensor:
    """The labels that powers depend on, bool (drops, users): `near_field_labels` the batch, or nobody's where C3 can't bind."""
    if budget.constrains_near_field:
        return near_field_labels(batch)
    return torch.zeros(batch.channels.shape[:2], dtype=torch.bool, device=batch.channels.device)


def result_arrays(
    answer: Precoding, good: npt.NDArray[np.bool_] | None = None, names: Iterable[str] = RESULT_NAMES
) -> dict[str, npt.NDArray[Any]]:
    """An answer under the names of the result file; where ``good`` is false NaN and false are put in."""
    whole = good is None or bool(good.all())

    def place(values: Tensor) -> npt.NDArray[Any]:
        computed = values.cpu().numpy()
        if good is None or whole:
            return computed
        blank = False if computed.dtype == np.bool_ else np.nan
        placed = np.full((len(good), *computed.shape[1:]), blank, computed.dtype)
        placed[good] = computed
        return placed

    return {name: place(getattr(answer, _FIELDS[name])) for name in names}
