"""Export the statistics of a server to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from nflae_bridge.live.server.statistics import Statistics
from nflae_bridge.live.view.http import Handler, HttpServer
from nflae_bridge.live.view.latency import LATENCY_BOUNDS


class _Exporter(Collector):
    def __init__(self, statistics: Statistics, queue_depth: Callable[[], int]) -> None:
        self._statistics = statistics
        self._queue_depth = queue_depth

    def collect(self) -> Iterator[Metric]:
        now = self._statistics
        for name, text, value in (
            ("nflae_requests", "Requests received, without status and cancel", now.requests),
            ("nflae_answers", "Requests answered with results", now.answered),
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
        counted = list(zip(bounds, accumulate(now.latency.counts), strict=True))
        yield HistogramMetricFamily(
            "nflae_latency_seconds", "From arrival of a request to its answer", counted, now.latency.sum
        )


class _Handler(Handler):
    def do_GET(self) -> None:
        if self.path.split("?")[0] != "/metrics":
            self.send_error(404, "the metrics are at /metrics")
            return
        assert isinstance(self.server, _Server)
        self.answer(200, CONTENT_TYPE_LATEST, generate_latest(self.server.registry))


class _Server(HttpServer):
    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self.registry = registry
        super().__init__(f"--metrics-port {port}", "127.0.0.1", port, _Handler)


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
    _Server(port, registry).start("metrics")
