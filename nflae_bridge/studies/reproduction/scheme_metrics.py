"""Measure a scheme on a set of drops: sum rates, and violations of the constraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nflae_bridge.studies.reproduction.trained_baselines import Note
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import TOLERANCE, check_constraints
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import achieved_sinr, rates

# A batch for a network of the size of GPT-2.
_BLOCK_DROPS = 100


@dataclass(frozen=True)
class SchemeMetrics:
    """Result of a scheme on a set of drops; every array (drops,).

    Parameters
    ----------
    sum_rate
        Sum rates, bps/Hz.
    feasible
        True where the scheme reports that C4 holds.
    broken
        True where C1, C2, C3 or C5 does not hold.
    short
        True where a user is below ``min_rate``.
    """

    sum_rate: Tensor
    feasible: Tensor
    broken: Tensor
    short: Tensor

    @property
    def mean(self) -> float:
        """Mean sum rate, bps/Hz."""
        return float(self.sum_rate.mean())

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval of the mean, bps/Hz."""
        return 1.96 * float(self.sum_rate.std()) / math.sqrt(len(self.sum_rate))


def evaluate_scheme(
    scheme: Scheme,
    channels: Tensor,
    near_field: Tensor,
    budget: LinkBudget,
    csi: Tensor | None = None,
    note: Note | None = None,
) -> SchemeMetrics:
    """Run a scheme on drops with given labels and measure its answers.

    Parameters
    ----------
    scheme
        The scheme.
    channels
        Complex64 (drops, users, antennas).
    near_field
        True labels, bool (drops, users), given to every scheme, so that C3 is the same for all.
    budget
        Link budget.
    csi
        CSI that the scheme receives, in the shape of ``channels``, which are the default. With it rates are those on
        the true channels, by their definition.
    note
        Receives the progress.

    Returns
    -------
    SchemeMetrics
        Sum rates and violations.
    """
    parts = []
    blocks = range(0, len(channels), _BLOCK_DROPS)
    for block, start in enumerate(blocks, start=1):
        part = slice(start, start + _BLOCK_DROPS)
        known = channels[part] if csi is None else csi[part]
        answer = scheme(ChannelBatch(known, near_field[part]), budget)
        parts.append(_part(answer, channels[part], near_field[part], budget, exact=csi is None))
        if note is not None:
            note(f"step {block} of {len(blocks)}")
    return SchemeMetrics(
        *(torch.cat([getattr(part, name) for part in parts]) for name in SchemeMetrics.__dataclass_fields__)
    )


def in_blocks(labels: Callable[[Tensor], Tensor], channels: Tensor) -> Tensor:
    """Compute near-field labels of many drops in blocks.

    Parameters
    ----------
    labels
        From channels to labels.
    channels
        Complex64 (drops, users, antennas).

    Returns
    -------
    Tensor
        Bool (drops, users), on the host.
    """
    return torch.cat([labels(part).cpu() for part in torch.split(channels, _BLOCK_DROPS)])


def own_labels(scheme: Scheme, channels: Tensor) -> Tensor:
    """Compute the near-field labels that a scheme finds itself.

    Parameters
    ----------
    scheme
        The scheme.
    channels
        Complex64 (drops, users, antennas).

    Returns
    -------
    Tensor
        Bool (drops, users), on the host.
    """
    return in_blocks(lambda part: scheme(ChannelBatch(part), LinkBudget()).near_field, channels)


def label_accuracy(labels: Tensor, truth: Tensor) -> float:
    """Compute the fraction of correct labels.

    Parameters
    ----------
    labels, truth
        Bool (drops, users).

    Returns
    -------
    float
        In [0, 1].
    """
    return float((labels == truth.cpu()).double().mean())


def _part(answer: Precoding, channels: Tensor, near_field: Tensor, budget: LinkBudget, exact: bool) -> SchemeMetrics:
    precoder, power = answer.precoder.cpu(), answer.power.cpu()
    # With the true channels, the scheme's own rates: those of successive decoding differ from the definition's.
    rate = answer.rate.cpu() if exact else rates(achieved_sinr(channels, precoder, power, budget.noise_power))
    check = check_constraints(channels, precoder, power, near_field, budget)
    kept = (check.total_power, check.negative_power, check.near_share, check.beam_norm)
    return SchemeMetrics(
        sum_rate=rate.sum(-1),
        feasible=answer.feasible.cpu(),
        broken=(torch.stack(kept) > TOLERANCE).any(0),
        short=(rate < budget.min_rate - TOLERANCE).any(-1),
    )
