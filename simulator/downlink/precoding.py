"""Define the interface of precoding schemes: channels and link budget in; precoders, powers, labels and SINRs out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from matlab_io.labelled import ArrayResult, LabelledSet, describe
from matlab_io.result import RESULT_ARRAYS, RESULT_NAMES, label_arrays
from simulator.downlink.budget import LinkBudget
from simulator.downlink.sinr import rates
from simulator.geometry.near_field import far_field_test

_FIELDS = {entry.name: entry.field for entry in RESULT_ARRAYS}
# Tensors held by a precoding; labels and SINRs are computed at first use.
_STORED = ("precoder", "power", "uplink_power", "feasible", "fallback")


@dataclass(frozen=True)
class ChannelBatch:
    """Hold the channels of several drops, with near-field labels where they are known.

    Parameters
    ----------
    channels : Tensor
        complex64 (drops, users, antennas); row k of a drop is h_k.
    near_field : Tensor or None
        Near-field labels, bool (drops, users); None if the scheme has to determine them.
    """

    channels: Tensor
    near_field: Tensor | None = None


@dataclass(frozen=True, repr=False)
class Precoding(ArrayResult):
    """Hold a scheme's result for a batch of drops; labels and SINRs are computed at first use.

    A transmitter that needs beams and powers only does not wait for labels and rates.

    Parameters
    ----------
    precoder : Tensor
        Beams w_k of unit norm in rows, complex64 (drops, users, antennas).
    power : Tensor
        P_k, float64 (drops, users), W.
    uplink_power : Tensor
        lambda of the optimal structure, float64 (drops, users), W; NaN where a scheme has none.
    feasible : Tensor
        C4 holds, bool (drops,).
    fallback : Tensor
        The result is not the network's but a better one, bool (drops,): that of RZF or, where C4 requires it, one over
        max-min directions.
    compute_labels : callable
        Returns near_field, bool (drops, users), and near_field_score, float64 (drops, users).
    compute_sinr : callable
        Returns the SINRs, linear, float64 (drops, users).
    needs_sic : bool
        The SINRs are those of receivers that first decode and cancel other users' messages (SIC) and differ from
        `sinr.achieved_sinr`; any other receiver has lower ones.
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
        """Return the same on another device."""

        def labels() -> tuple[Tensor, Tensor]:
            near_field, score = self._labels
            return near_field.to(device), score.to(device)

        moved: dict[str, Any] = {name: getattr(self, name).to(device) for name in _STORED}
        return replace(self, **moved, compute_labels=labels, compute_sinr=lambda: self.sinr.to(device))

    def replaced(self, drops: Tensor, other: Precoding) -> Precoding:
        """Return a copy with some drops replaced by those of another precoding.

        Parameters
        ----------
        drops : Tensor
            Drops to replace, bool (drops,).
        other : Precoding
            As many drops as `drops` has true elements.

        Returns
        -------
        Precoding
            Precoding of all drops.
        """

        def labels() -> tuple[Tensor, Tensor]:
            return (
                with_drops(self.near_field, drops, other.near_field),
                with_drops(self.near_field_score, drops, other.near_field_score),
            )

        stored: dict[str, Any] = {
            name: with_drops(getattr(self, name), drops, getattr(other, name)) for name in _STORED
        }
        return replace(
            self, **stored, compute_labels=labels, compute_sinr=lambda: with_drops(self.sinr, drops, other.sinr)
        )

    def __repr__(self) -> str:
        # Labels and rates are not computed for it.
        return describe(type(self).__name__, label_arrays({name: _on_host(getattr(self, name)) for name in _STORED}))

    def labelled(self) -> LabelledSet:
        """Return all arrays with the names of their axes, computing labels and SINRs."""
        return label_arrays({name: _on_host(getattr(self, name)) for name in _FIELDS.values()})

    @cached_property
    def _labels(self) -> tuple[Tensor, Tensor]:
        return self.compute_labels()

    @property
    def near_field(self) -> Tensor:
        """Near-field labels that C3 goes by, bool (drops, users)."""
        return self._labels[0]

    @property
    def near_field_score(self) -> Tensor:
        """Confidence of the near-field labels, float64 (drops, users), in [0, 1]."""
        return self._labels[1]

    @cached_property
    def sinr(self) -> Tensor:
        """SINRs, linear, float64 (drops, users)."""
        return self.compute_sinr()

    @cached_property
    def rate(self) -> Tensor:
        """Rates log2(1 + SINR), bps/Hz, float64 (drops, users)."""
        return rates(self.sinr)

    @cached_property
    def sum_rate(self) -> Tensor:
        """Sum of the rates, bps/Hz, float64 (drops,)."""
        return self.rate.sum(-1)


def _on_host(values: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = values.detach().cpu().numpy()
    return array


Scheme = Callable[[ChannelBatch, LinkBudget], Precoding]


def with_drops(values: Tensor, drops: Tensor, others: Tensor) -> Tensor:
    """Return a copy of values with some drops replaced.

    Parameters
    ----------
    values : Tensor
        Values of all drops, (drops, ...).
    drops : Tensor
        Drops to replace, bool (drops,).
    others : Tensor
        Values of these drops.

    Returns
    -------
    Tensor
        Values of all drops.
    """
    both = values.clone()
    both[drops] = others
    return both


def near_field_labels(batch: ChannelBatch) -> Tensor:
    """Return the batch's near-field labels, or those of the far-field test where it has none.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.

    Returns
    -------
    Tensor
        bool (drops, users).
    """
    return far_field_test(batch.channels) if batch.near_field is None else batch.near_field


def labels_and_scores(batch: ChannelBatch) -> tuple[Tensor, Tensor]:
    """Return `near_field_labels` with the scores 0 and 1, as `Precoding.compute_labels` has to.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.

    Returns
    -------
    near_field : Tensor
        bool (drops, users).
    near_field_score : Tensor
        float64 (drops, users).
    """
    near_field = near_field_labels(batch)
    return near_field, near_field.double()


def constrained_labels(batch: ChannelBatch, budget: LinkBudget) -> Tensor:
    """Return the labels that powers depend on: `near_field_labels`, or all false where C3 binds on no drop.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Tensor
        bool (drops, users).
    """
    if budget.constrains_near_field:
        return near_field_labels(batch)
    return torch.zeros(batch.channels.shape[:2], dtype=torch.bool, device=batch.channels.device)


def result_arrays(
    precoding: Precoding, good: npt.NDArray[np.bool_] | None = None, names: Iterable[str] = RESULT_NAMES
) -> dict[str, npt.NDArray[Any]]:
    """Convert a precoding to the arrays of the result schema.

    Parameters
    ----------
    precoding : Precoding
        Result for the good drops.
    good : ndarray, optional
        Good drops among all, bool (all drops,); the others become NaN and false. By default all drops are good.
    names : iterable of str
        Names of the arrays, see `matlab_io.result.RESULT_ARRAYS`.

    Returns
    -------
    dict
        Arrays by name, (all drops, ...).
    """
    complete = good is None or bool(good.all())

    def padded_array(computed: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if good is None or complete:
            return computed
        blank = False if computed.dtype == np.bool_ else np.nan
        padded = np.full((len(good), *computed.shape[1:]), blank, computed.dtype)
        padded[good] = computed
        return padded

    values = {name: getattr(precoding, _FIELDS[name]) for name in names}
    return {name: padded_array(computed) for name, computed in arrays_on_host(values).items()}


def arrays_on_host(values: Mapping[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Convert tensors to arrays; those of a GPU are copied to page-locked memory, and waited for once.

    Parameters
    ----------
    values : mapping of str to Tensor
        Tensors by name.

    Returns
    -------
    dict
        Arrays by name; of tensors on the CPU the same memory.
    """
    copies = {name: tensor.to("cpu", non_blocking=True) for name, tensor in values.items()}
    for device in {tensor.device for tensor in values.values() if tensor.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return {name: tensor.numpy() for name, tensor in copies.items()}
