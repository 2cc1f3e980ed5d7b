"""What a scheme's answers give on a set of drops, and whether they keep to the constraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import TOLERANCE, check_constraints
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import achieved_sinr, rates

# What a network of GPT-2's size takes at a time.
_DROPS_AT_A_TIME = 100


@dataclass(frozen=True)
class SchemeMetrics:
    """A scheme on a set of drops; (drops,) each.

    sum_rate: bps/Hz. feasible: the scheme says that C4 holds. broken: C1, C2, C3 or C5 does not hold.
    short: some user gets less than ``min_rate``.
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
        """Half the 95 % interval of the mean, bps/Hz."""
        return 1.96 * float(self.sum_rate.std()) / math.sqrt(len(self.sum_rate))


def evaluate_scheme(
    scheme: Scheme, channels: Tensor, near_field: Tensor, budget: LinkBudget, csi: Tensor | None = None
) -> SchemeMetrics:
    """A scheme on drops whose users' labels are known.

    channels: complex64 (drops, users, antennas). near_field: bool (drops, users), the true labels, which everyone is
    given: C3 means the same to all. csi: what the scheme sees, the shape of ``channels``; None: the channels. With it
    rates are those on the true channels, by their definition.
    """
    parts = []
    for start in range(0, len(channels), _DROPS_AT_A_TIME):
        part = slice(start, start + _DROPS_AT_A_TIME)
        seen = channels[part] if csi is None else csi[part]
        answer = scheme(ChannelBatch(seen, near_field[part]), budget)
        parts.append(_part(answer, channels[part], near_field[part], budget, exact=csi is None))
    return SchemeMetrics(
        *(torch.cat([getattr(part, name) for part in parts]) for name in SchemeMetrics.__dataclass_fields__)
    )


def in_parts(labels: Callable[[Tensor], Tensor], channels: Tensor) -> Tensor:
    """What ``labels`` says of many drops, a few at a time; bool (drops, users), on the host."""
    return torch.cat([labels(part).cpu() for part in torch.split(channels, _DROPS_AT_A_TIME)])


def own_labels(scheme: Scheme, channels: Tensor) -> Tensor:
    """The near-field labels a scheme finds by itself, bool (drops, users), on the host."""
    return in_parts(lambda part: scheme(ChannelBatch(part), LinkBudget()).near_field, channels)


def share_right(labels: Tensor, truth: Tensor) -> float:
    """The share of users labelled rightly."""
    return float((labels == truth.cpu()).double().mean())


def _part(answer: Precoding, channels: Tensor, near_field: Tensor, budget: LinkBudget, exact: bool) -> SchemeMetrics:
    precoder, power = answer.precoder.cpu(), answer.power.cpu()
    # The scheme's own rates where it has seen the truth: with successive decoding they aren't those of the definition.
    rate = answer.rate.cpu() if exact else rates(achieved_sinr(channels, precoder, power, budget.noise_power))
    check = check_constraints(channels, precoder, power, near_field, budget)
    kept = (check.total_power, check.negative_power, check.near_share, check.beam_norm)
    return SchemeMetrics(
        sum_rate=rate.sum(-1),
        feasible=answer.feasible.cpu(),
        broken=(torch.stack(kept) > TOLERANCE).any(0),
        short=(rate < budget.min_rate - TOLERANCE).any(-1),
    )
