"""Measure what a client with small requests notices of hostile ones at the same `nflae serve`.

    python -m benchmarks.attacks -o attacks.md
    python -m benchmarks.attacks --only empty_frames,greedy --scale 0.1 --repeats 5
    python -m benchmarks.attacks --one-server --scale 0.1 --repeats 1 --seconds 330  # an hour

Every attack runs several times, in processes of its own, against a new server, or all of them against one. The client
checks each answer; the 99th percentile of its times during an attack is divided by that of its times directly before
and after it, so that other programs on the machine affect both. The median of the ratios is printed with the smallest
and the largest one, beside the longest call of all. The memory is the growth of the server's resident set from its
first quiet period, or from its start where one server has all attacks, sampled every 20 ms.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, by numpy and torch; the server inherits it

import argparse
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.hostile_clients import ATTACKS, MEGABYTE, channels
from nflae_bridge import Client
from nflae_bridge.live.errors import BridgeError

TIMEOUT = 60.0
SETTLING_SECONDS = 0.5  # from the end of an attack to the quiet period after it


@dataclass
class Outcome:
    """Hold the results of an attack.

    Attributes
    ----------
    messages : int
        Messages or connections of the attack.
    wrong, failed : int
        Wrong answers and exceptions of the good client.
    quiet, attacked : list of float
        Times of its calls before and after the attack, and during it, s.
    start, peak : int
        Resident set of the server before the attack, and the largest one during it, bytes.
    """

    messages: int = 0
    wrong: int = 0
    failed: int = 0
    quiet: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    start: int = 0
    peak: int = 0

    @property
    def p99s(self) -> tuple[float, float]:
        """99th percentiles of the times, quiet and attacked, s."""
        quiet, attacked = (float(np.percentile(times, 99)) for times in (self.quiet, self.attacked))
        return quiet, attacked

    @property
    def ratio(self) -> float:
        """Ratio of the 99th percentiles."""
        quiet, attacked = self.p99s
        return attacked / quiet


class Beside(threading.Thread):
    """Request and check small precoders until told to stop."""

    def __init__(self, address: str, outcome: Outcome, pause: float = 2e-3) -> None:
        super().__init__(daemon=True)
        self._pause = pause
        self._address = address
        self._outcome = outcome
        self.seconds: list[float] = []
        self.leave = threading.Event()
        self.ready = threading.Event()

    def run(self) -> None:
        """Call until stopped."""
        with Client(self._address, timeout=TIMEOUT) as client:
            client.precode(channels(1, 2, 8), scheme="mrt")  # modules are loaded and times measured at the first one
            self.ready.set()
            number = 0
            while not self.leave.is_set():
                number += 1
                drawn = channels(1, 2, 8, number)
                seconds, began = self.seconds, time.perf_counter()
                try:
                    precoder = client.precode(drawn, scheme="mrt").precoder
                except BridgeError:
                    self._outcome.failed += 1
                    continue
                seconds.append(time.perf_counter() - began)
                expected = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
                self._outcome.wrong += not np.allclose(precoder, expected, atol=1e-5)
                self.leave.wait(self._pause)


def resident(pid: int) -> int:
    """Return the resident set of a process, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(
    name: str, pid: int, address: str, scale: float, seconds: float = 0.0, quiet_seconds: float = 2.0
) -> Outcome:
    """Measure a client beside an attack.

    Parameters
    ----------
    name : str
        Attack.
    pid : int
        Process of the server.
    address : str
        Its address.
    scale : float
        Size of the attack; 1 for the full one.
    seconds : float
        Shortest time of the attack, which is repeated until then, s.
    quiet_seconds : float
        Time of the measurement before it, and of that after it, s.

    Returns
    -------
    Outcome
        Outcome.
    """
    outcome = Outcome()
    beside = Beside(address, outcome)
    command = [sys.executable, "-m", "benchmarks.hostile_clients", name, address]
    command += ["--scale", str(scale), "--seconds", str(seconds)]
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, env=environment, text=True, **pipes) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdin is not None
        attacker.stdout.readline()
        beside.start()
        beside.ready.wait(TIMEOUT)
        beside.seconds = outcome.quiet
        time.sleep(quiet_seconds)
        outcome.start = resident(pid)
        beside.seconds = outcome.attacked
        print(file=attacker.stdin, flush=True)
        while attacker.poll() is None:
            outcome.peak = max(outcome.peak, resident(pid))
            time.sleep(0.02)
        beside.seconds = []
        printed = attacker.stdout.read()
    if attacker.returncode:
        raise SystemExit(f"{name} has failed")
    time.sleep(SETTLING_SECONDS)
    beside.seconds = outcome.quiet
    time.sleep(quiet_seconds)
    beside.leave.set()
    beside.join(TIMEOUT)
    outcome.failed += beside.is_alive()
    outcome.messages = int(printed)
    return outcome


@contextmanager
def running_server() -> Iterator[tuple[int, str]]:
    """Start `nflae serve`: (process, address)."""
    command = [sys.executable, "-m", "nflae_bridge.cli", "serve", "--bind", "tcp://127.0.0.1:*"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        log = process.stderr
        address = next(re.findall(r"address=(\S+)", line)[0] for line in log if "address=" in line)
        reader = threading.Thread(target=log.read, daemon=True)
        reader.start()
        try:
            yield process.pid, address
        finally:
            process.terminate()
            process.wait(TIMEOUT)
            reader.join()


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    """Return a line of the table: sums of the counts, medians of the times, and the extremes of the ratios."""
    quiet, attacked = (1e3 * statistics.median(times) for times in zip(*(each.p99s for each in outcomes), strict=True))
    ratios = sorted(each.ratio for each in outcomes)
    counts = [sum(each.messages for each in outcomes), sum(len(each.attacked) for each in outcomes)]
    counts += [sum(each.wrong for each in outcomes), sum(each.failed for each in outcomes)]
    memory = (max(each.peak for each in outcomes) - outcomes[0].start) / MEGABYTE
    shown = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    longest = 1e3 * max(max(each.attacked) for each in outcomes)
    times = f"{quiet:.1f} | {attacked:.1f} | {shown} | {longest:.0f}"
    return f"| {name} | {' | '.join(map(str, counts))} | {times} | {memory:.0f} |"


def main() -> None:
    """Run the attacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"attacks, separated by commas: {', '.join(ATTACKS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the attacks")
    parser.add_argument("--seconds", type=float, default=3.0, help="shortest time of an attack, repeated until then")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each attack")
    parser.add_argument("--one-server", action="store_true", help="all attacks against one server, one after the other")
    parser.add_argument("-o", type=Path, metavar="FILE", help="also write the table to a file")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(ATTACKS)
    if unknown := [name for name in names if name not in ATTACKS]:
        parser.error(f"no attack {unknown[0]!r}: there are {', '.join(ATTACKS)}")
    lines = [
        "| attack | messages | calls beside | wrong | failed | p99 quiet, ms | p99 beside, ms | ratio | longest, ms |"
        " memory, MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n", flush=True)
    for group in [names] if arguments.one_server else [[name] for name in names]:
        with running_server() as (pid, address):
            start = resident(pid)
            for name in group:
                outcomes: list[Outcome] = []
                for _ in range(arguments.repeats):
                    outcomes.append(measure(name, pid, address, arguments.scale, arguments.seconds))
                    outcomes[0].start = start if arguments.one_server else outcomes[0].start
                    print(row(name, outcomes), file=sys.stderr, flush=True)
                lines.append(row(name, outcomes))
                print(lines[-1], flush=True)
    if arguments.o:
        arguments.o.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
