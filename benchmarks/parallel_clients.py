"""Run clients of a benchmark at a time, each in a process of its own, and count their answers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack


def count_answers(request: Callable[[], object]) -> None:
    """Send one request after the other (child process): for the seconds in each line on stdin; print their number."""
    request()
    print("ready", flush=True)
    for line in sys.stdin:
        until, answered = time.perf_counter() + float(line), 0
        while time.perf_counter() < until:
            request()
            answered += 1
        print(answered, flush=True)


class ParallelClients:
    """Start processes that run `count_answers`, and let them send requests at the same time.

    Parameters
    ----------
    stack : ExitStack
        Ends the processes.
    commands : iterable of list of str
        Arguments of the Python interpreter, per process.
    drops : int
        Drops per request.
    """

    def __init__(self, stack: ExitStack, commands: Iterable[list[str]], drops: int) -> None:
        self._drops = drops
        self._processes: list[subprocess.Popen[str]] = []
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            self._processes.append(process)
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.readline()

    def drops_per_second(self, seconds: float) -> float:
        """Measure the throughput of all clients over a time, s."""
        began = time.perf_counter()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        answered = 0
        for process in self._processes:
            assert process.stdout is not None
            answered += int(process.stdout.readline())
        return answered * self._drops / (time.perf_counter() - began)
