"""The plain socket of a client to a server of its own host."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nflae_bridge import Client
from nflae_bridge.live.client.connection import ServerAddress
from nflae_bridge.live.client.links import PlainLink, ZeroMQLink, blocking_link, plain
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.protocol.keys import make_keys
from tests.nflae_bridge.live.live_server import LiveServer
from tests.nflae_bridge.live.test_client_calls import PATIENCE, Scripted, ok, until
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


@pytest.mark.parametrize("kind", ["file", "abstract", "localhost", "IPv6"])
def test_every_kind_of_local_address_is_connected_to(kind: str, tmp_path: Path) -> None:
    family = {"localhost": socket.AF_INET, "IPv6": socket.AF_INET6}.get(kind, socket.AF_UNIX)
    place: Any = {"file": f"{tmp_path}/socket", "abstract": f"\0nflae-{tmp_path}", "IPv6": ("::1", 0)}.get(
        kind, ("127.0.0.1", 0)
    )
    with socket.socket(family) as listener:
        listener.bind(place)
        listener.listen()
        port = listener.getsockname()[1]
        texts = {"file": f"ipc://{place}", "abstract": f"ipc://@nflae-{tmp_path}", "IPv6": f"tcp://[::1]:{port}"}
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
def peer(answers: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A program that sends bytes, one after each receipt, and records what it receives: its address and the record."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    received.append(connection.recv(1 << 16))
                    connection.sendall(answer)
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


def test_a_message_that_the_system_does_not_take_at_once_leaves_in_parts() -> None:
    frame = bytes(range(256)) * (64 << 10)  # 16 MB, more than the buffers of a connection
    with peer([GREETING + READY, b""]) as (there, received):
        link = PlainLink(address(there))
        link.wait(PATIENCE)
        assert link.send([frame])
        assert link._outbox
        until(lambda: link.receive(0.05) is None and not link._outbox)
        link.close()
    assert b"".join(received).endswith(frame)
