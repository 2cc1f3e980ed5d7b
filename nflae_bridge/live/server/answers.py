"""Keep jobs until they are answered, order the answers of all clients, and sample them for the live view."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.server.computation.answer import Answer
from nflae_bridge.live.server.computation.micro_batches import Job
from nflae_bridge.live.view.sampler import Sample


class UnansweredJobs:
    """Keep the jobs that wait for their computation or its end, and their number by client."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._by_client: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Add a job unless it is kept already."""
        if id(job) not in self._jobs:
            self._jobs[id(job)] = job
            self._by_client[job.client] += 1

    def discard(self, job: Job) -> None:
        """Remove a job if it is kept."""
        if self._jobs.pop(id(job), None) is not None:
            self._by_client[job.client] -= 1
            if not self._by_client[job.client]:
                del self._by_client[job.client]

    def all(self) -> list[Job]:
        """Return all jobs, the oldest first."""
        return list(self._jobs.values())

    def count(self, client: bytes) -> int:
        """Return the number of jobs of a client."""
        return self._by_client[client]

    def has_backlog(self) -> bool:
        """Return whether a client has several jobs."""
        return len(self._jobs) > len(self._by_client)


class AnswerQueue:
    """Queue answers, those of each client in order, and return one of each client in every round.

    The answer to a client with one request waits for at most one answer of each other client, whatever the number of
    their requests.
    """

    def __init__(self) -> None:
        self._waiting: dict[bytes, deque[Answer]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def extend(self, answers: Iterable[Answer]) -> None:
        """Append answers.

        Parameters
        ----------
        answers : iterable of Answer
            Answers to jobs of any clients.
        """
        for answer in answers:
            self._waiting.setdefault(answer.job.client, deque()).append(answer)

    def pop(self) -> Answer:
        """Remove and return the next answer; raises StopIteration if there is none."""
        client = next(iter(self._waiting))
        answers = self._waiting.pop(client)
        answer = answers.popleft()
        if answers:
            self._waiting[client] = answers  # after all others
        return answer


def sample_of(request: PrecodeRequest, arrays: Mapping[str, npt.NDArray[Any]], info: dict[str, Any]) -> Sample:
    """Return an answer for the live view.

    Parameters
    ----------
    request : PrecodeRequest
        Request.
    arrays : mapping of str to numpy.ndarray
        Arrays of the answer.
    info : dict
        ``info`` of the answer.

    Returns
    -------
    Sample
        The arrays themselves; of a request in shared memory, which its client can change and free, the last drop.
    """
    noise_power = float(np.max(request.budget.noise_power))
    sample = Sample(request.channels, arrays, noise_power, request.convention == "direct", info)
    return sample if request.room is None else sample.last_drop()
