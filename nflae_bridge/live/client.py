"""Clients of ``nflae serve``: numpy in, a `Result` out; `Client` for ordinary code, `AsyncClient` for asyncio.

    with Client() as client:
        result = client.precode(channels, noise_power=0.01)

A request is idempotent, so one that a lost server took along is sent again until its deadline; whichever answer comes
first is returned, and answers to anything else are thrown away.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from matlab_io.errors import NflaeError
from matlab_io.result import Result
from nflae_bridge.live.addresses import why_unusable
from nflae_bridge.live.errors import BadRequest, BridgeError, ConnectionLost, NoAnswer, WireError, error_of_code
from nflae_bridge.live.keys import read_key_pair, read_public_key
from nflae_bridge.live.protocol import (
    DEFAULT_ADDRESS,
    PrecodeRequest,
    Reply,
    StatusRequest,
    decode_reply,
    encode_request,
    result_of,
)

__all__ = ["AsyncClient", "Client"]

_LOOK_MS = 50  # how often a waiting client looks whether the connection is still there
_PAUSE_SECONDS = 0.1  # before asking again a server that is about to leave
_LOSSES = 3  # connections one request may cost: a frame above the server's limit costs one every time
_HEARTBEAT_MS = 2_000
_SILENCE_MS = 10_000
_DEADLINE = 30.0


@dataclass(frozen=True)
class _Peer:
    """Where a server is and how to talk to it."""

    address: str
    timeout: float
    server_key: Path | None
    client_key: Path | None

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"timeout must be positive, in seconds, got {self.timeout}")
        if (self.server_key is None) != (self.client_key is None):
            raise NflaeError("server_key (its .key) and client_key (your .key_secret) go together")

    def connect(self, socket: zmq.Socket[Any]) -> None:
        """Set a DEALER up and connect it. Raises NflaeError for an address ZeroMQ doesn't take."""
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.IPV6, "[" in self.address)
        # A server that vanishes without a word (power, network) is noticed by its silence.
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        if self.server_key is not None and self.client_key is not None:
            socket.curve_serverkey = read_public_key(self.server_key)
            socket.curve_publickey, socket.curve_secretkey = read_key_pair(self.client_key)
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            raise NflaeError(f"{self.address}: {why_unusable(error)}") from None

    def nobody(self, timeout: float) -> NoAnswer:
        """What to raise when time is up."""
        return NoAnswer(
            f"{self.address}: no answer within {timeout:g} s; is `nflae serve` running there"
            f"{', and does it know this key' if self.server_key else ''}?"
        )

    def refused(self) -> ConnectionLost:
        """What to raise when sending the request has cost the connection again and again."""
        return ConnectionLost(
            f"{self.address}: the connection was lost {_LOSSES} times on this request; is it larger than the server's"
            f" --max-message-mb, does the server have {'another' if self.server_key else 'a'} key, or does it fail?"
        )


def _request(channels: npt.ArrayLike, near_field: npt.ArrayLike | None, **fields: Any) -> PrecodeRequest:
    """Raises BadRequest for channels of a wrong type or shape."""
    given = np.asarray(channels)
    if not np.iscomplexobj(given) or given.ndim not in (2, 3) or given.size == 0:
        raise BadRequest(f"channels must be complex (drops, users, antennas), got {given.dtype} of {given.shape}")
    drops = given if given.ndim == 3 else given[None]
    labels = None
    if near_field is not None:
        labels = np.asarray(near_field, bool).reshape(drops.shape[:2])
    return PrecodeRequest("", drops.astype(np.complex64, copy=False), near_field=labels, **fields)


def _raise_error(reply: Reply) -> None:
    if reply.error is not None:
        raise error_of_code(reply.error.code, str(reply.error))


class Client:
    """A connection to ``nflae serve``; a context manager, safe to share between threads (requests take turns).

    address: the server's. timeout: seconds a call may take, unless it says otherwise.
    server_key: the server's NAME.key; client_key: your NAME.key_secret; both, or neither.

    Connecting is done in the background: a server that isn't there is told by the first call. Raises NflaeError for
    an address or a key that can't be used.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = _DEADLINE,
        server_key: Path | None = None,
        client_key: Path | None = None,
    ) -> None:
        self._peer = _Peer(address, timeout, server_key, client_key)
        self._mine = threading.Lock()
        self._names = _names()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._events: zmq.Socket[bytes] = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            self._peer.connect(self._socket)
        except BaseException:
            self.close()
            raise

    def precode(
        self,
        channels: npt.ArrayLike,
        *,
        power: float = 1.0,
        noise_power: float = 0.01,
        alpha_c: float = 1.0,
        min_rate: float = 0.0,
        near_field: npt.ArrayLike | None = None,
        scheme: str = "nflae",
        refine: int = 0,
        timeout: float | None = None,
    ) -> Result:
        """Precoders, powers and near/far labels, as `nflae_bridge.precode` gives them; its arrays are read-only.

        channels: complex (drops, users, antennas), or (users, antennas) for one drop; row k is h_k with
            y_k = h_k^H x + n (if your H means y = H x, pass ``H.conj()``).
        power, noise_power: P and sigma^2, W. alpha_c: largest share of P for near-field users. min_rate: bps/Hz.
        near_field: bool (drops, users), labels to go by; None: the scheme finds them.
        scheme: nflae, mrt, zf, rzf, wmmse, sdma, ldma or noma (whose SINRs and rates need receivers with SIC).
        refine: WMMSE steps after the network. timeout: s; None: the client's.

        Raises BridgeError, one subclass an error code; NoAnswer (a TimeoutError too) when time is up.
        """
        request = _request(
            channels,
            near_field,
            power=power,
            noise_power=noise_power,
            alpha_c=alpha_c,
            min_rate=min_rate,
            scheme=scheme,
            refine=refine,
        )
        return result_of(self._ask(request, timeout))

    def status(self, timeout: float | None = None) -> dict[str, Any]:
        """The server's model, device, queue depth, counts, latency percentiles and drops a second."""
        return self._ask(StatusRequest(""), timeout).status

    def close(self) -> None:
        """Disconnect; more calls raise."""
        _close(self._socket, self._events)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: PrecodeRequest | StatusRequest, timeout: float | None) -> Reply:
        timeout = self._peer.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        with self._mine:
            if self._socket.closed:
                raise BridgeError("this client is closed")
            while True:
                name = next(self._names)
                reply = self._exchange(_addressed(request, name, deadline), name, deadline, timeout)
                if reply.error is None or reply.error.code != "stopping":
                    _raise_error(reply)
                    return reply
                if time.monotonic() + _PAUSE_SECONDS > deadline:
                    _raise_error(reply)
                time.sleep(_PAUSE_SECONDS)

    def _exchange(self, frames: list[Any], name: str, deadline: float, timeout: float) -> Reply:
        self._forget_losses()
        self._send(frames, deadline, timeout)
        losses = 0
        while (left := deadline - time.monotonic()) > 0:
            if not self._socket.poll(min(_LOOK_MS, math.ceil(1e3 * left))):
                if self._forget_losses():
                    losses += 1
                    if losses == _LOSSES:
                        raise self._peer.refused()
                    self._send(frames, deadline, timeout)  # waits in the socket until a server is there again
                continue
            reply = _decoded(self._socket.recv_multipart())
            if reply is not None and reply.id == name:
                return reply
        raise self._peer.nobody(timeout)

    def _send(self, frames: list[Any], deadline: float, timeout: float) -> None:
        # A socket whose key was refused has nowhere to put a message, and would wait for ever.
        self._socket.sndtimeo = max(0, math.ceil(1e3 * (deadline - time.monotonic())))
        try:
            self._socket.send_multipart(frames)
        except zmq.Again:
            raise self._peer.nobody(timeout) from None

    def _forget_losses(self) -> bool:
        """Whether the connection was lost since this was last asked."""
        lost = False
        while self._events.poll(0):
            recv_monitor_message(self._events)
            lost = True
        return lost


@dataclass
class _Waiting:
    """A request under way in an AsyncClient."""

    frames: list[Any]
    answer: asyncio.Future[Reply]
    losses: int = 0

    @property
    def size(self) -> int:
        """Bytes of its frames."""
        return sum(len(frame) for frame in self.frames)


class AsyncClient:
    """`Client` for asyncio: any number of calls at a time over one connection.

    async with AsyncClient() as client:
        results = await asyncio.gather(*(client.precode(drop) for drop in drops))
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = _DEADLINE,
        server_key: Path | None = None,
        client_key: Path | None = None,
    ) -> None:
        self._peer = _Peer(address, timeout, server_key, client_key)
        self._names = _names()
        self._waiting: dict[str, _Waiting] = {}
        self._socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        self._events = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._tasks: list[asyncio.Task[None]] = []
        try:
            self._peer.connect(self._socket)
        except BaseException:
            _close(self._socket, self._events)
            raise

    async def precode(
        self,
        channels: npt.ArrayLike,
        *,
        power: float = 1.0,
        noise_power: float = 0.01,
        alpha_c: float = 1.0,
        min_rate: float = 0.0,
        near_field: npt.ArrayLike | None = None,
        scheme: str = "nflae",
        refine: int = 0,
        timeout: float | None = None,
    ) -> Result:
        """As `Client.precode`."""
        request = _request(
            channels,
            near_field,
            power=power,
            noise_power=noise_power,
            alpha_c=alpha_c,
            min_rate=min_rate,
            scheme=scheme,
            refine=refine,
        )
        return result_of(await self._ask(request, timeout))

    async def status(self, timeout: float | None = None) -> dict[str, Any]:
        """As `Client.status`."""
        return (await self._ask(StatusRequest(""), timeout)).status

    async def close(self) -> None:
        """Disconnect; calls under way are cancelled."""
        for task in self._tasks:
            task.cancel()
        for waiting in self._waiting.values():
            waiting.answer.cancel()
        _close(self._socket, self._events)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, request: PrecodeRequest | StatusRequest, timeout: float | None) -> Reply:
        timeout = self._peer.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        if self._socket.closed:
            raise BridgeError("this client is closed")
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._send_again())]
        while True:
            name = next(self._names)
            waiting = _Waiting(_addressed(request, name, deadline), asyncio.get_running_loop().create_future())
            self._waiting[name] = waiting
            try:
                reply = await asyncio.wait_for(self._exchange(waiting), deadline - time.monotonic())
            except TimeoutError:
                raise self._peer.nobody(timeout) from None
            finally:
                del self._waiting[name]
            if reply.error is None or reply.error.code != "stopping":
                _raise_error(reply)
                return reply
            if time.monotonic() + _PAUSE_SECONDS > deadline:
                _raise_error(reply)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _exchange(self, waiting: _Waiting) -> Reply:
        await self._socket.send_multipart(waiting.frames)
        return await waiting.answer

    async def _receive(self) -> None:
        while True:
            reply = _decoded(await self._socket.recv_multipart())
            waiting = self._waiting.get(reply.id or "") if reply is not None else None
            if reply is not None and waiting is not None and not waiting.answer.done():
                waiting.answer.set_result(reply)

    async def _send_again(self) -> None:
        while True:
            await self._events.recv_multipart()
            # A frame above the server's limit costs every request its connection; the largest is the one to give up.
            largest = max((waiting.size for waiting in self._waiting.values()), default=0)
            for waiting in list(self._waiting.values()):
                waiting.losses += 1
                if waiting.losses < _LOSSES or waiting.size < largest:
                    await self._socket.send_multipart(waiting.frames)
                elif not waiting.answer.done():
                    waiting.answer.set_exception(self._peer.refused())


def _decoded(frames: list[bytes]) -> Reply | None:
    """The reply; None for what no server of ours would say, which answers nothing."""
    try:
        return decode_reply(frames)
    except WireError:
        return None


def _close(socket: zmq.Socket[Any], events: zmq.Socket[Any]) -> None:
    if not socket.closed:
        socket.disable_monitor()
        events.close(linger=0)
        socket.close(linger=0)


def _names() -> Iterator[str]:
    """Ids that no other client has."""
    own = uuid.uuid4().hex[:12]
    return (f"{own}-{number}" for number in count())


def _addressed(request: PrecodeRequest | StatusRequest, name: str, deadline: float) -> list[Any]:
    if isinstance(request, StatusRequest):
        return list(encode_request(StatusRequest(name)))
    return list(encode_request(replace(request, id=name, deadline=max(deadline - time.monotonic(), 1e-3))))
