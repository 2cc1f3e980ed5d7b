"""Queue requests between socket and device, and form micro-batches of requests that can be computed together."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from nflae_bridge.live.protocol import PrecodeRequest

BatchKey = tuple[int, int, str, int, bool]


@dataclass(frozen=True)
class Job:
    """Hold a request until it is answered.

    Parameters
    ----------
    envelope : list of bytes
        Routing identities for the answer.
    request : PrecodeRequest
        Request.
    arrived : float
        Time of arrival on the clock of `time.perf_counter`, s.
    """

    envelope: list[bytes]
    request: PrecodeRequest
    arrived: float

    @property
    def drops(self) -> int:
        """Number of drops."""
        return len(self.request.channels)

    @property
    def size(self) -> int:
        """Size of the channels, bytes."""
        return self.request.channels.nbytes

    @property
    def key(self) -> BatchKey:
        """Fields equal for all jobs of a micro-batch: users, antennas, scheme, refinements, presence of labels."""
        _, users, antennas = self.request.channels.shape
        return users, antennas, self.request.scheme, self.request.refine, self.request.near_field is not None


class JobQueue:
    """Queue jobs in order of arrival and take them in micro-batches of one key; safe between threads.

    Parameters
    ----------
    limit : int
        Largest number of waiting jobs.
    limit_bytes : int
        Largest sum of their sizes.
    """

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._waiting: dict[BatchKey, deque[Job]] = {}
        self._count = 0
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._count

    def put(self, job: Job) -> bool:
        """Append a job; return False where the queue is full."""
        with self._changed:
            # A single job always fits: one larger than the whole queue would otherwise never be served.
            if self._count and (self._count >= self._limit or self._bytes + job.size > self._limit_bytes):
                return False
            self._waiting.setdefault(job.key, deque()).append(job)
            self._count += 1
            self._bytes += job.size
            self._changed.notify()
            return True

    def take(self, max_drops: int, expected: int = 1, max_wait: float = 0.0) -> list[Job]:
        """Form a micro-batch of the oldest job and the next ones of its key; block while the queue is empty.

        Parameters
        ----------
        max_drops : int
            Largest number of drops; a single job may have more.
        expected : int
            Number of waiting jobs at which the batch is formed at once.
        max_wait : float
            Longest time from the arrival of the oldest job until the batch is formed with fewer, s.

        Returns
        -------
        list of Job
            Micro-batch; empty once the queue is closed and has no job left.
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
        """Release the threads that wait in `take`; no job may be put afterwards."""
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
