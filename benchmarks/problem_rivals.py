"""Compare the schemes of the precoding problems: the table of rivals in docs/measurements/problems.md.

    python benchmarks/problem_rivals.py [--drops 24] [--only PROBLEM ...] [--users 8] [--cache DIR]

The mean objective of every scheme that solves a problem is divided by that of the network's algorithm, on the channels
of `problems.py` with one set of channels and number of users, and averaged over the SNRs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from problems import CASES, draw_channels, inner_schemes

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.combinations import find_solvers
from simulator.problems.dispatch import solve
from simulator.problems.problem import ProblemError


def main() -> None:
    """Measure and print one line per problem."""
    parser = argparse.ArgumentParser(description="Compare the schemes of the precoding problems.")
    parser.add_argument("--drops", type=int, default=24, help="drops per SNR")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--channels", default="umi")
    parser.add_argument("--snr", nargs="+", type=float, default=[0.0, 10.0, 20.0], help="dB")
    parser.add_argument("--cache", type=Path, help="folder with channels of problems.py")
    given = parser.parse_args()
    for name in given.only:
        case = CASES[name]
        drops = given.drops - given.drops % (10 if name.startswith("proportional") else case.subcarriers)
        kind = (given.channels, drops, given.users, case.antennas, case.receive)
        file = None if given.cache is None else given.cache / f"{'_'.join(map(str, kind))}.npy"
        drawn = draw_channels(given.channels, drops, given.users, case) if file is None else np.load(file)
        batch = ChannelBatch(torch.as_tensor(drawn))
        problem = case.make(drops, given.users, case.antennas)
        shares: dict[str, list[float]] = {scheme: [] for scheme in find_solvers(problem).schemes}
        for snr_db in given.snr:
            budget = LinkBudget(1.0, 10 ** (-snr_db / 10))
            ours = solve(batch, budget, problem, inner_schemes()[0]).objective.mean()
            for scheme, found in shares.items():
                try:
                    reached = solve(batch, budget, problem, inner_schemes()[0], scheme).objective.mean()
                except ProblemError:
                    continue
                found.append(100 * float(reached / ours))
        means = (f"{scheme} {np.mean(found):.1f}" if found else f"{scheme} -" for scheme, found in shares.items())
        print(f"{name}:", *means, flush=True)


if __name__ == "__main__":
    main()
