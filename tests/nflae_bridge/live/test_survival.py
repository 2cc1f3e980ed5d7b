"""``nflae serve`` through crashes, hostile peers, floods and signals: real processes, real sockets."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq

import nflae_bridge
from nflae_bridge.live.client import AsyncClient, Client
from nflae_bridge.live.errors import BridgeError, ConnectionLost, NoAnswer, TooLarge
from nflae_bridge.live.protocol.keys import make_keys
from tests.channel_files import random_channels
from tests.nflae_bridge.live.live_server import LiveServer
from tests.ports import free_tcp_port
from tests.warm_python import run_warm

Message = list[bytes]

USERS, ANTENNAS = 2, 8
MEGABYTE = 1 << 20
PATIENCE = 60.0  # s, for what should take far less: the machine may be busy


# Peers


@contextmanager
def raw_dealer(address: str, **options: int) -> Iterator[zmq.Socket[bytes]]:
    """A DEALER of somebody else's, that does as it likes."""
    peer = zmq.Context.instance().socket(zmq.DEALER)
    peer.linger = 0
    peer.rcvtimeo = round(1e3 * PATIENCE)
    peer.sndhwm = 0
    for name, value in options.items():
        setattr(peer, name, value)
    peer.connect(address)
    try:
        yield peer
    finally:
        peer.close()


def message(channels: npt.NDArray[Any] | None = None, **fields: object) -> Message:
    """A request as any client would write it; ``channels``: (drops, users, antennas)."""
    if channels is None:
        channels = random_channels(1, USERS, ANTENNAS)
    header = {"v": 1, "id": "1", "op": "precode", "shape": channels.shape[::-1], "scheme": "mrt"} | fields
    return [json.dumps(header).encode(), channels.tobytes()]


def slow_message(**fields: object) -> Message:
    """About a second's work, in a message of 0.8 MB."""
    return message(random_channels(50, 32, 64), scheme="wmmse", want=["sum_rate"], **fields)


def reply_header(peer: zmq.Socket[bytes]) -> dict[str, Any]:
    """The next answer's header, less its arrays."""
    frames = peer.recv_multipart()
    first = next(frame for frame in frames if frame.startswith(b'{"v":1') and b'"ok":' in frame)
    answer: dict[str, Any] = json.loads(first)
    return answer


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a state that nothing announces."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"still waiting for: {what}"
        time.sleep(0.02)


def being_computed(server: LiveServer, requests: int) -> None:
    """Wait until so many precode requests came, and the device has taken at least the first of them."""
    with Client(server.address, timeout=PATIENCE) as client:

        def taken() -> bool:
            status = client.status()
            return bool(status["counts"]["requests"] >= requests and status["queue_depth"] < requests)

        until(taken, f"{requests} requests to arrive")


def is_mrt(result: nflae_bridge.Result, channels: npt.NDArray[Any]) -> bool:
    """Whether a result is MRT's for these channels and no others: w_k = h_k / |h_k|."""
    expected = channels / np.linalg.norm(channels, axis=-1, keepdims=True)
    return result.precoder.shape == expected.shape and bool(np.allclose(result.precoder, expected, atol=1e-5))


def check_mrt(client: Client, seed: int) -> None:
    channels = random_channels(1, USERS, ANTENNAS, seed)
    assert is_mrt(client.precode(channels, scheme="mrt"), channels)


def check_log(server: LiveServer) -> None:
    """Nothing but log lines, and no fault of the server's among them."""
    for line in server.lines:
        assert line.startswith("time="), line
        assert "event=failed" not in line
        assert "Traceback" not in line


# A server that dies


class Asking(threading.Thread):
    """Asks again and again, channels of its own each time; keeps what came back until it is looked at.

    ask(channels): a call of a client. results: (channels, what came); errors: BridgeErrors.
    """

    def __init__(self, address: str, number: int) -> None:
        super().__init__(daemon=True)
        self.address, self.number = address, number
        self.leave = threading.Event()
        self.calls = 0
        self.results: list[tuple[npt.NDArray[Any], str, nflae_bridge.Result]] = []
        self.errors: list[BridgeError] = []
        self.fault: BaseException | None = None

    def work(self) -> tuple[npt.NDArray[Any], str]:
        self.calls += 1
        channels = random_channels(1, USERS, ANTENNAS, seed=1_000_000 * self.number + self.calls)
        return channels, "rzf" if self.calls % 10 == 0 else "mrt"

    def run(self) -> None:
        try:
            self.ask()
        except BaseException as fault:
            self.fault = fault

    def ask(self) -> None:
        with Client(self.address, timeout=PATIENCE) as client:
            while not self.leave.is_set():
                channels, scheme = self.work()
                try:
                    self.results.append((channels, scheme, client.precode(channels, scheme=scheme)))
                except BridgeError as error:
                    self.errors.append(error)


class AskingManyAtOnce(Asking):
    """Forty calls under way over one connection."""

    def ask(self) -> None:
        asyncio.run(self.ask_all())

    async def ask_all(self) -> None:
        async with AsyncClient(self.address, timeout=PATIENCE) as client:

            async def one_after_the_other() -> None:
                while not self.leave.is_set():
                    channels, scheme = self.work()
                    try:
                        self.results.append((channels, scheme, await client.precode(channels, scheme=scheme)))
                    except BridgeError as error:
                        self.errors.append(error)

            await asyncio.gather(*(one_after_the_other() for _ in range(40)))


def check_results(asking: Sequence[Asking]) -> None:
    """Every call has returned the answer to its own question, or raised."""
    for thread in asking:
        assert thread.fault is None
        assert len(thread.results) + len(thread.errors) == thread.calls
        for channels, scheme, result in thread.results:
            if scheme == "mrt":
                assert is_mrt(result, channels)
            else:
                expected = nflae_bridge.precode(channels, scheme=scheme)
                np.testing.assert_allclose(result.precoder, expected.precoder, atol=1e-5)
                np.testing.assert_allclose(result.sum_rate, expected.sum_rate, rtol=1e-5)


@pytest.mark.slow
def test_killed_and_restarted_under_load() -> None:
    """Three times. Every call returns the answer to its own question, or raises; none hangs, none comes twice."""
    address = f"tcp://127.0.0.1:{free_tcp_port()}"  # one that no other connection is given meanwhile
    server = LiveServer(bind=address)
    asking = [*(Asking(address, number) for number in range(4)), AskingManyAtOnce(address, 4)]
    with raw_dealer(address) as peer:
        answers: Counter[str] = Counter()

        def ask_without_asking_again(number: int) -> None:
            for call in range(200):
                peer.send_multipart(message(id=f"{number}.{call}"))

        def take_answers() -> None:
            while peer.poll(0):
                answers[reply_header(peer)["id"]] += 1

        try:
            for thread in asking:
                thread.start()
            for life in range(3):
                if life:
                    server = LiveServer(bind=address)
                ask_without_asking_again(life)
                seen = [len(thread.results) for thread in asking]
                until(
                    lambda seen=seen: all(len(t.results) >= n + 50 for t, n in zip(asking, seen, strict=True)),
                    "every client to be answered",
                )
                take_answers()
                server.process.kill()
                server.stop()
            server = LiveServer(bind=address)
            before_restart = sum(len(thread.errors) for thread in asking)
            seen = [len(thread.results) for thread in asking]
            until(
                lambda: all(len(t.results) >= n + 50 for t, n in zip(asking, seen, strict=True)),
                "every client to be answered after the last restart",
            )
            for thread in asking:
                thread.leave.set()
            for thread in asking:
                thread.join(PATIENCE)
                assert not thread.is_alive()
            take_answers()
            assert server.stop() == 0
        finally:
            for thread in asking:
                thread.leave.set()
            server.process.kill()
            server.stop()
    check_log(server)

    check_results(asking)
    # Asked again after each crash, none had to give up; least of all once the server was back for good.
    assert sum(len(thread.errors) for thread in asking) == before_restart == 0
    assert answers
    assert set(answers.values()) == {1}


# Clients that die, or don't read

VANISHING = """
import sys, time, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
socket.send_multipart([bytes.fromhex(line) for line in sys.stdin.read().split()])
print("sent", flush=True)
time.sleep(600)
"""


def test_clients_that_vanish_while_their_request_is_computed() -> None:
    with LiveServer() as server, Client(server.address, timeout=PATIENCE) as good:
        with raw_dealer(server.address) as peer:
            peer.send_multipart(slow_message())
            being_computed(server, 1)
        check_mrt(good, 1)
        until(lambda: good.status()["counts"]["undelivered"] == 1, "the answer to a closed socket to be counted")

        before = good.status()["counts"]["requests"]
        vanishing = subprocess.Popen(
            [sys.executable, "-c", VANISHING, server.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert vanishing.stdin is not None
        assert vanishing.stdout is not None
        vanishing.stdin.write("\n".join(frame.hex() for frame in slow_message()))
        vanishing.stdin.close()
        assert vanishing.stdout.readline() == "sent\n"
        being_computed(server, before + 1)
        vanishing.kill()
        vanishing.wait()
        vanishing.stdout.close()
        check_mrt(good, 2)
        until(lambda: good.status()["counts"]["undelivered"] == 2, "the answer to a killed process to be counted")
        assert server.stop() == 0
        check_log(server)


@pytest.mark.parametrize(
    ("count", "drops"), [pytest.param(2_000, 1, id="many small answers"), pytest.param(200, 64, id="large answers")]
)
@pytest.mark.slow
def test_a_client_that_does_not_read(count: int, drops: int) -> None:
    """Its requests (35 kB a drop) are not read until it reads its answers, of which none is lost; others are served."""
    request = message(random_channels(drops, 16, 256), want=["precoder", "power"])
    with LiveServer("--queue-mb", 32) as server, Client(server.address, timeout=PATIENCE) as good:
        check_mrt(good, 0)
        before = server.memory()
        outcomes: Counter[str] = Counter()
        with raw_dealer(server.address, rcvhwm=1) as peer:
            for sent in range(1, count + 1):
                peer.send_multipart(request)
                if sent % 20 == 0:
                    check_mrt(good, sent)
            until(lambda: good.status()["queue_depth"] == 0, "the server to have computed what it has read")
            assert (server.memory() - before) / MEGABYTE < 100
            for answer in range(count):
                header = reply_header(peer)
                outcomes["ok" if header["ok"] else header["error"]["code"]] += 1
                if answer % 20 == 0:
                    check_mrt(good, answer)
            assert set(outcomes) <= {"ok", "busy"}
            assert outcomes["ok"] > 2
            assert good.status()["counts"]["undelivered"] == 0
        assert server.stop() == 0
        check_log(server)


# Hostile messages


def _number(rng: random.Random) -> object:
    return rng.choice([0, -1, -0.5, 2**31, 2**63, 2**64, 10**30, 10**300, 1e300, 1.5, True, False])


def _no_type(rng: random.Random) -> object:
    return rng.choice([None, "", "x" * 300, [], [[]], {}, {"a": 1}, [None], "\u0000", "1", "NaN", [1, 2]])


def _replaced(rng: random.Random, name: str, raw: bytes) -> Message:
    """The good message with raw JSON for a field."""
    header, channels = message(**{name: "PLACE"})
    return [header.replace(b'"PLACE"', raw), channels]


def _count_of_frames(rng: random.Random) -> Message:
    header, channels = message()
    return rng.choice([[header], [header, channels, channels], [header, channels, b"", b""], [channels], [header] * 3])


def _size_of_frame(rng: random.Random) -> Message:
    header, channels = message()
    return [header, channels[: rng.randrange(len(channels))] if rng.random() < 0.5 else channels * rng.randrange(2, 9)]


def _bomb(rng: random.Random) -> Message:
    depth = rng.choice([10, 900, 1100, 5000, 16_000])
    header = rng.choice(
        [
            b"[" * depth,
            b"[" * (depth // 2) + b"]" * (depth // 2),
            b'{"a":' * (depth // 5),
            b'{"v":1,"id":"1","op":"status","x":' + b"[" * (depth // 2) + b"]" * (depth // 2) + b"}",
            b"9" * depth,
            b'"' + b"x" * depth + b'"',
            b'{"v":1,"id":"' + b"x" * max(129, depth) + b'","op":"status"}',
            json.dumps({str(key): key for key in range(depth // 10)}).encode(),
            b'{"v":1,"id":"1","op":"status","x":"' + b"x" * 20_000 + b'"}',
            b" " * depth,
            b"\\u0000" * (depth // 6),
        ]
    )
    return [header, *([b""] if rng.random() < 0.3 else [])]


def _no_json_number(rng: random.Random) -> Message:
    field = rng.choice(["power", "noise_power", "alpha_c", "min_rate", "deadline_ms", "refine", "v"])
    return _replaced(
        rng, field, rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"0x1", b"1.", b"--1"])
    )


def _bad_channels(rng: random.Random) -> Message:
    channels = random_channels(rng.randrange(1, 4), USERS, ANTENNAS, rng.randrange(100))
    scheme = rng.choice(["mrt", "rzf", "zf"])
    kind = rng.choice(["nan", "inf", "zero", "beyond"])
    if kind == "zero":
        channels[-1, rng.randrange(USERS)] = 0
        return message(channels, scheme=scheme)
    if kind == "beyond":  # finite, but not in single precision
        return message(channels.astype(np.complex128) * 1e300, scheme=scheme, dtype="complex128")
    channels[-1, rng.randrange(USERS), rng.randrange(ANTENNAS)] = np.nan if kind == "nan" else np.inf
    return message(channels, scheme=scheme)


def _shape(rng: random.Random) -> Message:
    sizes = [8, 2, 1][: rng.randrange(2, 4)]
    sizes[rng.randrange(len(sizes))] = rng.choice(
        [0, -1, 16, 2**31, 2**32 + 8, 2**62, 10**20, 8.5, 2.0, True, None, "8", [8]]
    )
    return message(shape=rng.choice([sizes, sizes[:1], [8, 2, 1, 1], [], {}, 16, None]))


def _huge_shape(rng: random.Random) -> Message:
    digits = b"9" * rng.choice([5, 20, 400, 4200, 5000])
    return _replaced(rng, "shape", b"[" + b",".join([digits] * 3) + b"]")


def _type_of_field(rng: random.Random) -> Message:
    fields = ["v", "id", "op", "shape", "dtype", "power", "noise_power", "alpha_c", "min_rate", "convention"]
    field = rng.choice([*fields, "refine", "near_field", "want", "deadline_ms"])
    value = rng.choice([_no_type, lambda _: {"x": [1]}])(rng)
    # What is allowed for some: any string of 128 is an id, null is no deadline and all arrays.
    if (field == "id" and isinstance(value, str) and len(value) <= 128) or (
        field in ("deadline_ms", "want") and value is None
    ):
        value = {}
    return message(**{field: value})


def _value_of_field(rng: random.Random) -> Message:
    field, value = rng.choice(
        [
            ("power", rng.choice([0, -1, -1e300])),
            ("noise_power", rng.choice([0, -1e-300])),
            ("alpha_c", rng.choice([0, 1.001, 1e300])),
            ("min_rate", -1e-9),
            ("refine", rng.choice([-1, 101, 2**70, 0.5])),
            ("deadline_ms", rng.choice([0, -5])),
            ("dtype", "float32"),
            ("convention", "transposed"),
            ("scheme", rng.choice(["sdp", "", "NFLAE", "x" * 10_000, "../../etc/passwd"])),
            ("want", rng.choice([[], ["beams"], ["power", "power"], ["power"] * 1000])),
            ("near_field", _number(rng) if rng.random() < 0.5 else True),
        ]
    )
    return message(**{field: value if value is not False else 1})


def _unknown_field(rng: random.Random) -> Message:
    return message(**{rng.choice(["pover", "V", "", "x" * 5000, "\x00", "é", "__class__", "constructor"]): 1})


def _version(rng: random.Random) -> Message:
    return message(v=rng.choice([0, 2, -1, 10**30, "1", 1.5, None, True]))


def _empty(rng: random.Random) -> Message:
    return [b""] * rng.choice([1, 2, 3, 9, 50])


def _noise(rng: random.Random) -> Message:
    return [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(1, 5))]


def _no_utf8(rng: random.Random) -> Message:
    bad = rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"])
    field = rng.choice(["id", "scheme", "convention", "op"])
    return _replaced(rng, field, b'"' + bad + b'"')


def _twice(rng: random.Random) -> Message:
    header, channels = message()
    return [
        header[:-1] + rng.choice([b',"v":2}', b',"shape":[1,1,1]}', b',"power":1,"power":-1}', b',"op":"x"}']),
        channels,
    ]


def _surrogate(rng: random.Random) -> Message:
    name = rng.choice([b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\ud800\\u0041"', b'"a\\udc00b"'])
    header, channels = _replaced(rng, "id", name)
    return [header.replace(b'"v": 1', b'"v": 2'), channels]


def _too_large(rng: random.Random) -> Message:
    shape = rng.choice([(1, 129, 1), (16_385, 1, 1)])
    return message(np.ones(shape, np.complex64))


def _status(rng: random.Random) -> Message:
    header = {"v": 1, "id": "1", "op": "status"}
    extra = rng.choice([{"shape": [1, 1, 1]}, {"power": 1}, {"x": None}])
    return rng.choice([[json.dumps(header).encode(), b"more"], [json.dumps(header | extra).encode()]])


def _labels(rng: random.Random) -> Message:
    header, channels = message(near_field=True)
    return [header, channels, *([bytes(rng.choice([0, 1, 3, 100]))] if rng.random() < 0.7 else [])]


KINDS = (
    *(_count_of_frames, _size_of_frame, _bomb, _no_json_number, _bad_channels, _shape, _huge_shape, _type_of_field),
    *(_value_of_field, _unknown_field, _version, _empty, _noise, _no_utf8, _twice, _surrogate, _status, _labels),
)


def malformed(rng: random.Random) -> Message:
    """A message that no server should accept, nor mind."""
    return _too_large(rng) if rng.random() < 1e-3 else rng.choice(KINDS)(rng)


def send_malformed(address: str, seed: int, count: int, codes: Counter[str]) -> None:
    """Send so many and count the answers, which all have to be refusals. At most 200 under way."""
    rng = random.Random(seed)
    with raw_dealer(address) as peer:
        for number in range(count + 200):
            if number < count:
                peer.send_multipart(malformed(rng))
            if number >= 200:
                answer = reply_header(peer)
                assert answer["ok"] is False, answer
                assert len(answer["error"]["message"]) < 1500
                codes[answer["error"]["code"]] += 1


@contextmanager
def good_client(address: str) -> Iterator[list[float]]:
    """Asks and checks all the while, from a thread of its own; yields the seconds its calls took."""
    seconds: list[float] = []
    faults: list[BaseException] = []
    leave = threading.Event()

    def ask() -> None:
        try:
            with Client(address, timeout=PATIENCE) as client:
                while not leave.is_set():
                    began = time.perf_counter()
                    check_mrt(client, len(seconds))
                    seconds.append(time.perf_counter() - began)
                    leave.wait(5e-3)
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield seconds
    finally:
        leave.set()
        thread.join(PATIENCE)
    assert not faults, faults


def concurrently(jobs: Sequence[Callable[[], None]]) -> None:
    """All of them, each in a thread of its own; raises what any of them raised."""
    faults: list[BaseException] = []

    def caught(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=caught, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


@pytest.mark.slow
def test_twenty_thousand_malformed_messages() -> None:
    """All refused; meanwhile and afterwards others are served; neither memory nor log grows."""
    peers, each = 4, 5_000
    codes: list[Counter[str]] = [Counter() for _ in range(peers)]
    with LiveServer() as server:
        send_malformed(server.address, 99, 4_000, Counter())
        before = server.memory()
        with good_client(server.address) as seconds:
            concurrently(
                [
                    lambda peer=peer: send_malformed(server.address, peer, each, codes[peer])  # type: ignore[misc]
                    for peer in range(peers)
                ]
            )
        total = sum(codes, Counter())
        assert total.total() == peers * each
        assert set(total) <= {"bad_request", "bad_channels", "too_large"}
        assert len(seconds) > 50
        assert np.median(seconds) < 1
        with Client(server.address, timeout=PATIENCE) as client:
            check_mrt(client, 7)
            counts = client.status()["counts"]
        assert counts["undelivered"] == 0
        assert sum(counts["errors"].values()) == peers * each + 4_000
        assert (server.memory() - before) / MEGABYTE < 10  # half a kilobyte per message
        check_log(server)
        assert len(server.lines) < 1000
        assert sum(map(len, server.lines)) < MEGABYTE
        assert server.stop() == 0


def test_a_peer_that_takes_the_name_of_the_server_s_own_thread() -> None:
    """From before the server is up: names are the peers' to choose."""
    address = f"tcp://127.0.0.1:{free_tcp_port()}"
    with raw_dealer(address, routing_id=b"nflae device", reconnect_ivl=5) as impostor:
        impostor.send(b"ring")
        with LiveServer(bind=address) as server, Client(address, timeout=PATIENCE) as client:
            channels = random_channels(20, USERS, ANTENNAS)
            result = client.precode(channels, scheme="wmmse", timeout=20)
            expected = nflae_bridge.precode(channels, scheme="wmmse")
            np.testing.assert_allclose(result.sum_rate, expected.sum_rate, rtol=1e-5)
            check_log(server)


def test_an_oversized_frame_costs_its_sender_the_connection_and_nobody_else() -> None:
    oversized = np.ones((200, 16, 64), np.complex64)

    async def among_others(address: str) -> list[Any]:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            small = [client.precode(random_channels(seed=seed), scheme="mrt") for seed in range(20)]
            calls = [*small[:10], client.precode(oversized, scheme="mrt"), *small[10:]]
            return await asyncio.gather(*calls, return_exceptions=True)

    with LiveServer("--max-message-mb", 1) as server:
        with good_client(server.address) as seconds:
            with Client(server.address, timeout=PATIENCE) as client:
                for call in range(2):
                    with pytest.raises(TooLarge, match="max-message-mb"):
                        client.precode(oversized, scheme="mrt")
                    check_mrt(client, call)

            results = asyncio.run(among_others(server.address))
            assert isinstance(results.pop(10), TooLarge)
            for seed, result in enumerate(results):
                assert is_mrt(result, random_channels(seed=seed))

            with raw_dealer(server.address) as peer:
                peer.send_multipart([b"x" * (2 * MEGABYTE)])
                assert not peer.poll(500)
                peer.send_multipart(message(id="after it"))
                assert reply_header(peer)["id"] == "after it"
            answered = len(seconds)
            until(lambda: len(seconds) > answered + 5, "the good client to be served")
        assert server.stop() == 0
        check_log(server)


# Floods and deadlines


@pytest.mark.slow
def test_a_flood_past_the_queue() -> None:
    """``busy`` is said at once, ``status`` answered meanwhile, what was accepted is answered, memory stays."""
    flood = 400
    request = slow_message()
    with LiveServer("--queue", 8) as server, Client(server.address, timeout=PATIENCE) as client:
        before = server.memory()
        status_seconds: list[float] = []
        answers: list[tuple[float, str]] = []
        with raw_dealer(server.address) as peer:
            for _ in range(flood):
                peer.send_multipart(request, copy=False)
            while len(answers) < flood:
                while peer.poll(0):
                    answer = reply_header(peer)
                    answers.append((time.perf_counter(), "ok" if answer["ok"] else answer["error"]["code"]))
                began = time.perf_counter()
                assert client.status()["queue_limit"] == 8
                status_seconds.append(time.perf_counter() - began)
                peer.poll(50)
        times = {kind: [moment for moment, got in answers if got == kind] for kind in ("ok", "busy")}
        assert len(times["ok"]) + len(times["busy"]) == flood
        assert len(times["ok"]) >= 6  # a client may have four times what it leaves free
        assert len(times["busy"]) >= flood / 2
        # Seconds of work were taken; all but a straggler of the refusals came in the first of it.
        work = max(times["ok"]) - min(moment for moment, _ in answers)
        late = max(times["busy"]) - min(moment for moment, _ in answers)
        assert late < 0.5 * work
        assert np.median(status_seconds) < 0.1 * work
        assert (server.memory() - before) / MEGABYTE < 200
        check_mrt(client, 3)
        assert server.stop() == 0
        check_log(server)


def test_a_deadline_that_passes_in_the_queue() -> None:
    with LiveServer() as server, raw_dealer(server.address) as peer:
        peer.send_multipart(slow_message(id="long"))
        being_computed(server, 1)
        peer.send_multipart(message(id="hurried", scheme="wmmse", deadline_ms=20))
        peer.send_multipart(message(id="patient", scheme="wmmse", deadline_ms=1e3 * PATIENCE))
        answers = {answer["id"]: answer for answer in (reply_header(peer) for _ in range(3))}
        assert answers["hurried"]["error"]["code"] == "expired"
        assert answers["long"]["ok"]
        assert answers["patient"]["ok"]


# Leaving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_with_work_in_the_queue(number: int) -> None:
    """What was taken is answered; what comes later is told so, or finds nobody."""
    taken = 4
    with LiveServer("--max-batch", 50, "--grace", PATIENCE) as server, raw_dealer(server.address) as peer:
        for request in range(taken):
            peer.send_multipart(slow_message(id=f"taken {request}"))
        being_computed(server, taken)
        server.process.send_signal(number)
        server.wait_for("event=stopping")
        peer.send_multipart(slow_message(id="late"))
        answers = {}
        while len(answers) < taken + 1:
            answer = reply_header(peer)
            answers[answer["id"]] = answer
        assert answers.pop("late")["error"]["code"] == "stopping"
        assert all(answer["ok"] for answer in answers.values())
        assert server.process.wait(PATIENCE) == 0
        assert server.stop() == 0
        with Client(server.address, timeout=0.3) as client, pytest.raises(NoAnswer):
            client.status()
        check_log(server)
        assert "event=stopped" in server.lines[-1]
        assert f"answered={taken}" in server.lines[-1]


def test_the_last_answers_can_be_read() -> None:
    """ZeroMQ discards what a client has not read when its connection ends, so the server ends it after a moment."""
    with LiveServer() as server:
        server.stop()
        stopping, stopped = (
            re.findall(r"time=(\S+)", server.wait_for(f"event={name}"))[0] for name in ("stopping", "stopped")
        )
        assert datetime.fromisoformat(stopped) - datetime.fromisoformat(stopping) >= timedelta(seconds=0.2)


def test_what_the_grace_period_leaves_no_time_for_is_answered_so() -> None:
    with LiveServer("--grace", 0.1, "--max-seconds", PATIENCE) as server, raw_dealer(server.address) as peer:
        for request in range(5):
            peer.send_multipart(slow_message(id=str(request)))
        being_computed(server, 5)
        server.process.send_signal(signal.SIGHUP)
        codes = [reply_header(peer).get("error", {}).get("code") for _ in range(5)]
        assert codes.count("stopping") >= 3
        assert set(codes) <= {"stopping", None}
        assert server.process.wait(PATIENCE) == 0
        check_log(server)


# Keys


def test_who_has_no_key_gets_nothing(tmp_path: Path) -> None:
    for folder, name in (("", "server"), ("clients", "good"), ("", "unknown"), ("", "another_server")):
        make_keys(tmp_path / folder, name)
    server_key, good_key = tmp_path / "server.key", tmp_path / "clients" / "good.key_secret"
    channels = random_channels()
    with LiveServer("--server-key", tmp_path / "server.key_secret", "--client-keys", tmp_path / "clients") as server:

        async def ask(**keys: Path | None) -> nflae_bridge.Result:
            async with AsyncClient(server.address, timeout=PATIENCE if keys == good else 0.7, **keys) as client:
                return await client.precode(channels, scheme="mrt")

        good: dict[str, Path | None] = {"server_key": server_key, "client_key": good_key}
        with Client(server.address, timeout=PATIENCE, **good) as client:  # type: ignore[arg-type]
            assert is_mrt(client.precode(channels, scheme="mrt"), channels)
            assert is_mrt(asyncio.run(ask(**good)), channels)
            unknown = {"server_key": server_key, "client_key": tmp_path / "unknown.key_secret"}
            mistaken = {"server_key": tmp_path / "another_server.key", "client_key": good_key}
            # A connection that is refused ends as soon as ZeroMQ notices, or with the deadline.
            for keys in (unknown, {}, mistaken):
                for _ in range(2):
                    with (
                        Client(server.address, timeout=0.7, **keys) as stranger,  # type: ignore[arg-type]
                        pytest.raises((NoAnswer, ConnectionLost)),
                    ):
                        stranger.precode(channels, scheme="mrt")
                with pytest.raises((NoAnswer, ConnectionLost)):
                    asyncio.run(ask(**keys))
                assert is_mrt(client.precode(channels, scheme="mrt"), channels)
            with raw_dealer(server.address) as peer:
                peer.send_multipart(message())
                assert not peer.poll(300)
            assert is_mrt(client.precode(channels, scheme="mrt"), channels)
            assert client.status()["counts"]["answered"] == 6
        assert server.stop() == 0
        check_log(server)


# Addresses


def refused_in_one_line(*arguments: object) -> str:
    """What ``nflae serve`` says as it fails: exit status 1, nothing on stdout, one line on stderr."""
    done = run_warm("serve", *arguments, timeout=PATIENCE)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("nflae: error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.slow
def test_ports_in_use() -> None:
    with sockets.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments in (
            ("--bind", f"tcp://127.0.0.1:{port}"),
            ("--bind", "tcp://127.0.0.1:*", "--bind", f"tcp://127.0.0.1:{port}"),
        ):
            line = refused_in_one_line(*arguments)
            assert f"tcp://127.0.0.1:{port}" in line
            assert "in use" in line
        line = refused_in_one_line("--bind", "tcp://127.0.0.1:*", "--metrics-port", port)
        assert "--metrics-port" in line
        assert str(port) in line
        assert "in use" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "arguments", "reason"),
    [
        ("tcp://203.0.113.1:5999", (), "--insecure"),
        ("tcp://*:5999", (), "--insecure"),
        ("tcp://0.0.0.0:*", (), "--insecure"),
        ("tcp://203.0.113.1:5999", ("--insecure",), "no such address"),
        ("ipc:///no/such/folder/socket", (), "folder"),
    ],
)
def test_addresses_that_can_not_be_served(address: str, arguments: tuple[str, ...], reason: str) -> None:
    line = refused_in_one_line("--bind", address, *arguments)
    assert address in line
    assert reason in line
