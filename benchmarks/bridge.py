"""Measure the overhead of `nflae serve` over a socket and over the engine, and the growth of its memory.

    latency      one request at a time, against a ZeroMQ ROUTER that sends the same bytes back and does nothing else
    throughput   eight clients at a time, against the engine alone in this process
    memory       resident memory of the server over a million small requests

Compared quantities are measured in turns, in one run on one machine; each process computes with one thread.

    python -m benchmarks.bridge --only latency,throughput -o bridge.md
"""

from __future__ import annotations

import os

# Set before numpy and torch are imported, which read it once; the server inherits it.
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import itertools
import json
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq
from rich.console import Console
from rich.progress import Progress, TaskID

from benchmarks.parallel_clients import ParallelClients, count_answers
from nflae_bridge import Client

ANTENNAS, USERS = 256, 10
CLIENTS = 8
WARM_UP = 200

Row = tuple[str, str, str]
Channels = npt.NDArray[np.complex64]


# Processes


@contextmanager
def running(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a process that prints `address=...`; yield the process and the address."""
    command = [sys.executable, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, next(re.findall(r"address=(\S+)", line)[0] for line in process.stdout if "address=" in line)
        finally:
            process.terminate()


def running_server(*arguments: object) -> Any:
    """Start `nflae serve`: (process, address)."""
    return running("-m", "nflae_bridge.cli", "serve", "--bind", "tcp://127.0.0.1:*", *arguments)


def running_echo() -> Any:
    """Start a ROUTER that returns every message: (process, address)."""
    return running("-m", "benchmarks.bridge", "--child", "echo")


def echo() -> None:
    """Return every message (child process): the least work of a Python server."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    print(f"address=tcp://127.0.0.1:{port}", flush=True)
    while True:
        socket.send_multipart(socket.recv_multipart())


@contextmanager
def dealer(address: str) -> Iterator[zmq.Socket[bytes]]:
    """Connect a DEALER to ``address``."""
    with zmq.Context.instance().socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.rcvtimeo = 60_000
        socket.connect(address)
        yield socket


# Requests


def rayleigh(drops: int, users: int, antennas: int, seed: int = 0) -> Channels:
    """Draw Rayleigh channels of unit mean norm, (drops, users, antennas)."""
    rng = np.random.default_rng(seed)
    shape = (drops, users, antennas)
    values = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2 * antennas)
    channels: Channels = values.astype(np.complex64)
    return channels


def request(channels: Channels, **fields: object) -> list[bytes]:
    """Encode a request by json and numpy alone."""
    header = {"v": 1, "id": "1", "op": "precode", "shape": channels.shape[::-1]} | fields
    return [json.dumps(header).encode(), channels.tobytes()]


def exchange(socket: zmq.Socket[bytes], frames: list[bytes]) -> list[bytes]:
    """Send a message and wait for its answer."""
    socket.send_multipart(frames)
    return socket.recv_multipart()


def checked(answer: list[bytes]) -> None:
    """Raise SystemExit for an answer that is an error."""
    if b'"ok":true' not in answer[0]:
        raise SystemExit(f"the server refused: {answer[0][:300]!r}")


# Latency


def latency(samples: int, progress: Progress) -> Iterator[Row]:
    """Measure round trips, each right after one of the echo's, in turns."""
    channels = rayleigh(1, USERS, ANTENNAS)
    everything = request(channels, scheme="mrt")
    beams = request(channels, scheme="mrt", want=["precoder", "power"])
    with ExitStack() as stack:
        _, address = stack.enter_context(running_server())
        _, echo_address = stack.enter_context(running_echo())
        server, mirror = stack.enter_context(dealer(address)), stack.enter_context(dealer(echo_address))
        client = stack.enter_context(Client(address))
        for frames in (everything, beams):
            checked(exchange(server, frames))
        ways: dict[str, tuple[list[bytes], Callable[[], object]]] = {
            "raw socket, all ten arrays": (everything, lambda: exchange(server, everything)),
            "raw socket, precoder and power": (beams, lambda: exchange(server, beams)),
            "`nflae_bridge.Client`": (everything, lambda: client.precode(channels, scheme="mrt")),
        }
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        task = progress.add_task("latency", total=samples + WARM_UP)
        for _ in range(samples + WARM_UP):
            for way, (frames, ask) in ways.items():
                began = time.perf_counter()
                exchange(mirror, frames)
                between = time.perf_counter()
                ask()
                seconds[way].append((between - began, time.perf_counter() - between))
            progress.advance(task)
    for way, pairs in seconds.items():
        plain, served = np.array(pairs[WARM_UP:]).T * 1e6
        for percent, reach in ((50, "<= 2"), (99, "<= 3")):
            of_echo, of_server = np.percentile(plain, percent), np.percentile(served, percent)
            yield (
                f"Round trip over that of an echo, {way}: p{percent}",
                f"{of_server / of_echo:.2f} ({of_server:.0f} us / {of_echo:.0f} us)",
                reach,
            )


# Throughput


def request_repeatedly(address: str, drops: int, seed: int) -> None:
    """Send requests of Rayleigh drops one after the other (child process), see `count_answers`."""
    requests = itertools.cycle([request(rayleigh(drops, USERS, ANTENNAS, 100 * seed + each)) for each in range(16)])
    with dealer(address) as socket:
        count_answers(lambda: checked(exchange(socket, next(requests))))


class EngineAlone:
    """Run the engine in this process, on batches of a given size."""

    def __init__(self) -> None:
        from nflae_bridge.engine.schemes import load_scheme

        self._scheme = load_scheme("nflae")
        self._drops = rayleigh(512, USERS, ANTENNAS)

    def drops_per_second(self, seconds: float, batch: int) -> float:
        """Measure the throughput of one batch after the other over a time, s."""
        import torch

        from simulator.downlink.budget import LinkBudget
        from simulator.downlink.precoding import ChannelBatch

        began = time.perf_counter()
        done = 0
        while time.perf_counter() - began < seconds:
            start = done % (len(self._drops) - batch)
            self._scheme(ChannelBatch(torch.from_numpy(self._drops[start : start + batch])), LinkBudget())
            done += batch
        return done / (time.perf_counter() - began)


def throughput(seconds: float, progress: Progress) -> Iterator[Row]:
    """Measure server and engine in turns, the engine on batches as large as the server's mean."""
    engine = EngineAlone()
    turns = max(5, round(seconds))
    for drops in (1, 8):
        task = progress.add_task(f"throughput, {drops} drops per request", total=1 + 2 * turns)
        with ExitStack() as stack:
            process, address = stack.enter_context(running_server())
            options = ["-m", "benchmarks.bridge", "--child", "client", "--address", address, "--drops", str(drops)]
            clients = ParallelClients(stack, ([*options, "--seed", str(each)] for each in range(CLIENTS)), drops)
            status = stack.enter_context(Client(address)).status
            clients.drops_per_second(0.4 * seconds)
            progress.advance(task)
            before = status()["counts"]
            served, alone = [], []
            server_began, engine_used, engine_drops = processor_seconds(process), 0.0, 0.0
            for _ in range(turns):
                served.append(clients.drops_per_second(seconds / turns))
                progress.advance(task)
                counts = status()["counts"]
                batch = (counts["drops"] - before["drops"]) / (counts["batches"] - before["batches"])
                began = time.process_time()
                alone.append(engine.drops_per_second(seconds / turns, max(1, round(batch))))
                engine_used += time.process_time() - began
                engine_drops += alone[-1] * seconds / turns
                progress.advance(task)
            server_used = processor_seconds(process) - server_began
        ratios = np.divide(served, alone)
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        yield (
            f"Drops per second with {CLIENTS} clients over the engine's alone, {drops} drop{'s' * (drops > 1)} per"
            " request",
            f"{middle:.2f} ({np.mean(served):.0f} / {np.mean(alone):.0f}; {batch:.1f} drops per batch; median of"
            f" {turns} turns, half of them from {low:.2f} to {high:.2f})",
            ">= 0.85",
        )
        yield (
            f"The same by drops per second of processor time, {drops} drop{'s' * (drops > 1)} per request",
            f"{(counts['drops'] - before['drops']) / server_used / (engine_drops / engine_used):.2f}"
            " (independent of other programs)",
            "",
        )


def processor_seconds(process: subprocess.Popen[str]) -> float:
    """Return the processor time of a process, s (Linux)."""
    return time.clock_gettime((~process.pid << 3) | 2)  # the clock of clock_getcpuclockid(3)


# Memory


def resident(process: subprocess.Popen[str]) -> int:
    """Return the resident memory of a process, bytes (Linux)."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory(requests: int, progress: Progress) -> Iterator[Row]:
    """Send small requests from four sockets with 32 open ones each; read the resident memory a thousand times."""
    sockets, open_requests = 4, 32
    frames = request(rayleigh(1, 2, 8), scheme="mrt")
    task: TaskID = progress.add_task("memory", total=requests)
    with ExitStack() as stack:
        process, address = stack.enter_context(running_server())
        peers = [stack.enter_context(dealer(address)) for _ in range(sockets)]
        poller = zmq.Poller()
        for peer in peers:
            poller.register(peer, zmq.POLLIN)
            for _ in range(open_requests):
                peer.send_multipart(frames)
        sent, answered = sockets * open_requests, 0
        seen: list[tuple[int, int]] = []
        began = time.perf_counter()
        while answered < requests:
            for peer, _ in poller.poll(60_000) or _silent():
                checked(peer.recv_multipart())
                answered += 1
                if sent < requests:
                    peer.send_multipart(frames)
                    sent += 1
                if answered % max(1, requests // 1000) == 0:
                    seen.append((answered, resident(process)))
                    progress.update(task, completed=answered)
        rate = requests / (time.perf_counter() - began)
    warm = next(used for after, used in seen if after >= requests / 10)
    largest = max(used for after, used in seen if after >= requests / 10)
    yield (
        f"Growth of the server's resident memory over {requests:,} requests, after the first tenth",
        f"{100 * (largest - warm) / warm:.2f} % ({warm / 2**20:.1f} MiB, then at most {largest / 2**20:.1f} MiB;"
        f" {rate:.0f} requests per second)",
        "< 5 %",
    )


def _silent() -> list[Any]:
    raise SystemExit("the server has not answered for a minute")


# The table


def table(rows: list[Row]) -> str:
    """Format the rows in Markdown."""
    lines = ["| measured | value | target |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    about = (
        f"N = {ANTENNAS}, K = {USERS}; {os.cpu_count()} cores ({platform.machine()}), Python"
        f" {platform.python_version()}, one thread per process; latency with scheme mrt, throughput with nflae."
    )
    return "\n".join([*lines, "", about, ""])


def main() -> None:
    """Run the measurements named on the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="latency,throughput,memory", help="some of latency,throughput,memory")
    parser.add_argument("--samples", type=int, default=4000, help="round trips of each kind (default 4000)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="throughput: number of turns, one second each for server and engine (default 20)",
    )
    parser.add_argument(
        "--requests", type=int, default=1_000_000, help="memory: number of requests (default 1,000,000)"
    )
    parser.add_argument("-o", "--output", type=Path, help="file to write the table to as well")
    parser.add_argument("--child", choices=["echo", "client"], help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--drops", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == "echo":
        echo()
    if options.child == "client":
        request_repeatedly(options.address, options.drops, options.seed)
        return
    rows: list[Row] = []
    wanted = options.only.split(",")
    with Progress(console=Console(stderr=True), refresh_per_second=2) as progress:
        if "latency" in wanted:
            rows += latency(options.samples, progress)
        if "throughput" in wanted:
            rows += throughput(options.seconds, progress)
        if "memory" in wanted:
            rows += memory(options.requests, progress)
    text = table(rows)
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
