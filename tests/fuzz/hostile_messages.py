"""Requests that no client would write, sent to a real server, with a good client beside them."""

from __future__ import annotations

import atexit
import json
import random
import socket
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from nflae_bridge.live.client import Client
from nflae_bridge.live.errors import BridgeError
from tests.channel_files import random_channels
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.moving_users import moving_users

USERS, ANTENNAS = 3, 8
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
NUMBERS = (0, -1, 1e308, 5e-324, -0.0, float("nan"), float("inf"), 2**63, 10**400, 1e-300, "1", None, True, [], {}, 0.5)
LEGAL = {
    "noise_power": (1e-30, 1e-12, 1e-2, 1e30),
    "power": (1e-30, 1e-3, 1e30),
    "alpha_c": (1e-300, 0.1, 1),
    "min_rate": (0, 1e-9, 0.5, 1e6),
    "refine": (0, 1, 3),
}
SCHEMES = (
    "nflae",
    "rzf",
    "wmmse",
    "zf",
    "mrt",
    "noma",
    "wmmse:iterations=10000",
    "wmmse:iterations=-1",
    "x" * 5000,
    "",
)
SHAPES = ([ANTENNAS, USERS, 1], [2**31, 2**31, 2**31], [0, 0, 0], [-1, 3, 1], [ANTENNAS], [1] * 1000, [1.5, 2, 1], None)
PREDICTIONS = {
    "ahead": (0, 1, 2, 4, 5, 8, 2**40, -1, 2.5),
    "method": ("auto", "hold", "ar", "esprit", "nflae", "", "x" * 5000, 3),
    "geometry": (
        "none",
        "line",
        "panel:2x4",
        "panel:3x3",
        "panel:0x8",
        "panel:99999999999x1",
        "panel",
        "x" * 5000,
        None,
    ),
    "csi_snr_db": (-400, 0, 10, 1e308, None, "10"),
    "times": (list(range(8)), [0] * 8, [1, 2], [1e308] * 8, [*range(7), 1e15], [-1e308, *range(7)], [], {}, [None] * 8),
    "force": (True, False, 1),
    "then": ("precode", "predict", None, ["precode"]),
    "shape": ([ANTENNAS, USERS], [ANTENNAS, USERS, 2**31], [ANTENNAS, USERS, 300], [ANTENNAS, 200, 8], [1, 24, 8]),
    "want": (["H"], ["precoder"], ["H", "H"], [], ["method", "rate"]),
}
PREDICTED = 8
UNKNOWN_ERROR = "csi_error_db"  # NaN where a method gives none
NO_LAMBDA = {"lambda"}


@cache
def good_client() -> tuple[LiveServer, Client]:
    """A server for all seeds, and its good client."""
    server = LiveServer()
    client = Client(server.address, timeout=60)
    atexit.register(server.stop)
    atexit.register(client.close)
    return server, client


def hostile(chance: random.Random) -> list[bytes]:
    """A multipart message."""
    channels = random_channels(1, USERS, ANTENNAS, chance.randrange(1000))
    if chance.random() < 0.2:
        flat = channels.reshape(-1)
        flat[chance.randrange(flat.size)] = chance.choice([np.nan, np.inf, 0, 1e38, 1e-40])
    if chance.random() < 0.2:
        with np.errstate(all="ignore"):
            channels = (channels * chance.choice([1e-25, 1e25, 0])).astype(np.complex64)
    header: dict[str, Any] = {"v": 1, "id": "1", "op": "precode", "shape": [ANTENNAS, USERS, 1], "scheme": "nflae"}
    for name, values in LEGAL.items():
        if chance.random() < 0.4:
            header[name] = chance.choice(values)
    if chance.random() < 0.3:
        header[chance.choice(["v", "id", "op", "dtype", "unknown", *LEGAL])] = chance.choice(NUMBERS)
    if chance.random() < 0.3:
        header["scheme"] = chance.choice(SCHEMES)
    if chance.random() < 0.1:
        header["shape"] = chance.choice(SHAPES)
    if chance.random() < 0.1:
        header["want"] = chance.choice([["precoder"] * 1000, "precoder", [], ["secret"], [None], {"a": 1}])
    text = bytearray(json.dumps(header).encode())
    if chance.random() < 0.1:
        text[chance.randrange(len(text))] = chance.randrange(256)
    if chance.random() < 0.03:
        text = bytearray(b"[" * 100_000)
    frames = [bytes(text), channels.tobytes()]
    action = chance.randrange(16)
    if action == 0:
        frames = frames[:1]
    elif action == 1:
        frames[1] = frames[1][: chance.randrange(len(frames[1]))]
    elif action == 2:
        frames += [b""] * chance.choice([1, 100, 5000])
    elif action == 3:
        frames = [b"", *frames]
    elif action == 4:
        frames = [bytes(chance.randrange(256) for _ in range(50)) for _ in range(chance.randrange(1, 4))]
    elif action == 5:
        frames[1] = bytes(chance.choice([1, 1 << 20]))
    return frames


def hostile_prediction(chance: random.Random) -> list[bytes]:
    """A request for a prediction, of a history with faults and options that do not fit."""
    history = moving_users(PREDICTED, USERS, ANTENNAS, chance.randrange(1000))
    for _ in range(chance.choice([0, 0, 1, 3, 20])):
        place = chance.randrange(PREDICTED), chance.randrange(USERS)
        history[place] = chance.choice([np.nan, np.inf, 0, 1e38, 1e-40, 1 + 1j])
    if chance.random() < 0.2:
        history = history[:, [chance.randrange(USERS) for _ in range(USERS)]] * np.complex64(
            chance.choice([1e-20, 1e19])
        )
    header: dict[str, Any] = {"v": 1, "id": "1", "op": "predict", "shape": [ANTENNAS, USERS, PREDICTED]}
    for name, values in PREDICTIONS.items():
        if chance.random() < 0.2:
            header[name] = chance.choice(values)
    for name, values in LEGAL.items():
        if header.get("then") and chance.random() < 0.3:
            header[name] = chance.choice(values)
    content = history.tobytes()
    if chance.random() < 0.1:
        content = content[: chance.randrange(len(content))]
    return [json.dumps(header).encode(), content]


def send_bytes(address: str, chance: random.Random) -> None:
    """Send what is no ZMTP, or stops in the middle."""
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    content = bytearray(GREETING + READY + b"\x00\x05hello")
    for _ in range(chance.randrange(5)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        try:
            peer.sendall(content[: chance.randrange(1, len(content) + 1)])
        except OSError:
            return


def wrong_reply(frames: list[bytes]) -> list[str]:
    """What is wrong with an answer to a hostile request, in words."""
    try:
        at = next(index for index, frame in enumerate(frames) if b'"ok":' in frame)
        header = json.loads(frames[at])
    except (StopIteration, ValueError):
        return [f"answered by {frames[0][:80]!r}"]
    found = []
    for array, content in zip(header.get("arrays", ()), frames[at + 1 :], strict=False):
        if array["dtype"] != "uint8" and array["dtype"] != "bool" and array["name"] not in (*NO_LAMBDA, UNKNOWN_ERROR):
            kind = {"complex64": np.float32, "float64": np.float64, "float32": np.float32}.get(array["dtype"])
            if kind is not None and not np.isfinite(np.frombuffer(content, kind)).all():
                found.append(f"{array['name']} is not finite")
    return found


def attempt(seed: int, folder: Path) -> list[str]:
    """What the server does not do, in words: answer the good client rightly, and send finite arrays."""
    server, client = good_client()
    chance = random.Random(seed)
    found = []
    if chance.random() < 0.15:
        send_bytes(server.address, chance)
    else:
        with zmq.Context.instance().socket(chance.choice([zmq.DEALER, zmq.REQ])) as peer:
            peer.linger = 0
            peer.connect(server.address)
            peer.send_multipart(hostile_prediction(chance) if chance.random() < 0.4 else hostile(chance))
            if peer.poll(300):
                found += wrong_reply(peer.recv_multipart())
    channels = random_channels(1, USERS, ANTENNAS, seed % 1000)
    try:
        precoder = client.precode(channels, scheme="mrt").precoder
        expected = channels / np.linalg.norm(channels, axis=-1, keepdims=True)
        if not np.allclose(precoder, expected, atol=1e-5):
            found.append("the good client gets a wrong answer")
    except BridgeError as error:
        found.append(f"the good client gets {error}")
    if server.process.poll() is not None:
        found.append(f"the server ended with {server.process.returncode}")
    return found + [line for line in server.lines if "Traceback" in line]
