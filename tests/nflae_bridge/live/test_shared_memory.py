"""Shared memory between a real server and clients: equal answers, segments that are refused, clients that die."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import mmap
import os
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matlab_io.result import Result
from nflae_bridge import AsyncClient, Client
from nflae_bridge.live.errors import BridgeError, WireError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.frames import decode_request
from nflae_bridge.live.protocol.headers import ArrayDescription
from nflae_bridge.live.protocol.memory import AnswerRoom, empty_array
from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.micro_batches import Job, JobQueue
from nflae_bridge.live.server.computation.worker import Worker
from nflae_bridge.live.server.segments import SegmentRegistry, open_segments
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.shared_memory.handover import hand_over
from nflae_bridge.live.shared_memory.pool import SegmentPool
from nflae_bridge.live.shared_memory.segment import make_segment
from tests.channel_files import Run
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.test_server import Peer, channels
from tests.nflae_bridge.live.test_server_limits import admission, frames_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")

MEGABYTE = 1 << 20
ONE_DROP = (1, 8, 16_640)  # 1.02 MB: a single drop is computed alone, so that its bits do not depend on the blocks
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@pytest.fixture(scope="module")
def shared() -> Iterator[LiveServer]:
    with LiveServer() as running:
        yield running


@pytest.fixture
def server(shared: LiveServer) -> LiveServer:
    """Once the segments of the test before are gone, by the server's count and by the kernel's."""
    assert until(lambda: held(shared) == (0, 0))
    assert until(lambda: mapped(shared)[0] == 0)
    return shared


def held(server: LiveServer) -> tuple[int, int]:
    """Segments and bytes by the server's own count."""
    with Client(server.address) as client:
        shown = client.status()["shared_memory"]
    return shown["segments"], shown["bytes"]


def mapped(server: LiveServer) -> tuple[int, int]:
    """Mapped segments of clients and open descriptors of the server's process, by the kernel's count."""
    process = f"/proc/{server.process.pid}"
    return Path(process, "maps").read_text().count("memfd:nflae"), len(os.listdir(f"{process}/fd"))


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def assert_equal(found: Result, expected: Result) -> None:
    for name, value in vars(expected).items():
        if value is not None:
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
            assert getattr(found, name).dtype == value.dtype


# Answers


@pytest.mark.parametrize("scheme", ["mrt", "rzf", "nflae"])
def test_answers_have_the_bits_of_those_by_sockets(server: LiveServer, scheme: str) -> None:
    H = channels(*ONE_DROP)
    labels = np.arange(8)[None] % 2 == 0
    with Client(server.address, shared_memory=False) as other, Client(server.address) as client:
        for options in ({}, {"near_field": labels, "alpha_c": 0.3}, {"convention": "direct", "layout": "skn"}):
            before = held(server)[0]
            expected = other.precode(H, scheme=scheme, noise_power=0.01, **options)
            assert held(server)[0] == before
            found = client.precode(H, scheme=scheme, noise_power=0.01, **options)
            assert held(server)[0] >= 1
            assert_equal(found, expected)
            with pytest.raises(ValueError, match="read-only"):
                found.precoder[0, 0, 0] = 0


def test_a_batch_of_drops_and_small_requests_are_answered_too(server: LiveServer) -> None:
    H = channels(80, 8, 256)
    with Client(server.address, shared_memory=False) as other, Client(server.address) as client:
        np.testing.assert_array_equal(client.precode(H, scheme="mrt").precoder, other.precode(H, scheme="mrt").precoder)
        assert_equal(client.precode(H[:1], scheme="mrt"), other.precode(H[:1], scheme="mrt"))


def test_a_result_stays_while_later_calls_use_other_segments(server: LiveServer) -> None:
    with Client(server.address) as client:
        first = client.precode(channels(*ONE_DROP, seed=1), scheme="mrt").precoder
        kept = first.copy()
        for seed in range(2, 6):
            other = client.precode(channels(*ONE_DROP, seed=seed), scheme="mrt").precoder
            assert not np.array_equal(other, kept)
        np.testing.assert_array_equal(first, kept)
        assert held(server)[0] <= 3  # those of results that were dropped are used again
    np.testing.assert_array_equal(first, kept)  # after the end of the client, too


def test_many_kept_results_leave_memory_for_the_next(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.live.shared_memory.pool._MAX_BYTES", 12 * MEGABYTE)  # four of these requests
    with Client(server.address) as client:
        found = [client.precode(channels(*ONE_DROP, seed=seed), scheme="mrt").precoder for seed in range(8)]
        assert held(server)[1] <= 12 * MEGABYTE
        pool = client._own_state().connection._pool
        assert pool is not None
        assert pool._free  # the last results were copied out of theirs
    with Client(server.address, shared_memory=False) as client:
        for seed, precoder in enumerate(found):
            expected = client.precode(channels(*ONE_DROP, seed=seed), scheme="mrt").precoder
            np.testing.assert_array_equal(precoder, expected)
            assert not precoder.flags.writeable


def test_concurrent_calls_have_segments_of_their_own(server: LiveServer) -> None:
    async def run(shared_memory: bool) -> list[Result]:
        async with AsyncClient(server.address, shared_memory=shared_memory) as client:
            calls = [client.precode(channels(*ONE_DROP, seed=seed), scheme="mrt") for seed in range(5)]
            return await asyncio.gather(*calls)

    # Requests that arrive together are computed together, as many as that happens to be, and rounded accordingly.
    for found, expected in zip(asyncio.run(run(True)), asyncio.run(run(False)), strict=True):
        for name, value in vars(expected).items():
            if value is not None:
                np.testing.assert_allclose(getattr(found, name), value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_prediction_is_the_same(server: LiveServer) -> None:
    drift = np.exp(0.2j * np.arange(16))[:, None, None]
    history = (channels(1, 4, 4096) * drift).astype(np.complex64)  # 2 MB
    with Client(server.address, shared_memory=False) as other, Client(server.address) as client:
        expected, found = (each.predict(history, ahead=2, method="hold") for each in (other, client))
    np.testing.assert_array_equal(found.channels, expected.channels)


def test_a_server_may_offer_none(monkeypatch: pytest.MonkeyPatch, nflae: Run) -> None:
    found: list[ServerSettings] = []
    monkeypatch.setattr("nflae_bridge.live.server.serve", lambda settings, log: found.append(settings))
    nflae("serve")
    nflae("serve", "--no-shared-memory")
    assert [settings.shared_memory for settings in found] == [True, False]
    assert open_segments(found[1], EventLog("error")) is None
    header = {"v": 1, "id": "1", "op": "precode", "shape": [64, 4]}
    header["memory"] = {"segment": "s", "channels": 0, "answer": 0, "room": 0}
    with pytest.raises(WireError, match="shares no memory") as raised:
        decode_request([json.dumps(header).encode()])
    assert raised.value.code == "no_segment"


def test_a_segment_that_the_server_has_lost_is_replaced_by_a_frame(server: LiveServer) -> None:
    with Client(server.address) as client:
        expected = client.precode(channels(*ONE_DROP), scheme="mrt").sum_rate
        pool = client._own_state().connection._pool
        assert pool is not None
        for segment in pool._made:
            segment.connection.shutdown(sockets.SHUT_RDWR)
        assert until(lambda: held(server)[0] == 0)
        np.testing.assert_array_equal(client.precode(channels(*ONE_DROP), scheme="mrt").sum_rate, expected)
        assert held(server)[0] == 0


# References


def test_room_is_divided_by_name_and_not_written_twice() -> None:
    memory = memoryview(bytearray(MEGABYTE))
    room = AnswerRoom(memory, 4096, MEGABYTE - 4096)
    shape, size = (2, 5000), 80_000
    computed = empty_array(room, "precoder", shape, np.complex64)
    computed[...] = 1 + 2j
    described = ArrayDescription("precoder", shape[::-1], "complex64")
    assert room.place(described, computed).offset == 4096
    again = room.array("precoder", shape, np.complex64)  # of a computation that is repeated
    assert again is not None
    np.testing.assert_array_equal(again, computed)
    other = ArrayDescription("rate", (10_000, 1), "float64")
    placed = room.place(other, np.arange(10_000.0)[None])
    assert placed.offset == 4096 + size
    np.testing.assert_array_equal(np.frombuffer(memory, np.float64, 10_000, placed.offset or 0), np.arange(10_000))
    transposed = np.arange(20_000.0).reshape(100, 200).T
    offset = room.place(ArrayDescription("sinr", (100, 200), "float64"), transposed).offset
    np.testing.assert_array_equal(np.frombuffer(memory, np.float64, 20_000, offset or 0).reshape(200, 100), transposed)
    assert room.array("power", (8191,), np.float64) is None  # small
    assert room.array("power", (MEGABYTE,), np.uint8) is None  # larger than what is left
    assert not any(memory[:4096])
    assert not any(memory[-4096:])
    kept = empty_array(None, "power", (3,), np.float64)
    assert kept.shape == (3,)


@pytest.fixture
def raw(server: LiveServer) -> Iterator[tuple[Peer, mmap.mmap, str]]:
    """A socket, and a segment of 2 MB that the server has mapped."""
    peer = Peer(server.address)
    peer.send(op="status")
    name = peer.receive()[0]["status"]["shared_memory"]["socket"]
    descriptor, memory = make_segment(2 * MEGABYTE)
    connection, segment = hand_over(name, descriptor, 20)
    os.close(descriptor)
    yield peer, memory, segment
    connection.close()
    peer.socket.close()


def ask(peer: Peer, segment: str, place: dict[str, Any], **header: Any) -> dict[str, Any]:
    """The answer's header to a request for 128 drops of 4 x 64 in a segment: 262,144 bytes."""
    memory = {"segment": segment, "channels": 0, "answer": MEGABYTE, "room": MEGABYTE} | place
    fields = {"shape": [64, 4, 128], "scheme": "mrt", "want": ["precoder", "power"], "memory": memory}
    peer.send(**(fields | header))
    head, *frames = peer.socket.recv_multipart()
    answer: dict[str, Any] = json.loads(head)
    answer["frames"] = frames
    return answer


def test_any_program_can_share_memory(raw: tuple[Peer, mmap.mmap, str]) -> None:
    peer, memory, segment = raw
    H = channels(128, 4, 64)
    memory[: H.nbytes] = H.tobytes()
    answer = ask(peer, segment, {})
    (precoder, power) = answer["arrays"]
    assert precoder["offset"] == MEGABYTE
    assert "offset" not in power
    assert len(answer["frames"]) == 1
    found = np.frombuffer(memory, np.complex64, H.size, MEGABYTE).reshape(H.shape)
    np.testing.assert_allclose(found, H / np.linalg.norm(H, axis=-1, keepdims=True), rtol=1e-5)
    assert bytes(memory[: H.nbytes]) == H.tobytes()


def test_an_answer_without_room_travels_in_frames(raw: tuple[Peer, mmap.mmap, str]) -> None:
    peer, memory, segment = raw
    H = channels(128, 4, 64)
    memory[: H.nbytes] = H.tobytes()
    answer = ask(peer, segment, {"room": H.nbytes - 1})
    assert not any("offset" in entry for entry in answer["arrays"])
    assert len(answer["frames"]) == 2
    assert not any(memory[MEGABYTE:])


@pytest.mark.parametrize(
    ("place", "code", "message"),
    [
        ({"segment": "none"}, "no_segment", "no such segment"),
        ({"channels": 2 * MEGABYTE - 262_144 + 64}, "bad_request", "channels ends at byte 2097216 of a segment of"),
        ({"answer": 64, "room": 2 * MEGABYTE}, "bad_request", "answer ends at byte 2097216 of a segment of 2097152"),
        ({"channels": 8}, "bad_request", "multiple of 64"),
        ({"channels": -64}, "bad_request", ">= 0"),
        ({"offset": 0}, "bad_request", "offset"),
    ],
)
def test_a_place_outside_the_segment_is_refused(
    raw: tuple[Peer, mmap.mmap, str], place: dict[str, Any], code: str, message: str
) -> None:
    peer, _, segment = raw
    error = ask(peer, segment, place)["error"]
    assert error["code"] == code
    assert message in error["message"]
    assert "\n" not in error["message"]


def test_channels_that_change_during_the_computation_harm_their_client_alone(
    server: LiveServer, raw: tuple[Peer, mmap.mmap, str]
) -> None:
    peer, memory, segment = raw
    H = channels(128, 4, 64)
    broken = np.full_like(H, np.nan)
    done = threading.Event()

    def rewrite() -> None:
        view = np.frombuffer(memory, np.complex64, H.size).reshape(H.shape)
        while not done.is_set():
            view[...] = broken
            view[...] = H

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        with Client(server.address) as honest:
            expected = honest.precode(H[:4], scheme="rzf").sum_rate
            for _ in range(30):
                answer = ask(peer, segment, {}, scheme="rzf")
                assert answer["ok"] or answer["error"]["code"] == "bad_channels"
                np.testing.assert_array_equal(honest.precode(H[:4], scheme="rzf").sum_rate, expected)
    finally:
        done.set()
        thread.join()


# Segments


@pytest.fixture
def registry() -> Iterator[tuple[SegmentRegistry, list[str]]]:
    """One that maps segments of up to 4 MB, 10 MB in all, and the lines of its log."""
    lines: list[str] = []

    class Log:
        def warning(self, event: str, **fields: object) -> None:
            lines.append(f"{event} {fields['code']} {fields['message']}")

    running = SegmentRegistry(4 * MEGABYTE, 10 * MEGABYTE, Log())  # type: ignore[arg-type]
    yield running, lines
    running.close()


def memory_file(size: int = MEGABYTE, seals: int = SEALS) -> int:
    descriptor = os.memfd_create("trial", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def huge_pages() -> int:
    with contextlib.suppress(OSError):
        descriptor = os.memfd_create("trial", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB | os.MFD_HUGE_2MB)
        os.ftruncate(descriptor, 2 * MEGABYTE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        return descriptor
    pytest.skip("no huge pages here")


def of_another_account() -> int:
    if os.geteuid():
        pytest.skip("takes root")
    os.seteuid(65534)
    try:
        return memory_file()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: memory_file(seals=0), "has no F_SEAL_SHRINK and no F_SEAL_GROW: seal its size"),
        (lambda: memory_file(seals=fcntl.F_SEAL_GROW), "has no F_SEAL_SHRINK: seal"),
        (lambda: memory_file(seals=SEALS | fcntl.F_SEAL_WRITE), "cannot be mapped"),
        (lambda: memory_file(0), "a segment of 0 bytes: this server maps segments of 1 to 4194304 bytes"),
        (lambda: memory_file(4 * MEGABYTE + 1), "a segment of 4194305 bytes"),
        (lambda: os.open(__file__, os.O_RDONLY), "not a memory file: make it with memfd_create"),
        (lambda: os.pipe()[0], "not a memory file"),
        (huge_pages, "pages of another size"),
        (of_another_account, "belongs to account 65534"),
    ],
)
def test_an_unusable_segment_is_refused_in_one_line(
    registry: tuple[SegmentRegistry, list[str]], make: Callable[[], int], message: str
) -> None:
    running, lines = registry
    descriptor = make()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(WireError, match=message) as raised:
        hand_over(running.name, descriptor, 20)
    assert raised.value.code == "bad_request"
    assert "\n" not in str(raised.value)
    assert until(lambda: len(lines) == 1)
    assert message in lines[0]
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # fewer: those of earlier tests
    assert running.status()["bytes"] == 0
    os.close(descriptor)


def test_the_size_of_a_segment_cannot_be_changed() -> None:
    descriptor, memory = make_segment(MEGABYTE)
    for size in (0, 2 * MEGABYTE):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    assert len(memory) == MEGABYTE
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    os.close(descriptor)


@pytest.mark.parametrize("message", [b"", b"{}", b'{"v":1} '])
@pytest.mark.parametrize("count", [0, 2])
def test_any_other_message_is_refused_and_its_descriptors_are_closed(
    registry: tuple[SegmentRegistry, list[str]], message: bytes, count: int
) -> None:
    running, lines = registry
    before = len(os.listdir("/proc/self/fd"))
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as connection:
        connection.connect("\0" + running.name)
        descriptors = [memory_file() for _ in range(count)]
        sockets.send_fds(connection, [message], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if message or count:
            assert until(lambda: len(lines) == 1)
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before)  # fewer: those of earlier tests


def test_another_account_is_refused(registry: tuple[SegmentRegistry, list[str]]) -> None:
    if os.geteuid():
        pytest.skip("takes root")
    running, lines = registry
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "s.connect(chr(0) + sys.argv[1]); print(s.recv(4096).decode())"
    )
    done = subprocess.run(["/usr/bin/env", "python3", "-c", code, running.name], capture_output=True, text=True)
    assert "the client runs under account 65534, not the server's" in done.stdout, done.stderr
    assert until(lambda: len(lines) == 1)


def test_segments_of_a_process_and_of_all_are_limited_like_queued_bytes(
    registry: tuple[SegmentRegistry, list[str]],
) -> None:
    running, _ = registry
    kept = []
    for _ in range(4):  # of 10 MB a process holds at most 4/5
        descriptor = memory_file(2 * MEGABYTE)
        kept.append((descriptor, hand_over(running.name, descriptor, 20)[0]))
    descriptor = memory_file(2 * MEGABYTE)
    with pytest.raises(WireError, match="take all the memory that is mapped") as raised:
        hand_over(running.name, descriptor, 20)
    assert raised.value.code == "busy"
    assert running.status()["bytes"] == 8 * MEGABYTE
    kept[0][1].close()
    assert until(lambda: running.status()["bytes"] == 6 * MEGABYTE)
    hand_over(running.name, descriptor, 20)[0].close()
    for number, connection in kept:
        os.close(number)
        connection.close()
    os.close(descriptor)
    assert until(lambda: running.status() == running.status() | {"segments": 0, "bytes": 0})


def test_shared_channels_count_as_queued() -> None:
    gate = admission(4)
    memory = memoryview(bytearray(3 * MEGABYTE))
    place = {"segment": "s", "channels": 0, "answer": 0, "room": 0}
    header = frames_of(96, memory=place)[0]  # 3 MB
    request = decode_request([header], lambda name: memory)
    job = gate.accept([b"a"], [header], request, 0.0)  # type: ignore[arg-type]
    assert job.size == len(header) + 3 * MEGABYTE
    with pytest.raises(WireError, match="fill the queue"):
        gate.accept([b"b"], [header], request, 0.0)  # type: ignore[arg-type]
    gate.release(job)
    gate.accept([b"b"], [header], request, 0.0)  # type: ignore[arg-type]
    with pytest.raises(WireError, match="--max-message-mb") as raised:
        decode_request([header], lambda name: memory, 3 * MEGABYTE - 1)
    assert raised.value.code == "too_large"


# Processes that end or fork


def test_a_killed_client_leaves_nothing_behind(server: LiveServer) -> None:
    before = mapped(server)
    code = (
        "import sys, numpy as np\nfrom nflae_bridge import Client\n"
        "c = Client(sys.argv[1]); kept = [c.precode(np.ones((1, 8, 16640), np.complex64) * (1 + np.arange(8))[:, None],"
        " scheme='mrt', noise_power=0.01) for _ in range(2)]\nprint('ready', flush=True)\n"
        "while True: c.precode(np.ones((80, 8, 256), np.complex64), scheme='mrt', noise_power=0.01)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.address], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert mapped(server)[0] >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert until(lambda: mapped(server)[0] == 0)
    assert until(lambda: held(server) == (0, 0))
    assert until(lambda: mapped(server)[1] <= before[1])


@pytest.mark.parametrize("end", ["disconnected", "late", "failed"])
def test_a_computation_that_ends_early_keeps_no_segment(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.live.server.computation.interrupts.BLOCK_SECONDS", 0.0)
    device, connections = Device("auto", "cpu"), iter([True])

    def is_connected(client: bytes) -> bool:
        return next(connections, end != "disconnected")

    worker = Worker(ServerSettings(), device, JobQueue(4), is_connected, lambda: None, EventLog("critical"))
    memory = mmap.mmap(-1, MEGABYTE)
    H = np.frombuffer(memory, np.complex64, 4 * 4 * 16).reshape(4, 4, 16)
    H[...] = channels(4, 4, 16)
    room = AnswerRoom(memoryview(memory), MEGABYTE // 2, MEGABYTE)
    request = PrecodeRequest("1", H, scheme="wmmse", room=room)
    job = Job([b"1"], request, time.perf_counter())

    def fail(*_: object) -> None:
        error = RuntimeError("kept by the frame that raised it")
        raise error

    device.costs.calibrate("wmmse", *(2 * [1e6 if end == "late" else 1e-6]))
    if end == "late":
        monkeypatch.setattr(device.costs, "untried", lambda key: ("wmmse",))
        monkeypatch.setattr(device, "calibrate", lambda name, interrupt: 0.0)
    elif end == "failed":
        monkeypatch.setattr(device, "_block", fail)
    gc.disable()
    try:
        (answer,) = worker.compute([job])
        assert isinstance(answer.outcome, WireError)
        assert answer.outcome.code == {"disconnected": "expired", "late": "busy", "failed": "internal"}[end]
        del answer, job, request, room, H
        memory.close()  # raises BufferError where a view of it exists
    finally:
        gc.enable()


def test_a_segment_that_is_lent_at_a_fork_is_not_used_again(registry: tuple[SegmentRegistry, list[str]]) -> None:
    running, _ = registry
    pool = SegmentPool(running.name, 4 * MEGABYTE)
    first, second = pool.take(MEGABYTE), pool.take(MEGABYTE)
    assert first is not None
    assert second is not None
    names = first.segment, second.segment
    del second  # free
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert until(lambda: running.status()["segments"] == 2)  # the child's descriptors are gone
    del first
    assert until(lambda: running.status()["segments"] == 1)
    again, new = pool.take(MEGABYTE), pool.take(MEGABYTE)
    assert again is not None
    assert new is not None
    assert again.segment == names[1]
    assert new.segment not in names
    pool.close()


def test_a_child_of_fork_keeps_no_segment(registry: tuple[SegmentRegistry, list[str]]) -> None:
    running, _ = registry
    pool = SegmentPool(running.name, 4 * MEGABYTE)
    lease = pool.take(MEGABYTE)
    assert lease is not None
    lease.memory[:4] = 1, 2, 3, 4
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.read(read, 1)
        os._exit(int(lease.view[:4].tolist() != [1, 2, 3, 4]))  # its memory is still there
    pool.close()
    assert until(lambda: running.status()["segments"] == 0)
    os.write(write, b"\0")
    assert os.waitpid(child, 0)[1] == 0
    os.close(read), os.close(write)


def test_no_memory_is_shared_with_keys_or_a_server_of_another_host(tmp_path: Path) -> None:
    assert open_segments(ServerSettings(server_key=tmp_path, client_keys=tmp_path), EventLog("error")) is None
    pool = SegmentPool("nflae-of-another-host", MEGABYTE)
    with pytest.warns(RuntimeWarning, match="shared memory is not used, channels travel in messages: .*refused"):
        assert pool.take(MEGABYTE) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pool.take(MEGABYTE) is None  # once per pool
    with pytest.raises(BridgeError, match="shared_memory"):
        Client("tcp://127.0.0.1:1", shared_memory="yes")  # type: ignore[arg-type]
