"""Decide which requests a server accepts: form, limits, estimated time, and each client's share of the memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.binary import announced_bytes
from nflae_bridge.live.protocol.headers import (
    CancelHeader,
    Frame,
    PrecodeHeader,
    StatusHeader,
    decode_request_header,
)
from nflae_bridge.live.protocol.messages import PrecodeRequest, stated_problem
from nflae_bridge.live.server.computation.costs import CostModel
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.micro_batches import BatchKey, Job, ProblemKey, TrackKey, announced_key
from nflae_bridge.live.server.computation.problems import check_panel, check_problem
from nflae_bridge.live.server.computation.shares import Shares
from nflae_bridge.live.server.settings import ServerSettings
from simulator.downlink.budget import LinkBudget
from simulator.problems.problem import PrecodingProblem


def _has_large_frame(frames: Sequence[Frame]) -> bool:
    """Return whether memory was taken for a frame before it arrived; only such frames are not `bytes`."""
    return memoryview in map(type, frames)


class Admission:
    """Hold the limits of a server and the memory of the requests that are received, wait or are computed.

    Parameters
    ----------
    settings : ServerSettings
        Limits.
    device : Device
        Device with the schemes and their times.

    Attributes
    ----------
    stopping : bool
        No further request is accepted.
    """

    def __init__(self, settings: ServerSettings, device: Device) -> None:
        self._settings = settings
        self._device = device
        self._costs: CostModel = device.costs
        self._memory = Shares(settings.queue_bytes)
        # Memory of the requests with large frames that have not been accepted yet, the oldest of each client first.
        self._receiving: dict[bytes, deque[int]] = {}
        self.stopping = False

    def check_announced(self, client: bytes, frames: Sequence[Frame], size: int) -> None:
        """Check a request before a large frame of it is received, and take the memory for the frame.

        Parameters
        ----------
        client : bytes
            Identity of the client.
        frames : sequence of bytes or memoryview
            Frames that have arrived, without the envelope.
        size : int
            Size of the next one, bytes.

        Raises
        ------
        WireError
            If the request would be refused once it has arrived, or there is no memory for it.
        """
        if not frames:
            raise WireError("bad_request", f"a header of {size} bytes: it has to be the first frame, in JSON")
        header = decode_request_header(frames)
        expected = announced_bytes(header)
        if len(frames) > len(expected) or size != expected[len(frames) - 1]:
            raise WireError(
                "bad_request", f"a frame of {size} bytes after the header, which announces {expected or 'none'}"
            )
        assert not isinstance(header, StatusHeader | CancelHeader)
        if isinstance(header, PrecodeHeader):
            self._check_problem(*stated_problem(header), header.scheme)
        self._check(*announced_key(header))
        self._take(client, size)
        held = self._receiving.setdefault(client, deque())
        if _has_large_frame(frames):
            held[-1] += size
        else:
            held.append(size)

    def accept(self, envelope: list[Frame], frames: Sequence[Frame], request: PrecodeRequest, arrived: float) -> Job:
        """Accept a request that has arrived; `release` has to follow.

        Parameters
        ----------
        envelope : list of bytes or memoryview
            Envelope of the request.
        frames : sequence of bytes or memoryview
            Its frames.
        request : PrecodeRequest
            Request.
        arrived : float
            Time of arrival on the clock of `time.perf_counter`, s.

        Returns
        -------
        Job
            Job that holds the memory of the request.

        Raises
        ------
        WireError
            If the request is refused.
        """
        shared = 0 if request.room is None else request.channels.nbytes
        job = Job(envelope, request, arrived, sum(map(len, frames)) + shared, time.perf_counter())
        received = self._next_received(job.client) if _has_large_frame(frames) else 0
        try:
            self._check_problem(request.problem, request.budget, request.scheme)
            self._check(job.key, job.drops)
            self._take(job.client, job.size - received)
        except WireError:
            self._memory.give_back(job.client, received)
            raise
        return job

    def release(self, job: Job) -> None:
        """Return the memory of a job."""
        self._memory.give_back(job.client, job.size)

    def reject(self, client: bytes, frames: Sequence[Frame], is_complete: bool) -> None:
        """Return the memory of a request that is not accepted.

        Parameters
        ----------
        client : bytes
            Identity of the client.
        frames : sequence of bytes or memoryview
            Its frames so far.
        is_complete : bool
            The request has arrived completely.
        """
        if _has_large_frame(frames):
            received = self._next_received(client) if is_complete else self._receiving[client].pop()
            self._memory.give_back(client, received)

    def forget(self, client: bytes) -> None:
        """Return the memory of the requests that a client which has disconnected has not sent completely."""
        for received in self._receiving.pop(client, ()):
            self._memory.give_back(client, received)

    def _next_received(self, client: bytes) -> int:
        held = self._receiving.get(client)
        return held.popleft() if held else 0  # the client may have disconnected meanwhile

    def _take(self, client: bytes, size: int) -> None:
        if not self._memory.take(client, size):
            raise WireError(
                "busy", "the requests of this and other clients fill the queue; send it again after a pause"
            )

    def _check_problem(self, problem: PrecodingProblem, budget: LinkBudget, scheme: str) -> None:
        if not problem.is_plain:
            check_problem(problem, budget, scheme)

    def _check(self, key: BatchKey, drops: int) -> None:
        users, antennas, scheme, _, labels, prediction, _ = key
        settings = self._settings
        if isinstance(labels, str):
            check_panel(labels, antennas)
        if isinstance(prediction, ProblemKey):
            users *= prediction.streams
        elif not isinstance(prediction, TrackKey):
            if prediction is not None:
                self._device.check_prediction(antennas, prediction)
            if scheme is not None:
                self._device.check_scheme(scheme)
        if users > settings.max_users or drops > settings.max_drops:
            raise WireError(
                "too_large",
                f"{users} users, {drops} drops: the limits of this server are {settings.max_users} users and"
                f" {settings.max_drops} drops per request; send fewer at a time",
            )
        if self.stopping:
            raise WireError("stopping", "the server is shutting down; send the request to another one")
        self._costs.check(key, drops, settings.max_seconds)
