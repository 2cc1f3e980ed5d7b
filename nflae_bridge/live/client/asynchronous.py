"""Request precoders from asyncio: many requests at a time over one connection.

Requests beyond the outstanding ones wait in the client, in the order of the calls.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import numpy.typing as npt

from matlab_io.result import Result
from nflae_bridge.api.predict import PredictedChannels
from nflae_bridge.live.client.connection import Connection, ServerAddress, refuse_pickling
from nflae_bridge.live.client.history import History
from nflae_bridge.live.client.links import ZeroMQLink
from nflae_bridge.live.client.open_requests import OpenRequest, OpenRequests
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
    request_ids,
)
from nflae_bridge.live.client.results import result_of_reply, with_wanted
from nflae_bridge.live.client.tracking import TrackArguments, TrackedUsers, make_track, tracked_users_of
from nflae_bridge.live.errors import BridgeError
from nflae_bridge.live.protocol.frames import DEFAULT_ADDRESS, encode_request
from nflae_bridge.live.protocol.headers import Effort
from nflae_bridge.live.protocol.messages import CancelRequest, PrecodeRequest, Reply, StatusRequest
from simulator.downlink.budget import DEFAULT_ALPHA_C, DEFAULT_MIN_RATE, DEFAULT_POWER
from simulator.problems.options import ProblemOptions, check_option_names


class AsyncClient:
    """Connect to ``nflae serve`` from asyncio; an asynchronous context manager.

    Parameters
    ----------
    address, timeout, server_key, client_key, shared_memory
        As for `Client`; a time limit includes the wait for other calls of this client.

    Raises
    ------
    BadRequest
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
        self._open = OpenRequests()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._closed = False
        self._connection = Connection(self._server, ZeroMQLink(self._server))

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

    async def track(
        self,
        channels: npt.ArrayLike | None = None,
        times: npt.ArrayLike = 0.0,
        *,
        powers: npt.ArrayLike | None = None,
        layout: str | None = None,
        convention: str | None = None,
        timeout: float | None = None,
        **arguments: Unpack[TrackArguments],
    ) -> TrackedUsers:
        """Track users through further snapshots; the server keeps the state between calls, which follow one another.

        Parameters
        ----------
        channels, times, powers, layout, convention, timeout, **arguments
            As for `Client.track`.

        Returns
        -------
        TrackedUsers

        Raises
        ------
        BridgeError
            As for `Client.track`.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        request = make_track(channels, times, powers, (layout, convention), arguments)
        return tracked_users_of(await self._call(request, deadline))

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
        self._open.fail(BridgeError("this client was closed during the call"))
        self._watch(False)
        self._connection.close()

    __reduce__ = refuse_pickling

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
        opened = OpenRequest(request, deadline, asyncio.get_running_loop().create_future())
        self._open.waiting[request_id] = opened
        try:
            async with asyncio.timeout(deadline.left):
                self._process_socket()
                return await opened.reply
        except TimeoutError:
            raise self._connection.no_answer(deadline) from None
        finally:
            opened.reply.cancel()
            self._open.waiting.pop(request_id, None)
            if request_id in self._open.sent:
                if all(other.reply.done() for other in self._open.sent.values()):
                    self._reset()  # the end of the connection, which no other call needs, stops the server's work, too
                elif isinstance(request, PrecodeRequest) and not self._closed:
                    self._connection.link.send(encode_request(CancelRequest(request_id)))
                    asyncio.get_running_loop().call_soon(self._process_socket)  # see there

    def _attach(self) -> None:
        """Connect within the running loop, unless it is done; raise BridgeError if another loop has the connection."""
        if self._closed:
            raise BridgeError("this client is closed")
        loop = asyncio.get_running_loop()
        if loop is self._loop and self._process == os.getpid():
            return
        if self._process != os.getpid():  # a child of fork: the connection is its parent's
            self._connection = Connection(self._server, ZeroMQLink(self._server))
        elif self._loop is not None and not self._loop.is_closed():
            raise BridgeError("this client is in use in another event loop: make an AsyncClient in each loop")
        elif self._loop is not None:
            self._connection.reset()
        self._open = OpenRequests()  # the calls of a closed loop have ended with it
        self._loop, self._process = loop, os.getpid()
        self._watch(True)

    def _watch(self, begin: bool) -> None:
        assert self._loop is not None
        for descriptor in self._connection.link.descriptors:
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
        self._open.requeue()

    # Socket and monitor

    def _process_socket(self) -> None:
        """Process what has happened on the socket, then send what it can take; called when anything has changed."""
        if self._closed:
            return
        loss = self._connection.loss()
        if loss:
            self._open.fail(self._server.refusal(loss))
            return
        if loss is not None:
            self._open.count_loss(self._server.connection_lost)
            self._open.requeue()
        while (reply := self._connection.receive()) is not None:
            self._open.resolve(reply)
        self._open.send(self._connection)
        # ZeroMQ's descriptors report changes, and any use of the socket may have consumed one.
        if self._connection.link.can_receive():
            assert self._loop is not None
            self._loop.call_soon(self._process_socket)
