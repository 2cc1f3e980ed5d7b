"""What precoders that are not made afresh every slot are worth while users move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.channels.trajectory import Flight
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr, rates

_SLOTS_AT_A_TIME = 256


@dataclass(frozen=True)
class Timeline:
    """What the users of a flight got, slot by slot.

    rate: log2(1 + SINR) with the precoders in use, bps/Hz, float64 (slots, users).
    near_field: the scheme's labels, as old as its precoders, bool (slots, users).
    outage: the rate is below ``min_rate``, bool (slots, users); never, where no rate is demanded.
    """

    rate: Tensor
    near_field: Tensor
    outage: Tensor

    @property
    def sum_rate(self) -> Tensor:
        """Bps/Hz, float64 (slots,)."""
        return self.rate.sum(-1)


def timeline(
    flight: Flight,
    scheme: Scheme,
    budget: LinkBudget,
    refresh: int = 1,
    advance: Callable[[int], None] = lambda slots: None,
) -> Timeline:
    """The flight with precoders refreshed every ``refresh`` slots: slot s is sent with those of slot s - s % refresh.

    Precoders come from the channel as it was, SINRs from the channel as it is, by their definition.

    budget: numbers, one for all slots. advance(slots): how many are done by now.
    Raises ValueError if refresh is less than 1, and for a scheme whose receivers need SIC: what they cancel would count
    as interference here.
    """
    if refresh < 1:
        raise ValueError(f"precoders can be refreshed every 1, 2, ... slots, not every {refresh}")
    slots = len(flight.channels)
    span = refresh * max(1, _SLOTS_AT_A_TIME // refresh)
    rate, labels = [], []
    for start in range(0, slots, span):
        channels = flight.channels[start : start + span]
        answer = scheme(ChannelBatch(channels[::refresh]), budget)
        if answer.needs_sic:
            raise ValueError("a timeline's receivers don't cancel other users' messages (SIC): take another scheme")
        used = torch.arange(len(channels)) // refresh
        labels.append(answer.near_field.cpu()[used])
        precoder, power = answer.precoder.cpu(), answer.power.cpu()
        for first in range(0, len(channels), _SLOTS_AT_A_TIME):
            now = slice(first, first + _SLOTS_AT_A_TIME)
            held = used[now]
            rate.append(rates(achieved_sinr(channels[now], precoder[held], power[held], budget.noise_power)))
        advance(min(start + span, slots))
    rates_got = torch.cat(rate)
    return Timeline(rates_got, torch.cat(labels), rates_got < budget.min_rate)
