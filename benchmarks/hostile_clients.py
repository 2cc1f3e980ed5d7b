"""Attack a server of precoders as a hostile or careless client would; each attack is one function.

    python -m benchmarks.hostile_clients NAME ADDRESS --scale 0.1 --seconds 3

The process prints a line when it is ready, attacks after a line of its input, and prints the number of messages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import zmq

Channels = npt.NDArray[np.complex64]
Attack = Callable[[str, float], int]

TIMEOUT = 200.0  # a computation is limited in processor time, of which a busy machine has little
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


FUZZED_CHANNELS = [channels(1, 2, 4, seed) for seed in range(8)]
FUZZED_CHANNELS[0][0, 1, 2] = np.nan
FUZZED_CHANNELS[1] *= np.float32(1e-25)
FUZZED_CHANNELS[2] *= 0


def fuzzed_message(chance: random.Random) -> list[bytes]:
    """Draw a message: of the wire's fuzzer, with faults in frames or numbers, or without any meaning."""
    from tests.fuzz.hostile_messages import hostile, hostile_prediction

    kind = chance.random()
    if kind < 0.01:
        return hostile_prediction(chance) if kind < 0.001 else hostile(chance)
    drawn = FUZZED_CHANNELS[chance.randrange(len(FUZZED_CHANNELS))]
    frames = request(drawn, want=["power"], noise_power=chance.choice((1e-2, 1e-30, 5e-324, -1.0)))
    if kind < 0.3:
        text = bytearray(frames[0])
        text[chance.randrange(len(text))] = chance.randrange(256)
        frames[0] = bytes(text)
    elif kind < 0.5:
        frames[1] = frames[1][: chance.randrange(len(frames[1]))]
    elif kind < 0.6:
        frames = [bytes(chance.choices(range(256), k=chance.randrange(60))) for _ in range(chance.randrange(1, 5))]
    elif kind < 0.7:
        frames = [b""] * chance.randrange(1, 13)
    elif kind < 0.701:
        frames += [b""] * chance.choice([100, 5000])
    return frames


def fuzzed_messages(address: str, scale: float) -> int:
    """Send a million messages, 100,000 of them different, over four sockets, and break off connections in between."""
    from tests.fuzz.hostile_messages import send_bytes, wrong_reply

    count, chance = round(1e6 * scale), random.Random(time.time_ns())
    messages = [fuzzed_message(chance) for _ in range(max(100, count // 10))]
    faults: list[str] = []
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(dealer(address)) for _ in range(4)]
        waiting = [0] * len(peers)
        for number in range(count):
            if number % 200 == 0:
                send_bytes(address, chance)
                continue
            place = number % len(peers)
            peer = peers[place]
            peer.send_multipart(chance.choice(messages))
            waiting[place] += 1
            # Some messages end the connection, and the answers to those before them are lost.
            while peer.poll(0 if waiting[place] < 50 else 1000):
                faults += wrong_reply(peer.recv_multipart())
                waiting[place] -= 1
            if waiting[place] >= 50:
                waiting[place] = 0
    if faults:
        raise SystemExit(f"{len(faults)} answers are wrong, such as: {faults[0]}")
    return count


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        *(empty_frames, empty_messages, large_envelopes, large_requests, stalled_requests, greedy, never_reading),
        *(poisoned, expensive, connections, fuzzed_messages),
    )
}


def main() -> None:
    """Run an attack, again and again for a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("address")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the attack")
    parser.add_argument("--seconds", type=float, default=0.0, help="shortest time; it is repeated until then")
    arguments = parser.parse_args()
    print("ready", flush=True)
    input()
    end, count = time.monotonic() + arguments.seconds, 0
    while not count or time.monotonic() < end:
        count += ATTACKS[arguments.name](arguments.address, arguments.scale)
    print(count)


if __name__ == "__main__":
    main()
