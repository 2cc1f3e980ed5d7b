"""Measure the processor time of precoding problems over that of one plain call of the network.

    python benchmarks/problem_times.py [--only PROBLEM ...] [--drops 1 16 200] [--users 4 8] [--antennas 64]

Medians of alternating calls on Rayleigh fading at 10 dB, one thread; three rounds each, the median of their ratios. A
plain call is the engine's on the same drops, with one receive antenna per user.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from problems import CASES, inner_schemes

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.dispatch import solve

_FEW = 16


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of a call, after two calls that are not timed."""
    times = []
    for index in range(repeats + 2):
        started = time.process_time()
        call()
        if index > 1:
            times.append(time.process_time() - started)
    return sorted(times)[len(times) // 2]


def ratio(name: str, drops: int, users: int, antennas: int) -> float:
    """Return the time of a problem over that of a plain call."""
    case, network = CASES[name], inner_schemes()[0]
    together = case.subcarriers if case.subcarriers > 1 else 10 if name.startswith("proportional") else 1
    drops = max(drops // together, 1) * together
    shape = (drops, users, case.receive, antennas) if case.receive else (drops, users, antennas)
    channels = torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)) / antennas**0.5
    problem, budget = case.make(drops, users, antennas), LinkBudget(float(case.subcarriers), 0.1)
    plain = ChannelBatch(channels[:, :, 0].contiguous() if case.receive else channels)
    repeats, ratios = 20 if drops <= _FEW else 5, []
    for _ in range(3):
        ours = median_seconds(lambda: solve(ChannelBatch(channels), budget, problem, network), repeats)
        ratios.append(ours / median_seconds(lambda: network(plain, LinkBudget(1.0, 0.1)), repeats))
    return sorted(ratios)[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the times of precoding problems; see the head of this file.")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--drops", nargs="+", type=int, default=[1, 16, 200])
    parser.add_argument("--users", nargs="+", type=int, default=[4, 8])
    parser.add_argument(
        "--antennas", type=int, help="by default 256 for hybrid arrays, 32 for receive antennas, else 64"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.only:
        antennas = given.antennas or CASES[name].antennas
        for users in given.users:
            found = (f"{drops}: {ratio(name, drops, users, antennas):.1f}" for drops in given.drops)
            print(name, f"K={users} N={antennas}", *found, sep="  ", flush=True)


if __name__ == "__main__":
    main()
