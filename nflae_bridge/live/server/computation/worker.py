"""Compute the queued jobs in the device's thread, short ones of other clients between the blocks of long ones."""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.server.computation.answer import Answer
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.micro_batches import Job, JobQueue, TrackKey
from nflae_bridge.live.server.settings import ServerSettings

STOPPED = "the server has stopped before the result; send the request to another one"

_BATCH_SECONDS = 0.03  # estimated time of several requests that are computed together
_MUCH_LONGER = 10
_MAX_DEPTH = 3  # batches in progress, each begun between the blocks of a longer one
UNATTENDED_SECONDS = 0.03  # without an interrupt; usual blocks and iterations take less


class Worker:
    """Compute jobs on the device.

    Parameters
    ----------
    settings : ServerSettings
        Limits.
    device : Device
        Device with the models.
    queue : JobQueue
        Queue of the jobs.
    is_connected : callable
        Returns whether the client of an identity is connected.
    announce : callable
        Called after answers have been added to `completed`.
    log : EventLog
        Log of faults.

    Attributes
    ----------
    completed : deque of list of Answer
        Answers that the server loop has to send.
    cancelled : set of int
        Identities of the jobs that their clients have cancelled, kept by the server loop.
    """

    def __init__(
        self,
        settings: ServerSettings,
        device: Device,
        queue: JobQueue,
        is_connected: Callable[[bytes], bool],
        announce: Callable[[], None],
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._device = device
        self._queue = queue
        self._is_connected = is_connected
        self._announce = announce
        self._log = log
        self._depth = 0
        self._ended_at = float("inf")
        self._began = 0.0
        self._attended = 0.0  # start or last interrupt of the batch in progress
        self._expected_end = 0.0  # of the batch in progress, on the clock of `time.perf_counter`; 0 without one
        self.completed: deque[list[Answer]] = deque()
        self.cancelled: set[int] = set()

    def run(self) -> None:
        """Compute jobs until the queue is closed and empty."""
        expected = 1
        while jobs := self._queue.take(self._batch_drops, expected, self._settings.max_wait):
            costs = self._device.costs
            self._began = self._attended = time.perf_counter()
            self._expected_end = self._began + costs.estimate(jobs[0].key, sum(job.drops for job in jobs))
            answers = self.compute(jobs)
            self._expected_end = 0.0
            # Clients that wait for an answer before their next request return together: as many as are answered. The
            # next request of one that has its answer already would be counted twice.
            expected = min(self._settings.max_batch, len(jobs) + len(self._queue))
            self._complete(answers)
            del jobs, answers  # with the memory that is shared with their clients

    def seconds_left(self) -> float:
        """Return the estimated time until the batch in progress ends, s; infinite once it has taken longer."""
        end = self._expected_end
        if not end:  # the next batch begins at this moment where jobs wait
            return math.inf if len(self._queue) else 0.0
        left = end - time.perf_counter()
        return left if left > 0 else math.inf

    def is_much_longer(self, seconds: float) -> bool:
        """Return whether the batch in progress is estimated to take ten times a time longer, s, or has taken it."""
        end, now = self._expected_end, time.perf_counter()
        return bool(end) and (end - now if now < end else now - self._began) > _MUCH_LONGER * seconds

    def is_unattended(self) -> bool:
        """Return whether the batch in progress has taken much longer than the time between interrupts without one."""
        return bool(self._expected_end) and time.perf_counter() - self._attended > UNATTENDED_SECONDS

    def end_at(self, moment: float) -> None:
        """Answer what is not computed by a moment, on the clock of `time.monotonic`, with ``stopping``."""
        self._ended_at = moment

    def compute(self, jobs: list[Job], interrupted: frozenset[bytes] | None = frozenset()) -> list[Answer]:
        """Compute a micro-batch.

        Parameters
        ----------
        jobs : list of Job
            Jobs of one key.
        interrupted : frozenset of bytes, or None
            Clients whose computation is interrupted for it. None in any other thread than that of `run`: the
            computation is not interrupted for others.

        Returns
        -------
        list of Answer
            In any order. A job whose deadline has passed, or whose client has disconnected, is not computed.
        """
        answers: list[Answer] = []
        given, jobs = jobs, []
        for job in given:
            fault = self._reason_to_end(job)
            if fault is None:
                jobs.append(job)
            else:
                answers.append(Answer(job, fault, 0.0))
        if not jobs:
            return answers
        if self._device.costs.untried(jobs[0].key):
            return answers + self._compute_untried(jobs, interrupted)
        limit = self._settings.max_seconds * len(jobs)
        try:
            return answers + self._device.compute(jobs, self._interrupt(jobs, interrupted, limit))
        except WireError as fault:
            return answers + _failed(jobs, fault)
        except Exception as error:
            may_have_changed = jobs[0].request.room is not None and not jobs[0].request.channels.flags.owndata
            if len(jobs) == 1 and not may_have_changed:
                self._log.exception("failed", shape=jobs[0].request.channels.shape, scheme=jobs[0].request.scheme)
            _clear_frames(error)
            if len(jobs) > 1:  # one of them may be the cause, and fails no other
                return answers + [answer for job in jobs for answer in self.compute([job], interrupted)]
            if may_have_changed:
                return answers + self._compute_copy(jobs[0], interrupted)
            internal = WireError("internal", f"{type(error).__name__} while computing; the server's log has more")
            return [*answers, Answer(jobs[0], internal, 0.0)]

    def _compute_copy(self, job: Job, interrupted: frozenset[bytes] | None) -> list[Answer]:
        """Compute a job again on a copy of its channels, which its client may have changed in shared memory."""
        request = replace(job.request, channels=job.request.channels.copy())
        return [replace(answer, job=job) for answer in self.compute([replace(job, request=request)], interrupted)]

    def _compute_untried(self, jobs: list[Job], interrupted: frozenset[bytes] | None) -> list[Answer]:
        """Compute jobs that were accepted without an estimate after the trials for it, those within the time limit.

        The trials are interrupted as the jobs are, and count towards the time limit of each: a job for which they leave
        too little of it gets ``busy``, as its next attempt needs no trials.
        """
        costs, limit = self._device.costs, self._settings.max_seconds
        interrupt = self._interrupt(jobs, interrupted, limit)
        try:
            spent = sum(self._device.calibrate(name, interrupt) for name in costs.untried(jobs[0].key))
        except WireError as fault:
            return _failed(jobs, fault)
        answers, short = [], []
        for job in jobs:
            try:
                costs.check(job.key, job.drops, limit)
                if spent + costs.estimate(job.key, job.drops) > limit:
                    raise WireError("busy", "the first request of its kind, whose time is known now; send it again")
                short.append(job)
            except WireError as fault:
                answers += _failed([job], fault)
        return answers + self.compute(short, interrupted)

    def _complete(self, answers: list[Answer]) -> None:
        self.completed.append(answers)
        self._announce()

    def _batch_drops(self, first: Job) -> int:
        if isinstance(first.key[5], TrackKey):
            return 1
        costs = self._device.costs
        seconds = max(_BATCH_SECONDS, 2 * costs.estimate(first.key, 1))
        return min(self._settings.max_batch, costs.drops_within(first.key, seconds))

    def _reason_to_end(self, job: Job) -> WireError | None:
        if time.perf_counter() - job.arrived > job.request.deadline:
            return WireError("expired", "the deadline passed before the result")
        if id(job) in self.cancelled:
            return WireError("expired", "the client has cancelled the request")
        if not self._is_connected(job.client):
            return WireError("expired", "the client has disconnected")
        if time.monotonic() > self._ended_at:
            return WireError("stopping", STOPPED)
        return None

    def _interrupt(self, jobs: Sequence[Job], interrupted: frozenset[bytes] | None, limit: float) -> Callable[[], None]:
        """Return the function that is called between the blocks of a batch, and the iterations of a long block.

        It ends a batch that has taken `limit` seconds, those of the jobs of others aside.
        """
        clock = self._device.clock
        began, paused = clock(), 0.0
        clients = frozenset([job.client for job in jobs]) | (interrupted or frozenset())

        def is_shorter(job: Job) -> int:
            expected = self._device.costs.estimate(jobs[0].key, sum(job.drops for job in jobs))
            worked = clock() - began - paused
            left = expected - worked if worked < expected else worked  # an estimate that was too small is doubled
            passes = job.client not in clients and not self._device.costs.untried(job.key)
            shorter = self._device.costs.estimate(job.key, job.drops) < left
            return self._batch_drops(job) if passes and shorter else 0

        def interrupt() -> None:
            nonlocal paused
            reasons = [self._reason_to_end(job) for job in jobs]
            if all(reasons):
                raise reasons[0] or WireError("expired", "")
            now = clock()
            if now - began - paused > limit:
                most = f"{self._settings.max_seconds:g} s (--max-seconds)"
                raise WireError("too_large", f"ended after {most}; send fewer drops at a time")
            if interrupted is None:
                return
            if self._depth < _MAX_DEPTH and (others := self._queue.take(is_shorter, block=False)):
                self._depth += 1
                self._complete(self.compute(others, clients))
                self._depth -= 1
                paused += clock() - now
            self._attended = time.perf_counter()

        return interrupt


def _failed(jobs: Sequence[Job], fault: WireError) -> list[Answer]:
    """Return the answers of jobs whose computation has ended with a fault; none refers to its traceback."""
    _clear_frames(fault)
    return [Answer(job, WireError(fault.code, str(fault)), 0.0) for job in jobs]


def _clear_frames(fault: BaseException | None) -> None:
    """Free the local variables of the calls that a fault has ended.

    Where one of them refers to the fault itself, all would remain until the next collection of cycles, with the memory
    that is shared with the client; a server without requests comes to none.
    """
    while fault is not None:
        traceback.clear_frames(fault.__traceback__)
        fault.__context__, fault = None, fault.__context__
