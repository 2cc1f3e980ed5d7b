"""Measure how far the precoding problems beyond one total power are solved: the table in docs/measurements/problems.md.

    python benchmarks/problems.py -o OUT.csv [--drops 200] [--only PROBLEM ...] [--channels paper uav ...] [--cache DIR]

For every problem, set of channels, number of users and SNR, the objective that the network's algorithm reaches is
divided by that of a reference: the best of long runs of the same algorithm around three schemes (the network, WMMSE
after 50 iterations, RZF) and of the result itself. Hybrid arrays are divided by the fully digital reference instead.
Channels are scaled to a mean squared norm of 1, so that the SNR is that of the mean user. All objectives are measured
on the precoders that are returned.

Every point is one line of OUT.csv, written as it is measured; points that the file has are not measured again. The
summary by problem, channels and SNR is printed at the end as Markdown, or from a file that exists, with --summarise.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.engine.schemes import load_scheme
from simulator.channels.scenario import scenario
from simulator.channels.sources.sionna import cdl_channels, cell_channels
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, measure_objective
from simulator.problems.violations import is_below, violates_limits

SEED = 2_718_281
CARRIER = 7e9
BANDWIDTH = 100e6
FIELDS = ("problem", "channels", "users", "snr_db", "mean", "worst_decile", "least", "violated", "below", "time")
NARROW = ("umi", "cdl", "paper", "uav", "rayleigh")


@dataclass(frozen=True)
class Case:
    """Hold a problem of the table.

    Parameters
    ----------
    make
        Problem of a number of drops, users, antennas.
    long
        Options of the network's algorithm in the long runs of the reference.
    channels
        Sets of channels.
    textbook
        Scheme of the textbook solution.
    antennas
        Number of antennas, but for Rayleigh fading.
    receive
        Receive antennas per user; 0 for channels without that axis.
    digital
        The reference is that of a fully digital array.
    """

    make: Callable[[int, int, int], PrecodingProblem]
    long: str
    channels: tuple[str, ...] = NARROW
    textbook: str = "rzf"
    antennas: int = 64
    receive: int = 0
    subcarriers: int = 1
    digital: bool = False


def log_uniform_weights(drops: int, users: int, antennas: int) -> PrecodingProblem:
    """Return weights log-uniform in [1/8, 8], other ones per drop."""
    rng = np.random.default_rng(SEED)
    return PrecodingProblem(weights=np.exp(rng.uniform(-np.log(8), np.log(8), (drops, users))))


def limited(group: int) -> Callable[[int, int, int], PrecodingProblem]:
    """Return the problem whose antennas, alone or in groups, have equal parts of a power of 1."""

    def make(drops: int, users: int, antennas: int) -> PrecodingProblem:
        limit = np.array([1 / antennas])
        return PrecodingProblem(antenna_power=limit, antenna_groups=None if group == 1 else group, total_power=False)

    return make


def hybrid(chains: Callable[[int], int], bits: int | None = None) -> Case:
    """Return the case of a hybrid array with a number of RF chains that depends on that of users."""
    return Case(
        lambda drops, users, antennas: PrecodingProblem(rf_chains=chains(users), phase_bits=bits),
        "",
        channels=("umi", "cdl", "paper", "uav"),
        antennas=256,
        digital=True,
    )


def joint(receive: int) -> Case:
    """Return the case of users with several receive antennas and all streams."""
    problem = PrecodingProblem(joint_receivers=True)
    return Case(lambda *_: problem, "steps=300", ("umi", "cdl", "rayleigh"), antennas=32, receive=receive)


CASES = {
    "weights": Case(log_uniform_weights, "steps=60"),
    "antennas": Case(limited(1), "rounds=60"),
    "groups-of-8": Case(limited(8), "rounds=60"),
    "max-min": Case(lambda *_: PrecodingProblem(objective="max-min"), "iterations=2000"),
    "proportional-fair-10": Case(
        lambda *_: PrecodingProblem(objective="proportional-fair", window=10), "steps=60", channels=("umi", "uav")
    ),
    "subcarriers-24": Case(
        lambda *_: PrecodingProblem(power_scope="total", subcarriers=24),
        "steps=60",
        channels=("umi", "cdl"),
        subcarriers=24,
    ),
    "hybrid-K": hybrid(lambda users: users),
    "hybrid-K+2": hybrid(lambda users: users + 2),
    "hybrid-2K": hybrid(lambda users: 2 * users),
    "hybrid-K+2-3-bits": hybrid(lambda users: users + 2, 3),
    "receive-2": joint(2),
    "receive-4": joint(4),
}


def draw_channels(name: str, drops: int, users: int, case: Case) -> Tensor:
    """Draw channels, complex64 (drops, users, [receive antennas,] antennas), of mean squared norm 1 per user."""
    antennas, rows = case.antennas, max(case.receive, 1)
    offsets = (torch.arange(case.subcarriers) - (case.subcarriers - 1) / 2) * BANDWIDTH / case.subcarriers
    seed = SEED + users + 7 * antennas + 97 * rows
    if name == "rayleigh":
        channels = correlated_rayleigh(drops, users, 16, rows, seed)
    elif case.receive:
        drawn_pairs = cdl_channels_with_receive_antennas if name == "cdl" else cell_channels_with_receive_antennas
        channels = drawn_pairs(drops, users, antennas, rows, seed)
    elif name in ("paper", "uav"):
        drawn = scenario(name, users=users, antennas=antennas)  # type: ignore[arg-type]
        channels = drawn.draw(drops, torch.Generator().manual_seed(seed)).channels.unsqueeze(2)
    else:
        snapshots = drops // case.subcarriers
        drawn_set = cdl_channels if name == "cdl" else cell_channels
        arguments = (snapshots, users, antennas, seed, CARRIER, offsets)
        wide = drawn_set(*(() if name == "cdl" else (name,)), *arguments)  # type: ignore[arg-type]
        channels = wide.transpose(1, 2).reshape(-1, users, 1, antennas)
    if not case.receive:
        channels = channels[:, :, 0]
    energy = channels.abs().square().sum(-1).mean()
    return channels / torch.sqrt(energy)


def correlated_rayleigh(drops: int, users: int, antennas: int, receive: int, seed: int) -> Tensor:
    """Draw Rayleigh fading with a correlation of 0.6 between adjacent receive antennas."""
    generator = torch.Generator().manual_seed(seed)
    fading = torch.randn(drops, users, receive, antennas, dtype=torch.complex64, generator=generator)
    distance = (torch.arange(receive).unsqueeze(-1) - torch.arange(receive)).abs()
    return torch.linalg.cholesky(0.6 ** distance.double()).to(torch.complex64) @ fading


def cell_channels_with_receive_antennas(drops: int, users: int, antennas: int, receive: int, seed: int) -> Tensor:
    """Draw UMi channels of terminals with cross-polarised pairs; gains within 10 dB of the median of the drop."""
    from sionna.phy.channel import gen_single_sector_topology
    from sionna.phy.channel.tr38901 import PanelArray, UMi

    from simulator.channels.sources import sionna as source

    with source._sionna(seed):  # no public function of the source has terminals with several antennas
        terminal = PanelArray(1, receive // 2, "dual", "cross", "omni", CARRIER, device="cpu")
        model = UMi(CARRIER, "low", terminal, source._base_station(antennas, 4, CARRIER), "downlink", device="cpu")
        parts = []
        for start in range(0, drops, 8):
            size = min(8, drops - start)
            model.reset_topology()
            model.set_topology(*gen_single_sector_topology(size, users, "umi", device="cpu"))
            gains, _ = model(1, 1e6)
            parts.append(gains[:, :, :, 0, :, :, 0].sum(-1).conj().resolve_conj().to(torch.complex64))
    channels = torch.cat(parts)
    level = 20 * torch.log10(torch.linalg.vector_norm(channels, dim=(-2, -1)))
    median = level.median(-1, keepdim=True).values
    wanted = median + (level - median).clamp(-10, 10) - median
    return channels * (10 ** ((wanted - level) / 20)).reshape(*level.shape, 1, 1)


def cdl_channels_with_receive_antennas(drops: int, users: int, antennas: int, receive: int, seed: int) -> Tensor:
    """Draw CDL-A to E channels of terminals with cross-polarised pairs; gains uniform in dB over 20 dB."""
    from sionna.phy.channel.tr38901 import CDL, PanelArray

    from simulator.channels.sources import sionna as source

    links, generator = drops * users, torch.Generator().manual_seed(seed)
    profile = torch.randint(5, (links,), generator=generator)
    bearing = torch.pi / 3 * (2 * torch.rand(links, generator=generator) - 1)
    bearing = torch.stack([bearing, torch.zeros(links), torch.zeros(links)], -1)
    turned = torch.pi * (2 * torch.rand(links, 3, generator=generator) - 1)
    channels = torch.zeros(links, receive, antennas, dtype=torch.complex64)
    for index, letter in enumerate("ABCDE"):
        with source._sionna(seed + 1 + index):
            terminal = PanelArray(1, receive // 2, "dual", "cross", "omni", CARRIER, device="cpu")
            station = source._base_station(antennas, 1, CARRIER)
            for part in (profile == index).nonzero()[:, 0].split(64):
                angles = {"ut_orientation": turned[part], "bs_orientation": bearing[part]}
                model = CDL(letter, 100e-9, CARRIER, terminal, station, "downlink", **angles, device="cpu")
                gains, _ = model(len(part), 1, 1e6)
                channels[part] = gains[:, 0, :, 0, :, :, 0].sum(-1).conj().resolve_conj().to(torch.complex64)
    level = torch.linalg.vector_norm(channels, dim=(-2, -1))
    gain = 10 ** (torch.rand(links, generator=generator) - 0.5)
    return (channels * (gain / level)[:, None, None]).reshape(drops, users, receive, antennas)


@cache
def inner_schemes() -> tuple[Scheme, ...]:
    """Load the network and the two other starts of the reference."""
    return tuple(load_scheme(name, device="cpu") for name in ("nflae", "wmmse:iterations=50", "rzf"))


def reference(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem, case: Case) -> Tensor:
    """Compute the objective of the reference, float64 (drops,)."""
    if case.digital:
        plain = PrecodingProblem(weights=np.ones(batch.channels.shape[1]))
        return reference(batch, budget, plain, CASES["weights"])
    found = [solve(batch, budget, problem, inner, f"nflae:{case.long}").objective for inner in inner_schemes()]
    return torch.stack(found).amax(0)


def achieved(solution: Precoding, batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> Tensor:
    """Compute the objective from the definition of the SINR, float64 (drops,)."""
    if batch.channels.ndim > 3:
        assert isinstance(solution, ProblemSolution)
        return solution.objective
    linear = achieved_sinr(batch.channels, solution.precoder, solution.power, budget.noise_power)
    return measure_objective(problem, rates(linear))


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """Return the least time of a call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def measure(name: str, channels: Tensor, snr_db: float) -> dict[str, float]:
    """Measure one point."""
    case, network = CASES[name], inner_schemes()[0]
    problem = case.make(len(channels), channels.shape[1], channels.shape[-1])
    power = float(case.subcarriers)
    batch, budget = ChannelBatch(channels), LinkBudget(power, 10 ** (-snr_db / 10))
    found = solve(batch, budget, problem, network)
    value = achieved(found, batch, budget, problem)
    best = torch.maximum(reference(batch, budget, problem, case), torch.zeros(()) if case.digital else value)
    textbook = solve(batch, budget, problem, network, case.textbook)
    fair = problem.objective == "proportional-fair"
    ratio = torch.exp((value - best) / channels.shape[1]) if fair else value / best
    ratio = ratio[:: problem.drops_together].sort().values
    few = ChannelBatch(channels[: 2 * problem.drops_together if problem.drops_together > 1 else 64])
    part = problem.of_drops(slice(0, len(few.channels)))
    plain = ChannelBatch(few.channels[:, :, 0] if case.receive else few.channels)
    each = LinkBudget(power / case.subcarriers, budget.noise_power)
    relative = seconds(lambda: solve(few, budget, part, network)) / seconds(lambda: network(plain, each))
    return {
        "mean": float(ratio.mean()),
        "worst_decile": float(ratio[: max(1, len(ratio) // 10)].mean()),
        "least": float(ratio[0]),
        "violated": int(violates_limits(found, budget, problem).sum()),
        "below": int(is_below(found, textbook).sum()),
        "time": relative,
    }


def points(given: argparse.Namespace, done: set[Point]) -> Iterator[tuple[Point, Tensor]]:
    """Yield every point that is not done, with its channels."""
    for name in given.only:
        case = CASES[name]
        for source in case.channels:
            if source not in given.channels:
                continue
            for users in given.users:
                left = [
                    Point(name, source, users, snr) for snr in given.snr if Point(name, source, users, snr) not in done
                ]
                if not left:
                    continue
                drops = given.drops * case.subcarriers // (10 if case.subcarriers > 1 else 1)
                drops -= drops % max(case.subcarriers, 10)
                kind = (source, drops, users, 16 if source == "rayleigh" else case.antennas, case.receive)
                file = None if given.cache is None else given.cache / f"{'_'.join(map(str, kind))}.npy"
                if file is not None and file.is_file():
                    channels = torch.from_numpy(np.load(file))
                else:
                    channels = draw_channels(source, drops, users, case)
                    if file is not None:
                        file.parent.mkdir(parents=True, exist_ok=True)
                        np.save(file, channels.numpy())
                for point in left:
                    yield point, channels


class Point(NamedTuple):
    """Name a line of the CSV file."""

    problem: str
    channels: str
    users: int
    snr_db: float

    @classmethod
    def of(cls, row: dict[str, str]) -> Point:
        """Return the point of a line."""
        return cls(row["problem"], row["channels"], int(row["users"]), float(row["snr_db"]))


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read the lines of a CSV file, none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def summary(rows: list[dict[str, str]]) -> str:
    """Return the Markdown table of mean and worst decile in % by problem, channels and SNR, over the users."""
    levels = sorted({float(row["snr_db"]) for row in rows})
    heads = ["problem", "channels", *(f"{level:g} dB" for level in levels), "all", "least", "violated", "below"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]

    def shares(chosen: list[dict[str, str]]) -> str:
        values = (sum(float(row[field]) for row in chosen) / len(chosen) for field in ("mean", "worst_decile"))
        return " / ".join(f"{100 * value:.2f}" for value in values)

    for name, source in dict.fromkeys((row["problem"], row["channels"]) for row in rows):
        chosen = [row for row in rows if (row["problem"], row["channels"]) == (name, source)]
        parts = ([row for row in chosen if float(row["snr_db"]) == level] for level in levels)
        least = min(float(row["least"]) for row in chosen)
        counts = [str(sum(int(row[field]) for row in chosen)) for field in ("violated", "below")]
        cells = [*(shares(part) if part else "" for part in parts), shares(chosen), f"{100 * least:.1f}", *counts]
        lines.append(f"| {name} | {source} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the precoding problems; see the head of this file.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file")
    parser.add_argument("--drops", type=int, default=200, help="drops per point (a tenth as many snapshots)")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--channels", nargs="+", choices=NARROW, default=list(NARROW))
    parser.add_argument("--users", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--snr", nargs="+", type=float, default=[0.0, 10.0, 20.0], help="dB")
    parser.add_argument("--cache", type=Path, help="folder for the channels")
    parser.add_argument("--summarise", action="store_true", help="only print the summary of OUT.csv")
    given = parser.parse_args()
    if not given.summarise:
        is_new = not given.output.exists()
        for point, channels in points(given, {Point.of(row) for row in read_rows(given.output)}):
            row = point._asdict() | measure(point.problem, channels, point.snr_db)
            print(*(f"{value:.4f}" if isinstance(value, float) else value for value in row.values()), flush=True)
            with given.output.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if is_new:
                    writer.writeheader()
                    is_new = False
                writer.writerow(row)
    print(summary(read_rows(given.output)))


if __name__ == "__main__":
    main()
