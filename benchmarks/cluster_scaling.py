"""Measure the speed-up of `nflae evaluate` by two workers over one, and check that the figures are the same.

Clusters of one and of two processes evaluate the same simulated drops in turns, so that other load on the machine
affects both alike. Starting them and loading the network is not counted: every worker computes a first block before.

    python benchmarks/cluster_scaling.py --drops 4096 --rounds 3

The ratio is valid where as many cores are free as there are workers; the load average is printed with it.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from distributed import Client, LocalCluster

from nflae_bridge.files.blocks import Block
from nflae_bridge.studies.cluster import run_units
from nflae_bridge.studies.evaluation.comparison import BLOCK_DROPS, Comparison
from nflae_bridge.studies.evaluation.scoring import BlockScore, score_block
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget

SCHEMES = ("rzf", "wmmse", "nflae")


def blocks(drops: int) -> Iterator[Block]:
    """Yield drops of scenario `uav`, 10 users, 256 antennas."""
    start = 0
    for drawn in scenario("uav").stream(drops, torch.Generator().manual_seed(0), BLOCK_DROPS):
        yield Block(start, np.ones(len(drawn.channels), np.bool_), drawn.channels.numpy())
        start += len(drawn.channels)


def scored(cluster: LocalCluster, units: list[Block], comparison: Comparison) -> tuple[float, list[BlockScore]]:
    """Return the time from the first request to the last outcome, s, and the outcomes in order."""
    began = time.perf_counter()
    with closing(run_units(partial(score_block, comparison), units, cluster.scheduler_address)) as outcomes:
        found = dict(outcomes)
    return time.perf_counter() - began, [found[index] for index in range(len(units))]


def processor_seconds(cluster: LocalCluster) -> float:
    """Return the processor time of the workers so far, s."""
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        return sum(client.run(lambda: sum(os.times()[:2])).values())


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the table to this file too")
    parser.add_argument("--drops", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="against one (default: 2)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # Dask logs every worker it ends
    comparison = Comparison(SCHEMES, False, "tiny", "cpu", 0, LinkBudget())
    units = list(blocks(options.drops))
    seconds: dict[int, list[float]] = {1: [], options.workers: []}
    busy: dict[int, list[float]] = {1: [], options.workers: []}
    answers = []
    clusters = {
        count: LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0)
        for count in seconds
    }
    for count, cluster in clusters.items():
        scored(cluster, units[:1] * 4 * count, comparison)
    for _ in range(options.rounds):
        for count, cluster in clusters.items():
            before = processor_seconds(cluster)
            took, outcomes = scored(cluster, units, comparison)
            seconds[count].append(took)
            busy[count].append(processor_seconds(cluster) - before)
            answers.append(outcomes)
    for cluster in clusters.values():
        cluster.close()
    same = all(outcomes == answers[0] for outcomes in answers)
    lines = [
        "| workers | drops | seconds, best of rounds | processor seconds of the workers | speed-up |",
        "|---|---|---|---|---|",
    ]
    for count, times in seconds.items():
        ratio = min(seconds[1]) / min(times)
        lines.append(f"| {count} | {options.drops} | {min(times):.2f} | {min(busy[count]):.2f} | {ratio:.2f} |")
    load = os.getloadavg()[0]
    lines += ["", f"Figures {'the same' if same else 'DIFFER'}; load average {load:.1f} on {os.cpu_count()} cores."]
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if options.output:
        options.output.write_text(table)


if __name__ == "__main__":
    main()
