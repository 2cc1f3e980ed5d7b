"""The bounded queue between the socket and the device, and how requests are gathered into micro-batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from nflae_bridge.live.protocol import PrecodeRequest

Key = tuple[int, int, str, int, bool]


@dataclass(frozen=True)
class Job:
    """A request on its way. envelope: whom to answer. arrived: `time.perf_counter` then, s."""

    envelope: list[bytes]
    request: PrecodeRequest
    arrived: float

    @property
    def drops(self) -> int:
        """How many drops the request has."""
        return len(self.request.channels)

    @property
    def size(self) -> int:
        """Bytes of its channels."""
        return self.request.channels.nbytes

    @property
    def key(self) -> Key:
        """Jobs of one key can be computed as one batch: users, antennas, scheme, refinements, labels given or not."""
        _, users, antennas = self.request.channels.shape
        return users, antennas, self.request.scheme, self.request.refine, self.request.near_field is not None


class JobQueue:
    """Jobs in the order they came, taken in batches of one key; safe between threads.

    limit, limit_bytes: how many jobs, and bytes of channels, may wait.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._waiting: dict[Key, deque[Job]] = {}
        self._count = 0
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._count

    def put(self, job: Job) -> bool:
        """Let a job wait; False if there is no room for it."""
        with self._changed:
            # One job always fits: what is larger than the whole queue would otherwise never be served.
            if self._count and (self._count >= self._limit or self._bytes + job.size > self._limit_bytes):
                return False
            self._waiting.setdefault(job.key, deque()).append(job)
            self._count += 1
            self._bytes += job.size
            self._changed.notify()
            return True

    def take(self, max_drops: int, expected: int = 1, max_wait: float = 0.0) -> list[Job]:
        """The oldest job with those that go with it, at most ``max_drops`` drops (one job always); blocks.

        expected: while fewer jobs wait, wait for them up to ``max_wait`` s after the oldest came.
        Returns no jobs once the queue is closed and empty.
        """
        with self._changed:
            while not self._count:
                if self._closed:
                    return []
                self._changed.wait()
            while self._count < expected and not self._closed:
                left = self._oldest()[0].arrived + max_wait - time.perf_counter()
                if left <= 0 or not self._changed.wait(left):
                    break
            return self._pop(max_drops)

    def close(self) -> None:
        """No more jobs will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _oldest(self) -> deque[Job]:
        return min(self._waiting.values(), key=lambda jobs: jobs[0].arrived)

    def _pop(self, max_drops: int) -> list[Job]:
        jobs = self._oldest()
        batch = [jobs.popleft()]
        drops = batch[0].drops
        while jobs and drops + jobs[0].drops <= max_drops:
            batch.append(jobs.popleft())
            drops += batch[-1].drops
        if not jobs:
            del self._waiting[batch[0].key]
        self._count -= len(batch)
        self._bytes -= sum(job.size for job in batch)
        return batch
