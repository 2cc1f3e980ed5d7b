"""Count latencies in a histogram, and compute percentiles of the last ones."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Any

import numpy as np

# Upper bounds of the latency histogram, s.
LATENCY_BOUNDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0)

_RECENT = 4096


class LatencyHistogram:
    """Hold counts of latencies; written by one thread, read by any.

    Attributes
    ----------
    counts : list of int
        Latencies per interval of `LATENCY_BOUNDS`; the last one is for those above all bounds.
    sum : float
        Sum of all, s.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self.sum = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def count(self, latency: float) -> None:
        """Count a latency, s."""
        self.counts[bisect_left(LATENCY_BOUNDS, latency)] += 1
        self.sum += latency
        self._recent.append(latency)

    def percentiles_us(self) -> dict[str, int]:
        """Return percentiles of the last 4096, microseconds; empty before the first."""
        recent = list(self._recent)
        if not recent:
            return {}
        values = np.percentile(recent, [50, 90, 99])
        return {name: round(1e6 * value) for name, value in zip(("p50", "p90", "p99"), values, strict=True)}

    def histogram(self) -> dict[str, Any]:
        """Return the upper bounds of the intervals, s, and the counts, of which the last is for those above all."""
        return {"bounds_s": LATENCY_BOUNDS, "counts": list(self.counts)}

    def describe(self) -> dict[str, Any]:
        """Return bounds, counts and percentiles for a page."""
        return {**self.histogram(), "us": self.percentiles_us()}
