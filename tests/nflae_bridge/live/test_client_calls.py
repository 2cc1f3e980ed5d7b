"""Calls that end without an answer, and clients across threads, event loops and processes."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from nflae_bridge import AsyncClient, Client, Result, precode
from nflae_bridge.live import errors as bridge
from nflae_bridge.live.client import open_requests
from nflae_bridge.live.client.connection import Connection, ServerAddress
from nflae_bridge.live.client.links import PlainLink, ZeroMQLink
from nflae_bridge.live.client.requests import Deadline
from tests.nflae_bridge.live.gnuradio.relays import wait_until
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.raw_peer import RawPeer
from tests.nflae_bridge.live.test_server import channels
from tests.sockets import bounded_context

PATIENCE = 60.0  # s, for what should take far less: the machine may be busy


@pytest.fixture(params=[PlainLink, ZeroMQLink])
def link(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients use one kind of link and the other, whatever the address."""
    monkeypatch.setattr("nflae_bridge.live.client.blocking.blocking_link", request.param)


class Scripted:
    """A ROUTER socket that records headers and answers by a script; events of its connections count too."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any] | None], port: int = 0) -> None:
        self.headers: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self._answer = answer
        self._context = bounded_context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._events = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        if port:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        else:
            port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._events, zmq.POLLIN)
        try:
            while True:
                ready = dict(poller.poll())
                if self._events in ready:
                    recv_monitor_message(self._events)
                    self.ended.set()
                if self._socket in ready:
                    identity, frame, *_ = self._socket.recv_multipart()
                    header = json.loads(frame)
                    self.headers.append(header)
                    answer = self._answer(header)
                    if answer is not None:
                        self._socket.send_multipart([identity, json.dumps(answer).encode()])
        except zmq.ContextTerminated:
            self._events.close(linger=0)
            self._socket.close(linger=0)

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None:
        self._context.term()
        self._thread.join(PATIENCE)


def ok(header: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {"v": 1, "id": header["id"], "ok": True, "arrays": [], "status": status}


def refusal(header: dict[str, Any], code: str) -> dict[str, Any]:
    return {"v": 1, "id": header["id"], "ok": False, "error": {"code": code, "message": f"{code} it is"}}


def never(header: dict[str, Any]) -> None:
    return None


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def failure_of(client: Client) -> str:
    with pytest.raises(bridge.BridgeError) as raised:
        client.status()
    return str(raised.value)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# An absent server


@contextmanager
def many_calls(kind: str, address: str) -> Iterator[Callable[[int], None]]:
    """Make calls of 2 MB to an absent server, each with its own short time limit."""
    drops = channels(4, 128, 512)
    if kind == "Client":
        with Client(address) as client:

            def call(number: int) -> None:
                for _ in range(number):
                    with pytest.raises(bridge.NoAnswer):
                        client.precode(drops, timeout=0.001)

            yield call
        return
    with asyncio.Runner() as runner:

        async def connect() -> AsyncClient:
            return AsyncClient(address)

        many = runner.run(connect())

        async def gathered(number: int) -> None:
            calls = (many.precode(drops, timeout=0.001) for _ in range(number))
            assert {type(each) for each in await asyncio.gather(*calls, return_exceptions=True)} == {bridge.NoAnswer}

        yield lambda number: runner.run(gathered(number))
        runner.run(many.close())


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_calls_to_an_absent_server_leave_nothing(kind: str, free_port: int) -> None:
    with many_calls(kind, f"tcp://127.0.0.1:{free_port}") as call:
        call(100)
        before = resident()
        call(1000)
        assert resident() - before < 64 << 20  # of 2 GB of requests
        with Scripted(never, free_port) as server:
            time.sleep(0.7)  # longer than the pause between attempts to connect
            assert not server.headers


# Deadlines


@pytest.mark.usefixtures("link")
def test_the_wait_for_other_threads_counts() -> None:
    with Scripted(never) as server, Client(server.address, timeout=PATIENCE) as client:
        holder = threading.Thread(target=lambda: failure_of(client))
        holder.start()
        until(lambda: bool(server.headers))
        began = time.monotonic()
        with pytest.raises(bridge.NoAnswer, match=r"other calls of this client took the whole time limit of 0\.2 s"):
            client.status(timeout=0.2)
        assert time.monotonic() - began < PATIENCE / 2
        client.close()
        holder.join(PATIENCE)
        assert not holder.is_alive()
        assert len(server.headers) == 1


@pytest.mark.usefixtures("link")
def test_the_server_is_given_the_time_that_is_left() -> None:
    def answer(header: dict[str, Any]) -> dict[str, Any]:
        is_enough = len(server.headers) >= 3 and header["deadline_ms"] < 1e3 * PATIENCE - 200
        return refusal(header, "bad_request" if is_enough else "busy")

    with Scripted(answer) as server, Client(server.address) as client:
        with pytest.raises(bridge.BadRequest):
            client.precode(channels(1, 2, 8), timeout=PATIENCE)
        left = [header["deadline_ms"] for header in server.headers]
    assert left == sorted(left, reverse=True)
    assert left[0] <= 1e3 * PATIENCE


# Calls that end early end the server's work


@pytest.mark.usefixtures("link")
def test_a_call_without_answer_ends_its_connection() -> None:
    with Scripted(never) as server, Client(server.address) as client:
        with pytest.raises(bridge.NoAnswer, match="it is connected"):
            client.status(timeout=0.3)
        assert server.ended.wait(PATIENCE)


@pytest.mark.parametrize("end", ["cancelled", "closed", "timed out"])
def test_the_only_asyncio_call_ends_its_connection(end: str) -> None:
    async def run(address: str) -> None:
        client = AsyncClient(address)
        call = asyncio.create_task(client.status(0.3 if end == "timed out" else PATIENCE))
        while not server.headers:
            await asyncio.sleep(0.01)
        if end == "cancelled":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.01)
        elif end == "closed":
            await client.close()
            with pytest.raises(bridge.BridgeError, match="closed during the call"):
                await call
        else:
            with pytest.raises(bridge.NoAnswer):
                await call
        assert await asyncio.to_thread(server.ended.wait, PATIENCE)
        await client.close()

    with Scripted(never) as server:
        asyncio.run(run(server.address))


def test_a_cancelled_asyncio_call_leaves_the_others_alone() -> None:
    """They keep their connection, are sent once, and the cancelled one's answer reaches no one."""
    release = threading.Event()

    def answer(header: dict[str, Any]) -> dict[str, Any]:
        if len(server.headers) == 2:
            assert release.wait(PATIENCE)
        return ok(header, number=len(server.headers))

    async def run(address: str) -> tuple[dict[str, Any], dict[str, Any]]:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            await client.status()
            kept, cancelled = asyncio.create_task(client.status()), asyncio.create_task(client.status())
            while len(server.headers) < 2:
                await asyncio.sleep(0.01)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            release.set()
            return await kept, await client.status()

    with Scripted(answer) as server:
        first, last = asyncio.run(run(server.address))
    assert [first["number"], last["number"]] == [2, 4]
    assert len({header["id"] for header in server.headers}) == len(server.headers) == 4


def test_an_answer_that_arrives_while_another_asyncio_call_is_cancelled_is_received() -> None:
    """The message that cancels it is sent by the same socket, whose descriptor does not report the answer again."""
    release = threading.Event()

    def answer(header: dict[str, Any]) -> dict[str, Any] | None:
        if len(server.headers) == 2:
            assert release.wait(PATIENCE)
        return ok(header) if header["op"] == "status" else None

    async def run(address: str) -> None:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            await client.status()
            kept = asyncio.create_task(client.status())
            cancelled = asyncio.create_task(client.precode(np.ones((1, 2, 4), np.complex64)))
            descriptor = client._connection.link.descriptors[0]
            while len(client._open.sent) < 2 or select.select([descriptor], [], [], 0)[0]:
                await asyncio.sleep(0.01)

            def arrive() -> None:
                release.set()
                assert select.select([descriptor], [], [], PATIENCE)[0]

            asyncio.get_running_loop().call_soon(arrive)  # directly before the end of the cancelled call
            cancelled.cancel()
            await asyncio.wait_for(kept, PATIENCE / 2)

    with Scripted(answer) as server:
        asyncio.run(run(server.address))


def test_a_cancelled_asyncio_call_beside_others_is_cancelled_on_the_server() -> None:
    def answer(header: dict[str, Any]) -> dict[str, Any] | None:
        return ok(header) if header["op"] == "status" else None

    async def run(address: str) -> None:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            calls = [asyncio.create_task(client.precode(np.ones((1, 2, 4), np.complex64))) for _ in range(2)]
            while len([header for header in server.headers if header["op"] == "precode"]) < 2:
                await asyncio.sleep(0.01)
            calls[1].cancel()
            await asyncio.wait([calls[1]])
            while not any(header["op"] == "cancel" for header in server.headers):
                await asyncio.sleep(0.01)
            calls[0].cancel()

    with Scripted(answer) as server:
        asyncio.run(asyncio.wait_for(run(server.address), PATIENCE))
    names = {header["op"]: header["id"] for header in server.headers}  # of the last one of each kind
    assert names["cancel"] == names["precode"]


@pytest.mark.usefixtures("link")
def test_close_ends_a_call_of_another_thread() -> None:
    failures: list[str] = []
    with Scripted(never) as server:
        client = Client(server.address, timeout=PATIENCE)
        caller = threading.Thread(target=lambda: failures.append(failure_of(client)))
        caller.start()
        until(lambda: bool(server.headers))
        client.close()
        caller.join(PATIENCE)
        assert not caller.is_alive()
        assert "closed during the call" in failures[0]
        assert server.ended.wait(PATIENCE)


# Peers that close every connection


@contextmanager
def closing_peer() -> Iterator[tuple[str, list[float]]]:
    """A program that closes every connection at once: its address and the times of the connections."""
    times: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    times.append(time.monotonic())

        thread = threading.Thread(target=run)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}", times
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)


@pytest.mark.usefixtures("link")
def test_a_client_that_has_given_up_connects_no_more() -> None:
    with closing_peer() as (address, times), Client(address, timeout=PATIENCE) as client:
        for _ in range(2):  # the next call tries again
            tried = len(times)
            failure_of(client)
            assert len(times) > tried

            def is_quiet() -> bool:
                before = len(times)  # the thread may not have accepted all of them yet
                time.sleep(0.5)  # some twenty attempts
                return len(times) == before

            until(is_quiet)


def in_child(work: Callable[[], bool]) -> bool:
    """Return the outcome of work in a child of fork, which exits without Python's own end."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Many at a time


def test_three_thousand_asyncio_calls_wait_their_turn() -> None:
    """In the order of the calls, each sent once."""

    async def run(address: str) -> None:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            await asyncio.gather(*(client.status() for _ in range(3000)))

    with Scripted(ok) as server:
        asyncio.run(run(server.address))
        numbers = [int(header["id"].rpartition("-")[2]) for header in server.headers]
    assert numbers == sorted(numbers)
    assert len(numbers) == 3000


def test_outstanding_requests_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_requests, "_MAX_OUTSTANDING", 5)
    monkeypatch.setattr(open_requests, "_MAX_OUTSTANDING_BYTES", 3 * channels(1, 8, 64).nbytes)

    async def run(server: Scripted, drops: bool) -> int:
        client = AsyncClient(server.address, timeout=PATIENCE)
        one = (lambda: client.precode(channels(1, 8, 64), noise_power=0.01)) if drops else client.status
        calls = [asyncio.ensure_future(one()) for _ in range(20)]
        while len(server.headers) < (3 if drops else 5):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        await client.close()
        assert all(
            isinstance(each, bridge.BridgeError) for each in await asyncio.gather(*calls, return_exceptions=True)
        )
        return len(server.headers)

    for drops, number in ((False, 5), (True, 3)):
        with Scripted(never) as server:
            assert asyncio.run(run(server, drops)) == number


@pytest.mark.usefixtures("link")
def test_a_busy_server_is_sent_the_request_again() -> None:
    def answer(header: dict[str, Any]) -> dict[str, Any]:
        return refusal(header, "busy") if len(server.headers) < 4 else ok(header, model="free")

    async def run(address: str) -> dict[str, Any]:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            return await client.status()

    for call in (lambda address: Client(address).status(), lambda address: asyncio.run(run(address))):
        with Scripted(answer) as server:
            assert call(server.address) == {"model": "free"}
            assert len(server.headers) == 4


# Processes and event loops


@pytest.mark.usefixtures("link")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_fork_connects_anew() -> None:
    def answer(header: dict[str, Any]) -> dict[str, Any] | None:
        return None if len(server.headers) == 2 else ok(header, model=len(server.headers))

    with Scripted(answer) as server, Client(server.address, timeout=PATIENCE) as client:
        assert client.status() == {"model": 1}
        holder = threading.Thread(target=lambda: failure_of(client))
        holder.start()  # the lock is held when the process forks
        until(lambda: len(server.headers) == 2)
        assert in_child(lambda: client.status(PATIENCE) == {"model": 3})
        client.close()
        holder.join(PATIENCE)
        assert in_child(lambda: "closed" in failure_of(client))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_asyncio_client_in_a_child_of_fork() -> None:
    async def run(address: str) -> None:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            assert await client.status() == {"number": 1}
            assert in_child(lambda: asyncio.run(client.status()) == {"number": 2})
            assert await client.status() == {"number": 3}

    with Scripted(lambda header: ok(header, number=len(server.headers))) as server:
        asyncio.run(run(server.address))


def test_a_second_event_loop_connects_anew() -> None:
    with Scripted(lambda header: ok(header, number=len(server.headers))) as server:
        client = AsyncClient(server.address, timeout=PATIENCE)
        assert [asyncio.run(client.status())["number"] for _ in range(3)] == [1, 2, 3]
        asyncio.run(client.close())
        with pytest.raises(bridge.BridgeError, match="closed"):
            asyncio.run(client.status())


def test_another_thread_s_event_loop_is_refused_at_once() -> None:
    async def run(address: str) -> None:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            await client.status()
            with pytest.raises(bridge.BridgeError, match="another event loop: make an AsyncClient in each"):
                await asyncio.to_thread(lambda: asyncio.run(client.status()))
            assert await client.status() == {}

    with Scripted(ok) as server:
        asyncio.run(run(server.address))


# Busy polling


@pytest.mark.usefixtures("link")
def test_a_client_polls_for_a_time_and_sleeps_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Watched(Connection[Any]):
        def receive(self, seconds: float = 0.0) -> Any:
            receive = self.link.receive
            with monkeypatch.context() as patched:
                patched.setattr(self.link, "receive", lambda wait: waits.append(wait) or receive(wait))
                return super().receive(seconds)

    def answer(header: dict[str, Any]) -> dict[str, Any] | None:
        until(lambda: len(waits) > 3)
        return None if len(server.headers) == 2 else ok(header)

    monkeypatch.setattr("nflae_bridge.live.client.blocking.Connection", Watched)
    with Scripted(answer) as server, Client(server.address, timeout=PATIENCE, busy_poll=1.0) as client:
        client.status()
        assert set(waits[1:]) == {0.0}  # the first looks for the connection
        with pytest.raises(bridge.NoAnswer):
            client.status(timeout=1.2)
        assert waits[-1] > 0


@pytest.mark.parametrize("value", [-1e-9, 1.1, float("nan"), "1", None])
def test_a_time_of_busy_polling_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(bridge.BadRequest, match=r"busy_poll must be a (time from 0 to 1 s|number), got"):
        Client(busy_poll=value)


# Mistakes


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("tcp://127.0.0.1:99999", "not an address"),
        ("tcp://127.0.0.1:80x", "not an address"),
        ("tcp://127.0.0.1:0", "port 0 cannot be connected to"),
        ("tcp://127.0.0.1:*", r"port \* cannot be connected to"),
        ("tcp://*:5555", r"\* is for binding"),
        ("ipc://*", r"\* is for binding"),
    ],
)
def test_addresses_that_nothing_can_have(address: str, fault: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(bridge.NflaeError, match=fault):
            kind(address)


@pytest.mark.parametrize("kind", [b"PUB", b"PULL"])
def test_another_kind_of_socket_that_leaves_the_end_to_the_client_is_named_at_once(kind: bytes) -> None:
    async def call(address: str) -> None:
        async with AsyncClient(address) as several:
            await several.status()

    with RawPeer(b"NULL", kind) as peer:
        with Client(peer.address) as client:
            for _ in range(2):
                with pytest.raises(bridge.ConnectionLost, match="not `nflae serve`: check host and port"):
                    client.status()
        with pytest.raises(bridge.ConnectionLost, match="not `nflae serve`: check host and port"):
            asyncio.run(call(peer.address))


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.PULL])
def test_a_port_of_another_kind_of_socket_is_refused(kind: int) -> None:
    # ZeroMQ reports the wrong kind, or, where the other side was first, the end of the connection, three times, or,
    # where the handshake had succeeded before, nothing more until the deadline; the test above excludes these races.
    context = bounded_context()
    other = context.socket(kind)
    address = f"tcp://127.0.0.1:{other.bind_to_random_port('tcp://127.0.0.1')}"
    began = time.monotonic()
    with Client(address, timeout=1) as client:
        for _ in range(2):
            with pytest.raises((bridge.ConnectionLost, bridge.NoAnswer), match="`nflae serve`"):
                client.status()
    assert time.monotonic() - began < 25  # s; the default time limit is 30

    async def run() -> None:
        async with AsyncClient(address, timeout=1) as several:
            for _ in range(2):
                with pytest.raises((bridge.ConnectionLost, bridge.NoAnswer), match="`nflae serve`"):
                    await several.status()

    asyncio.run(run())
    context.destroy(linger=0)


def test_users_and_antennas_swapped_are_named(free_port: int) -> None:
    with (
        Client(f"tcp://127.0.0.1:{free_port}") as client,
        pytest.warns(UserWarning, match=r"\(1, 32, 8\) are read as 32 users and 8 antennas; if .* swapped") as warned,
        pytest.raises(bridge.NoAnswer),
    ):
        client.precode(channels(1, 32, 8), timeout=0.01)
    assert warned[0].filename == __file__


@pytest.mark.parametrize("axes", ["skn", "kn"])
def test_far_more_users_than_antennas_are_refused_unless_their_axis_is_named(axes: str, free_port: int) -> None:
    drawn = channels(1, 33, 8).reshape((1, 33, 8)[3 - len(axes) :])
    with Client(f"tcp://127.0.0.1:{free_port}") as client:
        with pytest.raises(bridge.BadRequest, match=rf"33 users and 8 antennas.* state layout='{axes}'"):
            client.precode(drawn)
        with pytest.raises(bridge.NoAnswer):
            client.precode(drawn, layout=axes, convention="hermitian", timeout=0.01)
        with pytest.warns(UserWarning, match="swapped"), pytest.raises(bridge.NoAnswer):
            client.precode(channels(1, 16, 2), timeout=0.01)


@pytest.mark.usefixtures("link")
def test_a_request_beyond_the_server_s_limit_is_not_sent() -> None:
    def answer(header: dict[str, Any]) -> dict[str, Any]:
        assert header["op"] == "status"
        return ok(header, max_message_bytes=3 << 20)

    large = channels(4, 128, 1024)
    text = r"4\.0 MB of channels: this server accepts 3 MB per request \(--max-message-mb\); send fewer drops"

    async def run(address: str) -> None:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            with pytest.raises(bridge.TooLarge, match=text):
                await client.precode(large)

    with Scripted(answer) as server:
        with Client(server.address, timeout=PATIENCE) as client:
            for _ in range(2):
                with pytest.raises(bridge.TooLarge, match=text):
                    client.precode(large)
        asyncio.run(run(server.address))
        assert [header["op"] for header in server.headers] == ["status"] * 2  # once per connection


def test_more_requests_than_the_queue_holds() -> None:
    drops = channels(200, 4, 32)

    async def run(address: str) -> list[Result]:
        async with AsyncClient(address, timeout=60) as client:
            return await asyncio.gather(*(client.precode(drop, scheme="rzf") for drop in drops))

    with LiveServer("--queue", 4) as server:
        results = asyncio.run(run(server.address))
    expected = precode(drops, scheme="rzf", noise_power=0.01)
    np.testing.assert_allclose([result.power[0] for result in results], expected.power, rtol=1e-5)


@pytest.mark.parametrize("kind", [PlainLink, ZeroMQLink])
def test_a_program_of_another_kind_is_told_from_an_absent_server(kind: type[PlainLink] | type[ZeroMQLink]) -> None:
    def follows(accepted: bool) -> bool:
        link.wait(0.01)
        link.loss()
        return link.accepted is accepted

    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = ServerAddress(f"tcp://127.0.0.1:{silent.getsockname()[1]}", 1.0, None, None)
        link = kind(server)
        wait_until(lambda: follows(True))
        silent.accept()[0].close()
    wait_until(lambda: follows(False))
    assert not link.established
    link.close()
    for accepted, found in (
        (True, "a program accepted the connection, and completed no handshake"),
        (False, "nothing accepted the connection"),
    ):
        assert str(server.no_answer(Deadline.after(1.0), False, accepted)).endswith(f"running there? {found}")
