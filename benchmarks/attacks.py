"""Measure what a client with small requests notices of hostile ones at the same `nflae serve`.

    python benchmarks/attacks.py -o attacks.md
    python benchmarks/attacks.py --only empty_frames,greedy --scale 0.1

Every attack runs in a process of its own against a new server. The client checks each answer; its times during the
attack are compared with those before it. The memory is the growth of the server's resident set, sampled every 20 ms.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, by numpy and torch; the server inherits it

import argparse
import contextlib
import json
import re
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zmq

from nflae_bridge import Client
from nflae_bridge.live.errors import BridgeError

Channels = npt.NDArray[np.complex64]
Attack = Callable[[str, float], int]

TIMEOUT = 60.0
MEGABYTE = 1 << 20
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"


def channels(drops: int, users: int, antennas: int, seed: int = 0) -> Channels:
    """Draw complex Gaussian channels, (drops, users, antennas)."""
    rng = np.random.default_rng(seed)
    parts = rng.standard_normal((drops, users, antennas, 2), dtype=np.float32)
    drawn: Channels = parts.view(np.complex64)[..., 0]
    return drawn


def request(drawn: Channels, **fields: object) -> list[bytes]:
    """Encode a request by json and numpy alone."""
    header = {"v": 1, "id": "1", "op": "precode", "shape": drawn.shape[::-1], "scheme": "mrt"} | fields
    return [json.dumps(header).encode(), drawn.tobytes()]


# Attacks: each returns the number of messages or connections


@contextmanager
def dealer(address: str, **options: int) -> Iterator[zmq.Socket[bytes]]:
    """Connect a DEALER socket without limits of its own."""
    with zmq.Context.instance().socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 0
        socket.rcvtimeo = round(1e3 * TIMEOUT)
        for name, value in options.items():
            setattr(socket, name, value)
        socket.connect(address)
        yield socket


def connection(address: str, handshake: bool = True) -> sockets.socket:
    """Open a TCP connection, after ZeroMQ's handshake or without it."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    socket = sockets.create_connection((host, int(port)), TIMEOUT)
    if handshake:
        socket.sendall(GREETING + READY)
    return socket


def blast(address: str, piece: bytes, count: int) -> int:
    """Send a sequence of bytes many times over raw connections, a new one whenever the server closes the last one."""
    block = piece * 65_536
    sent = attempts = 0
    while sent < count and attempts < 1000:
        attempts += 1
        with contextlib.suppress(OSError), connection(address) as socket:
            socket.settimeout(1.0)  # the server may have stopped reading
            while sent < count:
                sent += socket.send(block) // len(piece)
    return sent


def empty_frames(address: str, scale: float) -> int:
    """Send messages of 12 million empty frames that never end."""
    return blast(address, b"\x01\x00", round(12e6 * scale))


def empty_messages(address: str, scale: float) -> int:
    """Send messages of one empty frame over four connections."""
    counts: list[int] = []
    each = round(250e3 * scale)

    def send() -> None:
        with dealer(address) as socket:
            for number in range(each):
                socket.send(b"")
                if number >= 200:
                    socket.recv_multipart()
            counts.append(each)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def large_envelopes(address: str, scale: float) -> int:
    """Send envelopes of 7 frames of 30 MB."""
    count = max(1, round(50 * scale))
    frame = bytes(30 * MEGABYTE)
    with dealer(address) as socket:
        for _ in range(count):
            socket.send_multipart([*[frame] * 7, b"", b"{}"])
            if sum(map(len, socket.recv_multipart())) > 1000:
                raise SystemExit("the envelope came back")
    return count


def large_requests(address: str, scale: float) -> int:
    """Send valid requests of 57 MB from 50 clients at a time."""
    clients = max(3, round(50 * scale))
    frames = request(channels(1740, 16, 256), want=["precoder", "power"])
    with contextlib.ExitStack() as stack:
        open_sockets = [stack.enter_context(dealer(address)) for _ in range(clients)]
        for socket in open_sockets:
            socket.send_multipart(frames, copy=False)
        for socket in open_sockets:
            answer = socket.recv_multipart()[0]
            if b'"ok":true' not in answer and b'"busy"' not in answer:
                raise SystemExit(f"neither an answer nor busy: {answer[:300]!r}")
    return clients


def stalled_requests(address: str, scale: float) -> int:
    """Announce frames of 60 MB over 100 connections and send no byte of them for two seconds."""
    count = max(3, round(100 * scale))
    header = request(np.zeros((1830, 16, 256), np.complex64))[0]
    start = bytes([1, len(header)]) + header + b"\x02" + (1830 * 16 * 256 * 8).to_bytes(8, "big")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connection(address)).sendall(start)
        time.sleep(2)
    return count


def greedy(address: str, scale: float) -> int:
    """Keep 3,000 requests in flight."""
    count, window = round(300e3 * scale), min(3000, round(300e3 * scale))
    frames = request(channels(1, 4, 32), scheme="rzf")
    with dealer(address) as socket:
        for number in range(count):
            socket.send_multipart(frames)
            if number >= window:
                socket.recv_multipart()
    return count


def never_reading(address: str, scale: float) -> int:
    """Request answers of 2 MB and read none."""
    count = round(2000 * scale)
    frames = request(channels(64, 16, 256), want=["precoder", "power"])
    with dealer(address, rcvhwm=1) as socket:
        for _ in range(count):
            socket.send_multipart(frames, copy=False)
            time.sleep(0.01)
        time.sleep(1)
    return count


def poisoned(address: str, scale: float) -> int:
    """Mix requests with a noise power of 5e-324 W, 1e-30 W and NaN channels into batches."""
    count = round(100e3 * scale)
    good = channels(1, 4, 32)
    bad = good.copy()
    bad[0, 1, 2] = np.nan
    kinds = [request(good, noise_power=5e-324), request(good, noise_power=1e-30, scheme="rzf"), request(bad)]
    with dealer(address) as socket:
        for number in range(count):
            socket.send_multipart(kinds[number % len(kinds)])
            if number >= 100:
                socket.recv_multipart()
    return count


def expensive(address: str, scale: float) -> int:
    """Request the longest computations that are accepted, and leave during every second one."""
    count = max(2, round(20 * scale))
    for number in range(count):
        for drops in (16384, 4096, 1024, 256, 64, 16):
            with dealer(address) as socket:
                socket.send_multipart(request(channels(drops, 16, 16), scheme="wmmse", want=["sum_rate"]))
                if number % 2 and socket.poll(500) == 0:
                    break
                if b'"ok":true' in socket.recv_multipart()[0]:
                    break
    return count


def connections(address: str, scale: float) -> int:
    """Open 3,000 connections without a handshake and leave them open."""
    count = max(600, round(3000 * scale))
    opened = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            opened.append(connection(address, handshake=False))
        if len(opened) >= 900:
            opened.pop(0).close()
    time.sleep(1)
    return count


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        *(empty_frames, empty_messages, large_envelopes, large_requests, stalled_requests, greedy, never_reading),
        *(poisoned, expensive, connections),
    )
}


# The server and the client beside it


@dataclass
class Outcome:
    """Hold the results of an attack.

    Attributes
    ----------
    messages : int
        Messages or connections of the attack.
    calls, wrong, failed : int
        Calls of the good client during it, wrong answers, exceptions.
    quiet, attacked : list of float
        Times of its calls before and during the attack, s.
    memory : int
        Largest growth of the server's resident set, bytes.
    """

    messages: int = 0
    wrong: int = 0
    failed: int = 0
    quiet: list[float] = field(default_factory=list)
    attacked: list[float] = field(default_factory=list)
    memory: int = 0


class Beside(threading.Thread):
    """Request and check small precoders until told to stop."""

    def __init__(self, address: str, outcome: Outcome) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._outcome = outcome
        self.seconds = outcome.quiet
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
                began = time.perf_counter()
                try:
                    precoder = client.precode(drawn, scheme="mrt").precoder
                except BridgeError:
                    self._outcome.failed += 1
                    continue
                self.seconds.append(time.perf_counter() - began)
                expected = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
                self._outcome.wrong += not np.allclose(precoder, expected, atol=1e-5)
                self.leave.wait(2e-3)


def resident(pid: int) -> int:
    """Return the resident set of a process, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(name: str, pid: int, address: str, scale: float, quiet_seconds: float = 3.0) -> Outcome:
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
    quiet_seconds : float
        Time of the measurement before it, s.

    Returns
    -------
    Outcome
        Outcome.
    """
    outcome = Outcome()
    beside = Beside(address, outcome)
    beside.start()
    beside.ready.wait(TIMEOUT)
    time.sleep(quiet_seconds)
    before = resident(pid)
    beside.seconds = outcome.attacked
    command = [sys.executable, __file__, "--child", name, "--address", address, "--scale", str(scale)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as attacker:
        while attacker.poll() is None:
            outcome.memory = max(outcome.memory, resident(pid) - before)
            time.sleep(0.02)
        assert attacker.stdout is not None
        printed = attacker.stdout.read()
    beside.leave.set()
    beside.join(TIMEOUT)
    outcome.failed += beside.is_alive()
    if attacker.returncode:
        raise SystemExit(f"{name} has failed")
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


def row(name: str, outcome: Outcome) -> str:
    """Return a line of the table."""
    quiet, attacked = (1e3 * np.percentile(times, 99) for times in (outcome.quiet, outcome.attacked))
    return (
        f"| {name} | {outcome.messages} | {len(outcome.attacked)} | {outcome.wrong} | {outcome.failed} | {quiet:.1f} |"
        f" {attacked:.1f} | {attacked / quiet:.1f} | {outcome.memory / MEGABYTE:.0f} |"
    )


def main() -> None:
    """Run the attacks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"attacks, separated by commas: {', '.join(ATTACKS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the attacks")
    parser.add_argument("-o", type=Path, metavar="FILE", help="also write the table to a file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(ATTACKS[arguments.child](arguments.address, arguments.scale))
        return
    lines = [
        "| attack | messages | calls beside | wrong | failed | p99 before, ms | p99 beside, ms | ratio | memory, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print(*lines, sep="\n", flush=True)
    for name in arguments.only.split(",") if arguments.only else ATTACKS:
        with running_server() as (pid, address):
            lines.append(row(name, measure(name, pid, address, arguments.scale)))
        print(lines[-1], flush=True)
    if arguments.o:
        arguments.o.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
