"""Measure the invariance to the order of users and to their phases."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from reach_table.drops import (
    ALL_CONSTRAINTS,
)
from reach_table.measuring import (
    Bench,
    Row,
    generator,
    run_points,
)
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import TOLERANCE
from simulator.downlink.precoding import ChannelBatch


def invariance(bench: Bench) -> list[Row]:
    """Measure permuted users and rotated phases, with and without C3 and C4; K = 2 has ties between users."""
    points = [
        (users, name, budget)
        for users in (2, 10, 16)
        for name, budget in (("no C3/C4", LinkBudget()), ("C3, C4", ALL_CONSTRAINTS))
    ]

    def one(index: int, users: int, name: str, budget: LinkBudget) -> Row:
        return invariance_row(bench, users, name, budget, 600 + index)

    return run_points("invariance", [partial(one, index, *point) for index, point in enumerate(points)])


def invariance_row(bench: Bench, users: int, name: str, budget: LinkBudget, point: int) -> Row:
    """Measure the largest change of precoder, power and rate after the permutation or rotation is undone."""
    draw = generator(point + 50)
    keys = ("permuted_precoder", "permuted_power", "permuted_rate", "turned_rate", "quarter_turned_rate")
    worst = dict.fromkeys(keys, 0.0)
    changed = 0

    def note(key: str, difference: Tensor) -> Tensor:
        size = difference.abs().flatten(1).amax(-1)
        worst[key] = max(worst[key], float(size.max()))
        return size > TOLERANCE

    for batch in bench.blocks(scenario("paper", users), point):
        channels = batch.channels
        plain = bench.engine(batch, budget)
        order = torch.rand(channels.shape[:2], generator=draw).argsort(-1).to(channels.device)
        order_of_rows = order.unsqueeze(-1).expand_as(channels)
        permuted = bench.engine(ChannelBatch(channels.gather(1, order_of_rows)), budget)
        phase = 2 * math.pi * torch.rand(*channels.shape[:2], 1, generator=draw)
        phasor = torch.polar(torch.ones_like(phase), phase).to(channels.device)
        turned = bench.engine(ChannelBatch(channels * phasor), budget)
        # Multiples of 90 degrees round nothing: the change left is the algorithm's own.
        quarter = torch.tensor([1, 1j, -1, -1j], dtype=torch.complex64)[(phase * 2 / math.pi).long() % 4]
        quarter_turned = bench.engine(ChannelBatch(channels * quarter.to(channels.device)), budget)
        off = note("permuted_precoder", permuted.precoder - plain.precoder.gather(1, order_of_rows))
        off |= note("permuted_power", permuted.power - plain.power.gather(1, order))
        off |= note("permuted_rate", permuted.rate - plain.rate.gather(1, order))
        off |= note("turned_rate", turned.rate - plain.rate)
        off |= note("quarter_turned_rate", quarter_turned.rate - plain.rate)
        changed += int(off.sum())
    largest = max(worst.values())
    return Row(
        "invariance",
        f"users permuted, phases turned: largest change, K = {users}, {name}",
        f"≤ {TOLERANCE:.0e}",
        f"{largest:.1e}",
        largest <= TOLERANCE,
        ", ".join(f"{key.replace('_', ' ')} {value:.1e}" for key, value in worst.items())
        + f"; {changed} of {bench.drops} drops beyond",
        {**worst, "drops_beyond": changed, "drops": bench.drops},
    )
