"""Run the server loop: receive requests, queue them for the device, send the answers."""

from __future__ import annotations

import gc
import math
import os
import sys
import threading
import time
from typing import Any

import torch

from matlab_io.errors import NflaeError
from matlab_io.version import __version__
from nflae_bridge.engine.devices import choose_device
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.answers import encode_answer, encode_error, encode_status
from nflae_bridge.live.protocol.frames import decode_request
from nflae_bridge.live.protocol.headers import Frame, request_id
from nflae_bridge.live.protocol.messages import CancelRequest, StatusRequest, TrackRequest
from nflae_bridge.live.server.admission import Admission
from nflae_bridge.live.server.answers import AnswerQueue, UnansweredJobs, sample_of
from nflae_bridge.live.server.computation.answer import Answer
from nflae_bridge.live.server.computation.costs import PREDICTION
from nflae_bridge.live.server.computation.device import Device
from nflae_bridge.live.server.computation.micro_batches import Job, JobQueue
from nflae_bridge.live.server.computation.worker import STOPPED, UNATTENDED_SECONDS, Worker
from nflae_bridge.live.server.memory import return_freed_memory
from nflae_bridge.live.server.scheduling import set_time_slice, time_slice
from nflae_bridge.live.server.segments import SegmentRegistry, open_segments
from nflae_bridge.live.server.settings import ServerSettings
from nflae_bridge.live.server.statistics import Statistics
from nflae_bridge.live.server.transport import Transport, open_transport, reread_on_hangup
from nflae_bridge.live.server.transport.envelope import split_envelope
from nflae_bridge.live.signals import stopped_by_signals
from nflae_bridge.live.view import open_view
from nflae_bridge.live.view.sampler import Sampler

# Jobs estimated to take less together, s, are computed by the thread that received them, without a handover.
_INLINE_SECONDS = 5e-3
_BESIDE_SECONDS = 2e-2  # of a job that is computed by that thread beside a much longer computation
_ANSWERS_PER_TURN = 8
_SWITCH_SECONDS = 1e-4  # a thread that computes in Python yields to the other one after this time
_SHORT_SLICE_SECONDS = 1e-4
_LINGER_SECONDS = 5.0
_LAST_BLOCK_SECONDS = 1.0  # for the block in progress when the grace period is over
_READING_SECONDS = 0.25  # for the last answers: ZeroMQ discards what a client has not read when its connection ends
_POLL_SECONDS = 0.1  # interval between checks for a signal while no message arrives


def run_server(settings: ServerSettings, log: EventLog) -> None:
    """Load the models, bind the addresses and serve, as `nflae_bridge.live.server.serve`.

    Parameters
    ----------
    settings : ServerSettings
        Settings.
    log : EventLog
        Log of events.

    Raises
    ------
    NflaeError
        If an address, a key, a model or a device is unusable, and if a second signal ends the server at once.
    """
    choose_device(settings.device)  # refused before an address is bound
    return_freed_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    transport = open_transport(settings, log)
    try:
        device = Device(settings.model, settings.device, settings.effort)
        for name in ("nflae", PREDICTION):
            device.calibrate(name)
        # The objects loaded so far stay: collections while requests wait need not traverse them.
        gc.collect()
        gc.freeze()
        loop = ServerLoop(settings, transport, device, log)
        with stopped_by_signals(loop.stop), reread_on_hangup(transport.guard):
            try:
                with torch.inference_mode():
                    loop.run()
            except KeyboardInterrupt:
                raise NflaeError("ended by a second signal; requests accepted before it may be unanswered") from None
    finally:
        transport.close(_LINGER_SECONDS)


class ServerLoop:
    """Receive requests, queue them for the device's thread, and send the answers.

    All methods but `stop` belong to the thread that calls `run`.

    Parameters
    ----------
    settings : ServerSettings
        Settings.
    transport : Transport
        Sockets of the clients.
    device : Device
        Device with the models.
    log : EventLog
        Log of events.
    """

    def __init__(self, settings: ServerSettings, transport: Transport, device: Device, log: EventLog) -> None:
        self._settings = settings
        self._transport = transport
        self._device = device
        self._log = log
        self._admission = Admission(settings, device)
        self._queue = JobQueue(settings.queue, lambda job: device.costs.estimate(job.key, job.drops))
        self._worker = Worker(settings, device, self._queue, transport.is_connected, transport.wake, log)
        self._unanswered = UnansweredJobs()
        self._completed = AnswerQueue()
        self._cancelled: list[tuple[bytes, str]] = []
        self._usual_slice: float | None = None  # of the thread of the loop, s
        self._has_short_slice = False
        self._postponed: list[Job] = []  # short jobs for the next turn
        self._segments: SegmentRegistry | None = None
        self._sampler: Sampler | None = None  # of the live view
        self.statistics = Statistics()

    def stop(self) -> None:
        """Accept no further requests; safe in a signal handler of the loop's own thread."""
        self._admission.stopping = True

    def run(self) -> None:
        """Serve until stopped, then until every accepted job is answered or the grace period is over."""
        thread = threading.Thread(target=torch.inference_mode()(self._worker.run), name="device", daemon=True)
        thread.start()
        self._usual_slice = time_slice()
        if self._settings.metrics_port is not None:
            from nflae_bridge.live.server.metrics import serve_metrics

            serve_metrics(self._settings.metrics_port, self.statistics, lambda: len(self._queue))
        self._sampler = open_view(self._settings.view, lambda: self._status() | self.statistics.state(), self._log)
        self._segments = open_segments(self._settings, self._log)
        self._transport.open(self)
        for address in self._transport.addresses:
            self._log.info(
                "listening", address=address, model=self._device.model, device=self._device.device, pid=os.getpid()
            )
        for reason in self._device.unusable.values():
            self._log.warning("scheme_unusable", reason=reason)
        while not self._admission.stopping:
            self._turn()
        self._log.info("stopping", unanswered=len(self._unanswered))
        self._finish(thread)
        if self._segments is not None:
            self._segments.close()
        self._log.info("stopped", **self.statistics.counts())

    def _finish(self, thread: threading.Thread) -> None:
        """Answer the accepted jobs, those that the grace period leaves no time for with ``stopping``."""
        end = time.monotonic() + self._settings.grace
        self._worker.end_at(end)
        while self._unanswered and time.monotonic() < end:
            self._turn()
        self._answer_stopped(self._queue.drain())
        end = time.monotonic() + _LAST_BLOCK_SECONDS
        while self._unanswered and time.monotonic() < end:
            self._turn()
        end = time.monotonic() + _READING_SECONDS
        while time.monotonic() < end:  # requests that arrive meanwhile are answered with `stopping`
            self._turn()
        is_idle = not self._unanswered
        self._answer_stopped(self._unanswered.all())
        self._queue.close()
        thread.join(_LAST_BLOCK_SECONDS if is_idle else 0)

    def _answer_stopped(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._answer(Answer(job, WireError("stopping", STOPPED), 0.0))

    def _turn(self) -> None:
        """Wait briefly for messages, accept those that have arrived, and have their jobs computed."""
        self._set_time_slice()
        messages = self._receive()
        self._send_completed()
        jobs, self._postponed = self._postponed, []
        for message in messages:
            envelope, frames = split_envelope(message)
            try:
                accepted = self._accept(envelope, frames)
                self.statistics.requests += len(accepted)
                jobs += accepted
            except WireError as error:
                self.statistics.requests += 1
                self._refuse(envelope, request_id(frames), error)
        for job in self._compute_short(jobs) if jobs else ():
            if self._queue.put(job):
                self._unanswered.add(job)
            else:
                busy = f"{len(self._queue)} requests are waiting; send it again after a pause"
                self._answer(Answer(job, WireError("busy", busy), 0.0))
        self._compute_overdue()
        while self._cancelled:  # after the jobs: a request and its end may arrive in one turn
            self._cancel(*self._cancelled.pop())

    def _receive(self) -> list[list[Frame]]:
        """Wait for messages, with busy polling first where the settings have it and nothing is computed."""
        if self._completed or self._worker.completed or self._postponed:
            return self._transport.receive(0)
        if self._settings.busy_poll and not self._unanswered:
            end = time.perf_counter() + self._settings.busy_poll
            while not self._admission.stopping and time.perf_counter() < end:
                if messages := self._transport.receive(0):
                    return messages
        return self._transport.receive(UNATTENDED_SECONDS if len(self._queue) else _POLL_SECONDS)

    def _set_time_slice(self) -> None:
        """Have messages precede a long computation; this thread is busy itself, and gives way less, with a backlog."""
        is_short = bool(self._unanswered) and not self._unanswered.has_backlog()
        if is_short != self._has_short_slice:
            self._has_short_slice = is_short
            if self._usual_slice is not None:
                set_time_slice(_SHORT_SLICE_SECONDS if is_short else self._usual_slice)

    def _compute_short(self, jobs: list[Job]) -> list[Job]:
        """Compute short jobs at once where they would wait for the device's batch; return the others."""
        costs = self._device.costs
        known = [costs.estimate(job.key, job.drops) if costs.is_known(job.key) else math.inf for job in jobs]
        if not self._unanswered and sum(known) >= _INLINE_SECONDS:
            return jobs  # computed together
        spent, others = 0.0, []
        for job, seconds in zip(jobs, known, strict=True):
            if not self._precedes(job, seconds):
                others.append(job)
            elif spent and spent + seconds >= _INLINE_SECONDS:  # in the next turn, after the messages until then
                self._unanswered.add(job)
                self._postponed.append(job)
            else:
                spent += seconds
                self.statistics.batches += 1
                for answer in self._worker.compute([job], None):
                    self._answer(answer)
        return others

    def _compute_overdue(self) -> None:
        """Compute a short job that waits for a computation which has no interrupts and takes unexpectedly long."""
        costs = self._device.costs

        def is_short(job: Job) -> int:
            is_alone = self._unanswered.count(job.client) <= 1 and not costs.untried(job.key)
            return job.drops if is_alone and costs.estimate(job.key, job.drops) < _BESIDE_SECONDS else 0

        if self._device.computes_beside and self._worker.is_unattended():
            for job in self._queue.take(is_short, block=False):
                for answer in self._worker.compute([job], None):
                    self._answer(answer)

    def _precedes(self, job: Job, seconds: float) -> bool:
        """Return whether a short job is computed before the device's batch has ended."""
        if not self._unanswered and seconds < _INLINE_SECONDS:
            return True
        is_alone = self._unanswered.count(job.client) <= 1 and not self._queue.holds(job.client)
        if not is_alone or not self._device.computes_beside or seconds >= _BESIDE_SECONDS:
            return False
        if self._unanswered.has_backlog():  # it delays the next batches, too
            return True
        if seconds >= _INLINE_SECONDS:
            return self._worker.is_much_longer(seconds)
        return self._worker.seconds_left() > seconds  # else requests of several clients form the next batch

    def _accept(self, envelope: list[Frame], frames: list[Frame]) -> list[Job]:
        """Return the job of a message, none if it is answered already; raise WireError for an invalid one."""
        arrived = time.perf_counter()
        try:
            find = None if self._segments is None else self._segments.find
            request = decode_request(frames, find, self._settings.max_message_bytes)
        except WireError:
            self._admission.reject(bytes(envelope[0]), frames, is_complete=True)
            raise
        if isinstance(request, StatusRequest):
            self._send(envelope, encode_status(request.id, self._status()))
            return []
        if isinstance(request, CancelRequest):
            self._cancelled.append((bytes(envelope[0]), request.id))
            return []
        return [self._admission.accept(envelope, frames, request, arrived)]

    # The gate of the transport

    def admit(self, message: list[Frame], size: int) -> bool:
        """Return whether to receive a large frame; a refusal is answered at once.

        Parameters
        ----------
        message : list of bytes or memoryview
            Identity of the client, and the frames that have arrived.
        size : int
            Size of the next frame, bytes.

        Returns
        -------
        bool
            False for a refusal, which has been answered.
        """
        envelope, frames = split_envelope(message)
        try:
            self._admission.check_announced(bytes(envelope[0]), frames, size)
        except WireError as error:
            self.reject(message, error)
            return False
        return True

    def reject(self, message: list[Frame], error: WireError) -> None:
        """Answer a message that is not received completely with an error.

        Parameters
        ----------
        message : list of bytes or memoryview
            Identity of the client, and the frames that have arrived.
        error : WireError
            Fault.
        """
        envelope, frames = split_envelope(message)
        self._admission.reject(bytes(envelope[0]), frames, is_complete=False)
        self.statistics.requests += 1
        self._refuse(envelope, request_id(frames), error)

    def disconnected(self, identity: bytes) -> None:
        """Return the memory of the request that a client has not sent completely."""
        self._admission.forget(identity)

    def _cancel(self, client: bytes, name: str) -> None:
        """End the work for a request of a client; its answer says so, and there is none without such work."""
        for job in self._unanswered.all():
            if job.request.id == name and job.client == client:
                self._worker.cancelled.add(id(job))

    # Answers

    def _send_completed(self) -> None:
        """Send answers of the device's thread, no more than a new message can wait for."""
        while self._worker.completed:
            self.statistics.batches += 1
            self._completed.extend(self._worker.completed.popleft())
        for _ in range(_ANSWERS_PER_TURN):
            if not self._completed:
                break
            self._answer(self._completed.pop())

    def _answer(self, answer: Answer) -> None:
        job, request = answer.job, answer.job.request
        self._unanswered.discard(job)
        self._worker.cancelled.discard(id(job))
        self._admission.release(job)
        if isinstance(answer.outcome, WireError):
            self._refuse(job.envelope, request.id, answer.outcome)
            return
        began = time.perf_counter()
        info = self._device.info(request) | answer.info | ({"notes": answer.notes} if answer.notes else {})
        timing = answer.timing_us(began)
        self._send(job.envelope, encode_answer(request, answer.outcome, info, timing))
        latency = time.perf_counter() - job.arrived
        self.statistics.count_answer(job.drops, latency)
        if self._sampler is not None and self._sampler.is_open and not isinstance(request, TrackRequest):
            self._sampler.offer(sample_of(request, answer.outcome, info))
        if self._log.is_verbose:
            shape, total_us = request.channels.shape, round(1e6 * latency)
            self._log.debug("answered", id=request.id, shape=shape, scheme=request.scheme, total_us=total_us)

    def _refuse(self, envelope: list[Frame], name: str | None, error: WireError) -> None:
        self.statistics.errors[error.code] += 1
        self._log.warning("refused", code=error.code, id=name, message=error)
        self._send(envelope, encode_error(name, error))

    def _send(self, envelope: list[Frame], frames: list[Frame]) -> None:
        delivery = self._transport.send(envelope, frames)
        if delivery != "sent":
            self.statistics.undelivered += 1
            reason = "has disconnected" if delivery == "disconnected" else "leaves its answers unread"
            self._log.warning("undelivered", reason=f"the client {reason}")

    # Status

    def _status(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "model": self._device.model,
            "device": str(self._device.device),
            "schemes": list(self._device.schemes),
            "uptime_s": round(time.monotonic() - self.statistics.started, 3),
            "stopping": self._admission.stopping,
            "queue_depth": len(self._queue),
            "queue_limit": self._settings.queue,
            "max_batch": self._settings.max_batch,
            "max_message_bytes": self._settings.max_message_bytes,
            **({} if self._segments is None else {"shared_memory": self._segments.status()}),
            "max_seconds": self._settings.max_seconds,
            "tracks": len(self._device.tracks),
            "counts": self.statistics.counts() | {"errors": dict(self.statistics.errors)},
            "latency_us": self.statistics.latency.percentiles_us(),
            "latency_histogram": self.statistics.latency.histogram(),
            "drops_per_second": self.statistics.drops_per_second(),
        }
