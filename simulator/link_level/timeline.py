"""Evaluate the rates of moving users under precoders that are refreshed once in several slots."""

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
    """Hold the rates of the users of a flight, slot by slot.

    Parameters
    ----------
    rate
        log2(1 + SINR) with the precoders in use, bps/Hz, float64 (slots, users).
    near_field
        The scheme's labels, as old as its precoders, bool (slots, users).
    outage
        Whether the rate is below ``min_rate``, bool (slots, users); false without a minimum rate.
    """

    rate: Tensor
    near_field: Tensor
    outage: Tensor

    @property
    def sum_rate(self) -> Tensor:
        """Sum rate, bps/Hz, float64 (slots,)."""
        return self.rate.sum(-1)


def timeline(
    flight: Flight,
    scheme: Scheme,
    budget: LinkBudget,
    refresh: int = 1,
    advance: Callable[[int], None] = lambda slots: None,
) -> Timeline:
    """Evaluate a scheme on a flight with precoders refreshed every ``refresh`` slots.

    Slot s is transmitted with the precoders computed from the channels of slot s - s % refresh; its SINRs follow by
    definition from the channels of slot s.

    Parameters
    ----------
    flight
        Channels slot by slot.
    scheme
        Precoding scheme.
    budget
        Link budget, numbers common to all slots.
    refresh
        Slots between refreshes, >= 1.
    advance
        Called with the number of slots completed.

    Returns
    -------
    Timeline
        Rates, labels and outages.

    Raises
    ------
    ValueError
        If ``refresh`` is less than 1, or if the scheme's receivers need SIC: the messages they cancel would count as
        interference here.
    """
    if refresh < 1:
        raise ValueError(f"precoders can be refreshed every 1, 2, ... slots, not every {refresh}")
    slots = len(flight.channels)
    span = refresh * max(1, _SLOTS_AT_A_TIME // refresh)
    rate, labels = [], []
    for start in range(0, slots, span):
        channels = flight.channels[start : start + span]
        precoding = scheme(ChannelBatch(channels[::refresh]), budget)
        if precoding.needs_sic:
            raise ValueError("a timeline has no receivers with SIC, which this scheme needs: choose another scheme")
        used = torch.arange(len(channels)) // refresh
        labels.append(precoding.near_field.cpu()[used])
        precoder, power = precoding.precoder.cpu(), precoding.power.cpu()
        for first in range(0, len(channels), _SLOTS_AT_A_TIME):
            part = slice(first, first + _SLOTS_AT_A_TIME)
            source = used[part]
            rate.append(rates(achieved_sinr(channels[part], precoder[source], power[source], budget.noise_power)))
        advance(min(start + span, slots))
    all_rates = torch.cat(rate)
    return Timeline(all_rates, torch.cat(labels), all_rates < budget.min_rate)
