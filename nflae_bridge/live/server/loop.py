"""The server's loop: takes requests from the socket, lets them wait for the device, sends the answers."""

from __future__ import annotations

import gc
import os
import threading
import time
import uuid
from collections import deque
from typing import Any

import zmq

from matlab_io.version import __version__
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol import (
    Frame,
    PrecodeRequest,
    StatusRequest,
    decode_request,
    encode_answer,
    encode_error,
    encode_status,
    request_id,
    split_envelope,
)
from nflae_bridge.live.server.device import Answer, Device
from nflae_bridge.live.server.micro_batches import Job, JobQueue
from nflae_bridge.live.server.outbox import Outbox
from nflae_bridge.live.server.router_socket import RouterSocket
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.statistics import Statistics
from nflae_bridge.live.signals import stopped_by_signals

# What takes less than this, s, is computed by the thread that received it: nobody waits long for that thread, and
# handing the work over costs as much as the smallest of it.
_AT_ONCE_SECONDS = 2e-3
_MESSAGES_A_TURN = 256
_LINGER_MS = 5_000
_LOOK_MS = 100  # how often a loop with nothing to do looks whether a signal came
_BELL = "inproc://bell"
_RINGER = uuid.uuid4().hex.encode()  # peers choose their names: it has to be one that none can know


def serve(settings: ServerSettings, log: EventLog) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was taken, and return. Runs in the main thread.

    Raises NflaeError where an address, a key, a model or a device can't be had.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    entrance = RouterSocket(context, settings)
    try:
        device = Device(settings.model, settings.device)
        device.warm_up()
        # What is loaded by now stays: the collector needn't look through it while requests wait.
        gc.collect()
        gc.freeze()
        front = ServerLoop(settings, context, entrance, device, log)
        with stopped_by_signals(front.stop):
            front.run()
    finally:
        entrance.close(_LINGER_MS)
        context.destroy(linger=0)


class ServerLoop:
    """The loop's state. All but `stop` belongs to the thread that calls `run`."""

    def __init__(
        self,
        settings: ServerSettings,
        context: zmq.Context[zmq.Socket[bytes]],
        entrance: RouterSocket,
        device: Device,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._context = context
        self._socket = entrance.socket
        self._addresses = entrance.addresses
        self._device = device
        self._log = log
        self._queue = JobQueue(settings.queue, settings.queue_bytes)
        self._done: deque[list[Answer]] = deque()
        self._under_way = 0  # jobs the worker has yet to answer
        self._stopping = False
        self._outbox = Outbox(entrance.socket)
        self.statistics = Statistics()

    def stop(self) -> None:
        """Take nothing new; safe in a signal handler of the loop's own thread."""
        self._stopping = True

    def run(self) -> None:
        """Serve until stopped, then until every job taken is answered."""
        self._socket.bind(_BELL)
        worker = threading.Thread(target=self._work, name="device", daemon=True)
        worker.start()
        if self._settings.metrics_port is not None:
            from nflae_bridge.live.server.metrics import serve_metrics

            serve_metrics(self._settings.metrics_port, self.statistics, lambda: len(self._queue))
        for address in self._addresses:
            self._log.info(
                "listening", address=address, model=self._device.model, device=self._device.device, pid=os.getpid()
            )
        for reason in self._device.unusable.values():
            self._log.warning("scheme_unusable", reason=reason)
        self._socket.rcvtimeo = _LOOK_MS
        while not self._stopping:
            self._turn()
        self._log.info("stopping", unanswered=self._under_way)
        while self._under_way:
            self._turn()
        self._turn()  # whoever asked meanwhile is told that the server leaves
        self._queue.close()
        worker.join()
        self._log.info("stopped", **self._counts())

    def _turn(self) -> None:
        """Wait a moment for messages, take those that are there, and see that they get computed."""
        jobs: list[Job] = []
        for turn in range(_MESSAGES_A_TURN):
            if turn and not self._more_waits():
                break
            try:
                message = self._socket.recv_multipart()
            except zmq.Again:
                break
            if message[0] == _RINGER:
                self._send_done()
                continue
            self.statistics.requests += 1
            envelope, frames = split_envelope(message)
            try:
                jobs += self._accept(envelope, frames)
            except WireError as error:
                self._refuse(envelope, request_id(frames), error)
        if not self._under_way and sum(self._device.seconds(job) for job in jobs) < _AT_ONCE_SECONDS:
            for job in jobs:
                self._answer_all(self._compute([job]))
            return
        for job in jobs:
            if self._queue.put(job):
                self._under_way += 1
            else:
                busy = WireError("busy", f"{len(self._queue)} requests are waiting; ask again in a moment")
                self._refuse(job.envelope, job.request.id, busy)

    def _more_waits(self) -> bool:
        events = self._socket.getsockopt(zmq.EVENTS)
        assert isinstance(events, int)
        return bool(events & zmq.POLLIN)

    def _accept(self, envelope: list[bytes], frames: list[bytes]) -> list[Job]:
        """The job a message asks for; none if it is answered already. Raises WireError if it can't be one."""
        arrived = time.perf_counter()
        request = decode_request(frames)
        if isinstance(request, StatusRequest):
            self._send(envelope, encode_status(request.id, self._status()))
            return []
        self._check_limits(request)
        if self._stopping:
            raise WireError("stopping", "the server is about to leave; ask the next one")
        return [Job(envelope, request, arrived)]

    def _check_limits(self, request: PrecodeRequest) -> None:
        settings = self._settings
        self._device.check_scheme(request.scheme)
        drops, users, _ = request.channels.shape
        if users > settings.max_users or drops > settings.max_drops:
            raise WireError(
                "too_large",
                f"{users} users, {drops} drops: this server takes {settings.max_users} users and"
                f" {settings.max_drops} drops a request; send fewer at a time",
            )

    # The device's thread

    def _work(self) -> None:
        # The front waits for one socket only, its own; so the worker rings there when it has answers.
        bell = self._context.socket(zmq.DEALER)
        bell.routing_id = _RINGER
        bell.connect(_BELL)
        expected = 1
        while jobs := self._queue.take(self._settings.max_batch, expected, self._settings.max_wait):
            self._done.append(self._compute(jobs))
            bell.send(b"")
            # Clients that wait for an answer before they ask again come back together: as many as were answered.
            expected = min(self._settings.max_batch, len(jobs) + len(self._queue))
        bell.close()

    def _compute(self, jobs: list[Job]) -> list[Answer]:
        now = time.perf_counter()
        late = WireError("expired", "the deadline passed before the device was free")
        expired = [Answer(job, late, 0.0) for job in jobs if now - job.arrived > job.request.deadline]
        jobs = [job for job in jobs if now - job.arrived <= job.request.deadline]
        if not jobs:
            return expired
        try:
            return expired + self._device.compute(jobs)
        except Exception as error:
            self._log.exception("failed", jobs=len(jobs), shape=jobs[0].request.channels.shape)
            fault = WireError("internal", f"{type(error).__name__} while computing; the server's log has more")
            return expired + [Answer(job, fault, 0.0) for job in jobs]

    # Answers

    def _send_done(self) -> None:
        while self._done:
            answers = self._done.popleft()
            self._answer_all(answers)
            self._under_way -= len(answers)

    def _answer_all(self, answers: list[Answer]) -> None:
        self.statistics.batches += 1
        for answer in answers:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        job, request = answer.job, answer.job.request
        if isinstance(answer.outcome, WireError):
            self._refuse(job.envelope, request.id, answer.outcome)
            return
        latency = time.perf_counter() - job.arrived
        timing = {
            "queue": round(1e6 * (latency - answer.compute)),
            "compute": round(1e6 * answer.compute),
            "total": round(1e6 * latency),
        }
        self._send(job.envelope, encode_answer(request, answer.outcome, self._device.info(request), timing))
        self.statistics.count_answer(job.drops, latency)
        self._log.debug(
            "answered", id=request.id, shape=request.channels.shape, scheme=request.scheme, total_us=timing["total"]
        )

    def _refuse(self, envelope: list[bytes], name: str | None, error: WireError) -> None:
        self.statistics.errors[error.code] += 1
        self._log.warning("refused", code=error.code, id=name, message=error)
        self._send(envelope, encode_error(name, error))

    def _send(self, envelope: list[bytes], frames: list[Frame]) -> None:
        fate = self._outbox.send(envelope, frames)
        if fate != "sent":
            self.statistics.undelivered += 1
            self._log.warning(
                "undelivered", reason="the client has gone" if fate == "gone" else "the client doesn't read"
            )

    # Status

    def _counts(self) -> dict[str, Any]:
        now = self.statistics
        return {
            "requests": now.requests,
            "answered": now.answered,
            "errors": sum(now.errors.values()),
            "undelivered": now.undelivered,
            "drops": now.drops,
            "batches": now.batches,
        }

    def _status(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "model": self._device.model,
            "device": str(self._device.device),
            "schemes": list(self._device.schemes),
            "uptime_s": round(time.monotonic() - self.statistics.started, 3),
            "stopping": self._stopping,
            "queue_depth": len(self._queue),
            "queue_limit": self._settings.queue,
            "max_batch": self._settings.max_batch,
            "max_message_bytes": self._settings.max_message_bytes,
            "counts": self._counts() | {"errors": dict(self.statistics.errors)},
            "latency_us": self.statistics.latency_us(),
            "drops_per_second": self.statistics.drops_per_second(),
        }
