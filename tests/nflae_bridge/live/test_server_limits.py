"""Limits of a server: frames before they are received, shares of clients, estimated times, work that ends early."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import select
import socket as sockets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.frames import decode_request
from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.protocol.messages import PLAIN, PrecodeRequest
from nflae_bridge.live.protocol.zmtp import ProtocolViolation, Reader, encode_message
from nflae_bridge.live.server.admission import Admission
from nflae_bridge.live.server.computation.answer import Answer
from nflae_bridge.live.server.computation.costs import LARGE_TRIAL, SMALL_TRIAL, CostModel
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.micro_batches import BatchKey, Job, JobQueue, batch_key
from nflae_bridge.live.server.computation.sequences.prediction import trial_request
from nflae_bridge.live.server.computation.shares import Shares
from nflae_bridge.live.server.computation.worker import Worker
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.transport.connections import Connections
from simulator.problems.problem import PrecodingProblem
from tests.channel_files import random_channels

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
MEGABYTE = 1 << 20


class OpenGate:
    """Admits frames up to a size; keeps what it was asked."""

    def __init__(self, largest: float = math.inf) -> None:
        self.largest = largest
        self.announced: list[tuple[int, int]] = []
        self.rejected: list[WireError] = []
        self.gone: list[bytes] = []

    def admit(self, message: list[Frame], size: int) -> bool:
        self.announced.append((len(message) - 1, size))
        return size <= self.largest

    def reject(self, message: list[Frame], error: WireError) -> None:
        self.rejected.append(error)

    def disconnected(self, identity: bytes) -> None:
        self.gone.append(identity)


def wire(frames: Sequence[bytes]) -> bytes:
    return b"".join(bytes(part) for part in encode_message(list(frames)))


def read(reader: Reader, data: bytes, step: int) -> list[list[bytes]]:
    """Give the bytes in pieces; the messages that came out."""
    messages = []
    while data:
        target = reader.target()
        if target is None:
            piece, data = data[:step], data[step:]
            reader.feed(piece)
        else:
            count = min(step, len(target), len(data))
            target[:count] = data[:count]
            data = data[count:]
            reader.wrote(count)
        while (frames := reader.next()) is not None:
            if frames:
                messages.append([bytes(frame) for frame in frames])
    return messages


def opened(gate: OpenGate, largest: int = 64 * MEGABYTE) -> Reader:
    reader = Reader(largest, b"peer", gate)
    assert read(reader, GREETING + READY, 1) == []
    assert reader.is_ready
    return reader


# The connection


@given(
    st.lists(st.lists(st.sampled_from([0, 1, 255, 256, 5_000, 65_536, 200_000]), min_size=1, max_size=4), max_size=4),
    st.sampled_from([1_000, 65_536, 10**9]),
)
def test_messages_come_out_as_they_went_in(sizes: list[list[int]], step: int) -> None:
    rng = np.random.default_rng(0)
    messages = [[rng.bytes(size) for size in frames] for frames in sizes]
    gate = OpenGate()
    assert read(opened(gate), b"".join(map(wire, messages)), step) == messages
    assert all(size > 65_536 or count for count, size in gate.announced)


@given(st.lists(st.sampled_from([10, 70_000, 300_000]), min_size=1, max_size=5), st.sampled_from([777, 65_536, 10**9]))
def test_a_refused_message_is_discarded_and_the_next_one_is_read(sizes: list[int], step: int) -> None:
    gate = OpenGate(largest=0)
    refused = [bytes(size) for size in sizes]
    expected = [[b"next"]] if sum(sizes) > 65_536 else [refused, [b"next"]]
    assert read(opened(gate), wire(refused) + wire([b"next"]), step) == expected
    assert len(gate.announced) == (sum(sizes) > 65_536)  # once, however many follow


def test_frames_beyond_a_request_s_are_refused_once_and_then_end_the_connection() -> None:
    gate = OpenGate()
    reader = opened(gate)
    assert read(reader, wire([b"x"] * 11), 100) == [[b"x"] * 11]
    assert read(reader, wire([b"x"] * 12) + wire([b"next"]), 100) == [[b"next"]]
    assert [error.code for error in gate.rejected] == ["bad_request"]
    with pytest.raises(ProtocolViolation, match="4096 frames"):
        read(reader, b"\x01\x00" * 5000, 65_536)
    assert len(gate.rejected) == 2


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "not a ZeroMQ peer"),
        (b"\xff" + bytes(8) + b"\x7f\x01", "version 4"),
        (GREETING.replace(b"NULL", b"CURV"), "mechanism CURV"),
        (GREETING + READY.replace(b"DEALER", b"SUBSUB"), "socket type"),
        (GREETING + b"\x00\x00", "before the handshake"),
        (GREETING + b"\x04\x05\x04PONG", "no READY"),
        (GREETING + READY + b"\x02" + (101).to_bytes(8, "big"), "a frame of 101 bytes: at most 100"),
        (GREETING + READY + b"\x06" + (1 << 40).to_bytes(8, "big"), "a command of"),
    ],
)
def test_what_ends_a_connection(sent: bytes, reason: str) -> None:
    with pytest.raises(ProtocolViolation, match=reason):
        read(Reader(100, b"peer", OpenGate()), sent, 10**6)


def test_a_ping_is_answered() -> None:
    reader = opened(OpenGate())
    reader.replies = b""
    read(reader, b"\x04\x0b\x04PING\x00\x64abcd", 1)
    assert reader.replies == b"\x04\x09\x04PONGabcd"


def test_one_peer_has_eight_messages_of_a_turn_and_its_place_behind_the_others() -> None:
    transport = Connections(["tcp://127.0.0.1:*"], MEGABYTE, EventLog("error"))
    transport.open(OpenGate())
    host, port = transport.addresses[0].removeprefix("tcp://").split(":")
    with sockets.create_connection((host, int(port))) as greedy, sockets.create_connection((host, int(port))) as modest:
        # What is written to a connection of the loopback is there to be read at once.
        greedy.sendall(GREETING + READY + 1000 * wire([b"greedy"]))
        modest.sendall(GREETING + READY + wire([b"modest"]))
        turns: list[Counter[bytes]] = []
        deadline = time.monotonic() + 60
        while not any(turn[b"modest"] for turn in turns):
            assert time.monotonic() < deadline
            turns.append(Counter(bytes(frame) for _, frame in transport.receive(0.01)))
        modest.sendall(wire([b"again"]))
        turns += [Counter(bytes(frame) for _, frame in transport.receive(0.01)) for _ in range(2)]
        assert turns[-2][b"again"] or turns[-1][b"again"]
        assert max(turn[b"greedy"] for turn in turns) <= 8
        assert len(turns) < 20
    transport.close(0)


# Shares


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 60)), max_size=60))
def test_shares_leave_something_to_others(wishes: list[tuple[bytes, int]]) -> None:
    shares, held = Shares(100, small=10), Counter[bytes]()
    for client, amount in wishes:
        used = held.total()
        if shares.take(client, amount):
            held[client] += amount
            free = 100 - held.total()
            assert not used or held[client] <= max(1, 4 * free)
            assert not used or amount <= 10 or free >= 12
        assert shares.used == held.total()
    for client, amount in held.items():
        shares.give_back(client, amount)
    assert shares.used == 0
    assert shares.take(b"new", 1000)  # one request, whatever its size, where there is no other


# Costs


def key(users: int, antennas: int, scheme: str = "rzf", refine: int = 0) -> BatchKey:
    return users, antennas, scheme, refine, False, None, None


def test_estimates_grow_with_the_work_and_follow_what_was_measured() -> None:
    costs = CostModel()
    costs.calibrate("wmmse", 0.01, 0.03)
    costs.calibrate("nflae", 0.01, 0.03)
    assert costs.estimate(key(*LARGE_TRIAL, "wmmse"), 1) == pytest.approx(0.03)
    assert costs.estimate(key(*LARGE_TRIAL, "wmmse"), 101) == pytest.approx(0.01 + 101 * 0.02)
    small = costs.estimate(key(*SMALL_TRIAL, "wmmse"), 1)
    assert 0.01 < small < 0.011
    assert costs.estimate(key(*SMALL_TRIAL, "wmmse:iterations=10000"), 1) == pytest.approx(50 * small)
    assert costs.estimate(key(*SMALL_TRIAL, "nflae", 100), 1) == pytest.approx(26 * small)
    big = key(128, 1024, "wmmse")
    assert not costs.is_known(big)
    before = costs.estimate(big, 10)
    for _ in range(40):
        costs.learn(big, 10, 3 * before)
    assert costs.is_known(big)
    assert costs.estimate(big, 20) == pytest.approx(3 * without_learning(costs, big, 20), rel=1e-3)
    drops = costs.drops_within(big, 5 * before)
    assert costs.estimate(big, drops) <= 5 * before < costs.estimate(big, drops + 1)


def without_learning(costs: CostModel, of: Any, drops: int) -> float:
    """The estimate without what was learned."""
    fresh = CostModel()
    fresh.calibrate("wmmse", 0.01, 0.03)
    return fresh.estimate(of, drops)


def test_what_is_learned_is_bounded() -> None:
    costs = CostModel()
    for antennas in range(1, 3000):
        costs.learn(key(2, antennas), 1, 1.0)
    assert not costs.is_known(key(2, 1))
    assert costs.is_known(key(2, 2999))
    assert sum(costs.is_known(key(2, antennas)) for antennas in range(1, 3000)) <= 1024


# Admission


class Schemes:
    """What admission needs of a device."""

    def __init__(self) -> None:
        self.costs = CostModel()
        self.costs.calibrate("mrt", 1e-6, 1e-6)
        self.costs.calibrate("wmmse", 0.1, 1.0)

    def check_scheme(self, spec: str) -> None: ...


def admission(megabytes: int = 10, **settings: Any) -> Admission:
    device: Any = Schemes()
    return Admission(ServerSettings(queue_bytes=megabytes * MEGABYTE, **settings), device)


def frames_of(drops: int, users: int = 16, antennas: int = 256, **fields: object) -> list[Any]:
    header = {"v": 1, "id": "1", "op": "precode", "shape": [antennas, users, drops], "scheme": "mrt"} | fields
    return [json.dumps(header).encode(), memoryview(np.ones(8 * drops * users * antennas, np.uint8))]


def announce(gate: Admission, client: bytes, frames: list[Any]) -> str:
    try:
        gate.check_announced(client, frames[:1], len(frames[1]))
    except WireError as error:
        return error.code
    return "taken"


def test_memory_is_taken_before_a_frame_arrives_and_returned_whatever_becomes_of_it() -> None:
    gate, frames = admission(), frames_of(128)  # 4 MB
    for _ in range(50):
        assert announce(gate, b"gone", frames) == "taken"
        gate.forget(b"gone")
        assert announce(gate, b"broken", frames) == "taken"
        gate.reject(b"broken", frames, is_complete=True)
        request = decode_request(frames)
        assert isinstance(request, PrecodeRequest)
        assert announce(gate, b"good", frames) == "taken"
        job = gate.accept([b"good"], frames, request, 0.0)
        assert announce(gate, b"second", frames) == "taken"
        assert announce(gate, b"third", frames) == "busy"
        small = frames_of(1, 2, 8)
        small[1] = bytes(small[1])
        request = decode_request(small)
        assert isinstance(request, PrecodeRequest)
        gate.release(gate.accept([b"third"], small, request, 0.0))
        gate.forget(b"second")
        gate.release(job)


def test_requests_are_refused_by_their_header_alone() -> None:
    gate = admission(1000, max_seconds=5)
    assert announce(gate, b"1", frames_of(1, 129)) == "too_large"
    assert announce(gate, b"1", frames_of(100)) == "taken"
    frames = frames_of(100, scheme="wmmse")
    assert announce(gate, b"1", frames) == "too_large"
    with pytest.raises(WireError, match=r"estimated to take \d+.* s: the limit of this server is 5 s .*fewer drops"):
        gate.check_announced(b"1", frames[:1], len(frames[1]))
    assert announce(gate, b"1", [b"no JSON", frames[1]]) == "bad_request"
    assert announce(gate, b"1", [frames[0], frames[1][:-1]]) == "bad_request"
    with pytest.raises(WireError, match="first frame"):
        gate.check_announced(b"1", [], 10**6)
    gate.stopping = True
    assert announce(gate, b"1", frames_of(100)) == "stopping"


# Work that ends early, and work between the blocks of other work


class Blocks:
    """A device whose batches are blocks of a millisecond per drop."""

    clock = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self.costs = CostModel()
        self.costs.calibrate("mrt", 1e-6, 0.41)  # 1 ms for a drop of 2 users and 4 antennas
        self.order: list[str] = []
        self.after: dict[int, Callable[[], None]] = {}  # calls after as many blocks

    def compute(self, jobs: Sequence[Job], interrupt: Any) -> list[Answer]:
        for number in range(sum(job.drops for job in jobs)):
            if number:
                interrupt()
            self.order.append(jobs[0].request.id)
            time.sleep(1e-3)
            self.after.pop(len(self.order), lambda: None)()
        return [Answer(job, {}, 0.0) for job in jobs]


def blocks_worker(**settings: Any) -> tuple[Blocks, JobQueue, set[bytes], Worker]:
    device: Any = Blocks()
    queue, connected = JobQueue(1024), {b"1", b"2"}
    worker = Worker(
        ServerSettings(**settings), device, queue, connected.__contains__, lambda: None, EventLog("critical")
    )
    return device, queue, connected, worker


def a_job(name: str, drops: int, client: bytes, deadline: float = math.inf, scheme: str = "mrt") -> Job:
    channels = np.broadcast_to(np.complex64(1), (drops, 2, 4))
    return Job([client], PrecodeRequest(name, channels, scheme=scheme, deadline=deadline), time.perf_counter())


def code(answer: Answer) -> str:
    return answer.outcome.code if isinstance(answer.outcome, WireError) else "ok"


def test_a_deadline_a_lost_client_the_time_limit_and_the_end_of_grace_end_the_work() -> None:
    device, _, _, worker = blocks_worker(max_seconds=0.05)
    (answer,) = worker.compute([a_job("1", 10_000, b"1", deadline=0.02)])
    assert code(answer) == "expired"
    (answer,) = worker.compute([a_job("1", 10_000, b"1")])
    assert code(answer) == "too_large"
    assert len(device.order) < 1000
    device, _, connected, worker = blocks_worker()
    for end, found, words in (
        (connected.clear, "expired", "disconnected"),
        (lambda: worker.end_at(time.monotonic()), "stopping", "stopped"),
    ):
        connected.add(b"1")
        device.order.clear()
        device.after[10] = end
        (answer,) = worker.compute([a_job("1", 10_000, b"1")])
        assert (code(answer), len(device.order)) == (found, 10)
        assert words in str(answer.outcome)


def test_shorter_jobs_of_others_are_computed_between_blocks() -> None:
    device, queue, _, worker = blocks_worker()
    for one in (a_job("own", 1, b"1", scheme="zf"), a_job("short", 2, b"2"), a_job("longer", 1000, b"2")):
        queue.put(one)
    answers = worker.compute([a_job("long", 50, b"1")])
    assert [code(answer) for answer in answers] == ["ok"]
    assert device.order.count("short") == 2
    assert device.order.index("short") == 1
    assert device.order[-1] == "long"
    assert set(device.order) == {"long", "short"}
    assert [answer.job.request.id for batch in worker.completed for answer in batch] == ["short"]
    assert len(queue) == 2


def test_a_job_computed_by_the_thread_of_the_loop_is_not_interrupted_for_others() -> None:
    device, queue, connected, worker = blocks_worker()
    queue.put(a_job("short", 1, b"2"))
    (answer,) = worker.compute([a_job("long", 20, b"1")], None)
    assert code(answer) == "ok"
    assert set(device.order) == {"long"}
    assert len(queue) == 1
    connected.clear()
    (answer,) = worker.compute([a_job("long", 20, b"1")], None)
    assert code(answer) == "expired"


def test_the_first_request_of_a_scheme_is_checked_after_its_trial_and_before_it_is_computed() -> None:
    device, _, _, worker = blocks_worker(max_seconds=5)
    tried: list[str] = []

    def calibrate(scheme: str, interrupt: object) -> float:
        tried.append(scheme)
        device.costs.calibrate(scheme, 1e-6, 4.1)  # 10 ms for a drop of 2 users and 4 antennas
        return 4.8

    device.calibrate = calibrate
    long, late, short = (
        a_job(name, drops, b"1", scheme="zf:x=1") for name, drops in (("long", 600), ("late", 30), ("short", 3))
    )
    device.costs.check(long.key, 600, 5)  # accepted before the trial
    answers = {answer.job.request.id: answer for answer in worker.compute([long, late, short])}
    assert code(answers["long"]) == "too_large"
    assert "estimated to take 6" in str(answers["long"].outcome)
    assert code(answers["late"]) == "busy"  # 0.3 s more than the 4.8 s of the trial
    assert code(answers["short"]) == "ok"
    assert device.order == ["short"] * 3
    assert tried == ["zf"]
    with pytest.raises(WireError, match="estimated to take 6"):
        device.costs.check(long.key, 600, 5)


@pytest.mark.parametrize("key", ["wmmse", "hybrid"])
def test_the_trials_of_a_first_request_end_and_let_others_pass_as_its_work_does(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nflae_bridge.live.server.computation.interrupts.BLOCK_SECONDS", 0.0)
    device, queue, connected = Device("auto", "cpu"), JobQueue(1024), {b"1", b"2"}
    device.calibrate("mrt")
    ticks = itertools.count()
    device.clock = lambda: 1e-3 * next(ticks)
    settings = ServerSettings(max_seconds=0.02)
    worker = Worker(settings, device, queue, connected.__contains__, lambda: None, EventLog("critical"))
    problem = PrecodingProblem(rf_chains=8) if key == "hybrid" else PLAIN
    first = Job(
        [b"1"], PrecodeRequest("1", random_channels(1, 4, 16), scheme="wmmse", problem=problem), time.perf_counter()
    )
    queue.put(a_job("short", 1, b"2"))
    (answer,) = worker.compute([first])
    assert code(answer) == "too_large"
    assert "ended after 0.02 s" in str(answer.outcome)
    assert [answer.job.request.id for batch in worker.completed for answer in batch] == ["short"]
    assert device.costs.untried(first.key)  # the next request tries again
    for end in (lambda: connected.clear(), lambda: worker.cancelled.add(id(first))):
        connected.add(b"1")
        monkeypatch.setattr(queue, "take", lambda *_, **__: end() or [])  # noqa: B023
        worker._settings = ServerSettings()
        (answer,) = worker.compute([first])
        assert code(answer) == "expired"
        assert device.costs.untried(first.key)


def test_trials_measure_their_own_time_and_not_that_of_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.live.server.computation.interrupts.BLOCK_SECONDS", 0.0)
    device, now = Device("auto", "cpu"), [0.0]

    def pass_time(seconds: float = 1e-3) -> float:
        now[0] += seconds
        return now[0]

    device.clock = pass_time
    spent = [device.calibrate("wmmse", interrupt) for interrupt in (lambda: None, lambda: pass_time(10))]
    assert now[0] > 1000
    assert spent[1] == pytest.approx(spent[0], rel=0.01)
    assert spent[0] < 10
    large = PrecodeRequest("1", np.ones((1, *LARGE_TRIAL), np.complex64), scheme="wmmse")
    assert device.costs.estimate(batch_key(large), 1) < 10


def test_a_batch_that_takes_longer_than_estimated_lets_shorter_jobs_pass_still() -> None:
    device, queue, _, worker = blocks_worker()
    device.costs.calibrate("mrt", 1e-6, 0.041)  # a tenth of the time it takes
    passed: list[int] = []
    real = worker._queue.take

    def take(*arguments: Any, **named: Any) -> list[Job]:
        if len(device.order) == 30 and not passed:  # 30 ms into a batch estimated to take 5 ms
            queue.put(a_job("short", 1, b"2"))
        found = real(*arguments, **named)
        passed.extend(len(device.order) for _ in found)
        return found

    queue.take = take  # type: ignore[method-assign]
    (answer,) = worker.compute([a_job("long", 50, b"1")])
    assert code(answer) == "ok"
    assert passed == [30]


def test_the_device_computes_the_same_in_blocks_and_stops_between_them() -> None:
    device = Device("auto", "cpu")
    device.costs.calibrate("rzf", 1e-6, 1.0)  # so slow by its estimate that every block has a few drops
    channels = random_channels(200, 3, 16)
    request = PrecodeRequest("1", channels, scheme="rzf", want=("precoder", "sum_rate"))
    interrupts: list[int] = []
    (answer,) = device.compute([Job([], request, 0.0)], lambda: interrupts.append(1))
    assert len(interrupts) > 3
    whole = Device("auto", "cpu")
    (expected,) = whole.compute([Job([], request, 0.0)])
    assert isinstance(answer.outcome, dict)
    assert isinstance(expected.outcome, dict)
    for name, values in expected.outcome.items():
        np.testing.assert_allclose(answer.outcome[name], values, rtol=1e-5, atol=1e-6)

    def stop() -> None:
        raise WireError("expired", "")

    device.costs.calibrate("zf", 1e-6, 1.0)
    with pytest.raises(WireError):
        device.compute([Job([], PrecodeRequest("1", channels, scheme="zf"), 0.0)], stop)
    assert not device.costs.is_known(batch_key(PrecodeRequest("1", channels, scheme="zf")))


@pytest.mark.parametrize("spec", ["wmmse:iterations=60", "nflae"])
def test_one_long_drop_is_interrupted_between_its_iterations(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other jobs computed meanwhile change nothing; the exception of an interrupt ends the drop."""
    monkeypatch.setattr("nflae_bridge.live.server.computation.interrupts.BLOCK_SECONDS", 0.0)
    device = Device("auto", "cpu")
    refine = 20 if spec == "nflae" else 0
    long, other = (
        Job([], PrecodeRequest("1", random_channels(1, 4, 16, seed), scheme=name, refine=steps), 0.0)
        for seed, name, steps in ((0, spec, refine), (1, "wmmse:iterations=20", 0))
    )
    (expected,), (beside,) = device.compute([long]), device.compute([other])
    between: list[Answer] = []
    (answer,) = device.compute([long], lambda: between.extend(device.compute([other])))
    assert len(between) > 10
    for found, right in ((answer, expected), (between[-1], beside)):
        assert isinstance(found.outcome, dict)
        assert isinstance(right.outcome, dict)
        for name, values in right.outcome.items():
            np.testing.assert_allclose(found.outcome[name], values, rtol=1e-4, atol=1e-5)

    def stop() -> None:
        raise WireError("expired", "now")

    with pytest.raises(WireError, match="now"):
        device.compute([long], stop)
    device.computes_beside = False  # a GPU, whose buffers other jobs would overwrite
    device.compute([long], stop)


def test_an_interrupt_ends_a_prediction_with_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of a history become `bad_channels`; the end of a deadline inside of the prediction does not."""
    monkeypatch.setattr("nflae_bridge.live.server.computation.interrupts.BLOCK_SECONDS", 0.0)
    device, calls = Device("auto", "cpu"), []

    def stop() -> None:
        calls.append(1)
        if len(calls) > 1:  # the first one is before the prediction
            raise WireError("expired", "now")

    request = trial_request(70, 16)  # more series than are predicted in NumPy
    options = dataclasses.replace(request.options, method="kalman")
    with pytest.raises(WireError) as raised:
        device.compute([Job([], dataclasses.replace(request, options=options), 0.0)], stop)
    assert raised.value.code == "expired"


def test_a_computation_that_ends_after_the_server_writes_into_no_other_file() -> None:
    transport = Connections(["tcp://127.0.0.1:*"], MEGABYTE, EventLog("error"))
    transport.close(0)
    pipes = [os.pipe() for _ in range(4)]  # with the numbers of the files that were closed
    transport.wake()
    assert not select.select([reader for reader, _ in pipes], [], [], 0)[0]
    for pipe in pipes:
        for number in pipe:
            os.close(number)
