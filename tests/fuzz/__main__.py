"""Run the fuzzers: ``python -m tests.fuzz [--seconds 60] [--seeds N] [--start SEED] [NAME ...]``.

The exit status is 1 after a fault.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import os
import random
import sys

from tests.fuzz.fuzzers import FUZZERS, SEEDS, kept_seeds, load
from tests.fuzz.watchdog import failures

_REPORT_EVERY = 10_000


def main() -> int:
    """Run fuzzers in turn; new failing seeds are added to seeds/NAME.txt."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, by numpy and torch
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"fuzzers: {', '.join(FUZZERS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="time for each")
    parser.add_argument("--seeds", type=int, help="end after so many; no limit by default")
    parser.add_argument("--start", type=int, help="first seed; a random one by default")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in FUZZERS]:
        parser.error(f"unknown fuzzer {unknown[0]!r}: there are {', '.join(FUZZERS)}")
    faulthandler.enable()  # a process that is ended for its time prints its traceback
    failed = 0
    for name in arguments.names or FUZZERS:
        start = random.SystemRandom().randrange(10**9) if arguments.start is None else arguments.start
        known, count = set(kept_seeds(name)), 0
        seeds = itertools.islice(itertools.chain(known, itertools.count(start)), arguments.seeds)
        for seed, found in failures(load(name), seeds, arguments.seconds, arguments.workers):
            count += 1
            for fault in found:
                print(f"{name} {seed}: {fault}", flush=True)
            if found and seed not in known:
                with (SEEDS / f"{name}.txt").open("a") as file:
                    file.write(f"{seed}  # {found[0][:80]}\n")
            failed += bool(found)
            if count % _REPORT_EVERY == 0:
                print(f"{name}: {count} seeds so far, {failed} failed", file=sys.stderr, flush=True)
        print(f"{name}: {count} seeds from {start}, {failed} failed so far", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
