"""Measure the start-up time of the command line relative to the imports that it needs.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 31

help: `nflae --help` over `python -c "import click"`. precode: `nflae precode` on a file of one drop of 64 antennas
and 4 users over `python -c "import torch"`. Each run is a separate process, with its files in the system's cache; the
four alternate, so that other load on the machine affects all alike; times and ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from matlab_io import write_channels

ANTENNAS, USERS = 64, 4
NFLAE = str(Path(sys.executable).with_name("nflae"))


def one_drop(path: Path) -> None:
    """Write a file with one drop of white Gaussian channels, unit norm on average."""
    parts = np.random.default_rng(1).standard_normal((2, 1, USERS, ANTENNAS)) / np.sqrt(2 * ANTENNAS)
    channels = (parts[0] + 1j * parts[1]).astype(np.complex64)
    write_channels(path, [channels], users=USERS, antennas=ANTENNAS, drops=1, extra={"noise_power": 0.01})


def seconds(command: list[str]) -> float:
    """Return the time from the start of a process to its end, s."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each (default: 15)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        channels, precoders = Path(folder) / "channels.mat", Path(folder) / "precoders.mat"
        one_drop(channels)
        commands = {
            "click": [sys.executable, "-c", "import click"],
            "help": [NFLAE, "--help"],
            "torch": [sys.executable, "-c", "import torch"],
            "precode": [NFLAE, "precode", str(channels), "-o", str(precoders), "--layout", "nk"],
        }
        # The first round reads everything from the disk and is not counted.
        rounds = [[seconds(command) for command in commands.values()] for _ in range(options.rounds + 1)][1:]
    times = dict(zip(commands, zip(*rounds, strict=True), strict=True))
    print("| command | s | over | s | ratio |")
    print("|---|---|---|---|---|")
    for name, bare in (("help", "click"), ("precode", "torch")):
        ours, theirs = (statistics.median(times[each]) for each in (name, bare))
        ratio = statistics.median(x / y for x, y in zip(times[name], times[bare], strict=True))
        print(f"| {name} | {ours:.3f} | import {bare} | {theirs:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
