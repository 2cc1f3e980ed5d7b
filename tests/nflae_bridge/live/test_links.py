"""The plain socket of a client to a server of its own host."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from nflae_bridge import Client
from nflae_bridge.live.client.connection import Connection, ServerAddress
from nflae_bridge.live.client.links import PlainLink, ZeroMQLink, blocking_link, plain
from nflae_bridge.live.errors import BadRequest, BridgeError, NoAnswer
from nflae_bridge.live.protocol.keys import make_keys
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.test_client_calls import PATIENCE, Scripted, in_child, ok, until
from tests.nflae_bridge.live.test_server import channels

READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)


def address(text: str, *keys: Path) -> ServerAddress:
    return ServerAddress(text, 1.0, *(keys or (None, None)))


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///tmp/x"])
def test_addresses_of_this_host_need_no_thread_of_zeromq(text: str) -> None:
    assert isinstance(blocking_link(address(text)), PlainLink)


def test_keys_and_other_hosts_are_left_to_zeromq(tmp_path: Path) -> None:
    server, client = make_keys(tmp_path, "server")[0], make_keys(tmp_path, "client")[1]
    for there in (address("tcp://127.0.0.1:1", server, client), address("tcp://192.0.2.1:1")):
        link = blocking_link(there)
        assert isinstance(link, ZeroMQLink)
        link.close()


def test_a_path_that_is_too_long_is_refused_at_once() -> None:
    for text in (f"ipc:///{'x' * 107}", f"ipc://@{'x' * 107}"):
        with pytest.raises(BadRequest, match="its path is too long for a socket"):
            Client(text)


@pytest.mark.parametrize("kind", ["file", "abstract", "localhost", "IPv6", "IPv4 in brackets", "IPv6 with scope"])
def test_every_kind_of_local_address_is_connected_to(kind: str, tmp_path: Path) -> None:
    families = {"file": socket.AF_UNIX, "abstract": socket.AF_UNIX, "localhost": socket.AF_INET}
    family = socket.AF_INET if "IPv4" in kind else families.get(kind, socket.AF_INET6)
    place: Any = {"file": f"{tmp_path}/socket", "abstract": f"\0nflae-{tmp_path}"}.get(
        kind, ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0)
    )
    with socket.socket(family) as listener:
        listener.bind(place)
        listener.listen()
        port = listener.getsockname()[1]
        texts = {"file": f"ipc://{place}", "abstract": f"ipc://@nflae-{tmp_path}", "IPv6": f"tcp://[::1]:{port}"}
        texts |= {"IPv4 in brackets": f"tcp://[127.0.0.1]:{port}", "IPv6 with scope": f"tcp://[::1%lo]:{port}"}
        link = PlainLink(address(texts.get(kind, f"tcp://localhost:{port}")))
        link.wait(0.05)
        assert link.accepted
        link.close()


def test_large_arrays_are_read_only_too(server: LiveServer) -> None:
    drops = channels(40, 4, 64)
    with Client(server.address, shared_memory=False) as client:
        result = client.precode(drops, scheme="mrt")
    assert result.precoder.nbytes > 64 << 10
    assert not any(array.flags.writeable for array in vars(result).values() if isinstance(array, np.ndarray))


def test_the_first_call_connects_and_an_end_between_two_calls_is_no_loss() -> None:
    with Scripted(ok) as first, Client(first.address, timeout=PATIENCE) as client:
        link: Any = client._own_state().connection.link
        assert link._socket is None
        for _ in range(5):  # more than a request may lose
            assert client.status() == {}
            link._socket.shutdown(socket.SHUT_RDWR)
        assert client.status() == {}
    assert len(first.headers) == 6


@contextmanager
def peer(answers: list[bytes], reads_on: threading.Event | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """A program that sends bytes, one after each receipt, and records what it receives: its address and the record.

    After the answers it waits for an event before it reads on.
    """
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    received.append(connection.recv(1 << 16))
                    connection.sendall(answer)
                if reads_on is not None:
                    reads_on.wait(PATIENCE)
                while data := connection.recv(1 << 16):
                    received.append(data)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}", received
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_ping_of_the_server_is_answered_in_a_call() -> None:
    ping = b"\x04\x0a\x04PING\x00\x00abc"
    with peer([GREETING + READY + ping]) as (there, received):
        link = PlainLink(address(there))
        link.wait(PATIENCE)
        assert link.established
        until(lambda: b"\x04\x08\x04PONGabc" in b"".join(received))
        link.close()
    assert b"Socket-Type\x00\x00\x00\x06DEALER" in b"".join(received)


class Endless:
    """A connected socket from which the same bytes can be read for ever; counts the reads."""

    def __init__(self, data: bytes) -> None:
        self._data, self.reads = data, 0

    def recv(self, _: int) -> bytes:
        self.reads += 1
        assert self.reads < 10_000
        return self._data

    def sendmsg(self, parts: list[memoryview]) -> int:
        return sum(map(len, parts))


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_peer_that_sends_without_pause_holds_no_call(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with peer([GREETING + READY]) as (there, _):
        link: Any = PlainLink(address(there))
        link.wait(PATIENCE)
        connected = link._socket
        link._socket = Endless(b"\x04\x0a\x04PING\x00\x00abc")
        with monkeypatch.context() as patched:
            ticks = iter(np.arange(10_000) / 1000)
            patched.setattr(plain.time, "monotonic", lambda: next(ticks))
            patched.setattr(link, "_poll", lambda _: None)
            assert link.receive(seconds) is None
        assert 1 <= link._socket.reads <= 1e3 * seconds + 2
        link._socket = connected
        link.close()


def test_messages_that_nobody_reads_are_not_collected_for_ever() -> None:
    with peer([GREETING + READY]) as (there, _):
        link: Any = PlainLink(address(there))
        link.wait(PATIENCE)
        connected, link._socket = link._socket, Endless(b"\x00\x03abc" * 1000)
        for _ in range(50):
            assert link.loss() is None
        assert len(link._messages) <= 2000
        link._socket = connected
        link.close()


class Silent:
    """A link to a connected server that sends the same message, or nothing, and counts the waits for it."""

    def __init__(self, message: list[bytes] | None = None) -> None:
        self.waits: list[float] = []
        self._message = message

    def receive(self, seconds: float) -> list[bytes] | None:
        self.waits.append(seconds)
        assert len(self.waits) < 500
        return self._message


def test_busy_polling_keeps_to_the_wait_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    link: Any = Silent()
    connection = Connection(ServerAddress("tcp://127.0.0.1:1", 1.0, None, None, busy_poll=1.0), link)
    ticks = iter(np.arange(10_000) / 1000)
    monkeypatch.setattr("nflae_bridge.live.client.connection.time.perf_counter", lambda: next(ticks))
    connection._polls_until = 1.0
    assert connection.receive(0.05) is None
    assert set(link.waits) == {0.0}
    assert 10 < len(link.waits) <= 50
    connection._polls_until = 0.1
    assert connection.receive(0.2) is None  # polls until 0.1 s, and sleeps for the rest
    assert link.waits[-2] == 0.0
    assert 0.1 < link.waits[-1] < 0.2


def test_messages_outside_the_protocol_give_the_call_back() -> None:
    link: Any = Silent([b"no reply"])
    assert Connection(address("tcp://127.0.0.1:1"), link).receive(1.0) is None
    assert link.waits == [1.0]


def test_an_interrupted_exchange_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not known which bytes have gone."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with Scripted(ok) as server, Client(server.address, timeout=PATIENCE) as client:
        assert client.status() == {}
        with monkeypatch.context() as patched:
            patched.setattr(plain, "send_some", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.status()
        assert server.ended.wait(PATIENCE)
        assert client.status() == {}
        link: Any = client._own_state().connection.link
        monkeypatch.setattr(link._reader, "feed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.status()
        assert client.status() == {}


@pytest.mark.parametrize("seconds", [0.05, 0.0])
def test_a_message_that_the_system_does_not_take_at_once_leaves_in_parts(seconds: float) -> None:
    frame = bytes(range(256)) * (64 << 10)  # 16 MB, more than the buffers of a connection
    reads_on = threading.Event()
    with peer([GREETING + READY, b""], reads_on) as (there, received):
        link = PlainLink(address(there))
        link.wait(PATIENCE)
        assert link.send([frame])
        assert link._outbox
        reads_on.set()
        until(lambda: link.receive(seconds) is None and not link._outbox)
        link.close()
    assert b"".join(received).endswith(frame)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_fork_holds_no_connection_open_and_ends_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = PlainLink(address(f"tcp://127.0.0.1:{listener.getsockname()[1]}"))
        link.wait(0.01)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            until(lambda: link.wait(0.01) is None and link._is_connected)
            assert plain.GREETING.startswith(connection.recv(100))
            assert in_child(lambda: link.close() is None)
            assert not select.select([connection], [], [], 0)[0]
            held, release = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(release)
                os.read(held, 1)  # until the parent ends it
                os._exit(0)
            link.close()
            try:
                assert connection.recv(100) == b""
            finally:
                os.close(release)
                os.waitpid(child, 0)
                os.close(held)


def test_a_connection_without_a_handshake_is_tried_again_after_a_pause() -> None:
    """Behind a forwarder whose target is absent; ZeroMQ's third loss follows after 0.15 s."""
    link = PlainLink(address("tcp://127.0.0.1:1"))
    before = time.monotonic()
    link._end("")
    assert link._retry_at - before >= 0.25


@pytest.mark.parametrize("kind", [PlainLink, ZeroMQLink])
def test_a_system_without_a_free_descriptor_is_named(
    kind: type[PlainLink] | type[ZeroMQLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def socket(self, *_: object) -> Any:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) if kind is PlainLink else zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(plain.sockets, "socket", Full().socket)
    monkeypatch.setattr(zmq.Context, "instance", Full)
    with pytest.raises(BridgeError, match=r"no socket to connect by: too many open files.*ulimit -n"):
        kind(address("tcp://127.0.0.1:1")).wait(1.0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tcp://::1:5555", r"an IPv6 address has brackets: write tcp://\[::1\]:5555"),
        ("ipc:///tmp/\ud800", r"'ipc:///tmp/\\ud800': not an address"),
        ("ipc:///tmp/x\0y", r"'ipc:///tmp/x\\x00y': not an address"),
        ("tcp://127.0.0.1:\u0665", "not an address"),
    ],
)
def test_addresses_that_no_system_call_takes(text: str, fault: str) -> None:
    with pytest.raises(BadRequest, match=fault):
        Client(text)


def test_paths_that_nothing_listens_at_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(f"{tmp_path}/stale")
    for name, found in (
        ("", "a folder, not a socket, is at this path"),
        ("file", "a file, not a socket, is at this path"),
        ("stale", "no program listens at the socket at this path"),
        ("absent", "nothing is at this path"),
        ("file/below", "not a directory"),
    ):
        with Client(f"ipc://{tmp_path}/{name}") as client, pytest.raises(NoAnswer, match=f"running there\\? {found}$"):
            client.status(timeout=0.01)
