"""Queue requests between socket and device, and form micro-batches of requests that can be computed together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from nflae_bridge.live.protocol.headers import Frame, PrecodeHeader, PredictHeader
from nflae_bridge.live.protocol.messages import PLAIN, PrecodeRequest, PredictRequest, TrackRequest, stated_problem
from nflae_bridge.live.protocol.track_header import TrackHeader
from nflae_bridge.live.server.computation.shares import Shares
from simulator.problems.problem import PrecodingProblem

_MAX_CLIENTS = 1024  # whose computation is kept on the clock while they have no job

PredictionKey = tuple[int, int, str, str]  # history, ahead, method, geometry


@dataclass(frozen=True)
class ProblemKey:
    """Hold what the time of a precoding problem depends on, beside the users, antennas and scheme.

    Parameters
    ----------
    parts : tuple of str
        All that it has beyond the plain one, sorted, see `PrecodingProblem.parts`.
    receive, streams : int
        Receive antennas, and streams, of each user.
    chains : int
        RF chains; 0 without a hybrid array.
    together : int
        Drops that are solved together.
    """

    parts: tuple[str, ...]
    receive: int
    streams: int
    chains: int
    together: int

    @classmethod
    def of(cls, problem: PrecodingProblem, receive: int, antennas: int) -> ProblemKey | None:
        """Return the key of a problem; None for the plain one.

        Parameters
        ----------
        problem : PrecodingProblem
            Problem.
        receive, antennas : int
            Receive antennas of each user, and transmit antennas.

        Returns
        -------
        ProblemKey or None
        """
        if problem.is_plain:
            return None
        receive = receive if problem.joint_receivers else 1
        streams = (problem.streams or min(receive, antennas)) if problem.joint_receivers else 1
        return cls(tuple(sorted(problem.parts)), receive, streams, problem.rf_chains or 0, problem.drops_together)


@dataclass(frozen=True)
class TrackKey:
    """Mark requests of tracks, whose computation is not learnt: each is computed alone, in the order of arrival."""


# See `batch_key`.
BatchKey = tuple[int, int, str | None, int, bool | str, PredictionKey | ProblemKey | TrackKey | None, str | None]


@dataclass(frozen=True)
class Job:
    """Hold a request until it is answered.

    Parameters
    ----------
    envelope : list of bytes or memoryview
        Routing identities for the answer.
    request : PrecodeRequest
        Request.
    arrived : float
        Time of arrival on the clock of `time.perf_counter`, s.
    size : int
        Size of the request, bytes.
    accepted : float
        End of its decoding and checks on the same clock, s.

    Attributes
    ----------
    client : bytes
        Identity of the client.
    key : BatchKey
        Fields equal for all jobs of a micro-batch.
    drops : int
        Number of drops.
    """

    envelope: list[Frame]
    request: PrecodeRequest
    arrived: float
    size: int = 0
    accepted: float = 0.0
    client: bytes = field(init=False)
    key: BatchKey = field(init=False)
    drops: int = field(init=False)

    def __post_init__(self) -> None:
        vars(self).update(
            client=bytes(self.envelope[0]) if self.envelope else b"",
            key=batch_key(self.request),
            drops=self.request.size[0],
        )


def batch_key(request: PrecodeRequest) -> BatchKey:
    """Return the fields that are equal for all requests of a micro-batch.

    Parameters
    ----------
    request : PrecodeRequest
        Request.

    Returns
    -------
    BatchKey
        Users, antennas, scheme, refinements, presence of labels or their panel; those of the prediction or the problem,
        if there is one, and no scheme where nothing is precoded; effort.
    """
    _, users, antennas = request.size
    if isinstance(request, TrackRequest):
        return users, antennas, None, 0, False, TrackKey(), None
    if not isinstance(request, PredictRequest):
        problem = None if request.problem is PLAIN else ProblemKey.of(request.problem, *request.channels.shape[-2:])
        return users, antennas, request.scheme, request.refine, request.labels, problem, request.effort
    options = request.options
    prediction = len(request.channels), options.ahead, options.method, options.geometry
    scheme = request.scheme if options.precodes else None
    return users, antennas, scheme, request.refine, request.labels, prediction, request.effort


def announced_key(header: PrecodeHeader | PredictHeader | TrackHeader) -> tuple[BatchKey, int]:
    """Return the key and the number of drops of the request that a header announces.

    Parameters
    ----------
    header : PrecodeHeader, PredictHeader or TrackHeader
        Header.

    Returns
    -------
    key : BatchKey
        As `batch_key`.
    drops : int
        Number of drops.
    """
    if isinstance(header, TrackHeader):
        steps, users, antennas = header.sizes
        return (users, antennas, None, 0, False, TrackKey(), None), steps
    if not isinstance(header, PredictHeader):
        drops, users, receive, antennas = header.sizes
        problem = ProblemKey.of(stated_problem(header)[0], receive, antennas)
        return (users, antennas, header.scheme, header.refine, header.near_field, problem, header.effort), drops
    antennas, users = header.shape[:2]
    scheme = None if header.then is None else header.scheme
    prediction = header.history, header.ahead, header.method, header.geometry
    return (users, antennas, scheme, header.refine, header.near_field, prediction, header.effort), header.ahead


class JobQueue:
    """Queue the jobs of each client in order, and take them in micro-batches of one key; safe between threads.

    The next batch begins with the oldest job of the client that has received the least computation; a client that
    returns after a pause starts with as much as the least of the others.

    Parameters
    ----------
    limit : int
        Largest number of waiting jobs; no client can take all of it, see `Shares`.
    weigh : callable
        Returns the amount of computation of a job; by default its number of drops.

    References
    ----------
    P. Goyal, H. M. Vin, H. Cheng, "Start-time fair queueing", IEEE/ACM Trans. Networking 5, 1997.
    """

    def __init__(self, limit: int, weigh: Callable[[Job], float] = lambda job: job.drops) -> None:
        self._weigh = weigh
        self._waiting: dict[bytes, dict[BatchKey, deque[Job]]] = {}
        self._received: dict[bytes, float] = {}  # computation of each client, on a common clock
        self._clock = 0.0
        self._shares = Shares(limit)
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return self._shares.used

    def put(self, job: Job) -> bool:
        """Append a job; return False where the queue is full or the client has its share of it."""
        with self._changed:
            if not self._shares.take(job.client, 1):
                return False
            if job.client not in self._waiting:
                self._received[job.client] = max(self._received.get(job.client, 0.0), self._clock)
            self._waiting.setdefault(job.client, {}).setdefault(job.key, deque()).append(job)
            self._changed.notify()
            return True

    def take(
        self, max_drops: Callable[[Job], int], expected: int = 1, max_wait: float = 0.0, block: bool = True
    ) -> list[Job]:
        """Form a micro-batch of the oldest job of the next client and further ones of its key.

        Parameters
        ----------
        max_drops : callable
            Returns the largest number of drops of a batch that begins with a job; a single job may have more. The job
            is passed over, and that of the next client is considered, where it is 0.
        expected : int
            Number of waiting jobs at which the batch is formed at once.
        max_wait : float
            Longest time from the arrival of the first job until the batch is formed with fewer, s.
        block : bool
            Wait while the queue is empty.

        Returns
        -------
        list of Job
            Micro-batch; empty once the queue is closed and has no job left, or where there is none without waiting.
        """
        with self._changed:
            while not self._waiting:
                if self._closed or not block:
                    return []
                self._changed.wait()
            while self._waiting and len(self) < expected and not self._closed:
                left = self._first(self._in_turn()[0]).arrived + max_wait - time.perf_counter()
                if left <= 0 or not self._changed.wait(left):
                    break
            for client in self._in_turn():
                first = self._first(client)
                limit = max_drops(first)
                if limit:
                    return self._form_batch(client, first, limit)
            return []

    def holds(self, client: bytes) -> bool:
        """Return whether a client has a waiting job."""
        return client in self._waiting

    def drain(self) -> list[Job]:
        """Remove and return all jobs."""
        with self._changed:
            jobs = [job for keys in self._waiting.values() for waiting in keys.values() for job in waiting]
            for job in jobs:
                self._shares.give_back(job.client, 1)
            self._waiting.clear()
            return jobs

    def close(self) -> None:
        """Release the threads that wait in `take`; no job may be put afterwards."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _in_turn(self) -> list[bytes]:
        return sorted(self._waiting, key=self._received.__getitem__)

    def _first(self, client: bytes) -> Job:
        return min((jobs[0] for jobs in self._waiting[client].values()), key=lambda job: job.arrived)

    def _form_batch(self, leader: bytes, first: Job, max_drops: int) -> list[Job]:
        batch = [self._remove(leader, first.key)]
        drops = first.drops
        clients = [leader, *(client for client in self._in_turn() if client != leader)]
        self._clock = max(self._clock, self._received[leader])
        while clients:  # one job of each in every round
            remaining = []
            for client in clients:
                jobs = self._waiting.get(client, {}).get(first.key)
                if jobs and drops + jobs[0].drops <= max_drops:
                    drops += jobs[0].drops
                    batch.append(self._remove(client, first.key))
                    remaining.append(client)
            clients = remaining
        for job in batch:
            self._received[job.client] += self._weigh(job)
        if len(self._received) > _MAX_CLIENTS:
            behind = [client for client, received in self._received.items() if received <= self._clock]
            for client in set(behind) - set(self._waiting):
                del self._received[client]
        return batch

    def _remove(self, client: bytes, key: BatchKey) -> Job:
        keys = self._waiting[client]
        job = keys[key].popleft()
        if not keys[key]:
            del keys[key]
        if not keys:
            del self._waiting[client]
        self._shares.give_back(client, 1)
        return job
