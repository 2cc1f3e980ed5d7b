"""Run the server loop: receive requests, queue them for the device, send the answers."""

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
from nflae_bridge.live.headers import Frame, request_id
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol import (
    PrecodeRequest,
    StatusRequest,
    decode_request,
    encode_answer,
    encode_error,
    encode_status,
    split_envelope,
)
from nflae_bridge.live.server.device import Answer, Device
from nflae_bridge.live.server.key_guard import reread_on_hangup
from nflae_bridge.live.server.memory import return_freed_memory
from nflae_bridge.live.server.micro_batches import Job, JobQueue
from nflae_bridge.live.server.outbox import Outbox
from nflae_bridge.live.server.router_socket import RouterSocket
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.statistics import Statistics
from nflae_bridge.live.signals import stopped_by_signals

# Jobs estimated to take less, s, are computed by the thread that received them: other messages wait little, and a
# handover to the device's thread costs as much as the smallest jobs.
_INLINE_SECONDS = 2e-3
_MESSAGES_PER_TURN = 256
_LINGER_MS = 5_000
_POLL_MS = 100  # interval between checks for a signal while no message arrives
_WAKEUP_ADDRESS = "inproc://wakeup"
_WAKEUP_ID = uuid.uuid4().hex.encode()  # random, because peers choose their routing identities


def serve(settings: ServerSettings, log: EventLog) -> None:
    """Serve until SIGTERM or SIGINT, then answer the accepted requests and return; runs in the main thread.

    Parameters
    ----------
    settings : ServerSettings
        Settings.
    log : EventLog
        Log of events.

    Raises
    ------
    NflaeError
        If an address, a key, a model or a device is unusable.
    """
    return_freed_memory()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = RouterSocket(context, settings, log)
    try:
        device = Device(settings.model, settings.device)
        device.warm_up()
        # The objects loaded so far stay: collections while requests wait need not traverse them.
        gc.collect()
        gc.freeze()
        loop = ServerLoop(settings, context, router, device, log)
        with stopped_by_signals(loop.stop), reread_on_hangup(router.guard):
            loop.run()
    finally:
        router.close(_LINGER_MS)
        context.destroy(linger=0)


class ServerLoop:
    """Receive requests, queue them for the device's thread, and send the answers.

    All methods but `stop` belong to the thread that calls `run`.

    Parameters
    ----------
    settings : ServerSettings
        Settings.
    context : zmq.Context
        Context of the router socket.
    router : RouterSocket
        Socket of the clients.
    device : Device
        Device with the models.
    log : EventLog
        Log of events.
    """

    def __init__(
        self,
        settings: ServerSettings,
        context: zmq.Context[zmq.Socket[bytes]],
        router: RouterSocket,
        device: Device,
        log: EventLog,
    ) -> None:
        self._settings = settings
        self._context = context
        self._socket = router.socket
        self._addresses = router.addresses
        self._device = device
        self._log = log
        self._queue = JobQueue(settings.queue, settings.queue_bytes)
        self._completed: deque[list[Answer]] = deque()
        self._unanswered = 0  # jobs handed to the device's thread
        self._stopping = False
        self._outbox = Outbox(router.socket)
        self.statistics = Statistics()

    def stop(self) -> None:
        """Accept no further requests; safe in a signal handler of the loop's own thread."""
        self._stopping = True

    def run(self) -> None:
        """Serve until stopped, then until every accepted job is answered."""
        self._socket.bind(_WAKEUP_ADDRESS)
        worker = threading.Thread(target=self._compute_batches, name="device", daemon=True)
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
        self._socket.rcvtimeo = _POLL_MS
        while not self._stopping:
            self._turn()
        self._log.info("stopping", unanswered=self._unanswered)
        while self._unanswered:
            self._turn()
        self._turn()  # requests that arrived meanwhile are answered with `stopping`
        self._queue.close()
        worker.join()
        self._log.info("stopped", **self._counts())

    def _turn(self) -> None:
        """Wait briefly for messages, accept those that have arrived, and have their jobs computed."""
        jobs: list[Job] = []
        for number in range(_MESSAGES_PER_TURN):
            if number and not self._has_message():
                break
            try:
                message = self._socket.recv_multipart()
            except zmq.Again:
                break
            if message[0] == _WAKEUP_ID:
                self._send_completed()
                continue
            self.statistics.requests += 1
            envelope, frames = split_envelope(message)
            try:
                jobs += self._accept(envelope, frames)
            except WireError as error:
                self._refuse(envelope, request_id(frames), error)
        if not self._unanswered and sum(self._device.seconds(job) for job in jobs) < _INLINE_SECONDS:
            for job in jobs:
                self._answer_all(self._compute([job]))
            return
        for job in jobs:
            if self._queue.put(job):
                self._unanswered += 1
            else:
                busy = WireError("busy", f"{len(self._queue)} requests are waiting; send it again after a pause")
                self._refuse(job.envelope, job.request.id, busy)

    def _has_message(self) -> bool:
        events = self._socket.getsockopt(zmq.EVENTS)
        assert isinstance(events, int)
        return bool(events & zmq.POLLIN)

    def _accept(self, envelope: list[bytes], frames: list[bytes]) -> list[Job]:
        """Return the job of a message, none if it is answered already; raise WireError for an invalid one."""
        arrived = time.perf_counter()
        request = decode_request(frames)
        if isinstance(request, StatusRequest):
            self._send(envelope, encode_status(request.id, self._status()))
            return []
        self._check_limits(request)
        if self._stopping:
            raise WireError("stopping", "the server is shutting down; send the request to another one")
        return [Job(envelope, request, arrived)]

    def _check_limits(self, request: PrecodeRequest) -> None:
        settings = self._settings
        self._device.check_scheme(request.scheme)
        drops, users, _ = request.channels.shape
        if users > settings.max_users or drops > settings.max_drops:
            raise WireError(
                "too_large",
                f"{users} users, {drops} drops: the limits of this server are {settings.max_users} users and"
                f" {settings.max_drops} drops per request; send fewer at a time",
            )

    # The device's thread

    def _compute_batches(self) -> None:
        # The loop waits for one socket only, its own; an empty message there announces completed answers.
        wakeup = self._context.socket(zmq.DEALER)
        wakeup.routing_id = _WAKEUP_ID
        wakeup.connect(_WAKEUP_ADDRESS)
        expected = 1
        while jobs := self._queue.take(self._settings.max_batch, expected, self._settings.max_wait):
            self._completed.append(self._compute(jobs))
            wakeup.send(b"")
            # Clients that wait for an answer before their next request return together: as many as were answered.
            expected = min(self._settings.max_batch, len(jobs) + len(self._queue))
        wakeup.close()

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
            if len(jobs) > 1:  # one of them may be the cause, and fails no other
                return expired + [answer for job in jobs for answer in self._compute([job])]
            self._log.exception("failed", shape=jobs[0].request.channels.shape, scheme=jobs[0].request.scheme)
            fault = WireError("internal", f"{type(error).__name__} while computing; the server's log has more")
            return expired + [Answer(job, fault, 0.0) for job in jobs]

    # Answers

    def _send_completed(self) -> None:
        while self._completed:
            answers = self._completed.popleft()
            self._answer_all(answers)
            self._unanswered -= len(answers)

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
        delivery = self._outbox.send(envelope, frames)
        if delivery != "sent":
            self.statistics.undelivered += 1
            gone = delivery == "disconnected"
            reason = "the client has disconnected" if gone else "the client leaves its answers unread"
            self._log.warning("undelivered", reason=reason)

    # Status

    def _counts(self) -> dict[str, Any]:
        statistics = self.statistics
        return {
            "requests": statistics.requests,
            "answered": statistics.answered,
            "errors": sum(statistics.errors.values()),
            "undelivered": statistics.undelivered,
            "drops": statistics.drops,
            "batches": statistics.batches,
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
