"""Calls of a client that an exception of a signal handler ends, wherever it is raised, and calls within calls."""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import nflae_bridge.live.client as clients
from nflae_bridge import Client
from nflae_bridge.live import errors as bridge
from nflae_bridge.live.client.connection import Turns
from nflae_bridge.live.client.links import PlainLink, plain
from tests.nflae_bridge.live.test_client_calls import PATIENCE, Scripted, ok

FOLDER = str(Path(clients.__file__).parent)


class Alarm(TimeoutError):
    """As a handler of SIGALRM raises it: an OSError without an error number."""


def interrupted_call(client: Client, skipped: set[tuple[str, int]]) -> tuple[str, int] | None:
    """Make a call in which the first line of the clients' code outside those skipped raises; the line, None without."""
    found: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        place = frame.f_code.co_filename, frame.f_lineno
        if not place[0].startswith(FOLDER):
            return None
        if event == "line" and not found and place not in skipped:
            found.append(place)
            raise Alarm("of a signal handler")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        client.status()
    except Alarm:
        assert found
    finally:
        sys.settrace(before)
    return found[0] if found else None


@pytest.mark.parametrize("is_connected", [False, True])
def test_no_line_at_which_a_call_is_interrupted_spoils_the_client(is_connected: bool) -> None:
    lines: set[tuple[str, int]] = set()
    with Scripted(ok) as server:
        while True:
            with Client(server.address, timeout=PATIENCE) as client:
                if is_connected:
                    assert client.status() == {}
                place = interrupted_call(client, lines)
                assert client.status(timeout=5) == {}, place
            if place is None:
                break
            lines.add(place)
    assert len(lines) > 60


@pytest.mark.parametrize("call", ["recv", "sendmsg", "shutdown"])
def test_an_exception_of_a_handler_is_no_fault_of_the_connection(call: str) -> None:
    """Also where it is an OSError, raised while the system is called; one of the system has a number."""

    class Interrupted:
        def __init__(self, socket: Any, error: OSError) -> None:
            self._socket, self._error = socket, error

        def __getattr__(self, name: str) -> Any:
            return getattr(self._socket, name) if name != call else self._fail

        def _fail(self, *_: object) -> Any:
            raise self._error

    with Scripted(ok) as server, Client(server.address, timeout=PATIENCE) as client:
        assert client.status() == {}
        link: Any = client._own_state().connection.link
        link._socket = Interrupted(link._socket, Alarm("of a signal handler"))
        with pytest.raises(Alarm):
            client.status() if call != "shutdown" else link.close()
        assert client.status() == {}
        link._socket = Interrupted(link._socket, OSError(errno.ENOTCONN, "not connected"))
        if call == "shutdown":
            link.close()
        assert client.status() == {}


def test_an_interruption_while_the_socket_is_made_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def poll() -> Any:
        class Interrupted:
            def register(self, socket: Any, _: int) -> None:
                made.append(socket)
                raise KeyboardInterrupt

        return Interrupted()

    with Scripted(ok) as server, Client(server.address, timeout=PATIENCE) as client:
        with monkeypatch.context() as patched:
            patched.setattr(plain.select, "poll", poll)
            with pytest.raises(KeyboardInterrupt):
                client.status()
        assert made[0].fileno() == -1
        assert client.status() == {}


def test_a_turn_ends_with_its_work_and_no_other_begins_within_it() -> None:
    """A signal handler that calls the client within a call of it is refused; `close` leaves the end to the call."""
    turns, within = Turns(), threading.Event()

    def nested() -> None:
        with pytest.raises(bridge.BridgeError, match="use another Client there"):
            turns.run(lambda: None, PATIENCE)
        other = threading.Thread(target=lambda: turns.run(within.set, 0.0))
        other.start()
        other.join(PATIENCE)
        assert not within.is_set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        turns.run(nested, PATIENCE)
    other = threading.Thread(target=lambda: turns.run(within.set, PATIENCE))
    other.start()
    assert within.wait(PATIENCE)
    other.join(PATIENCE)


def test_close_in_a_signal_handler_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(ok) as server:
        client = Client(server.address, timeout=PATIENCE)
        receive = PlainLink.receive

        def interrupted(link: PlainLink, seconds: float) -> Any:
            monkeypatch.setattr(PlainLink, "receive", receive)
            client.close()
            assert link._socket is not None
            return None

        monkeypatch.setattr(PlainLink, "receive", interrupted)
        with pytest.raises(bridge.BridgeError, match="closed during the call"):
            client.status()
        assert server.ended.wait(PATIENCE) or not server.headers
        assert client._states[os.getpid()].connection.link._socket is None  # type: ignore[attr-defined]


def test_a_call_whose_end_was_interrupted_too_leaves_its_connection_to_nobody() -> None:
    with Scripted(ok) as server, Client(server.address, timeout=PATIENCE) as client:
        assert client.status() == {}
        connection: Any = client._own_state().connection
        left = connection.link._socket
        connection.is_settled = False
        assert client.status() == {}
        assert connection.link._socket is not left
        kept = connection.link._socket
        assert client.status() == {}
        assert connection.link._socket is kept
