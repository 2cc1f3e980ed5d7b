"""Export the statistics of a server to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from matlab_io.errors import NflaeError
from nflae_bridge.live.server.statistics import LATENCY_BOUNDS, Statistics


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


def serve_metrics(port: int, statistics: Statistics, queue_depth: Callable[[], int]) -> None:
    """Serve http://127.0.0.1:PORT/metrics from a thread of its own.

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
        start_http_server(port, "127.0.0.1", registry)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NflaeError(f"--metrics-port {port}: {reason}; give another port") from None
