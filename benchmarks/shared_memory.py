"""Compare requests of 21 MB over tcp, ipc and shared memory, and a raw echo of the same bytes, in turns in one run.

    python -m benchmarks.shared_memory -o shared_memory.md

The server computes precoders and powers by `mrt`. The second column is without the time from the arrival of a request
to its answer (`total` in `timing_us`), which tells the way of the bytes and the work of the client.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bridge import ANTENNAS, USERS, dealer, rayleigh, request, running_echo, running_server
from nflae_bridge import Client
from nflae_bridge.live.protocol.messages import Reply

DROPS = 1024
WANT = ("precoder", "power")


class TimedClient(Client):
    """Keep the time of the last request within the server, s."""

    within = 0.0

    def _call(self, *arguments: Any) -> Reply:
        reply = super()._call(*arguments)
        self.within = 1e-6 * reply.timing_us.get("total", 0)
        return reply


Times = dict[str, list[tuple[float, float]]]


def measure(rounds: int) -> Times:
    """Return the times of calls by each way, whole and outside of the server, s, after one that is not counted."""
    channels = rayleigh(DROPS, USERS, ANTENNAS)
    frames = request(channels)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        local = f"ipc://{folder}/server"
        _, address = stack.enter_context(running_server("--bind", local, "--queue-mb", 512, "--device", "cpu"))
        clients = {
            "tcp": stack.enter_context(TimedClient(address, timeout=300, shared_memory=False)),
            "ipc": stack.enter_context(TimedClient(local, timeout=300, shared_memory=False)),
            "shared memory": stack.enter_context(TimedClient(address, timeout=300)),
        }
        mirror = stack.enter_context(dealer(stack.enter_context(running_echo())[1]))

        def echo() -> None:
            mirror.send_multipart(frames, copy=False)
            mirror.recv_multipart(copy=False)

        times: Times = {name: [] for name in ("echo", *clients)}
        for turn in range(rounds + 1):
            for name in times:
                began = time.perf_counter()
                if name == "echo":
                    echo()
                else:
                    clients[name].precode(channels, scheme="mrt", want=WANT)
                whole = time.perf_counter() - began
                if turn:
                    times[name].append((whole, whole - (clients[name].within if name in clients else 0)))
    return times


def table(times: Times) -> str:
    """Format medians, and the ratios of the times outside of the server to the echo's."""
    median = {name: 1e3 * np.median(values, axis=0) for name, values in times.items()}
    lines = ["| | whole, ms | outside of the server, ms | over raw echo |", "|---|---|---|---|"]
    for name, (whole, outside) in median.items():
        lines.append(f"| {name} | {whole:.1f} | {outside:.1f} | {outside / median['echo'][1]:.2f} |")
    size = 8 * DROPS * USERS * ANTENNAS / 1e6
    about = f"{size:.0f} MB each way, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {len(times['tcp'])} rounds"
    return "\n".join([about, "", *lines, ""])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="calls of each kind (default 15)")
    parser.add_argument("-o", "--output", type=Path, help="file to write the table to as well")
    options = parser.parse_args()
    text = table(measure(options.rounds))
    print(text, end="")
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
