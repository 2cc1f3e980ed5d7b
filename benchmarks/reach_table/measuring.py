"""Measure schemes on blocks of fresh drops and compare their mean sum rates."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nflae_bridge.engine.engine import Engine
from simulator.channels.scenario import Scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import achieved_sinr, rates

SEED = 31_415_926_000
BLOCK = 250  # drops at once
CSI_SNR_DB = (0, 5, 10, 15, 20)

Point = Callable[[], "Row"]
Batches = Iterable[tuple[ChannelBatch, LinkBudget]]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Parameters
    ----------
    line
        Line of the table that the row belongs to.
    what
        Quantity measured.
    target, measured
        Figures as printed.
    met
        True if the measured value reaches the target; None without a target.
    beside
        Further figures as printed.
    figures
        Further columns of the CSV file.
    """

    line: str
    what: str
    target: str
    measured: str
    met: bool | None = None
    beside: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Engine and sizes that all lines share.

    Parameters
    ----------
    engine
        The engine with the model.
    drops
        Drops per point.
    optimiser_drops
        Drops per point where the optimiser is the rival.
    """

    engine: Engine
    drops: int
    optimiser_drops: int

    def blocks(self, scene: Scenario, point: int, drops: int | None = None) -> Iterator[ChannelBatch]:
        """Yield drops of a scenario without labels, in blocks; ``point`` selects the seed."""
        for drawn in scene.stream(drops or self.drops, generator(point), BLOCK):
            yield ChannelBatch(drawn.channels.to(self.engine.device))

    def split(self, channels: Tensor) -> Iterator[ChannelBatch]:
        """Yield channels of many drops in blocks."""
        for block in torch.split(channels, BLOCK):
            yield ChannelBatch(block.to(self.engine.device))


@dataclass(frozen=True)
class Outcome:
    """A scheme's answers; every array (drops,), on the CPU.

    Parameters
    ----------
    sum_rate
        Recomputed from precoder and power, bps/Hz.
    reported
        Sum rate that the scheme returned, bps/Hz.
    feasible, fallback
        The scheme's flags.
    """

    sum_rate: Tensor
    reported: Tensor
    feasible: Tensor
    fallback: Tensor

    @property
    def finite(self) -> Tensor:
        """True where both sum rates are finite, bool (drops,)."""
        return self.sum_rate.isfinite() & self.reported.isfinite()


def generator(point: int) -> torch.Generator:
    """Return the generator of a point; neighbouring points have unrelated drops."""
    return torch.Generator().manual_seed(SEED + point)


def compare(bench: Bench, batches: Batches, rivals: Mapping[str, Scheme]) -> dict[str, Outcome]:
    """Run the engine (``nflae``), then the rivals with the labels it returned, on the same drops.

    Parameters
    ----------
    bench
        The engine.
    batches
        Channels and link budgets.
    rivals
        Schemes by name.

    Returns
    -------
    dict
        Outcomes by name, in the order of the drops.
    """
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
            torch.cat([o.reported for o in outcomes]),
            torch.cat([o.feasible for o in outcomes]),
            torch.cat([o.fallback for o in outcomes]),
        )
        for name, outcomes in parts.items()
    }


def user_rates(result: Precoding, channels: Tensor, budget: LinkBudget) -> Tensor:
    """Compute the users' rates from precoder and power alone, float64 (drops, users), bps/Hz."""
    return rates(achieved_sinr(channels, result.precoder, result.power, budget.noise_power))


def outcome(result: Precoding, batch: ChannelBatch, budget: LinkBudget) -> Outcome:
    """Return an answer's sum rates and flags."""
    served = user_rates(result, batch.channels, budget).sum(-1)
    return Outcome(served.cpu(), result.sum_rate.cpu(), result.feasible.cpu(), result.fallback.cpu())


def ratio(ours: Tensor, reference: Tensor) -> tuple[float, float]:
    """Compute mean(ours) / mean(reference) over paired drops, and half its 95 % interval (delta method)."""
    value = float(ours.mean() / reference.mean())
    deviation = float((ours - value * reference).std()) if len(ours) > 1 else 0.0
    return value, 1.96 * deviation / math.sqrt(len(ours)) / float(reference.mean())


def percent(share: float) -> str:
    """Format a fraction as the table prints it."""
    return f"{100 * share:.2f} %"


def run_points(line: str, points: Iterable[Point]) -> list[Row]:
    """Measure the points of a line, reporting each on stderr.

    Parameters
    ----------
    line
        Name of the line.
    points
        Functions that measure one row each.

    Returns
    -------
    list of Row
        The rows.
    """
    listed = list(points)
    rows = []
    for number, point in enumerate(listed, start=1):
        print(f"{line}: point {number} of {len(listed)}", file=sys.stderr, flush=True)
        rows.append(point())
    return rows
