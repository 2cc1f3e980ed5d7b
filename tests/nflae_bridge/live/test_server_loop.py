"""The server loop around a device of known speed: what an answer says about its time."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import zmq

from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.server.computation.answer import Answer
from nflae_bridge.live.server.computation.costs import CostModel
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.micro_batches import Job, JobQueue
from nflae_bridge.live.server.computation.worker import Worker
from nflae_bridge.live.server.loop import ServerLoop
from nflae_bridge.live.server.scheduling import set_time_slice, time_slice
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.transport import open_transport
from tests.channel_files import random_channels
from tests.sockets import bounded_context

COMPUTE_SECONDS = 0.25


class SlowDevice:
    """A device that takes a quarter of a second per batch, and says so."""

    model, device, unusable = "slow", "cpu", dict[str, str]()
    computes_beside = False
    schemes = ("mrt", "zf")
    tracks = ()
    clock = staticmethod(time.perf_counter)

    def __init__(self, is_known: bool) -> None:
        self.costs = CostModel()
        for scheme in self.schemes:
            self.costs.calibrate(scheme, 1e-6, 1e-6)
            if is_known:
                self.costs.learn((2, 4, scheme, 0, False, None, None), 1, 1e-6)

    def check_scheme(self, spec: str) -> None: ...

    def info(self, request: PrecodeRequest) -> dict[str, Any]:
        return {}

    def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
        time.sleep(COMPUTE_SECONDS)
        return [Answer(job, {"sum_rate": np.zeros(job.drops)}, COMPUTE_SECONDS) for job in jobs]


@contextmanager
def running(device: Any, **limits: Any) -> Iterator[zmq.Socket[bytes]]:
    """A server loop in a thread; a DEALER connected to it."""
    context = bounded_context()
    settings = ServerSettings(bind=("tcp://127.0.0.1:*",), **limits)
    transport = open_transport(settings, EventLog("error"))
    loop = ServerLoop(settings, transport, device, EventLog("error"))
    thread = threading.Thread(target=loop.run)
    thread.start()
    peer = context.socket(zmq.DEALER)
    peer.rcvtimeo = 60_000
    peer.connect(transport.addresses[0])
    try:
        yield peer
    finally:
        loop.stop()
        thread.join(60)
        peer.close(linger=0)
        transport.close(0)
        context.destroy(linger=0)
        assert not thread.is_alive()


def send(peer: zmq.Socket[bytes], name: str, scheme: str) -> None:
    header = {"v": 1, "id": name, "op": "precode", "shape": [4, 2, 1], "scheme": scheme, "want": ["sum_rate"]}
    peer.send_multipart([json.dumps(header).encode(), random_channels(1, 2, 4).tobytes()])


def status(peer: zmq.Socket[bytes]) -> dict[str, Any]:
    peer.send_multipart([json.dumps({"v": 1, "id": "status", "op": "status"}).encode()])
    return dict(json.loads(peer.recv_multipart()[0])["status"])


def timing(peer: zmq.Socket[bytes]) -> tuple[str, dict[str, int]]:
    header = json.loads(peer.recv_multipart()[0])
    assert header["ok"], header
    return header["id"], header["timing_us"]


@pytest.mark.parametrize("is_known", [True, False], ids=["in the loop", "in the device's thread"])
def test_time_in_the_queue_excludes_the_computation(is_known: bool) -> None:
    with running(SlowDevice(is_known)) as peer:
        sent = time.perf_counter()
        send(peer, "1", "mrt")
        _, first = timing(peer)
        passed = time.perf_counter() - sent
    assert first["compute"] == 1e6 * COMPUTE_SECONDS
    assert first["total"] >= first["compute"]
    assert first["queue"] <= 1e6 * (passed - COMPUTE_SECONDS) + 1
    stages = sum(first[name] for name in ("decode", "queue", "compute", "encode"))
    assert abs(stages - first["total"]) <= 4


def test_time_in_the_queue_is_the_computation_before() -> None:
    """Requests of different schemes are computed one after the other."""
    device = GatedDevice()
    with running(device) as peer:
        sent = time.perf_counter()
        send(peer, "1", "mrt")
        assert device.began.wait(60)
        send(peer, "2", "zf")
        assert status(peer)["counts"]["requests"] == 2
        accepted = time.perf_counter()
        time.sleep(COMPUTE_SECONDS)
        waited = 1e6 * (time.perf_counter() - accepted)
        device.released.set()
        times = dict(timing(peer) for _ in range(2))
        passed = 1e6 * (time.perf_counter() - sent)
    assert times["1"]["compute"] >= waited - 1
    assert times["2"]["queue"] >= waited - 1
    for each in times.values():
        assert each["queue"] + each["compute"] <= passed + 1
        assert each["total"] >= waited - 1


class GatedDevice(SlowDevice):
    """A device that computes nothing until it is released, and says how long that took."""

    def __init__(self) -> None:
        super().__init__(is_known=False)
        self.began, self.released = threading.Event(), threading.Event()

    def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
        began = time.perf_counter()
        self.began.set()
        assert self.released.wait(60)
        return [Answer(job, {"sum_rate": np.zeros(job.drops)}, time.perf_counter() - began) for job in jobs]


class FragileDevice(SlowDevice):
    """A device that fails on every batch with a job called "poison", and is slow at first, so that batches form."""

    def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
        if any(job.request.id == "poison" for job in jobs):
            raise ArithmeticError
        return super().compute(jobs, interrupt)


def test_a_job_that_fails_its_batch_fails_alone() -> None:
    with running(FragileDevice(False)) as peer:
        for name in ("first", "1", "2", "poison", "3"):
            send(peer, name, "mrt")
        answers = {header["id"]: header for header in (json.loads(peer.recv_multipart()[0]) for _ in range(5))}
    assert answers.pop("poison")["error"]["code"] == "internal"
    assert all(header["ok"] for header in answers.values())
    assert len(answers) == 4


def test_the_device_measures_its_own_time_only() -> None:
    device = Device("auto", "cpu")
    request = PrecodeRequest("1", random_channels(1, 2, 8), scheme="rzf")
    device.compute([Job([], request, time.perf_counter())])
    began = time.perf_counter()
    (answer,) = device.compute([Job([], request, began - 60)])
    assert 0 < answer.compute <= time.perf_counter() - began


class LongDevice(SlowDevice):
    """A device on which scheme "zf" takes until it is released, and "mrt" no time."""

    computes_beside = True

    def __init__(self) -> None:
        super().__init__(is_known=False)
        self.costs.learn((2, 4, "mrt", 0, False, None, None), 1, 1e-6)
        self.began, self.released = threading.Event(), threading.Event()

    def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
        if jobs[0].request.scheme == "zf":
            self.began.set()
            assert self.released.wait(60)
        return [Answer(job, {"sum_rate": np.zeros(job.drops)}, 0.0) for job in jobs]


def test_a_short_request_is_answered_while_the_device_computes_a_long_one() -> None:
    device = LongDevice()
    with running(device) as peer:
        send(peer, "long", "zf")
        assert device.began.wait(60)
        send(peer, "short", "mrt")
        assert timing(peer)[0] == "short"
        device.released.set()
        assert timing(peer)[0] == "long"


@pytest.mark.parametrize("backlog", [1, 2])
def test_a_short_request_waits_for_a_batch_that_ends_soon_but_not_behind_a_backlog(
    backlog: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single long request is no backlog: the short one may join others in the next batch."""
    monkeypatch.setattr(Worker, "seconds_left", lambda self: 0.0)
    monkeypatch.setattr(Worker, "is_unattended", lambda self: False)
    device = LongDevice()
    with running(device) as peer, bounded_context() as context, context.socket(zmq.DEALER) as other:
        for name in range(backlog):
            send(peer, str(name), "zf")
        assert device.began.wait(60)
        assert status(peer)["counts"]["requests"] == backlog
        other.connect(peer.last_endpoint.decode().rstrip("\0"))
        other.rcvtimeo = 60_000
        send(other, "short", "mrt")
        if backlog > 1:
            assert timing(other)[0] == "short"
        else:
            depths = [status(other)["queue_depth"] for _ in range(2)]
            assert depths[1] == 1  # in a turn after that of the short request
        assert not device.released.is_set()
        device.released.set()
        if backlog == 1:
            assert timing(other)[0] == "short"


@pytest.mark.parametrize("number", [1, 2])
def test_a_short_request_that_waits_is_computed_once_the_computation_before_it_takes_long(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not known to be long at first. Those of a client with several requests wait."""
    unattended = threading.Event()
    monkeypatch.setattr(Worker, "seconds_left", lambda self: 0.0)
    monkeypatch.setattr(Worker, "is_unattended", lambda self: unattended.is_set())
    device = LongDevice()
    with running(device) as peer, bounded_context() as context, context.socket(zmq.DEALER) as other:
        send(peer, "long", "zf")
        assert device.began.wait(60)
        other.connect(peer.last_endpoint.decode().rstrip("\0"))
        other.rcvtimeo = 60_000
        for _ in range(number):
            send(other, "short", "mrt")
        while status(peer)["queue_depth"] < number:
            pass
        unattended.set()
        if number == 1:
            assert timing(other)[0] == "short"
        else:
            assert [status(peer)["queue_depth"] for _ in range(3)] == [number] * 3
        assert not device.released.is_set()
        device.released.set()
        if number > 1:
            assert [timing(other)[0] for _ in range(number)] == ["short"] * number


def test_a_computation_is_unattended_from_its_last_interrupt_on() -> None:
    moments: list[bool] = []

    class Unattended(LongDevice):
        def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
            moments.append(worker.is_unattended())
            while not worker.is_unattended():
                time.sleep(1e-3)
            interrupt()
            moments.append(worker.is_unattended())
            queue.close()
            return []

    device: Any = Unattended()
    queue = JobQueue(4)
    worker = Worker(ServerSettings(), device, queue, lambda client: True, lambda: None, EventLog("error"))
    queue.put(Job([b"1"], PrecodeRequest("1", random_channels(1, 2, 4), scheme="mrt"), time.perf_counter()))
    worker.run()
    assert moments == [False, False]
    assert not worker.is_unattended()


class RecordingTransport:
    """Notes the clients to which answers are sent."""

    guard = None

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def is_connected(self, identity: bytes) -> bool:
        return True

    def wake(self) -> None: ...

    def receive(self, timeout: float) -> list[list[Any]]:
        return []

    def send(self, envelope: Sequence[Any], frames: Sequence[Any]) -> str:
        self.sent.append(envelope[0])
        return "sent"


def test_an_answer_does_not_wait_for_those_of_the_batches_before_it() -> None:
    transport, device = RecordingTransport(), SlowDevice(is_known=True)
    loop = ServerLoop(ServerSettings(), transport, device, EventLog("error"))  # type: ignore[arg-type]
    for clients in ([b"greedy"] * 200, [b"good", b"greedy", b"good"]):
        requests = [PrecodeRequest("1", random_channels(1, 2, 4), scheme="mrt", want=("sum_rate",)) for _ in clients]
        jobs = [Job([client], request, time.perf_counter()) for client, request in zip(clients, requests, strict=True)]
        loop._worker.completed.append([Answer(job, {"sum_rate": np.zeros(1)}, 0.0) for job in jobs])
    loop._send_completed()
    assert transport.sent[:4] == [b"greedy", b"good"] * 2
    while loop._completed:
        loop._send_completed()
    assert (len(transport.sent), transport.sent.count(b"good")) == (203, 2)


def beside_a_long_job(
    seconds: float, is_much_longer: bool, monkeypatch: pytest.MonkeyPatch, backlog: int = 1
) -> list[list[bytes]]:
    """The clients answered after each of four turns: three sent a request of a known time during a long computation."""
    monkeypatch.setattr(Worker, "seconds_left", lambda self: float("inf"))
    monkeypatch.setattr(Worker, "is_much_longer", lambda self, seconds: is_much_longer)
    transport, device = RecordingTransport(), LongDevice()
    device.costs.learn((4, 4, "mrt", 0, False, None, None), 1, seconds)
    loop = ServerLoop(ServerSettings(), transport, device, EventLog("error"))  # type: ignore[arg-type]
    long, *short = (
        Job([client], PrecodeRequest("1", random_channels(1, 4, 4), scheme=scheme, want=("sum_rate",)), 0.0)
        for client, scheme in ((b"long", "zf"), (b"a", "mrt"), (b"b", "mrt"), (b"c", "mrt"))
    )
    for number in range(backlog):
        loop._unanswered.add(dataclasses.replace(long, arrived=number))
    loop._postponed = short
    answered = []
    for _ in range(4):
        loop._turn()
        answered.append(list(transport.sent))
    return answered


def test_short_requests_for_which_a_turn_has_no_time_are_computed_in_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b, c = b"a", b"b", b"c"
    assert beside_a_long_job(4e-3, False, monkeypatch) == [[a], [a, b], [a, b, c], [a, b, c]]


@pytest.mark.parametrize(("seconds", "is_much_longer"), [(1e-2, True), (1e-2, False), (3e-2, True)])
def test_longer_requests_are_computed_beside_much_longer_ones_only(
    seconds: float, is_much_longer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = beside_a_long_job(seconds, is_much_longer, monkeypatch)
    assert answered == (
        [[b"a"], [b"a", b"b"], *[[b"a", b"b", b"c"]] * 2] if (seconds, is_much_longer) == (1e-2, True) else [[]] * 4
    )


def test_requests_of_other_clients_do_not_wait_behind_a_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = b"a", b"b", b"c"
    assert beside_a_long_job(1e-2, False, monkeypatch, 2) == [[a], [a, b], [a, b, c], [a, b, c]]
    assert beside_a_long_job(3e-2, False, monkeypatch, 2) == [[]] * 4


def test_busy_does_not_wait_for_the_computation() -> None:
    """No time is measured: the answers arrive before the batch ends, which waits for the test."""
    device = LongDevice()
    with running(device, queue=4) as peer:
        send(peer, "first", "zf")
        assert device.began.wait(60)
        names = [str(number) for number in range(20)]
        for name in names:
            send(peer, name, "zf")
        codes = {}
        for _ in names[3:]:
            header = json.loads(peer.recv_multipart()[0])
            codes[header["id"]] = header["error"]["code"]
        assert set(codes.values()) == {"busy"}
        assert not device.released.is_set()
        device.released.set()
        answered = {timing(peer)[0] for _ in range(1 + len(names) - len(codes))}
    assert answered | set(codes) == {"first", *names}


class QuickDevice(SlowDevice):
    def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
        return [Answer(job, {"sum_rate": np.zeros(job.drops)}, 0.0) for job in jobs]


def test_a_client_that_returns_at_once_is_expected_once() -> None:
    """A lone client's next request, queued as soon as it has its answer, waits for no other."""
    expectations: list[int] = []

    class Recording(JobQueue):
        def take(self, max_drops: Any, expected: int = 1, max_wait: float = 0.0, block: bool = True) -> list[Job]:
            expectations.append(expected)
            return super().take(max_drops, expected, max_wait, block)

    queue = Recording(16)

    def returns() -> None:
        if len(expectations) == 4:
            queue.close()
        else:
            request = PrecodeRequest("1", random_channels(1, 2, 4), scheme="mrt")
            assert queue.put(Job([b"1"], request, time.perf_counter()))

    device: Any = QuickDevice(True)
    worker = Worker(ServerSettings(), device, queue, lambda client: True, returns, EventLog("error"))
    returns()
    worker.run()
    assert expectations == [1, 1, 1, 1, 1]


class EndlessDevice(SlowDevice):
    """A device that computes until it is interrupted, and says when it has begun."""

    def __init__(self) -> None:
        super().__init__(is_known=False)
        self.begun: list[str] = []
        self.began = threading.Event()

    def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
        self.begun += [job.request.id for job in jobs]
        self.began.set()
        while True:
            interrupt()
            time.sleep(1e-3)


def test_a_cancelled_request_ends_whether_it_is_computed_or_waits_and_its_answer_says_so() -> None:
    device = EndlessDevice()
    with running(device, max_seconds=1e4, grace=1) as peer:
        send(peer, "computed", "zf")
        assert device.began.wait(60)
        send(peer, "waiting", "mrt")
        for name in ("unknown", "waiting", "computed"):
            peer.send_multipart([json.dumps({"v": 1, "id": name, "op": "cancel"}).encode()])
        errors = {}
        for _ in range(2):
            header = json.loads(peer.recv_multipart()[0])
            errors[header["id"]] = header["error"]
        assert set(errors) == {"computed", "waiting"}
        assert {error["code"] for error in errors.values()} == {"expired"}
        assert all("cancelled" in error["message"] for error in errors.values())
        assert device.begun == ["computed"]


def test_no_client_cancels_the_request_of_another() -> None:
    device = LongDevice()
    with running(device) as peer, bounded_context() as context, context.socket(zmq.DEALER) as other:
        send(peer, "long", "zf")
        assert device.began.wait(60)
        other.connect(peer.last_endpoint.decode().rstrip("\0"))
        other.rcvtimeo = 60_000
        for operation in ("cancel", "status"):
            other.send_multipart([json.dumps({"v": 1, "id": "long", "op": operation}).encode()])
        assert "status" in json.loads(other.recv())
        device.released.set()
        assert timing(peer)[0] == "long"


class SlicedDevice(LongDevice):
    """A device that notes the time slices of the thread that computes and of the loop's thread."""

    def __init__(self) -> None:
        super().__init__()
        self.computing: list[float | None] = []
        self.receiving: dict[str, float | None] = {}

    def check_scheme(self, spec: str) -> None:
        self.receiving.setdefault(spec, time_slice())

    def compute(self, jobs: Sequence[Job], interrupt: Any = None) -> list[Answer]:
        if jobs[0].request.scheme == "zf":
            self.computing.append(time_slice())
        return super().compute(jobs, interrupt)


@pytest.mark.skipif(not time_slice(), reason="the kernel returns no time slices")
@pytest.mark.parametrize("backlog", [False, True])
def test_the_thread_of_the_loop_has_a_short_time_slice_beside_a_long_computation_but_a_backlog(backlog: bool) -> None:
    device, usual = SlicedDevice(), time_slice()
    with running(device) as peer:
        send(peer, "long", "zf")
        assert device.began.wait(60)
        if backlog:
            send(peer, "second", "zf")
        for name in ("first", "beside"):  # the second one in a later turn than all others
            if name == "beside":
                send(peer, name, "mrt")
            peer.send_multipart([json.dumps({"v": 1, "id": name, "op": "status"}).encode()])
            while "status" not in json.loads(peer.recv_multipart()[0]):
                pass
        device.released.set()
    assert device.computing[0] == usual == device.receiving["zf"]
    assert device.receiving["mrt"] == (usual if backlog else 1e-4)


@pytest.mark.skipif(not time_slice(), reason="the kernel returns no time slices")
def test_a_time_slice_belongs_to_a_thread_and_keeps_its_nice_value() -> None:
    found = []

    def set_and_get() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
        found.append((set_time_slice(2e-4), time_slice(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))

    before, thread = time_slice(), threading.Thread(target=set_and_get)
    thread.start()
    thread.join()
    assert found == [(True, 2e-4, 3)]
    assert time_slice() == before


def test_a_context_of_the_tests_ends_although_a_message_cannot_be_sent() -> None:
    with bounded_context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect("tcp://127.0.0.1:1")  # no program listens there
        socket.send(b"unsent")
    assert context.closed
