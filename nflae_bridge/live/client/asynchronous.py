"""Request precoders from asyncio: many requests at a time over one connection."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt
import zmq
import zmq.asyncio

from matlab_io.result import Result
from nflae_bridge.live.client.connection import (
    DEFAULT_TIMEOUT,
    MAX_LOSSES,
    RETRY_SECONDS,
    ServerAddress,
    address_request,
    close_sockets,
    decode_if_valid,
    make_request,
    raise_error,
    request_ids,
)
from nflae_bridge.live.errors import BridgeError
from nflae_bridge.live.protocol import DEFAULT_ADDRESS, PrecodeRequest, Reply, StatusRequest, result_of
from simulator.downlink.budget import DEFAULT_ALPHA_C, DEFAULT_MIN_RATE, DEFAULT_NOISE_POWER, DEFAULT_POWER


@dataclass
class _OpenRequest:
    """A request without an answer yet."""

    frames: list[Any]
    reply: asyncio.Future[Reply]
    losses: int = 0

    @property
    def size(self) -> int:
        """Size of its frames, bytes."""
        return sum(len(frame) for frame in self.frames)


class AsyncClient:
    """Connect to ``nflae serve`` from asyncio; an asynchronous context manager.

    Parameters
    ----------
    address, timeout, server_key, client_key
        As for `Client`.

    Raises
    ------
    NflaeError
        If the address or a key is unusable.

    Examples
    --------
    >>> async with AsyncClient() as client:  # doctest: +SKIP
    ...     results = await asyncio.gather(*(client.precode(drop) for drop in drops))
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        server_key: Path | None = None,
        client_key: Path | None = None,
    ) -> None:
        self._server = ServerAddress(address, timeout, server_key, client_key)
        self._ids = request_ids()
        self._open: dict[str, _OpenRequest] = {}
        self._socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        self._events = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._tasks: list[asyncio.Task[None]] = []
        try:
            self._server.connect(self._socket)
        except BaseException:
            close_sockets(self._socket, self._events)
            raise

    async def precode(
        self,
        channels: npt.ArrayLike,
        *,
        power: float = DEFAULT_POWER,
        noise_power: float = DEFAULT_NOISE_POWER,
        alpha_c: float = DEFAULT_ALPHA_C,
        min_rate: float = DEFAULT_MIN_RATE,
        near_field: npt.ArrayLike | None = None,
        scheme: str = "nflae",
        refine: int = 0,
        timeout: float | None = None,
    ) -> Result:
        """Compute precoders, powers and near/far labels on the server.

        Parameters
        ----------
        channels, power, noise_power, alpha_c, min_rate, near_field, scheme, refine, timeout
            As for `Client.precode`.

        Returns
        -------
        Result
            Read-only arrays.

        Raises
        ------
        BridgeError
            As for `Client.precode`.
        """
        budget = {"power": power, "noise_power": noise_power, "alpha_c": alpha_c, "min_rate": min_rate}
        return result_of(await self._call(make_request(channels, near_field, budget, scheme, refine), timeout))

    async def status(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the server's status, as `Client.status` does."""
        return (await self._call(StatusRequest(""), timeout)).status

    async def close(self) -> None:
        """Disconnect; open calls are cancelled."""
        for task in self._tasks:
            task.cancel()
        for request in self._open.values():
            request.reply.cancel()
        close_sockets(self._socket, self._events)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, request: PrecodeRequest | StatusRequest, timeout: float | None) -> Reply:
        timeout = self._server.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        if self._socket.closed:
            raise BridgeError("this client is closed")
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._send_again())]
        while True:
            request_id = next(self._ids)
            future = asyncio.get_running_loop().create_future()
            opened = _OpenRequest(address_request(request, request_id, deadline), future)
            self._open[request_id] = opened
            try:
                reply = await asyncio.wait_for(self._exchange(opened), deadline - time.monotonic())
            except TimeoutError:
                raise self._server.no_answer(timeout) from None
            finally:
                del self._open[request_id]
            if reply.error is None or reply.error.code != "stopping":
                raise_error(reply)
                return reply
            if time.monotonic() + RETRY_SECONDS > deadline:
                raise_error(reply)
            await asyncio.sleep(RETRY_SECONDS)

    async def _exchange(self, request: _OpenRequest) -> Reply:
        await self._socket.send_multipart(request.frames)
        return await request.reply

    async def _receive(self) -> None:
        while True:
            reply = decode_if_valid(await self._socket.recv_multipart())
            request = self._open.get(reply.id or "") if reply is not None else None
            if reply is not None and request is not None and not request.reply.done():
                request.reply.set_result(reply)

    async def _send_again(self) -> None:
        while True:
            await self._events.recv_multipart()
            # A frame above the server's limit costs every request its connection: only the largest is given up.
            largest = max((request.size for request in self._open.values()), default=0)
            for request in list(self._open.values()):
                request.losses += 1
                if request.losses < MAX_LOSSES or request.size < largest:
                    await self._socket.send_multipart(request.frames)
                elif not request.reply.done():
                    request.reply.set_exception(self._server.connection_lost())
