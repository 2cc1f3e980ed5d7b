"""Record the requests to a server as they pass, and send recorded ones to a server."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import bind, explain_failure
from nflae_bridge.live.client.connection import ServerAddress
from nflae_bridge.live.client.links import Link, ZeroMQLink, blocking_link
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.headers import request_id
from nflae_bridge.live.recordings.source import RecordedMessages
from nflae_bridge.live.recordings.streams import Limits
from nflae_bridge.live.recordings.writer import RecordingWriter, check_creatable
from nflae_bridge.live.signals import stopped_by_signals

_POLL_MS = 50
_MAX_CLIENTS = 256  # connections to the server that are kept
_ANSWER_SECONDS = 30.0  # for the answer to a request; without one it is not recorded
_FINISH_SECONDS = 5.0  # for the answers to requests passed on before the end
_READING_SECONDS = 0.25  # for the last answers: ZeroMQ discards what a client has not read when its connection ends


def record_requests(path: Path, address: str, server: ServerAddress, limits: Limits, log: EventLog) -> int:
    """Pass requests to a server and its answers back, and record the accepted ones, until a limit or a signal.

    Parameters
    ----------
    path : pathlib.Path
        File of the samples.
    address : str
        Address for the clients.
    server : ServerAddress
        Server.
    limits : Limits
        Limits of the recording.
    log : EventLog
        Log.

    Returns
    -------
    int
        Items (drops) recorded.

    Raises
    ------
    NflaeError
        If an address or the file is unusable, the server refuses the keys, or no request came.
    """
    check_creatable(path)
    stopped: list[bool] = []
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.linger = 0
    passing = _Passing(context, server, path, limits.items, log)
    watch = ZeroMQLink(server)  # a connection of its own, which tells whether the server accepts this program
    try:
        with stopped_by_signals(lambda: stopped.append(True)):
            try:
                bind(passing.clients, address)
            except zmq.ZMQError as error:
                raise NflaeError(f"{address}: {explain_failure(error)}") from None
            bound = passing.clients.getsockopt_string(zmq.LAST_ENDPOINT)
            log.info("recording", address=bound, server=server.address, file=path)
            end = time.monotonic() + limits.seconds
            while not (stopped or passing.is_full) and time.monotonic() < end:
                passing.step()
                if refusal := watch.loss():
                    raise server.refusal(refusal)
            passing.finish()
    finally:
        passing.close()
        watch.close()
        context.destroy(linger=1000)
    if not passing.items:
        reason = "".join(f"; {text}" for text, _ in passing.left_out.most_common(1))
        raise NflaeError(f"{path}: nothing recorded: no request to {bound} could be recorded{reason}")
    log.info("stopped", items=passing.items, requests=passing.requests, not_recorded=passing.left_out.total())
    return passing.items


@dataclass
class _Waiting:
    """A request that is recorded once the server has answered it; the id in its key is that of the answer."""

    key: tuple[bytes, str | None]
    header: str
    channels: npt.NDArray[np.complex64]
    size: tuple[int, int, str]
    refusal: str | None = None  # empty for an accepted one
    arrived: float = field(default_factory=time.monotonic)


@dataclass
class _Connection:
    """A client's connection to the server."""

    socket: zmq.Socket[bytes]
    unanswered: int = 0
    used: float = 0.0  # time of the last message, s

    @property
    def rank(self) -> tuple[bool, float]:
        """Order in which connections are closed."""
        return self.unanswered > 0, self.used


class _Passing:
    """Hold the sockets of clients and server, one connection to the server per client."""

    def __init__(
        self, context: zmq.Context[Any], server: ServerAddress, path: Path, limit: float, log: EventLog
    ) -> None:
        self._context, self._server, self._path, self._limit, self._log = context, server, path, limit, log
        self.clients = context.socket(zmq.ROUTER)
        self._connections: dict[bytes, _Connection] = {}
        self._writer: RecordingWriter | None = None
        self._size: tuple[int, int, str] | None = None
        self._waiting: list[_Waiting] = []  # in the order of arrival
        self._has_no_room = False
        self.requests = 0
        self.left_out: Counter[str] = Counter()

    @property
    def items(self) -> int:
        """Items recorded."""
        return 0 if self._writer is None else self._writer.items

    @property
    def is_full(self) -> bool:
        """True when the limit of items is reached, or would be passed by a request that the server has accepted."""
        return self._has_no_room or self.items >= self._limit

    def step(self) -> None:
        """Pass what has arrived."""
        poller = zmq.Poller()
        for socket in (self.clients, *(each.socket for each in self._connections.values())):
            poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(_POLL_MS))
        if self.clients in ready:
            client, *frames = self.clients.recv_multipart()
            connection = self._connection_of(client)
            connection.used = time.monotonic()
            connection.unanswered += self._consider(client, _without_delimiter(frames))
            connection.socket.send_multipart(frames)
        self._pass_answers()
        self._record()
        if self._writer is not None:
            self._writer.tick()

    def finish(self) -> None:
        """Pass the answers to the requests so far; their clients wait for them."""
        end = time.monotonic() + _FINISH_SECONDS
        while any(each.unanswered > 0 for each in self._connections.values()) and time.monotonic() < end:
            self._pass_answers()
            time.sleep(1e-3)
        self._record(at_end=True)
        time.sleep(_READING_SECONDS)

    def _pass_answers(self) -> None:
        for client, connection in self._connections.items():
            if connection.socket.poll(0):
                frames = _without_shared_memory(connection.socket.recv_multipart())
                self.clients.send_multipart([client, *frames])
                connection.unanswered -= 1
                connection.used = time.monotonic()
                self._settle(client, _without_delimiter(frames))

    def close(self) -> None:
        """Complete the recording."""
        if self._writer is not None:
            self._writer.close()

    def _connection_of(self, client: bytes) -> _Connection:
        if client not in self._connections:
            if len(self._connections) == _MAX_CLIENTS:
                self._close_idle()
            made = self._connections[client] = _Connection(self._context.socket(zmq.DEALER))
            self._server.connect(made.socket)
            made.socket.setsockopt(zmq.IMMEDIATE, 0)
        return self._connections[client]

    def _close_idle(self) -> None:
        """Close the connection that is idle for the longest time, one without an open request where there is any."""
        found = min(self._connections, key=lambda client: self._connections[client].rank)
        closed = self._connections.pop(found)
        closed.socket.close()
        self._log.warning(
            "connection_closed",
            idle_s=round(time.monotonic() - closed.used, 1),
            unanswered=max(0, closed.unanswered),
            message=f"more than {_MAX_CLIENTS} clients: the one idle for the longest time connects anew if it returns",
        )

    def _consider(self, client: bytes, frames: list[bytes]) -> bool:
        """Keep a request that can be recorded until its answer; return whether an answer is due."""
        header = _header_of(frames)
        self._keep(client, frames, header)
        return header.get("op") != "cancel"

    def _keep(self, client: bytes, frames: list[bytes], header: dict[str, Any]) -> None:
        operation, shape = header.get("op"), header.get("shape")
        if not isinstance(shape, list) or not 2 <= len(shape) <= 3 or not all(type(size) is int for size in shape):
            return  # a status, or nothing that the server will compute
        antennas, users, drops = (*shape, 1)[:3]
        self.requests += 1
        if operation != "precode" or len(frames) != 2 or header.get("dtype", "complex64") != "complex64":
            self._leave_out("only requests to precode are recorded, of complex64 channels in the message and no more")
        elif len(frames[1]) != 8 * antennas * users * drops:
            self._leave_out("its channels are not of the size that it states")
        else:
            channels = np.frombuffer(frames[1], "<c8").reshape(drops, users, antennas)
            size = users, antennas, header.get("convention", "hermitian")
            self._waiting.append(_Waiting((client, request_id(frames)), frames[0].decode(), channels, size))

    def _settle(self, client: bytes, frames: list[bytes]) -> None:
        """Note the answer to a request that waits for it."""
        answer = _header_of(frames)
        key = client, answer.get("id")
        refusal = "" if answer.get("ok") else f"the server has refused it: {answer.get('error', {}).get('message')}"
        for waiting in self._waiting:
            if waiting.key == key and waiting.refusal is None:
                waiting.refusal = refusal
                return

    def _record(self, at_end: bool = False) -> None:
        """Record the requests that are accepted, in the order of their arrival."""
        while self._waiting:
            waiting, now = self._waiting[0], time.monotonic()
            drops = len(waiting.channels)
            if waiting.refusal is None and not (at_end or now - waiting.arrived > _ANSWER_SECONDS):
                return
            self._waiting.pop(0)
            if waiting.refusal is None:
                self._leave_out("the server has not answered it")
            elif waiting.refusal:
                self._leave_out(waiting.refusal)
            elif self._size not in (None, waiting.size):
                self._leave_out(f"the size differs from that of the first request, {self._size}")
            elif self._has_no_room or self.items + drops > self._limit:
                self._has_no_room = True
                self._leave_out(f"--items {self._limit} leaves no room for its {drops} drop{'s' * (drops > 1)}")
            else:
                self._write(waiting, now - waiting.arrived)

    def _write(self, request: _Waiting, age: float) -> None:
        if self._writer is None:
            source = f"Requests to the server {self._server.address}"
            self._writer, self._size = RecordingWriter(self._path, *request.size, source), request.size
        self._writer.write(request.channels, request=request.header, age=age)

    def _leave_out(self, reason: str) -> None:
        self.left_out[reason] += 1
        self._log.warning("not_recorded", message=reason)


def _header_of(frames: list[bytes]) -> dict[str, Any]:
    """Return the header of a message; empty for one outside the protocol."""
    try:
        header = json.loads(frames[0].decode())
    except (ValueError, IndexError):
        return {}
    return header if isinstance(header, dict) else {}


def _without_delimiter(frames: list[bytes]) -> list[bytes]:
    """Return the frames of a message without the empty one that a REQ socket puts before them."""
    return frames[1:] if frames and not frames[0] else frames


def _without_shared_memory(frames: list[bytes]) -> list[bytes]:
    """Remove the offer of shared memory from a status: channels in it would not pass."""
    if len(frames) > 2 or b'"shared_memory"' not in frames[-1]:
        return frames
    answer = json.loads(frames[-1])
    answer.get("status", {}).pop("shared_memory", None)
    return [*frames[:-1], json.dumps(answer).encode()]


def replay_requests(
    recorded: RecordedMessages, server: ServerAddress, keep_timing: bool, options: dict[str, object], log: EventLog
) -> tuple[int, int]:
    """Send the messages of a recording to a server as requests, each after the answer to the one before.

    A recorded request is sent as it was, byte by byte; a message of a stream becomes a request to precode.

    Parameters
    ----------
    recorded : RecordedMessages
        Messages.
    server : ServerAddress
        Server.
    keep_timing : bool
        Keep the time between requests, where the answers permit.
    options : dict
        Fields of the header for messages of streams: ``scheme``, ``power``, ``noise_power``.
    log : EventLog
        Log.

    Returns
    -------
    sent, refused : int
        Numbers of requests answered, and of those among them answered by an error.

    Raises
    ------
    NflaeError
        If the server does not answer, or refuses the keys.
    """
    stopped: list[bool] = []
    milliseconds, errors, late = [], Counter[str](), 0.0
    link = blocking_link(server)
    try:
        with stopped_by_signals(lambda: stopped.append(True)):
            for message, channels in recorded.scheduled(keep_timing, lambda: bool(stopped)):
                header = message.request or _header(recorded, message.first, message.items, options)
                frames = [header.encode(), np.ascontiguousarray(channels, "<c8").tobytes()]
                began = time.monotonic()
                answer = _answer(link, frames, server, lambda: bool(stopped), log)
                if answer is None:
                    break
                milliseconds.append(1e3 * (time.monotonic() - began))
                late = max(late, recorded.lateness)
                if not answer.get("ok"):
                    errors[str(answer.get("error", {}).get("message"))] += 1
    finally:
        link.close()
    for text, count in errors.most_common(3):
        log.warning("refused", requests=count, message=text)
    middle, high = np.percentile(milliseconds or [0.0], [50, 99]).round(2)
    fields = {"p50_ms": middle, "p99_ms": high, "late_ms": round(1e3 * late, 1)}
    log.info("stopped", requests=len(milliseconds), of=len(recorded.messages), refused=errors.total(), **fields)
    return len(milliseconds), errors.total()


def _header(recorded: RecordedMessages, first: int, items: int, options: dict[str, object]) -> str:
    """Return the header of a request to precode the channels of a stream's message."""
    shape = [recorded.antennas, recorded.users, items]
    header = {"v": 1, "id": str(first), "op": "precode", "shape": shape, "dtype": "complex64"}
    return json.dumps(header | {"convention": recorded.convention, **options})


def _answer(
    link: Link, frames: list[bytes], server: ServerAddress, stopping: Callable[[], bool], log: EventLog
) -> dict[str, Any] | None:
    """Send a request; return the header of its answer, or None after a signal."""
    began, is_sent, is_told = time.monotonic(), False, False
    while (passed := time.monotonic() - began) < server.timeout:
        if stopping():
            return None
        loss = link.loss()
        if loss:
            raise server.refusal(loss)
        if is_sent and loss is not None:
            raise NflaeError(f"{server.address}: the connection was lost before an answer; is `nflae serve` there?")
        is_sent = is_sent or (link.can_send() and link.send(frames))
        if not (is_sent or is_told) and passed > min(1.0, server.timeout / 2):
            is_told = True
            remedy = f"no server is connected; start `nflae serve` there within {server.timeout:g} s"
            log.info("waiting", server=server.address, message=remedy)
        if not is_sent:
            link.wait(1e-3 * _POLL_MS)
        elif (reply := link.receive(1e-3 * _POLL_MS)) is not None:
            answer: dict[str, Any] = json.loads(bytes(reply[0]))
            return answer
    raise NflaeError(f"{server.address}: no answer within {server.timeout:g} s; is `nflae serve` there?")
