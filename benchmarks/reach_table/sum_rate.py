"""Measure the sum rate over that of WMMSE: users, conditions, channels of Sionna."""

from __future__ import annotations

from functools import lru_cache, partial

import torch
from torch import Tensor

from reach_table.drops import (
    published,
)
from reach_table.measuring import (
    SEED,
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
from simulator.channels.sources import channels as source_channels
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import TOLERANCE
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.schemes.rzf import rzf
from simulator.schemes.wmmse import wmmse

CLASSICAL: dict[str, Scheme] = {
    "wmmse-200": wmmse,
    "wmmse-20": partial(wmmse, iterations=20),
    "rzf": rzf,
}


def sum_rate_row(bench: Bench, line: str, what: str, target: float, batches: Batches) -> Row:
    """Measure the mean sum rate over that of WMMSE-200, without C3 and C4; ``target`` is a fraction."""
    found = compare(bench, batches, CLASSICAL)
    ours, best = found["nflae"], found["wmmse-200"].sum_rate
    value, half = ratio(ours.sum_rate, best)
    figures = {
        "ratio": value,
        "low95": value - half,
        "high95": value + half,
        "rzf": ratio(found["rzf"].sum_rate, best)[0],
        "wmmse20": ratio(found["wmmse-20"].sum_rate, best)[0],
        "fallback": float(ours.fallback.double().mean()),
        "mean_sum_rate": float(ours.sum_rate.mean()),
        "drops": len(best),
    }
    beside = (
        f"± {100 * half:.2f}; RZF {percent(figures['rzf'])}; WMMSE-20 {percent(figures['wmmse20'])}; "
        f"fallback {percent(figures['fallback'])}; {figures['mean_sum_rate']:.2f} bps/Hz"
    )
    return Row(line, what, f"≥ {100 * target:.1f} %", percent(value), value >= target, beside, figures)


def published_users(bench: Bench) -> list[Row]:
    """Measure K = 5, 8, 10, 16 at N = 256, 20 dB, unit-norm channels."""
    points = ((5, 1.0), (8, 1.0), (10, 0.999), (16, 0.997))

    def one(users: int, target: float) -> Row:
        what = f"sum rate / WMMSE-200, N = 256, 20 dB, K = {users}"
        return sum_rate_row(bench, "users", what, target, published(bench, users, 256, 20, users))

    return run_points("users", [partial(one, *point) for point in points])


def published_conditions(bench: Bench) -> list[Row]:
    """Measure K = 10 at other SNRs, other N, and with CSI in another unit."""
    points = ((256, 0.0), (256, 10.0), (256, 30.0), (64, 20.0), (128, 20.0), (512, 20.0))

    def one(index: int, antennas: int, snr_db: float) -> Row:
        what = f"sum rate / WMMSE-200, K = 10, N = {antennas}, {snr_db:.0f} dB"
        batches = published(bench, 10, antennas, snr_db, 20 + index)
        return sum_rate_row(bench, "conditions", what, 0.998, batches)

    steps = [partial(one, index, *point) for index, point in enumerate(points)]
    return run_points("conditions", [*steps, partial(rescaled, bench)])


def rescaled(bench: Bench) -> Row:
    """Measure K = 10, N = 256, 20 dB with CSI times 1e-6 and noise power times 1e-12, against the original.

    Changes of a user's rate R relative to max(R, 1 bps/Hz). The factor 1e-6 rounds every coefficient anew;
    2^-20 rounds none and shows the effect of the algorithm itself.
    """
    worst = {1e-6: 0.0, 2.0**-20: 0.0}
    served, reference = [], []
    for batch, budget in published(bench, 10, 256, 20, 10):
        whole = user_rates(bench.engine(batch, budget), batch.channels, budget)
        for scale in worst:
            small, small_budget = ChannelBatch(batch.channels * scale), LinkBudget(noise_power=0.01 * scale**2)
            scaled = user_rates(bench.engine(small, small_budget), small.channels, small_budget)
            change = float(((scaled - whole).abs() / whole.clamp(min=1)).max())
            worst[scale] = max(worst[scale], change)
            if scale == 1e-6:
                served.append(scaled.sum(-1))
        reference.append(user_rates(wmmse(batch, budget), batch.channels, budget).sum(-1))
    value, half = ratio(torch.cat(served), torch.cat(reference))
    change, exact = worst.values()
    return Row(
        "conditions",
        "the same, K = 10, N = 256, 20 dB, CSI scaled by 1e-6",
        "≥ 99.8 %; scale changes nothing",
        f"{percent(value)}; {change:.1e}",
        value >= 0.998 and change <= TOLERANCE,
        f"± {100 * half:.2f}; largest relative change of a user's rate {change:.1e} (scaled by 2^-20: {exact:.1e})",
        {
            "ratio": value,
            "low95": value - half,
            "high95": value + half,
            "worst_change": change,
            "worst_change_exact": exact,
            "drops": len(torch.cat(served)),
        },
    )


@lru_cache(maxsize=1)
def sionna_channels(family: str, users: int, antennas: int, drops: int, index: int) -> Tensor:
    """Generate the channels of one point, kept for its SNRs."""
    seed = SEED + 1000 + 100 * index
    return torch.from_numpy(source_channels(family.lower(), drops=drops, users=users, antennas=antennas, seed=seed))


def sionna_row(bench: Bench, family: str, users: int, antennas: int, index: int, snr_db: float) -> Row:
    """Measure channels of Sionna PHY at one point and SNR."""
    budget = LinkBudget(noise_power=10 ** (-snr_db / 10))
    what = f"sum rate / WMMSE-200, Sionna {family}, K = {users}, N = {antennas}, {snr_db} dB"
    channels = sionna_channels(family, users, antennas, bench.drops, index)
    return sum_rate_row(bench, "sionna", what, 0.995, ((batch, budget) for batch in bench.split(channels)))


def sionna(bench: Bench) -> list[Row]:
    """Measure channels of Sionna PHY, UMi and CDL: each point, then the worst and the mean."""
    points = [(family, users, antennas) for family in ("UMi", "CDL") for users in (4, 8) for antennas in (64, 128)]
    steps: list[Point] = []
    for index, (family, users, antennas) in enumerate(points):
        steps += [partial(sionna_row, bench, family, users, antennas, index, snr_db) for snr_db in (5, 15, 25)]
    rows = run_points("sionna", steps)
    values = [row.figures["ratio"] for row in rows]
    rzf_ratios = [row.figures["rzf"] for row in rows]
    mean, worst = sum(values) / len(values), min(values)
    summary = Row(
        "sionna",
        f"the same, worst of {len(rows)} points",
        "≥ 99.5 %",
        percent(worst),
        worst >= 0.995,
        f"mean {percent(mean)}; RZF {percent(min(rzf_ratios))} to {percent(max(rzf_ratios))}",
        {"ratio": worst, "mean_ratio": mean, "rzf": min(rzf_ratios)},
    )
    return [*rows, summary]
