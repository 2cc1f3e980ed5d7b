"""Measure drops at the edge: one user, identical users, rank-deficient channels."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch

from reach_table.drops import (
    identical_users,
    mixed_noise,
    rank_deficient,
)
from reach_table.measuring import (
    Batches,
    Bench,
    Point,
    Row,
    compare,
    percent,
    ratio,
    run_points,
    user_rates,
)
from reach_table.sum_rate import CLASSICAL
from simulator.channels.scenario import scenario
from simulator.downlink.budget import per_drop
from simulator.downlink.constraints import TOLERANCE
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import rates
from simulator.schemes.rzf import rzf


def edge(bench: Bench) -> list[Row]:
    """Check that answers for one user, identical users and rank-deficient channels are finite and not below RZF."""
    families: list[tuple[str, Batches]] = [
        ("identical users (all, or in pairs), K = 2, 4, 8", identical_users(bench)),
        ("rank-deficient channels (K = 8 of rank 3; K = 16, N = 8)", rank_deficient(bench)),
    ]
    steps: list[Point] = [partial(one_user, bench)]
    steps += [partial(never_below_rzf, bench, what, batches) for what, batches in families]
    return run_points("edge", steps)


def one_user(bench: Bench) -> Row:
    """Check K = 1: the rate is log2(1 + a P ||h||^2 / sigma^2), with a = alpha_c for a near-field user, else 1."""
    worst, margin, drops, broken = 0.0, math.inf, 0, 0
    for alpha_c in (1.0, 0.4):
        for batch in bench.blocks(scenario("uav", 1), 200, bench.drops // 2):
            budget = replace(mixed_noise(len(batch.channels), 201), alpha_c=alpha_c)
            ours = bench.engine(batch, budget)
            served = user_rates(ours, batch.channels, budget)
            snr = batch.channels.abs().double().square().sum(-1) / per_drop(budget.noise_power, served).unsqueeze(-1)
            expected = rates(torch.where(ours.near_field, alpha_c, 1.0) * snr)
            labelled = ChannelBatch(batch.channels, ours.near_field)
            baseline = user_rates(rzf(labelled, budget), batch.channels, budget)
            worst = max(worst, float((served - expected).abs().max()))
            margin = min(margin, float((served / baseline - 1).min()))
            drops += len(served)
            broken += int((~served.isfinite()).sum())
    return Row(
        "edge",
        "one user (K = 1), -5 to 40 dB, alpha_c = 1 and 0.4",
        "log2(1 + SNR), finite, ≥ RZF",
        f"off by {worst:.1e} bps/Hz; worst margin over RZF {100 * margin:.1e} %; {broken} not finite",
        worst <= TOLERANCE and margin >= -TOLERANCE and broken == 0,
        f"{drops} drops",
        {"worst_error": worst, "worst_margin": margin, "not_finite": broken, "drops": drops},
    )


def never_below_rzf(bench: Bench, what: str, batches: Batches) -> Row:
    """Measure the worst ratio to the sum rate of RZF on drops where neither or both meet C4."""
    found = compare(bench, batches, {"rzf": rzf, "wmmse-200": CLASSICAL["wmmse-200"]})
    ours, baseline = found["nflae"], found["rzf"]
    comparable = ours.feasible == baseline.feasible
    margin = float((ours.sum_rate / baseline.sum_rate - 1)[comparable].min())
    below = int(((ours.sum_rate < baseline.sum_rate * (1 - TOLERANCE)) & comparable).sum())
    below += int((baseline.feasible & ~ours.feasible).sum())
    broken = int((~ours.finite).sum())
    fallback = float(ours.fallback.double().mean())
    value, _ = ratio(ours.sum_rate, found["wmmse-200"].sum_rate)
    return Row(
        "edge",
        what,
        "finite, ≥ RZF",
        f"worst margin over RZF {100 * margin:.1e} %; {below} below; {broken} not finite",
        below == 0 and broken == 0,
        f"{len(comparable)} drops; {percent(value)} of WMMSE-200; fallback {percent(fallback)}",
        {
            "worst_margin": margin,
            "below": below,
            "not_finite": broken,
            "ratio": value,
            "fallback": fallback,
            "drops": len(comparable),
        },
    )
