"""Monitors of connections block no other socket of their context.

In children of fork: a blocked thread of ZeroMQ serves all clients of a process, and would fail the tests that follow.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import pytest
import zmq

from nflae_bridge import AsyncClient, Client
from nflae_bridge.live.client.links.monitor import Monitor
from tests.nflae_bridge.live.test_client_calls import PATIENCE, Scripted, closing_peer, in_child, ok, until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def is_answered(address: str) -> bool:
    """Return whether a new client is answered."""
    with Client(address, timeout=PATIENCE / 4) as client:
        return client.status() == {}


def reconnecting(address: str) -> tuple[zmq.Socket[bytes], Monitor]:
    """Make a socket that connects to a peer again and again, and its monitor."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.RECONNECT_IVL, 1)
    monitor = Monitor(socket, zmq.EVENT_ALL)
    socket.connect(address)
    return socket, monitor


def test_events_that_nobody_reads() -> None:
    def work() -> bool:
        with closing_peer() as (address, times), Scripted(ok) as server:
            kept = reconnecting(address)
            until(lambda: len(times) > 700)  # four events each; ZeroMQ's own limits are a thousand per side
            return is_answered(server.address) and len(kept) == 2

    assert in_child(work)


def test_a_monitor_that_is_dropped_before_its_socket() -> None:
    def work() -> bool:
        with closing_peer() as (address, times), Scripted(ok) as server:
            socket, monitor = reconnecting(address)
            until(lambda: len(times) > 3)
            del monitor
            seen = len(times)
            until(lambda: len(times) > seen + 3)
            return is_answered(server.address) and not socket.closed

    assert in_child(work)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_clients_that_are_dropped_without_a_close(kind: Callable[[str], object]) -> None:
    def work() -> bool:
        warnings.simplefilter("ignore", ResourceWarning)
        with closing_peer() as (address, _), Scripted(ok) as server:
            for number in range(60):
                kind(address)
                time.sleep(1e-4 * (number % 20))  # the end of a socket meets each step of a connection
            return is_answered(server.address)

    assert in_child(work)


def test_a_monitor_in_a_child_of_fork_belongs_to_its_parent() -> None:
    with closing_peer() as (address, times):
        socket, monitor = reconnecting(address)
        assert in_child(lambda: monitor.close() is None)
        seen = len(times)
        until(lambda: len(times) > seen)
        until(lambda: any(event == zmq.EVENT_CONNECTED for event, _ in monitor.read()))
        monitor.close()
        assert monitor.reader.closed
        socket.close(linger=0)
