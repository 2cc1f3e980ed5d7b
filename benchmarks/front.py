"""Measure the front of time and sum rate: shipped models with refinements against WMMSE and its inversion-free form.

    python benchmarks/front.py --batches 1,16,1000                   a table per batch size
    python benchmarks/front.py --figure front.png --csv front.csv    and as a figure and in numbers

All competitors compute the same drops (scenario paper, K = 10, N = 256, 20 dB unless given) in turns, each in its
fastest implementation, from channels in memory to precoders and powers. At the end stand the rivals' points from
--least percent of WMMSE-100 on that none of ours beats or equals in both time and sum rate; the exit status is 1 if
there are some.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nflae_bridge.studies.benchmark.comparison import Settings, draw, machine
from nflae_bridge.studies.benchmark.competitors import Competitor, competitors
from nflae_bridge.studies.benchmark.timing import cyclic_batches, mean_objective, time_interleaved

OURS = {"nano": (0, 1, 2, 3, 4, 5, 6, 8, 12), "tiny": (0, 1, 2, 5), "small": (0,)}
RIVALS = {"wmmse": (3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100), "inversion-free": (8, 10, 15, 20, 30, 50, 100)}
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Point:
    """One competitor at one batch size: us per drop, and sum rate in percent of WMMSE-100."""

    batch: int
    name: str
    ours: bool
    implementation: str
    time: float
    share: float


def prepare(settings: Settings, batch: int, models: Sequence[str]) -> tuple[list[Competitor], list[bool], list[str]]:
    """Return the competitors, whether each is ours, and their names."""
    setup = settings.setup(settings.devices[0])
    channels = draw(settings.users, settings.antennas, settings.drops, settings.seed)
    trial = cyclic_batches(channels, batch)[0]
    found, ours, names = [], [], []
    for scheme, counts in RIVALS.items():
        some = competitors((scheme,), (0,), setup, trial, channels, counts)[1:]
        found += some
        names += [f"{scheme}-{each.iterations}" for each in some]
    found += competitors(("rzf",), (0,), setup, trial, channels)[1:]
    names.append("rzf")
    ours += [False] * len(found)
    for model in models:
        counts = OURS.get(model, (0, 1, 2))
        some = competitors(("nflae",), counts, replace(setup, model=model), trial, channels)[1:]
        found += some
        names += [f"{Path(model).name}+{steps}" if steps else Path(model).name for steps in counts]
        ours += [True] * len(some)
    return found, ours, names


def measure(settings: Settings, batch: int, models: Sequence[str]) -> list[Point]:
    """Time all competitors in turns on one batch size."""
    found, ours, names = prepare(settings, batch, models)
    channels = draw(settings.users, settings.antennas, settings.drops, settings.seed)
    setup = settings.setup(settings.devices[0])
    calls = settings.calls(batch)
    timings = time_interleaved(found, cyclic_batches(channels, batch), calls, setup.worker_threads, lambda: None)
    rates = [mean_objective(each, channels, settings.noise_power, batch, settings.problem) for each in found]
    reference = rates[names.index("wmmse-100")]
    rows = zip(names, ours, found, timings, rates, strict=True)
    return [
        Point(batch, name, own, each.implementation, 1e6 * timing.median, 100 * rate / reference)
        for name, own, each, timing, rate in rows
    ]


def unbeaten(points: Sequence[Point], least: float) -> list[Point]:
    """Return the rivals' points from ``least`` percent on that none of ours beats or equals in time and sum rate."""
    ours = [point for point in points if point.ours]

    def beaten(rival: Point) -> bool:
        return any(own.time <= rival.time and own.share >= rival.share * (1 - _ROUNDING) for own in ours)

    return [point for point in points if not point.ours and point.share >= least and not beaten(point)]


def draw_figure(path: Path, points: Sequence[Point], title: str) -> None:
    """Draw share against time, a panel per batch size."""
    from matplotlib import pyplot

    batches = sorted({point.batch for point in points})
    figure, axes = pyplot.subplots(1, len(batches), figsize=(4.5 * len(batches), 3.8), squeeze=False)
    for axis, batch in zip(axes[0], batches, strict=True):
        for family in dict.fromkeys(point.name.replace("+", "-").rsplit("-", 1)[0] for point in points):
            rows = [p for p in points if p.batch == batch and p.name.startswith(family) and p.share >= 98.9]
            if rows:
                rows.sort(key=lambda point: point.time)
                style = "o-" if rows[0].ours else "s--"
                axis.plot([p.time for p in rows], [p.share for p in rows], style, label=family, markersize=4)
                for point in rows:
                    axis.annotate(point.name.replace(family, "").lstrip("-"), (point.time, point.share), fontsize=6)
        axis.set(xscale="log", xlabel="us per drop", title=f"{batch} drop{'s' * (batch > 1)} per call")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("% of WMMSE-100")
    axes[0][-1].legend(fontsize=7)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> int:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,16,1000")
    parser.add_argument("--models", default="nano,tiny")
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--antennas", type=int, default=256)
    parser.add_argument("--snr-db", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--least", type=float, default=99.0, help="percent of WMMSE-100 from which points count")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = Settings(
        users=given.users,
        antennas=given.antennas,
        snr_db=given.snr_db,
        repeats=given.repeats,
        threads=given.threads,
    )
    hardware = machine(settings.devices[0], given.threads)
    print(f"{hardware}; K = {given.users}, N = {given.antennas}, {given.snr_db:g} dB; us per drop, % of WMMSE-100")
    points: list[Point] = []
    left = []
    for batch in (int(number) for number in given.batches.split(",")):
        found = measure(settings, batch, given.models.split(","))
        for point in sorted(found, key=lambda each: each.time):
            mark = "*" if point.ours else " "
            print(f"{batch:6d} {mark} {point.name:20s} {point.time:9.1f} {point.share:9.3f}  {point.implementation}")
        left += unbeaten(found, given.least)
        points += found
    print(f"rivals' points at >= {given.least:g} % that none of ours beats or equals in time and sum rate: {len(left)}")
    for point in left:
        print(f"  {point.batch} drops: {point.name}, {point.time:.1f} us, {point.share:.3f} %")
    if given.csv:
        with given.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("batch", "competitor", "ours", "implementation", "us_per_drop", "percent_of_wmmse_100"))
            writer.writerows(
                (p.batch, p.name, int(p.ours), p.implementation, f"{p.time:.3f}", f"{p.share:.4f}") for p in points
            )
    if given.figure:
        draw_figure(given.figure, points, f"{hardware}; K = {given.users}, N = {given.antennas}, {given.snr_db:g} dB")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
