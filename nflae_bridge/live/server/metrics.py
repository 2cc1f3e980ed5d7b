"""Export the statistics of a server to Prometheus."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import accumulate
from socketserver import ThreadingMixIn
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from matlab_io.errors import NflaeError
from nflae_bridge.live.server.statistics import LATENCY_BOUNDS, Statistics

_MAX_CONNECTIONS = 8
_MAX_SECONDS = 5.0  # of a connection


class _Exporter(Collector):
    def __init__(self, statistics: Statistics, queue_depth: Callable[[], int]) -> None:
        self._statistics = statistics
        self._queue_depth = queue_depth

    def collect(self) -> Iterator[Metric]:
        now = self._statistics
        for name, text, value in (
            ("nflae_requests", "Requests received", now.requests),
            ("nflae_answers", "Requests answered with precoders", now.answered),
            ("nflae_undelivered", "Answers whose client had disconnected", now.undelivered),
            ("nflae_drops", "Drops precoded for", now.drops),
            ("nflae_batches", "Micro-batches computed", now.batches),
        ):
            yield CounterMetricFamily(name, text, value=value)
        errors = CounterMetricFamily("nflae_errors", "Requests answered with an error", labels=["code"])
        for code, count in sorted(now.errors.copy().items()):
            errors.add_metric([code], count)
        yield errors
        yield GaugeMetricFamily("nflae_queue_depth", "Requests waiting for the device", value=self._queue_depth())
        bounds = [*(repr(bound) for bound in LATENCY_BOUNDS), "+Inf"]
        counted = list(zip(bounds, accumulate(now.histogram), strict=True))
        yield HistogramMetricFamily(
            "nflae_latency_seconds", "From arrival of a request to its answer", counted, now.latency_sum
        )


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _MAX_SECONDS

    def do_GET(self) -> None:
        if self.path.split("?")[0] != "/metrics":
            self.send_error(404, "the metrics are at /metrics")
            return
        body = generate_latest(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        """Write nothing: the log is for requests of precoders."""


class _Server(ThreadingMixIn, HTTPServer):
    """Serve HTTP from a few threads; the oldest connection makes room for a new one, and none is kept for long."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._connections: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._connections) >= _MAX_CONNECTIONS:
                self._end(next(iter(self._connections)))
            self._connections[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """End the connections that have lasted too long; called twice a second."""
        with self._lock:
            for request, began in list(self._connections.items()):
                if time.monotonic() - began > _MAX_SECONDS:
                    self._end(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing: the connection was ended, by its client or by this server."""

    def _end(self, request: socket.socket) -> None:
        del self._connections[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # its thread reads the end of the request and closes it


def serve_metrics(port: int, statistics: Statistics, queue_depth: Callable[[], int]) -> None:
    """Serve http://127.0.0.1:PORT/metrics from threads of its own, to at most 8 connections of at most 5 s.

    Parameters
    ----------
    port : int
        TCP port on the loopback interface.
    statistics : Statistics
        Counts of the server.
    queue_depth : callable
        Returns the number of requests that wait.

    Raises
    ------
    NflaeError
        If the port cannot be bound.
    """
    registry = CollectorRegistry()
    registry.register(_Exporter(statistics, queue_depth))
    try:
        server = _Server(port, registry)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NflaeError(f"--metrics-port {port}: {reason}; give another port") from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
