"""The metrics port: bounded connections, each of bounded duration."""

from __future__ import annotations

import socket
import time
import urllib.request
from contextlib import ExitStack

import pytest

from nflae_bridge.live.server import metrics
from nflae_bridge.live.server.statistics import Statistics
from nflae_bridge.live.view import http


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def test_connections_that_stay_leave_room_for_others(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = Statistics()
    statistics.requests = 7
    monkeypatch.setattr(http, "MAX_SECONDS", 60.0)
    monkeypatch.setattr(http.Handler, "timeout", 60.0)
    metrics.serve_metrics(free_port, statistics, lambda: 3)
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", free_port), 30)) for _ in range(40)]
        text = page(free_port)
        assert "nflae_requests_total 7.0" in text
        assert "nflae_queue_depth 3.0" in text
        for oldest in silent[: 40 - http.MAX_CONNECTIONS]:
            assert oldest.recv(1) == b""
        silent[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[-1].recv(1)


def test_a_connection_ends_although_it_sends_now_and_then(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_SECONDS", 1.0)
    metrics.serve_metrics(free_port, Statistics(), lambda: 0)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", free_port), 0.1) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        while time.monotonic() - began < 30:
            try:
                slow.sendall(b"x")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert time.monotonic() - began < 28


def test_many_connections_at_once_wait_for_no_repeated_attempt() -> None:
    server = http.HttpServer("--metrics-port", "127.0.0.1", 0, http.Handler)  # accepts none of them yet
    with server, ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.server_port), 30))


def test_other_pages_are_refused(free_port: int) -> None:
    metrics.serve_metrics(free_port, Statistics(), lambda: 0)
    with pytest.raises(urllib.error.HTTPError, match="the metrics are at /metrics"):
        urllib.request.urlopen(f"http://127.0.0.1:{free_port}/", timeout=60)
