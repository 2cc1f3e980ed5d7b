"""How far a model reaches: every line of the table in docs/explanation/models.md but the memory line, measured.

    python benchmarks/reach.py --model tiny --drops 1000 -o OUT.md [--refine r] [--only LINE ...] [--quick]

Prints a Markdown table and writes it to OUT.md, with all figures in OUT.csv beside it. Drops are fresh: seeds start
at 31 415 926 000, which neither training nor validation uses (modulo 2^32 too, all that torch's CPU generator keeps
of a seed), and each point has a seed of its own, so `--only` measures on the same drops as a full run.

All rates are recomputed from the precoders and powers a scheme returned, never taken from what it claims; ratios are
of mean sum rates, with a 95 % interval from the drops' paired values. Rivals go by the labels our engine returns.
A figure is met if the measured value, unrounded, reaches the target.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from simulator.channels.csi import noisy_csi
from simulator.channels.scenario import Scenario, scenario
from simulator.channels.sources import channels as source_channels
from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.constraints import TOLERANCE, check_constraints
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.geometry.localization import most_likely_labels
from simulator.geometry.near_field import far_field_test
from simulator.schemes.rzf import rzf
from simulator.schemes.wmmse import wmmse

SEED = 31_415_926_000
BLOCK = 250  # drops at once
CSI_SNR_DB = (0, 5, 10, 15, 20)

Batches = Iterable[tuple[ChannelBatch, LinkBudget]]


@dataclass(frozen=True)
class Row:
    """A line of the table. met: None where there is nothing to reach. figures: further columns of the CSV."""

    line: str
    what: str
    target: str
    measured: str
    met: bool | None = None
    beside: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What every line needs. drops: a point's number of drops; optimiser_drops: where the optimiser is the rival."""

    engine: Engine
    drops: int
    optimiser_drops: int
    progress: Progress

    def blocks(self, scene: Scenario, point: int, drops: int | None = None) -> Iterator[ChannelBatch]:
        """Drops of a scenario without labels, in blocks; ``point`` chooses the seed."""
        for drawn in scene.stream(drops or self.drops, generator(point), BLOCK):
            yield ChannelBatch(drawn.channels.to(self.engine.device))

    def split(self, channels: Tensor) -> Iterator[ChannelBatch]:
        """Channels of many drops in blocks."""
        for block in torch.split(channels, BLOCK):
            yield ChannelBatch(block.to(self.engine.device))


@dataclass(frozen=True)
class Outcome:
    """A scheme's answers, one value a drop: sum rates recomputed from precoder and power, and its flags."""

    sum_rate: Tensor
    claimed: Tensor
    feasible: Tensor
    fallback: Tensor

    @property
    def finite(self) -> Tensor:
        """Bool (drops,)."""
        return self.sum_rate.isfinite() & self.claimed.isfinite()


def generator(point: int) -> torch.Generator:
    """The generator of a point; points 1 apart have unrelated drops."""
    return torch.Generator().manual_seed(SEED + point)


# --- Measuring -------------------------------------------------------------------------------------------------


def compare(bench: Bench, batches: Batches, rivals: Mapping[str, Scheme]) -> dict[str, Outcome]:
    """Run our engine (``nflae``), then the rivals with the labels it returned, on the same drops."""
    parts: dict[str, list[Outcome]] = {name: [] for name in ("nflae", *rivals)}
    for batch, budget in batches:
        ours = bench.engine(batch, budget)
        parts["nflae"].append(outcome(ours, batch, budget))
        labelled = ChannelBatch(batch.channels, ours.near_field)
        for name, scheme in rivals.items():
            parts[name].append(outcome(scheme(labelled, budget), batch, budget))
    return {
        name: Outcome(
            torch.cat([o.sum_rate for o in outcomes]),
            torch.cat([o.claimed for o in outcomes]),
            torch.cat([o.feasible for o in outcomes]),
            torch.cat([o.fallback for o in outcomes]),
        )
        for name, outcomes in parts.items()
    }


def user_rates(result: Precoding, channels: Tensor, budget: LinkBudget) -> Tensor:
    """The users' rates from the answer alone, float64 (drops, users), bps/Hz."""
    return rates(achieved_sinr(channels, result.precoder, result.power, budget.noise_power))


def outcome(result: Precoding, batch: ChannelBatch, budget: LinkBudget) -> Outcome:
    """An answer's sum rates and flags, on the CPU."""
    served = user_rates(result, batch.channels, budget).sum(-1)
    return Outcome(served.cpu(), result.sum_rate.cpu(), result.feasible.cpu(), result.fallback.cpu())


def ratio(ours: Tensor, reference: Tensor) -> tuple[float, float]:
    """mean(ours) / mean(reference) over paired drops, and half its 95 % interval (delta method)."""
    value = float(ours.mean() / reference.mean())
    deviation = float((ours - value * reference).std()) if len(ours) > 1 else 0.0
    return value, 1.96 * deviation / math.sqrt(len(ours)) / float(reference.mean())


def percent(share: float) -> str:
    """A share as the table shows it."""
    return f"{100 * share:.2f} %"


def in_turn(line: str, points: Iterable[Point], bench: Bench) -> list[Row]:
    """The rows of several points, with a progress bar."""
    listed = list(points)
    return [point() for point in bench.progress.track(listed, description=line)]


Point = Callable[[], Row]


# --- Sum rate over WMMSE ---------------------------------------------------------------------------------------

CLASSICAL: dict[str, Scheme] = {
    "wmmse-200": wmmse,
    "wmmse-20": partial(wmmse, iterations=20),
    "rzf": rzf,
}


def sum_rate_row(bench: Bench, line: str, what: str, target: float, batches: Batches) -> Row:
    """Mean sum rate over WMMSE-200's; target: a share. Without C3 and C4."""
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


def published(bench: Bench, users: int, antennas: int, snr_db: float, point: int) -> Batches:
    """Scenario ``paper`` without C3 and C4, P = 1."""
    budget = LinkBudget(noise_power=10 ** (-snr_db / 10))
    return ((batch, budget) for batch in bench.blocks(scenario("paper", users, antennas), point))


def published_users(bench: Bench) -> list[Row]:
    """N = 256, 20 dB, unit-norm channels: K = 5, 8, 10, 16."""
    points = ((5, 1.0), (8, 1.0), (10, 0.999), (16, 0.997))

    def one(users: int, target: float) -> Row:
        what = f"sum rate / WMMSE-200, N = 256, 20 dB, K = {users}"
        return sum_rate_row(bench, "users", what, target, published(bench, users, 256, 20, users))

    return in_turn("users", [partial(one, *point) for point in points], bench)


def published_conditions(bench: Bench) -> list[Row]:
    """K = 10 at other SNRs, other N, and CSI in another unit."""
    points = ((256, 0.0), (256, 10.0), (256, 30.0), (64, 20.0), (128, 20.0), (512, 20.0))

    def one(index: int, antennas: int, snr_db: float) -> Row:
        what = f"sum rate / WMMSE-200, K = 10, N = {antennas}, {snr_db:.0f} dB"
        batches = published(bench, 10, antennas, snr_db, 20 + index)
        return sum_rate_row(bench, "conditions", what, 0.998, batches)

    steps = [partial(one, index, *point) for index, point in enumerate(points)]
    return in_turn("conditions", [*steps, partial(rescaled, bench)], bench)


def rescaled(bench: Bench) -> Row:
    """The drops of K = 10, N = 256, 20 dB with CSI times 1e-6 and noise times 1e-12, against those in volts.

    Changes of a user's rate R relative to max(R, 1 bps/Hz). Times 1e-6 rounds every coefficient anew; times 2^-20
    rounds none, and shows what the algorithm itself does.
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


def sionna(bench: Bench) -> list[Row]:
    """Sionna PHY's UMi and CDL: each point, then the worst and the mean."""
    points = [(family, users, antennas) for family in ("UMi", "CDL") for users in (4, 8) for antennas in (64, 128)]
    rows: list[Row] = []
    for index, (family, users, antennas) in enumerate(bench.progress.track(points, description="sionna")):
        size = {"drops": bench.drops, "users": users, "antennas": antennas}
        channels = torch.from_numpy(source_channels(family.lower(), **size, seed=SEED + 1000 + 100 * index))
        for snr_db in (5, 15, 25):
            budget = LinkBudget(noise_power=10 ** (-snr_db / 10))
            what = f"sum rate / WMMSE-200, Sionna {family}, K = {users}, N = {antennas}, {snr_db} dB"
            batches = ((batch, budget) for batch in bench.split(channels))
            rows.append(sum_rate_row(bench, "sionna", what, 0.995, batches))
    values = [row.figures["ratio"] for row in rows]
    textbook = [row.figures["rzf"] for row in rows]
    mean, worst = sum(values) / len(values), min(values)
    summary = Row(
        "sionna",
        f"the same, worst of {len(rows)} points",
        "≥ 99.5 %",
        percent(worst),
        worst >= 0.995,
        f"mean {percent(mean)}; RZF {percent(min(textbook))} to {percent(max(textbook))}",
        {"ratio": worst, "mean_ratio": mean, "rzf": min(textbook)},
    )
    return [*rows, summary]


# --- Drops at the edge -----------------------------------------------------------------------------------------


def edge(bench: Bench) -> list[Row]:
    """One user, identical users, rank-deficient channels: finite, and never below RZF."""
    families: list[tuple[str, Batches]] = [
        ("identical users (all, or in pairs), K = 2, 4, 8", identical_users(bench)),
        ("rank-deficient channels (K = 8 of rank 3; K = 16, N = 8)", rank_deficient(bench)),
    ]
    steps: list[Point] = [partial(one_user, bench)]
    steps += [partial(never_below_rzf, bench, what, batches) for what, batches in families]
    return in_turn("edge", steps, bench)


def one_user(bench: Bench) -> Row:
    """K = 1: the rate must be log2(1 + share P ||h||^2 / sigma^2), the share being alpha_c for a near-field user."""
    worst, margin, drops, broken = 0.0, math.inf, 0, 0
    for alpha_c in (1.0, 0.4):
        for batch in bench.blocks(scenario("uav", 1), 200, bench.drops // 2):
            budget = replace(mixed_noise(len(batch.channels), 201), alpha_c=alpha_c)
            ours = bench.engine(batch, budget)
            served = user_rates(ours, batch.channels, budget)
            snr = batch.channels.abs().double().square().sum(-1) / per_drop(budget.noise_power, served).unsqueeze(-1)
            expected = rates(torch.where(ours.near_field, alpha_c, 1.0) * snr)
            labelled = ChannelBatch(batch.channels, ours.near_field)
            textbook = user_rates(rzf(labelled, budget), batch.channels, budget)
            worst = max(worst, float((served - expected).abs().max()))
            margin = min(margin, float((served / textbook - 1).min()))
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
    """The worst drop's sum rate over RZF's, where neither or both meet C4."""
    found = compare(bench, batches, {"rzf": rzf, "wmmse-200": CLASSICAL["wmmse-200"]})
    ours, textbook = found["nflae"], found["rzf"]
    alike = ours.feasible == textbook.feasible
    margin = float((ours.sum_rate / textbook.sum_rate - 1)[alike].min())
    below = int(((ours.sum_rate < textbook.sum_rate * (1 - TOLERANCE)) & alike).sum())
    below += int((textbook.feasible & ~ours.feasible).sum())
    broken = int((~ours.finite).sum())
    value, _ = ratio(ours.sum_rate, found["wmmse-200"].sum_rate)
    return Row(
        "edge",
        what,
        "finite, ≥ RZF",
        f"worst margin over RZF {100 * margin:.1e} %; {below} below; {broken} not finite",
        below == 0 and broken == 0,
        f"{len(alike)} drops; {percent(value)} of WMMSE-200; fallback {percent(float(ours.fallback.double().mean()))}",
        {
            "worst_margin": margin,
            "below": below,
            "not_finite": broken,
            "ratio": value,
            "fallback": float(ours.fallback.double().mean()),
            "drops": len(alike),
        },
    )


def mixed_noise(drops: int, point: int) -> LinkBudget:
    """-5 to 40 dB, a value a drop."""
    decibel = -5 + 45 * torch.rand(drops, generator=generator(point), dtype=torch.float64)
    return LinkBudget(noise_power=10 ** (-decibel / 10))


def identical_users(bench: Bench) -> Batches:
    """Drops whose users are copies of one, or pairs of copies, each with a phase of its own."""
    for index, users in enumerate((2, 4, 8)):
        for paired in (False, True):
            point = 210 + 10 * index + paired
            different = max(1, users // 2) if paired else 1
            draw = generator(point + 5)
            for batch in bench.blocks(scenario("paper", different), point, max(1, bench.drops // 6)):
                copies = batch.channels.repeat(1, users // different, 1)
                phase = 2 * math.pi * torch.rand(*copies.shape[:2], 1, generator=draw)
                turned = copies * torch.polar(torch.ones_like(phase), phase).to(copies.device)
                yield ChannelBatch(turned), mixed_noise(len(turned), point + 7)


def rank_deficient(bench: Bench) -> Batches:
    """Gaussian channels in a subspace, and more users than antennas; half of the drops with C3 and C4."""
    for index, (users, rank, antennas) in enumerate(((8, 3, 64), (16, 8, 8))):
        draw = generator(250 + index)
        for batch in bench.split(low_rank(bench.drops // 2, users, rank, antennas, draw)):
            budget = mixed_noise(len(batch.channels), 260 + index)
            half = torch.arange(len(batch.channels)) % 2 == 0
            yield (
                batch,
                replace(
                    budget,
                    alpha_c=torch.where(half, 0.4, 1.0).double(),
                    min_rate=torch.where(half, 0.1, 0.0).double(),
                ),
            )


def low_rank(drops: int, users: int, rank: int, antennas: int, draw: torch.Generator) -> Tensor:
    """Complex Gaussian combinations of ``rank`` Gaussian vectors, mean ||h||^2 = 1."""

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.complex64)

    return gaussian(drops, users, rank) @ gaussian(drops, rank, antennas) / math.sqrt(rank * antennas)


# --- Under all constraints -------------------------------------------------------------------------------------


def constrained(users: int, angle: str) -> Scenario:
    """Scenario ``paper``, N = 256, with signed angles or the published, absolute ones."""
    scene = scenario("paper", users)
    return scene if angle == "signed" else replace(scene, angle="absolute")


ALL_CONSTRAINTS = LinkBudget(alpha_c=0.4, min_rate=0.6)
CONSTRAINED_POINTS = tuple((users, angle) for angle in ("signed", "absolute") for users in (8, 10))


def optimiser(bench: Bench) -> list[Row]:
    """Over the per-drop optimiser, on the drops both meet C4 on."""

    def one(index: int, users: int, angle: str) -> Row:
        blocks = bench.blocks(constrained(users, angle), 300 + index, bench.optimiser_drops)
        rivals: dict[str, Scheme] = {"optimiser": optimise, "wmmse-200": CLASSICAL["wmmse-200"], "rzf": rzf}
        found = compare(bench, ((batch, ALL_CONSTRAINTS) for batch in blocks), rivals)
        return optimiser_row(found, f"K = {users}, {angle} angles")

    steps = [partial(one, index, *point) for index, point in enumerate(CONSTRAINED_POINTS)]
    return in_turn("optimiser", steps, bench)


def optimiser_row(found: Mapping[str, Outcome], where: str) -> Row:
    """Means over the drops that both call feasible; how many each flags."""
    ours, best = found["nflae"], found["optimiser"]
    both = ours.feasible & best.feasible
    value, half = ratio(ours.sum_rate[both], best.sum_rate[both])
    flagged, its = int((~ours.feasible).sum()), int((~best.feasible).sum())
    given_up = int((best.feasible & ~ours.feasible).sum())
    beside = [f"± {100 * half:.2f}", f"optimiser {float(best.sum_rate[both].mean()):.2f} bps/Hz"]
    figures = {
        "ratio": value,
        "low95": value - half,
        "high95": value + half,
        "optimiser_sum_rate": float(best.sum_rate[both].mean()),
        "drops": len(both),
        "both_feasible": int(both.sum()),
        "infeasible": flagged,
        "infeasible_optimiser": its,
        "given_up": given_up,
        "fallback": float(ours.fallback.double().mean()),
    }
    for name in ("wmmse-200", "rzf"):
        three = both & found[name].feasible
        figures[name] = ratio(found[name].sum_rate[three], best.sum_rate[three])[0]
        missed = int((~found[name].feasible).sum())
        beside.append(f"{name} {percent(figures[name])} ({missed} infeasible)")
    beside.append(f"infeasible: ours {flagged}, optimiser {its} of {len(both)}, {given_up} ours alone")
    beside.append(f"fallback {percent(figures['fallback'])}")
    return Row(
        "optimiser",
        f"sum rate / per-drop optimiser, alpha_c = 0.4, R_min = 0.6, {where}",
        "≥ 99.0 %",
        percent(value),
        value >= 0.99,
        "; ".join(beside),
        figures,
    )


CONSTRAINT_NAMES = {"C1": "total_power", "C2": "negative_power", "C3": "near_share", "C5": "beam_norm"}


def constraints(bench: Bench) -> list[Row]:
    """Violations of C1-C5 on the constrained drops and on a random mixture."""

    def runs() -> Batches:
        for index, point in enumerate(CONSTRAINED_POINTS):
            for batch in bench.blocks(constrained(*point), 300 + index):
                yield batch, ALL_CONSTRAINTS

    steps: list[Point] = [
        partial(violations, bench, "the constrained drops above", runs()),
        partial(violations, bench, "random mixture: K 1-16, N 8-512, C3, C4, -5 to 35 dB", mixture(bench)),
    ]
    return in_turn("constraints", steps, bench)


def violations(bench: Bench, where: str, batches: Batches) -> Row:
    """Drops on which a constraint fails by more than the tolerance; C4 where the drop isn't flagged infeasible."""
    counts = dict.fromkeys((*CONSTRAINT_NAMES, "C4"), 0)
    worst = dict.fromkeys(counts, 0.0)
    drops = infeasible = broken = 0
    off = 0.0
    for batch, budget in batches:
        ours = bench.engine(batch, budget)
        held = check_constraints(batch.channels, ours.precoder, ours.power, ours.near_field, budget)
        excess = {name: getattr(held, attribute) for name, attribute in CONSTRAINT_NAMES.items()}
        excess["C4"] = torch.where(ours.feasible, held.min_rate, 0.0)
        for name, amount in excess.items():
            counts[name] += int((~(amount <= TOLERANCE)).sum())  # NaN counts
            worst[name] = max(worst[name], float(amount.max()))
        off = max(off, float((ours.rate - user_rates(ours, batch.channels, budget)).abs().max()))
        drops += len(ours.feasible)
        infeasible += int((~ours.feasible).sum())
        broken += int((~ours.sum_rate.isfinite()).sum())
    total = sum(counts.values())
    figures = {f"{name}_violated": float(count) for name, count in counts.items()}
    figures |= {f"{name}_worst": amount for name, amount in worst.items()}
    figures |= {"drops": drops, "infeasible": infeasible, "not_finite": broken, "claimed_off": off}
    return Row(
        "constraints",
        f"C1, C2, C3, C5 violated; C4 on a drop not flagged: {where}",
        "0; 0",
        f"{total - counts['C4']}; {counts['C4']}",
        total == 0 and broken == 0,
        f"{drops} drops, {infeasible} flagged infeasible, {broken} not finite; worst "
        + ", ".join(f"{name} {amount:.0e}" for name, amount in worst.items())
        + f"; rates returned differ from recomputed by {off:.0e} bps/Hz at most",
        figures,
    )


def mixture(bench: Bench) -> Batches:
    """Five times the drops, 25 at a time: each time another K, N and kind of channel, each drop another budget."""
    draw = generator(400)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=draw, dtype=torch.float64)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=draw))

    size = 25
    for turn in range(max(4, 5 * bench.drops // size)):
        users, antennas = integer(1, 16), (8, 16, 32, 64, 100, 128, 200, 256, 512)[integer(0, 8)]
        if turn % 4 == 3:
            channels = low_rank(size, users, integer(1, 16), antennas, draw)
        else:
            scene = (scenario("paper", users, antennas), scenario("uav", users, antennas))[turn % 2]
            channels = scene.draw(size, draw).channels
            channels = channels / torch.linalg.vector_norm(channels, dim=-1, keepdim=True)
        if turn % 4 == 2:
            channels = noisy_csi(channels, uniform(0, 20, size, 1).float(), draw)
        spread = uniform(0, 30, size, 1) * (uniform(0, 1, size, 1) < 0.5)
        channels = channels * 10 ** ((uniform(-0.5, 0.5, size, users) * spread / 20).unsqueeze(-1)).float()
        budget = LinkBudget(
            power=10 ** uniform(-1, 1, size),
            noise_power=10 ** (-uniform(-5, 35, size) / 10),
            alpha_c=uniform(0.1, 1, size),
            min_rate=uniform(0, 1, size),
        )
        yield ChannelBatch(channels.to(bench.engine.device)), budget


# --- Near or far -----------------------------------------------------------------------------------------------

NEAR_FAR_TARGETS = (0.960, 0.977, 0.989, 0.994, 0.996)


def near_far(bench: Bench) -> list[Row]:
    """Accuracy from noisy CSI at N = 256; then, to know, other N and conjugated wavefronts."""
    drawn = scenario("paper", 10, 256).draw(bench.drops, generator(500))

    def one(index: int, snr_db: int, target: float) -> Row:
        noisy = noisy_csi(drawn.channels, snr_db, generator(510 + index))
        return near_far_row(bench, noisy, drawn.near_field, snr_db, target)

    steps: list[Point] = [
        partial(one, index, snr_db, target)
        for index, (snr_db, target) in enumerate(zip(CSI_SNR_DB, NEAR_FAR_TARGETS, strict=True))
    ]
    for index, antennas in enumerate((128, 512)):
        scene = scenario("paper", 10, antennas)
        steps.append(partial(other_array, bench, scene, 530 + 20 * index, f"N = {antennas}, same region"))
        where = f"N = {antennas}, region scaled with N²"
        steps.append(partial(other_array, bench, scaled_region(scene), 540 + 20 * index, where))
    where = "N = 256, conjugated wavefronts (the other sign of time)"
    steps.append(partial(other_array, bench, scenario("paper", 10, 256), 500, where, True))
    return in_turn("near-far", steps, bench)


def near_far_row(bench: Bench, noisy: Tensor, truth: Tensor, snr_db: int, target: float) -> Row:
    """The network's accuracy at one CSI SNR beside the far-field test's and maximum likelihood's."""
    value = accuracy(labels(bench, noisy), truth)
    rivals = {
        "fft_test": accuracy(far_field_test(noisy), truth),
        "maximum_likelihood": accuracy(most_likely_labels(scenario("paper").array, noisy), truth),
    }
    half = 1.96 * math.sqrt(value * (1 - value) / truth.numel())
    return Row(
        "near-far",
        f"near/far accuracy, N = 256, {snr_db} dB an antenna",
        f"≥ {target:.3f}",
        f"{value:.4f}",
        value >= target,
        f"± {half:.4f}; maximum likelihood {rivals['maximum_likelihood']:.4f}; FFT test {rivals['fft_test']:.4f}",
        {"accuracy": value, "low95": value - half, "high95": value + half, **rivals},
    )


def other_array(bench: Bench, scene: Scenario, point: int, where: str, conjugated: bool = False) -> Row:
    """The accuracies at all CSI SNRs, with no target."""
    drawn = scene.draw(bench.drops, generator(point))
    values = []
    for index, snr_db in enumerate(CSI_SNR_DB):
        noisy = noisy_csi(drawn.channels, snr_db, generator(point + 10 + index))
        noisy = noisy.conj().resolve_conj() if conjugated else noisy
        values.append(accuracy(labels(bench, noisy), drawn.near_field))
    near = float(drawn.near_field.double().mean())
    return Row(
        "near-far",
        f"near/far accuracy, {where}, " + " / ".join(map(str, CSI_SNR_DB)) + " dB",
        "-",
        " / ".join(f"{value:.4f}" for value in values),
        None,
        f"{percent(near)} are near",
        {f"accuracy_{snr_db}": value for snr_db, value in zip(CSI_SNR_DB, values, strict=True)},
    )


def scaled_region(scene: Scenario) -> Scenario:
    """The paper's region and mast shrunk or grown with N^2, as the near field is."""
    size = (scene.array.antennas / 256) ** 2
    return replace(
        scene,
        array=replace(scene.array, height=15.0 * size),
        x_range=(0.0, 200.0 * size),
        height_range=(0.0, 30.0 * size),
    )


def labels(bench: Bench, channels: Tensor) -> Tensor:
    """The engine's labels, bool (drops, users), on the CPU."""
    return torch.cat([bench.engine.near_field(batch.channels).cpu() for batch in bench.split(channels)])


def accuracy(found: Tensor, truth: Tensor) -> float:
    """The share of users labelled rightly."""
    return float((found == truth).double().mean())


# --- Permutation and phase -------------------------------------------------------------------------------------


def invariance(bench: Bench) -> list[Row]:
    """Permuted users and turned phases, with and without C3 and C4; K = 2 has users of equal standing."""
    points = [
        (users, name, budget)
        for users in (2, 10, 16)
        for name, budget in (("no C3/C4", LinkBudget()), ("C3, C4", ALL_CONSTRAINTS))
    ]

    def one(index: int, users: int, name: str, budget: LinkBudget) -> Row:
        return invariance_row(bench, users, name, budget, 600 + index)

    return in_turn("invariance", [partial(one, index, *point) for index, point in enumerate(points)], bench)


def invariance_row(bench: Bench, users: int, name: str, budget: LinkBudget, point: int) -> Row:
    """Largest change of precoder, power share and rate once users are permuted or turned back."""
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
        wide = order.unsqueeze(-1).expand_as(channels)
        permuted = bench.engine(ChannelBatch(channels.gather(1, wide)), budget)
        phase = 2 * math.pi * torch.rand(*channels.shape[:2], 1, generator=draw)
        phasor = torch.polar(torch.ones_like(phase), phase).to(channels.device)
        turned = bench.engine(ChannelBatch(channels * phasor), budget)
        # by multiples of 90 degrees, which round nothing: what is left is the algorithm's own
        quarter = torch.tensor([1, 1j, -1, -1j], dtype=torch.complex64)[(phase * 2 / math.pi).long() % 4]
        quarter_turned = bench.engine(ChannelBatch(channels * quarter.to(channels.device)), budget)
        off = note("permuted_precoder", permuted.precoder - plain.precoder.gather(1, wide))
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


# --- The table -------------------------------------------------------------------------------------------------

LINES: dict[str, Callable[[Bench], list[Row]]] = {
    "users": published_users,
    "conditions": published_conditions,
    "sionna": sionna,
    "edge": edge,
    "optimiser": optimiser,
    "constraints": constraints,
    "near-far": near_far,
    "invariance": invariance,
}


def markdown(rows: Iterable[Row], heading: str) -> str:
    """The rows as a Markdown table under a line that says what was measured."""
    verdict = {True: "yes", False: "**no**", None: "-"}
    lines = [heading, "", "| what | at least | measured | met | beside |", "|---|---|---|---|---|"]
    lines += [f"| {r.what} | {r.target} | {r.measured} | {verdict[r.met]} | {r.beside} |" for r in rows]
    return "\n".join(lines) + "\n"


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """All rows with every figure any of them has."""
    listed = list(rows)
    figures = list(dict.fromkeys(name for row in listed for name in row.figures))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["line", "what", "target", "measured", "met", *figures])
        for row in listed:
            met = "" if row.met is None else int(row.met)
            cells = [row.figures.get(name, "") for name in figures]
            writer.writerow([row.line, row.what, row.target, row.measured, met, *cells])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure what a model reaches; see the head of this file.")
    parser.add_argument("--model", default="auto", help="a shipped model, or a folder with one")
    parser.add_argument("--drops", type=int, default=1000, help="drops a point")
    parser.add_argument("--optimiser-drops", type=int, help="drops a point of the optimiser line (as --drops)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Markdown file; a .csv goes beside it")
    parser.add_argument("--refine", type=int, default=0, help="refinement steps after the network")
    parser.add_argument("--only", nargs="+", choices=LINES, default=list(LINES), help="lines to measure")
    parser.add_argument("--quick", action="store_true", help="50 drops a point: does it work?")
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write. Returns 0 if every target measured was met, 1 otherwise, 2 without a model."""
    given = arguments()
    drops = 50 if given.quick else given.drops
    console = Console(stderr=True)
    try:
        device = choose_device(given.device)
        checkpoint = load_model(given.model, device)
    except NflaeError as error:
        console.print(str(error), style="red")
        return 2
    engine = Engine(checkpoint, device, given.refine)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    heading = (
        f"Model `{checkpoint.name}` ({checkpoint.card.get('step', '?')} steps), {given.refine} refinements, "
        f"{drops} drops a point, {device.type}, torch {torch.__version__}, seeds from {SEED}."
    )
    rows: list[Row] = []
    with Progress(*columns, console=console) as progress:
        bench = Bench(engine, drops, drops if given.quick else given.optimiser_drops or drops, progress)
        for name in given.only:
            started = time.monotonic()
            rows += LINES[name](bench)
            console.print(f"{name}: {time.monotonic() - started:.0f} s")
            # after every line, so that an interrupted run leaves what it has measured
            given.output.write_text(markdown(rows, heading))
            write_csv(rows, given.output.with_suffix(".csv"))
    sys.stdout.write(markdown(rows, heading))
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
