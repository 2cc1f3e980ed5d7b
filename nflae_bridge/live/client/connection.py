"""Exchange requests and replies with a server: its address and keys, its limits, and the memory shared with it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import zmq

from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import check_connectable, explain_failure, is_local, obstacle
from nflae_bridge.live.client.links import Link
from nflae_bridge.live.client.requests import Deadline, address_request, checked_seconds, convert
from nflae_bridge.live.errors import BadRequest, BridgeError, ConnectionLost, NoAnswer, WireError
from nflae_bridge.live.protocol.answers import decode_reply
from nflae_bridge.live.protocol.headers import Frame
from nflae_bridge.live.protocol.keys import read_key_pair, read_public_key
from nflae_bridge.live.protocol.messages import PrecodeRequest, Reply, StatusRequest, TrackRequest
from nflae_bridge.live.shared_memory.placement import place_request
from nflae_bridge.live.shared_memory.pool import Bytes, Lease, SegmentPool

MAX_LOSSES = 3  # connections per request

_HEARTBEAT_MS = 2_000
_HEARTBEAT_TIMEOUT_MS = 10_000
_MAX_UNREAD = 1024
_LONGEST_BUSY_POLL = 1.0  # s, as of `nflae serve`

L_co = TypeVar("L_co", bound=Link, covariant=True)
T = TypeVar("T")


@dataclass(frozen=True)
class ServerAddress:
    """Describe a server and the keys for it.

    Parameters
    ----------
    address : str
        ZeroMQ address.
    timeout : float
        Default time limit of a call, s.
    server_key, client_key : Path or None
        The server's NAME.key and the client's NAME.key_secret; both or neither.
    shared_memory : bool
        Large arrays go through shared memory where the server offers it.
    busy_poll : float
        Time for which a call polls for its answer without sleeping, s.

    Raises
    ------
    BadRequest
        If an argument is of another type, the timeout is not a positive finite number, `busy_poll` is out of range, the
        address is malformed, or only one key is given.
    """

    address: str
    timeout: float
    server_key: Path | None
    client_key: Path | None
    shared_memory: bool = True
    busy_poll: float = 0.0

    def __post_init__(self) -> None:
        convert("shared_memory", "bool", self.shared_memory)
        try:
            check_connectable(convert("address", "str", self.address))
        except NflaeError as error:
            raise BadRequest(str(error)) from None
        object.__setattr__(self, "timeout", checked_seconds(self.timeout))
        if not 0 <= convert("busy_poll", "float", self.busy_poll) <= _LONGEST_BUSY_POLL:
            raise BadRequest(f"busy_poll must be a time from 0 to {_LONGEST_BUSY_POLL:g} s, got {self.busy_poll}")
        for name in ("server_key", "client_key"):
            convert(name, "str | Path | None", getattr(self, name))
        if (self.server_key is None) != (self.client_key is None):
            raise BadRequest("server_key (its .key) and client_key (your .key_secret) must be given together")

    def connect(self, socket: zmq.Socket[Any]) -> None:
        """Set the options of a DEALER socket and connect it; raises BadRequest for an unusable address or key."""
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # no request is queued for a server that is not connected
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, _MAX_UNREAD)
        socket.setsockopt(zmq.IPV6, "[" in self.address)
        # Detects a server that vanished without closing the connection (power, network).
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        if self.server_key is not None and self.client_key is not None:
            try:
                socket.curve_serverkey = read_public_key(self.server_key)
                socket.curve_publickey, socket.curve_secretkey = read_key_pair(self.client_key)
            except NflaeError as error:
                raise BadRequest(str(error)) from None
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            raise BadRequest(f"{self.address}: {explain_failure(error)}") from None

    def offered_memory(self, status: dict[str, Any]) -> SegmentPool | None:
        """Return a pool of segments for a server of this host by its status; None if it offers none, or none is used.

        Parameters
        ----------
        status : dict
            Status of the server.

        Returns
        -------
        SegmentPool or None
        """
        offer = status.get("shared_memory")
        if not isinstance(offer, dict) or not (self.shared_memory and is_local(self.address)):
            return None
        name, largest = offer.get("socket"), offer.get("max_segment_bytes")
        return SegmentPool(name, largest) if isinstance(name, str) and isinstance(largest, int) else None

    def no_answer(self, deadline: Deadline, established: bool, accepted: bool) -> NoAnswer:
        """Make the error of a request whose deadline passed.

        Parameters
        ----------
        deadline : Deadline
            Deadline.
        established : bool
            A server was connected.
        accepted : bool
            A program has accepted the connection, as in `Connection`.

        Returns
        -------
        NoAnswer
            Exception to raise.
        """
        keys = " with this client's key in its --client-keys" if self.server_key else ""
        found = "a program accepted the connection, and completed no handshake" if accepted else obstacle(self.address)
        reason = (
            "it is connected: is it `nflae serve`, and does the request need more time? raise timeout"
            if established
            else f"is `nflae serve` running there{keys}? {found or 'nothing accepted the connection'}"
        )
        return NoAnswer(f"{self.address}: no answer within {deadline.limit:g} s; {reason}")

    def connection_lost(self) -> ConnectionLost:
        """Make the error of a request that has cost `MAX_LOSSES` connections."""
        remedy = "another key, or none (then leave out server_key and client_key)"
        keys = remedy if self.server_key else "keys (then give server_key and client_key)"
        return ConnectionLost(
            f"{self.address}: the connection was lost {MAX_LOSSES} times on this request; is it `nflae serve`, has it"
            f" {keys}, or does it fail? its log has more"
        )

    def refusal(self, reason: str) -> ConnectionLost:
        """Make the error of a connection that the server refuses, which is not tried again."""
        return ConnectionLost(f"{self.address}: {reason}")


class Connection(Generic[L_co]):
    """Exchange requests and replies with a server; no method blocks but `wait` and `receive`.

    Parameters
    ----------
    server : ServerAddress
        Server to connect to.
    link : Link
        Its link, which belongs to this object from now on.

    Attributes
    ----------
    link : Link
        The link.
    refused : bool
        The server refuses this client, or is none; a new attempt requires `reset`.
    is_settled : bool
        No exchange is under way, and the last one has not been ended by an exception of a signal handler.
    frame_limit : float or None
        Largest frame that the server accepts, bytes; None until it is known, and after a loss.
    """

    def __init__(self, server: ServerAddress, link: L_co) -> None:
        self._server = server
        self.link = link
        self._leases: dict[str, Lease] = {}  # of the requests that the server may still work on
        self._pool: SegmentPool | None = None
        self._polls_until = 0.0  # on the clock of `time.perf_counter`; 0: replies are waited for without polling
        self.refused = False
        self.is_settled = True
        self.frame_limit: float | None = None

    def begin(self) -> None:
        """Begin an exchange, whose end sets `is_settled`; a connection that is not usable is replaced."""
        was_settled, self.is_settled = self.is_settled, False
        if was_settled:
            self.loss()  # between two exchanges
        if self.refused or not was_settled:
            self.reset()

    def close(self) -> None:
        """Disconnect at once; everything unsent is discarded."""
        self._forget_server()
        self.link.close()

    def reset(self) -> None:
        """Replace the connection by a new one: unsent requests are discarded, the server ends its work on sent ones."""
        self._forget_server()
        self.refused = False
        self.link.reset()

    def no_answer(self, deadline: Deadline) -> NoAnswer:
        """Make the error of a request whose deadline has passed."""
        return self._server.no_answer(deadline, self.link.established, self.link.accepted)

    def use_status(self, status: dict[str, Any]) -> None:
        """Take the limit of a frame, and the offer of shared memory, from the status of the server."""
        self._forget_server()
        self.frame_limit = _frame_limit(status)
        self._pool = self._server.offered_memory(status)

    def send_request(self, request: PrecodeRequest | StatusRequest, request_id: str, deadline: Deadline) -> bool:
        """Send a request, its channels in shared memory where that is offered.

        Parameters
        ----------
        request, request_id, deadline
            As for `address_request`.

        Returns
        -------
        bool
            False if no server is connected.
        """
        lease, reference = None, None
        if self._pool is not None and isinstance(request, PrecodeRequest) and not isinstance(request, TrackRequest):
            lease, reference = place_request(self._pool, request)
        if not self.link.send(address_request(request, request_id, deadline, reference)):
            return False
        if self._server.busy_poll:
            self._polls_until = time.perf_counter() + self._server.busy_poll
        if lease is not None:
            self._leases[request_id] = lease
        return True

    def receive(self, seconds: float = 0.0) -> Reply | None:
        """Return the next reply, None if there is none, or in place of a message outside the protocol.

        Parameters
        ----------
        seconds : float
            Longest wait for a message, s.

        Returns
        -------
        Reply or None
        """
        frames = self._polled(seconds) if self._polls_until and seconds > 0 else self.link.receive(seconds)
        if frames is None:
            return None
        try:
            return self._released(decode_reply(frames, self._memory_of))
        except WireError:
            return None

    def _polled(self, seconds: float) -> list[Frame] | None:
        """Return the next message; without sleeping as long as the time of polling lasts."""
        end = time.perf_counter() + seconds
        while (now := time.perf_counter()) < min(end, self._polls_until):
            frames = self.link.receive(0.0)
            if frames is not None:
                return frames
        if now < self._polls_until:
            return None
        self._polls_until = 0.0
        return self.link.receive(max(0.0, end - now))

    def _memory_of(self, request_id: str | None) -> Bytes:
        """Return the segment of an outstanding request."""
        lease = self._leases.get(request_id or "")
        if lease is None:
            raise ValueError("the request has no segment")
        return lease.view

    def _released(self, reply: Reply) -> Reply:
        """Return a reply whose arrays alone keep its segment, or are copied where segments are scarce."""
        if reply.error is not None and reply.error.code == "no_segment":
            self._drop_memory()
        lease = self._leases.pop(reply.id or "", None)
        if lease is None or self._pool is None or not self._pool.is_scarce():
            return reply
        copied = {name: array.copy() for name, array in reply.arrays.items()}
        for array in copied.values():
            array.flags.writeable = False
        return replace(reply, arrays=copied)

    def _forget_server(self) -> None:
        """Forget what the server has stated."""
        self.frame_limit = None
        self._drop_memory()

    def _drop_memory(self) -> None:
        self._leases.clear()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def loss(self) -> str | None:
        """Return the loss of the connection since the last call.

        Returns
        -------
        str or None
            None for no loss, the empty string for a connection that is made again, else the reason for which the
            server refuses this client; there is no further attempt, so the next call must reset the connection.
        """
        found = self.link.loss()
        if found is not None:
            self._forget_server()
        if found:
            self.give_up()
        return found

    def give_up(self) -> None:
        """Connect no more until `reset`."""
        self.refused = True
        self.link.give_up()
        self.is_settled = True


class Turns:
    """Let one thread at a time use a connection; no exception of a signal handler leaves the turn taken."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    @property
    def is_mine(self) -> bool:
        """The turn is that of this thread."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def run(self, work: Callable[[], T], seconds: float) -> T | None:
        """Work once the turn has come.

        Parameters
        ----------
        work : callable
            The work.
        seconds : float
            Longest wait for the turn, s.

        Returns
        -------
        object or None
            What the work returns; None if the turn has not come.

        Raises
        ------
        BridgeError
            If this thread has the turn: a signal handler makes a call within a call.
        """
        if self.is_mine:
            raise BridgeError("a signal handler has interrupted a call of this client: use another Client there")
        try:
            try:
                return work() if self._lock.acquire(timeout=max(0.0, seconds)) else None
            finally:
                self._end()
        finally:
            self._end()  # where a handler has raised in the line above

    def _end(self) -> None:
        if self.is_mine:
            self._lock.release()


def refuse_pickling(client: object) -> NoReturn:
    """Raise the TypeError of a client that another process is to be given.

    Parameters
    ----------
    client : object
        Client.
    """
    name = type(client).__name__
    raise TypeError(f"{name} holds a connection and cannot be pickled: make a new {name} in each process")


def _frame_limit(status: dict[str, Any]) -> float:
    """Return the size of the largest frame that a server accepts, bytes; infinite where its status has none."""
    limit = status.get("max_message_bytes")
    return float(limit) if isinstance(limit, int) and limit > 0 else math.inf
