"""Count requests, answers, latencies and drops per second of a server."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

from nflae_bridge.live.view.latency import LatencyHistogram

_WINDOW_SECONDS = 10


class Statistics:
    """Hold the counts of a server; written by the thread of the server loop, read by any.

    Attributes
    ----------
    started : float
        Start on the clock of `time.monotonic`, s.
    requests, answered, undelivered : int
        Requests received, answers with results sent, answers discarded. ``status`` and ``cancel`` are not counted: the
        requests are the answers, the errors and what waits or is computed.
    errors : Counter
        Answers with an error, by code.
    drops, batches : int
        Drops and micro-batches computed.
    latency : LatencyHistogram
        Times from arrival to answer.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.requests = 0
        self.answered = 0
        self.errors: Counter[str] = Counter()
        self.undelivered = 0
        self.drops = 0
        self.batches = 0
        self.latency = LatencyHistogram()
        self._drops_by_second: deque[tuple[int, int]] = deque(maxlen=_WINDOW_SECONDS + 1)

    def counts(self) -> dict[str, int]:
        """Return the counts by name, with the errors of all codes together."""
        return {
            "requests": self.requests,
            "answered": self.answered,
            "errors": sum(self.errors.values()),
            "undelivered": self.undelivered,
            "drops": self.drops,
            "batches": self.batches,
        }

    def state(self) -> dict[str, Any]:
        """Return what the live view shows of a server beside its status."""
        return {"program": "nflae serve", "counts": self.counts(), "latency": self.latency.describe()}

    def count_answer(self, drops: int, latency: float) -> None:
        """Count an answer with results.

        Parameters
        ----------
        drops : int
            Drops of the request.
        latency : float
            Time from arrival to answer, s.
        """
        self.latency.count(latency)  # first: an answer is counted together with its time
        self.answered += 1
        self.drops += drops
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
