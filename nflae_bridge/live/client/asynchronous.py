"""Request precoders from asyncio: many requests at a time over one connection.

Requests beyond the outstanding ones wait in the client, in the order of the calls.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import numpy.typing as npt
import zmq

from matlab_io.result import Result
from nflae_bridge.api.predict import PredictedChannels
from nflae_bridge.live.client.connection import MAX_LOSSES, Connection, ServerAddress
from nflae_bridge.live.client.history import History
from nflae_bridge.live.client.prediction import make_prediction, prediction_of, then_precode
from nflae_bridge.live.client.requests import (
    DEFAULT_TIMEOUT,
    Deadline,
    SchemeChoice,
    check_frame_limit,
    is_final,
    make_request,
    needs_frame_limit,
    pauses,
    payload_bytes,
    request_ids,
)
from nflae_bridge.live.client.results import result_of_reply, with_wanted
from nflae_bridge.live.client.tracking import AsyncTrackCalls
from nflae_bridge.live.errors import BridgeError
from nflae_bridge.live.protocol.frames import DEFAULT_ADDRESS, encode_request
from nflae_bridge.live.protocol.headers import Effort
from nflae_bridge.live.protocol.messages import CancelRequest, PrecodeRequest, Reply, StatusRequest
from simulator.downlink.budget import DEFAULT_ALPHA_C, DEFAULT_MIN_RATE, DEFAULT_POWER
from simulator.problems.options import ProblemOptions, check_option_names

# Outstanding requests: two of the server's micro-batches, and few enough not to fill its queue.
_MAX_OUTSTANDING = 128
_MAX_OUTSTANDING_BYTES = 32 << 20


@dataclass(eq=False)
class _OpenRequest:
    """A request without an answer yet; its reply is done before that if the call has ended otherwise."""

    request: PrecodeRequest | StatusRequest
    deadline: Deadline
    reply: asyncio.Future[Reply]
    losses: int = 0

    @property
    def size(self) -> int:
        """Size of its channels, bytes."""
        return payload_bytes(self.request)


class AsyncClient(AsyncTrackCalls):
    """Connect to ``nflae serve`` from asyncio; an asynchronous context manager.

    Parameters
    ----------
    address, timeout, server_key, client_key, shared_memory
        As for `Client`; a time limit includes the wait for other calls of this client.

    Raises
    ------
    NflaeError
        If the address or a key is unusable.

    Notes
    -----
    The connection belongs to the event loop of the first call. After the end of that loop (a second ``asyncio.run``)
    and in a child of ``fork`` the client connects anew; a call from another loop before that raises BridgeError.

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
        shared_memory: bool = True,
    ) -> None:
        self._server = ServerAddress(address, timeout, server_key, client_key, shared_memory)
        self._ids = request_ids()
        self._waiting: dict[str, _OpenRequest] = {}
        self._sent: dict[str, _OpenRequest] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._closed = False
        self._connection = Connection(self._server)

    async def precode(
        self,
        channels: npt.ArrayLike,
        *,
        layout: str | None = None,
        convention: str | None = None,
        receive_antennas: str | None = None,
        power: float | None = None,
        noise_power: float | None = None,
        alpha_c: float = DEFAULT_ALPHA_C,
        min_rate: float = DEFAULT_MIN_RATE,
        near_field: npt.ArrayLike | str | None = None,
        scheme: str = "nflae",
        refine: int = 0,
        effort: Effort | None = None,
        want: Iterable[str] | None = None,
        timeout: float | None = None,
        **options: Unpack[ProblemOptions],
    ) -> Result:
        """Compute precoders, powers and near/far labels on the server.

        Parameters
        ----------
        channels, layout, convention, receive_antennas, power, noise_power, alpha_c, min_rate, near_field, scheme, \
        refine, effort, want, timeout, **options
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
        check_option_names(options)
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        budget = {"power": power, "noise_power": noise_power, "alpha_c": alpha_c, "min_rate": min_rate}
        reading = (layout, convention, receive_antennas)
        choice = SchemeChoice(scheme, refine, effort)
        request, combiner = make_request(channels, near_field, budget, choice, *reading, options)
        request = with_wanted(request, want, combiner is not None)
        return result_of_reply(await self._call(request, deadline), request, combiner)

    async def predict(
        self,
        history: npt.ArrayLike | History,
        times: npt.ArrayLike | None = None,
        ahead: int = 4,
        *,
        method: str = "auto",
        geometry: str = "none",
        csi_snr_db: float | None = None,
        layout: str | None = None,
        convention: str | None = None,
        receive_antennas: str | None = None,
        force: bool = False,
        timeout: float | None = None,
    ) -> PredictedChannels:
        """Predict the channels after a history on the server.

        Parameters
        ----------
        history, times, ahead, method, geometry, csi_snr_db, layout, convention, receive_antennas, force, timeout
            As for `Client.predict`.

        Returns
        -------
        PredictedChannels
            Read-only arrays.

        Raises
        ------
        BridgeError
            As for `Client.predict`.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        options = {"method": method, "geometry": geometry, "csi_snr_db": csi_snr_db, "force": force}
        request = make_prediction(history, times, ahead, options, (layout, convention, receive_antennas))
        return prediction_of(await self._call(request, deadline))

    async def predict_and_precode(
        self,
        history: npt.ArrayLike | History,
        times: npt.ArrayLike | None = None,
        ahead: int = 4,
        *,
        method: str = "auto",
        geometry: str = "none",
        csi_snr_db: float | None = None,
        layout: str | None = None,
        convention: str | None = None,
        receive_antennas: str | None = None,
        force: bool = False,
        power: float = DEFAULT_POWER,
        noise_power: float | None = None,
        alpha_c: float = DEFAULT_ALPHA_C,
        min_rate: float = DEFAULT_MIN_RATE,
        near_field: npt.ArrayLike | str | None = None,
        scheme: str = "nflae",
        refine: int = 0,
        effort: Effort | None = None,
        timeout: float | None = None,
    ) -> tuple[PredictedChannels, Result]:
        """Predict the channels after a history on the server, and compute precoders for them, in one request.

        Parameters
        ----------
        history, times, ahead, method, geometry, csi_snr_db, layout, convention, receive_antennas, force, power, \
        noise_power, alpha_c, min_rate, near_field, scheme, refine, effort, timeout
            As for `Client.predict_and_precode`.

        Returns
        -------
        prediction : PredictedChannels
            Predicted channels.
        result : Result
            Result for each of them.

        Raises
        ------
        BridgeError
            As for `Client.predict`.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        options = {"method": method, "geometry": geometry, "csi_snr_db": csi_snr_db, "force": force}
        request = make_prediction(history, times, ahead, options, (layout, convention, receive_antennas))
        budget = {"power": power, "noise_power": noise_power, "alpha_c": alpha_c, "min_rate": min_rate}
        request = then_precode(request, near_field, budget, SchemeChoice(scheme, refine, effort))
        reply = await self._call(request, deadline)
        return prediction_of(reply), result_of_reply(reply, request)

    async def status(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the server's status, as `Client.status` does."""
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        return (await self._call(StatusRequest(""), deadline)).status

    async def close(self) -> None:
        """Disconnect; calls in progress raise BridgeError."""
        if self._closed:
            return
        self._attach()
        self._closed = True
        self._fail(BridgeError("this client was closed during the call"))
        self._watch(False)
        self._connection.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, request: PrecodeRequest | StatusRequest, deadline: Deadline) -> Reply:
        for pause in pauses():
            if needs_frame_limit(request):
                self._attach()
                if self._connection.frame_limit is None:
                    status = (await self._exchange(StatusRequest(""), deadline)).status
                    if self._connection.frame_limit is None:  # no other call was first
                        self._connection.use_status(status)
                assert self._connection.frame_limit is not None
                check_frame_limit(request, self._connection.frame_limit)
            reply = await self._exchange(request, deadline)
            if is_final(reply, deadline, pause):
                break
            await asyncio.sleep(pause)
        return reply

    async def _exchange(self, request: PrecodeRequest | StatusRequest, deadline: Deadline) -> Reply:
        self._attach()
        if self._connection.refused:
            self._reset()
        request_id = next(self._ids)
        opened = _OpenRequest(request, deadline, asyncio.get_running_loop().create_future())
        self._waiting[request_id] = opened
        try:
            async with asyncio.timeout(deadline.left):
                self._process_socket()
                return await opened.reply
        except TimeoutError:
            raise self._server.no_answer(deadline, self._connection.established) from None
        finally:
            opened.reply.cancel()
            self._waiting.pop(request_id, None)
            if request_id in self._sent:
                if all(other.reply.done() for other in self._sent.values()):
                    self._reset()  # the end of the connection, which no other call needs, stops the server's work, too
                elif isinstance(request, PrecodeRequest) and not self._closed:
                    self._connection.send(encode_request(CancelRequest(request_id)))

    def _attach(self) -> None:
        """Connect within the running loop, unless it is done; raise BridgeError if another loop has the connection."""
        if self._closed:
            raise BridgeError("this client is closed")
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._process == os.getpid():
            return
        if self._process != os.getpid():  # a child of fork: the connection is its parent's
            self._connection = Connection(self._server)
        elif self._loop is not None and not self._loop.is_closed():
            raise BridgeError("this client is in use in another event loop: make an AsyncClient in each loop")
        elif self._loop is not None:
            self._connection.reset()
        self._waiting, self._sent = {}, {}  # the calls of a closed loop have ended with it
        self._loop, self._process = loop, os.getpid()
        self._watch(True)

    def _watch(self, begin: bool) -> None:
        assert self._loop is not None
        for descriptor in self._connection.descriptors:
            if begin:
                self._loop.add_reader(descriptor, self._process_socket)
            else:
                self._loop.remove_reader(descriptor)

    def _reset(self) -> None:
        """Replace the connection; requests still open are sent again."""
        if self._closed:
            return
        self._watch(False)
        self._connection.reset()
        self._watch(True)
        self._requeue()

    def _fail(self, error: BridgeError) -> None:
        for opened in (*self._sent.values(), *self._waiting.values()):
            if not opened.reply.done():
                opened.reply.set_exception(error)

    # Socket and monitor

    def _process_socket(self) -> None:
        """Process what has happened on the socket, then send what it can take; called when anything has changed."""
        if self._closed:
            return
        loss = self._connection.loss()
        if loss:
            self._fail(self._server.refusal(loss))
            return
        if loss is not None:
            self._count_loss()
            self._requeue()
        while (reply := self._connection.receive()) is not None:
            opened = self._sent.pop(reply.id or "", None)
            if opened is not None and not opened.reply.done():
                opened.reply.set_result(reply)
        self._send_waiting()
        # ZeroMQ's descriptors report changes, and any use of the socket may have consumed one.
        if self._connection.is_ready(zmq.POLLIN):
            assert self._loop is not None
            self._loop.call_soon(self._process_socket)

    def _count_loss(self) -> None:
        # A frame that the server does not accept costs every request its connection: only the largest is given up.
        largest = max((opened.size for opened in self._sent.values()), default=0)
        for opened in self._sent.values():
            opened.losses += 1
            if opened.losses >= MAX_LOSSES and opened.size == largest and not opened.reply.done():
                opened.reply.set_exception(self._server.connection_lost())

    def _requeue(self) -> None:
        self._waiting = self._sent | self._waiting
        self._sent = {}
        self._waiting = {name: opened for name, opened in self._waiting.items() if not opened.reply.done()}

    def _send_waiting(self) -> None:
        outstanding = sum(opened.size for opened in self._sent.values())
        while self._waiting and len(self._sent) < _MAX_OUTSTANDING and self._connection.is_ready(zmq.POLLOUT):
            request_id, opened = next(iter(self._waiting.items()))
            if self._sent and outstanding + opened.size > _MAX_OUTSTANDING_BYTES:
                return
            if not opened.reply.done():
                if not self._connection.send_request(opened.request, request_id, opened.deadline):
                    return
                self._sent[request_id] = opened
                outstanding += opened.size
            del self._waiting[request_id]
