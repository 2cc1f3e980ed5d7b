"""Measure the figures of a model: every line of the tables in docs/measurements/models.md but memory.

    python benchmarks/reach.py --model tiny --drops 1000 -o OUT.md [--refine r] [--only LINE ...] [--quick]

Prints a Markdown table and writes it to OUT.md, with all figures in OUT.csv beside it. Drops are fresh: seeds start
at 31 415 926 000, which neither training nor validation uses (modulo 2^32 too, all that PyTorch's CPU generator keeps
of a seed), and each point has its own seed, so `--only` measures on the same drops as a full run.

All rates are recomputed from the precoders and powers that a scheme returned; ratios are of mean sum rates, with a 95 %
interval from the drops' paired values. Rivals use the labels that the engine returns. A target is met if the measured
value, unrounded, reaches it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from reach_table.constraints import constraints, optimiser
from reach_table.edge import edge
from reach_table.invariance import invariance
from reach_table.measuring import SEED, Bench, Row
from reach_table.near_far import near_far
from reach_table.output import markdown, write_csv
from reach_table.sum_rate import published_conditions, published_users, sionna

from matlab_io.errors import NflaeError
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model

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


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure the figures of a model; see the head of this file.")
    parser.add_argument("--model", default="auto", help="a shipped model, or a folder with one")
    parser.add_argument("--drops", type=int, default=1000, help="drops per point")
    parser.add_argument("--optimiser-drops", type=int, help="drops per point of the optimiser line (as --drops)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Markdown file; a .csv goes beside it")
    parser.add_argument("--refine", type=int, default=0, help="refinement steps after the network")
    parser.add_argument("--only", nargs="+", choices=LINES, default=list(LINES), help="lines to measure")
    parser.add_argument("--quick", action="store_true", help="50 drops per point, to try the script")
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    return parser.parse_args()


def main() -> int:
    """Measure, print and write; return 0 if every target measured is met, 1 otherwise, 2 without a model."""
    given = arguments()
    drops = 50 if given.quick else given.drops
    try:
        device = choose_device(given.device)
        checkpoint = load_model(given.model, device)
    except NflaeError as error:
        print(error, file=sys.stderr)
        return 2
    heading = (
        f"Model `{checkpoint.name}` ({checkpoint.card.get('step', '?')} steps), {given.refine} refinements, "
        f"{drops} drops per point, {device.type}, torch {torch.__version__}, seeds from {SEED}."
    )
    optimiser_drops = drops if given.quick else given.optimiser_drops or drops
    bench = Bench(Engine(checkpoint, device, given.refine), drops, optimiser_drops)
    rows: list[Row] = []
    for name in given.only:
        started = time.monotonic()
        rows += LINES[name](bench)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        # Written after every line, so that an interrupted run leaves its results.
        given.output.write_text(markdown(rows, heading))
        write_csv(rows, given.output.with_suffix(".csv"))
    sys.stdout.write(markdown(rows, heading))
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
