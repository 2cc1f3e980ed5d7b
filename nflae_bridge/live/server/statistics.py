"""Count requests, answers, latencies and drops per second of a server."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from itertools import islice

import numpy as np

# Upper bounds of the latency histogram, s.
LATENCY_BOUNDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0)

_RECENT = 4096
_WINDOW_SECONDS = 10


class Statistics:
    """Hold the counts of a server; written by the thread of the server loop, read by any.

    Attributes
    ----------
    started : float
        Start on the clock of `time.monotonic`, s.
    requests, answered, undelivered : int
        Requests of any kind received, answers with precoders sent, answers discarded.
    errors : Counter
        Answers with an error, by code.
    drops, batches : int
        Drops and micro-batches computed.
    histogram : list of int
        Answers per interval of `LATENCY_BOUNDS`.
    latency_sum : float
        Sum of the times from arrival to answer, s.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.requests = 0
        self.answered = 0
        self.errors: Counter[str] = Counter()
        self.undelivered = 0
        self.drops = 0
        self.batches = 0
        self.histogram = [0] * (len(LATENCY_BOUNDS) + 1)
        self.latency_sum = 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._drops_by_second: deque[tuple[int, int]] = deque(maxlen=_WINDOW_SECONDS + 1)

    def count_answer(self, drops: int, latency: float) -> None:
        """Count an answer with precoders.

        Parameters
        ----------
        drops : int
            Drops of the request.
        latency : float
            Time from arrival to answer, s.
        """
        self.answered += 1
        self.drops += drops
        self.histogram[bisect_left(LATENCY_BOUNDS, latency)] += 1
        self.latency_sum += latency
        self._recent.append(latency)
        second = int(time.monotonic())
        if self._drops_by_second and self._drops_by_second[-1][0] == second:
            self._drops_by_second[-1] = (second, self._drops_by_second[-1][1] + drops)
        else:
            self._drops_by_second.append((second, drops))

    def drops_per_second(self) -> float:
        """Return the mean over the last ten whole seconds."""
        now = int(time.monotonic())
        recent = [drops for second, drops in list(self._drops_by_second) if now - _WINDOW_SECONDS <= second < now]
        return sum(recent) / _WINDOW_SECONDS

    def latency_us(self) -> dict[str, int]:
        """Return percentiles of the last 4096 answers, microseconds; empty before the first."""
        recent = list(islice(self._recent, _RECENT))
        if not recent:
            return {}
        values = np.percentile(recent, [50, 90, 99])
        return {name: round(1e6 * value) for name, value in zip(("p50", "p90", "p99"), values, strict=True)}
