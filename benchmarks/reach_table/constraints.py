"""Measure the sum rate under all constraints and count violations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from reach_table.drops import (
    ALL_CONSTRAINTS,
    CONSTRAINED_POINTS,
    constrained,
    mixture,
)
from reach_table.measuring import (
    Batches,
    Bench,
    Outcome,
    Point,
    Row,
    compare,
    percent,
    ratio,
    run_points,
    user_rates,
)
from reach_table.sum_rate import CLASSICAL
from simulator.downlink.constraints import TOLERANCE, check_constraints
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import Scheme
from simulator.schemes.rzf import rzf


def optimiser(bench: Bench) -> list[Row]:
    """Measure the sum rate over that of the per-drop optimiser, on drops where both meet C4."""

    def one(index: int, users: int, angle: str) -> Row:
        blocks = bench.blocks(constrained(users, angle), 300 + index, bench.optimiser_drops)
        rivals: dict[str, Scheme] = {"optimiser": optimise, "wmmse-200": CLASSICAL["wmmse-200"], "rzf": rzf}
        found = compare(bench, ((batch, ALL_CONSTRAINTS) for batch in blocks), rivals)
        return optimiser_row(found, f"K = {users}, {angle} angles")

    steps = [partial(one, index, *point) for index, point in enumerate(CONSTRAINED_POINTS)]
    return run_points("optimiser", steps)


def optimiser_row(found: Mapping[str, Outcome], where: str) -> Row:
    """Compare means over the drops that both report as feasible; count the drops that each flags."""
    ours, best = found["nflae"], found["optimiser"]
    both = ours.feasible & best.feasible
    value, half = ratio(ours.sum_rate[both], best.sum_rate[both])
    flagged, optimiser_flagged = int((~ours.feasible).sum()), int((~best.feasible).sum())
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
        "infeasible_optimiser": optimiser_flagged,
        "given_up": given_up,
        "fallback": float(ours.fallback.double().mean()),
    }
    for name in ("wmmse-200", "rzf"):
        three = both & found[name].feasible
        figures[name] = ratio(found[name].sum_rate[three], best.sum_rate[three])[0]
        missed = int((~found[name].feasible).sum())
        beside.append(f"{name} {percent(figures[name])} ({missed} infeasible)")
    beside.append(f"infeasible: ours {flagged}, optimiser {optimiser_flagged} of {len(both)}, {given_up} ours alone")
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
    """Count violations of C1-C5 on the constrained drops and on a random mixture."""

    def runs() -> Batches:
        for index, point in enumerate(CONSTRAINED_POINTS):
            for batch in bench.blocks(constrained(*point), 300 + index):
                yield batch, ALL_CONSTRAINTS

    steps: list[Point] = [
        partial(violations, bench, "the constrained drops above", runs()),
        partial(violations, bench, "random mixture: K 1-16, N 8-512, C3, C4, -5 to 35 dB", mixture(bench)),
    ]
    return run_points("constraints", steps)


def violations(bench: Bench, where: str, batches: Batches) -> Row:
    """Count drops that violate a constraint beyond the tolerance; C4 where the drop is not flagged infeasible."""
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
