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

# Longest wall-clock time of a seed: limits of processor time are those of the fuzzers themselves.
SECONDS = 60.0
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
        self.began = 0.0

    def _run(self, attempt: Attempt, other: Connection, place: Path) -> None:
        self.pipe.close()
        with suppress(OSError):
            os.setpgid(0, 0)  # ended together with the programs it starts
        _work(attempt, other, place)

    def give(self, seed: int) -> None:
        """Send a seed."""
        if not self.seeds:
            self.began = time.monotonic()
        self.seeds.append(seed)
        with suppress(BrokenPipeError):  # the end of the process is reported with the oldest seed
            self.pipe.send(seed)

    def take(self) -> Found:
        """Receive the faults of the oldest seed; raises EOFError where the process has ended."""
        found: Found = self.pipe.recv()
        self.seeds.pop(0)
        self.began = time.monotonic()
        return found

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

    A seed that takes longer than `limit` seconds, or ends its process, has that as its fault, and its process is
    replaced.
    """
    remaining, end = iter(seeds), time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        running = [_Worker(attempt, folder) for _ in range(workers)]
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
                    fault = None
                    if worker.pipe in ready:
                        try:
                            yield worker.take()
                        except (EOFError, ConnectionResetError):
                            fault = f"ends its process, exit code {worker.end()}"
                    elif time.monotonic() - worker.began > limit:
                        fault = f"takes more than {limit:g} s"
                        worker.end(abort=True)
                    if fault is not None:
                        yield worker.seeds.pop(0), [fault]
                        running[running.index(worker)] = fresh = _Worker(attempt, folder)
                        for seed in worker.seeds:
                            fresh.give(seed)
        finally:
            for worker in running:
                worker.seeds = []
                worker.end()
