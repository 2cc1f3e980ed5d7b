"""Run a fuzzer in forked processes, and end one whose seed does not end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tests.fuzz.fuzzers import Attempt, faults_of

SECONDS = 60.0  # longest processor time of a seed; the fuzzers themselves have closer limits
_WAITING = 10  # longest wall-clock time over that, on a busy machine
_SEEDS_AHEAD = 4  # given to a process before the faults of the first have come back
_FORK = multiprocessing.get_context("fork")  # modules are loaded once

Found = tuple[int, list[str]]


def _work(attempt: Attempt, pipe: Connection, folder: Path) -> None:
    while True:
        seed = pipe.recv()
        pipe.send((seed, faults_of(attempt, seed, folder)))


class _Worker:
    """A process, the seeds that it has been given, oldest first, and since when the oldest runs."""

    def __init__(self, attempt: Attempt, folder: str) -> None:
        self.pipe, other = _FORK.Pipe()
        place = Path(tempfile.mkdtemp(dir=folder))
        self._process = _FORK.Process(target=self._run, args=(attempt, other, place), daemon=True)
        self._process.start()
        other.close()
        self.pid = self._process.pid or 0
        with suppress(OSError):  # it has done so itself
            os.setpgid(self.pid, self.pid)
        self.seeds: list[int] = []
        self._began = self._worked = 0.0

    def _run(self, attempt: Attempt, other: Connection, place: Path) -> None:
        self.pipe.close()
        with suppress(OSError):
            os.setpgid(0, 0)  # ended together with the programs it starts
        _work(attempt, other, place)

    def give(self, seed: int) -> None:
        """Send a seed."""
        if not self.seeds:
            self._begin()
        self.seeds.append(seed)
        with suppress(BrokenPipeError):  # the end of the process is reported with the oldest seed
            self.pipe.send(seed)

    def take(self) -> Found:
        """Receive the faults of the oldest seed; raises EOFError where the process has ended."""
        found: Found = self.pipe.recv()
        self.seeds.pop(0)
        self._begin()
        return found

    def excess(self, limit: float) -> str:
        """Return the time that the oldest seed has taken beyond its limit, in words."""
        if self._processor_seconds() - self._worked > limit:
            return f"takes more than {limit:g} s of processor time"
        return f"does not end in {_WAITING * limit:g} s" if time.monotonic() - self._began > _WAITING * limit else ""

    def _begin(self) -> None:
        self._began, self._worked = time.monotonic(), self._processor_seconds()

    def _processor_seconds(self) -> float:
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, *, abort: bool = False) -> int | None:
        """End the process and those it has started, after its traceback for `abort`; return its exit code."""
        if abort:
            os.kill(self.pid, signal.SIGABRT)
        if abort or self.seeds:
            self._process.join(5)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()
        self.pipe.close()
        return self._process.exitcode


def failures(
    attempt: Attempt, seeds: Iterable[int], seconds: float, workers: int = 1, limit: float = SECONDS
) -> Iterator[Found]:
    """Run seeds for a time in several processes; yield every seed with its faults, which are none for most.

    A seed that takes longer than `limit` seconds of processor time, or ten times that, or ends its process, has that as
    its fault, and its process is replaced.
    """
    remaining = iter(seeds)
    with tempfile.TemporaryDirectory() as folder:
        running = [_Worker(attempt, folder) for _ in range(workers)]
        end = time.monotonic() + seconds
        try:
            while True:
                for worker in running:
                    while len(worker.seeds) < _SEEDS_AHEAD and time.monotonic() < end:
                        seed = next(remaining, None)
                        if seed is None:
                            break
                        worker.give(seed)
                busy = [worker for worker in running if worker.seeds]
                if not busy:
                    return
                ready = wait([worker.pipe for worker in busy], 1.0)
                for worker in busy:
                    fault = ""
                    if worker.pipe in ready:
                        try:
                            yield worker.take()
                        except (EOFError, ConnectionResetError):
                            fault = f"ends its process, exit code {worker.end()}"
                    elif fault := worker.excess(limit):
                        worker.end(abort=True)
                    if fault:
                        yield worker.seeds.pop(0), [fault]
                        running[running.index(worker)] = fresh = _Worker(attempt, folder)
                        for seed in worker.seeds:
                            fresh.give(seed)
        finally:
            for worker in running:
                worker.seeds = []
                worker.end()
