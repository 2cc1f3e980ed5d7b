"""Request precoders by blocking calls.

A request is idempotent: after the loss of a connection, and after ``busy`` or ``stopping``, it is sent again until its
deadline. The first answer is returned; messages that answer no open request are ignored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import numpy.typing as npt

from matlab_io.result import Result
from nflae_bridge.api.predict import PredictedChannels
from nflae_bridge.live.client.connection import MAX_LOSSES, Connection, ServerAddress, Turns, refuse_pickling
from nflae_bridge.live.client.history import History
from nflae_bridge.live.client.links import Link, blocking_link
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
from nflae_bridge.live.errors import BridgeError, NoAnswer
from nflae_bridge.live.protocol.frames import DEFAULT_ADDRESS
from nflae_bridge.live.protocol.headers import Effort
from nflae_bridge.live.protocol.messages import PrecodeRequest, Reply, StatusRequest
from simulator.downlink.budget import DEFAULT_ALPHA_C, DEFAULT_MIN_RATE, DEFAULT_POWER
from simulator.problems.options import ProblemOptions, check_option_names

_POLL_SECONDS = 0.05  # interval between checks of the connection while a reply is awaited
_CLOSE_SECONDS = 1.0  # a call in progress in another thread ends within one interval


@dataclass(frozen=True)
class _State:
    turns: Turns
    connection: Connection[Link]


class Client:
    """Connect to ``nflae serve``; a context manager that threads may share, one request at a time.

    The absence of a server is reported by the first call. A call that ends without an answer takes its request with it.
    A child of ``fork`` connects anew.

    Parameters
    ----------
    address : str
        ZeroMQ address of the server.
    timeout : float
        Default time limit of a call, s.
    server_key, client_key : Path, optional
        The server's NAME.key and the client's NAME.key_secret; both or neither.
    shared_memory : bool
        Large arrays go through shared memory where the server offers it: on the same host, without keys.
    busy_poll : float
        Time for which a call polls for its answer without sleeping, s, at most 1: the answer arrives sooner, and the
        processor of the client is busy meanwhile.

    Raises
    ------
    BadRequest
        If the address or a key is unusable.

    Examples
    --------
    >>> with Client() as client:  # doctest: +SKIP
    ...     result = client.precode(channels, noise_power=0.01)
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        server_key: Path | None = None,
        client_key: Path | None = None,
        shared_memory: bool = True,
        busy_poll: float = 0.0,
    ) -> None:
        self._server = ServerAddress(address, timeout, server_key, client_key, shared_memory, busy_poll)
        self._ids = request_ids()
        self._closed = False
        self._states: dict[int, _State] = {}
        self._own_state()

    def precode(
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
        """Compute precoders, powers and near/far labels on the server, as `nflae_bridge.precode` does.

        Parameters
        ----------
        channels, layout, convention, receive_antennas : array_like, str
            As for `nflae_bridge.precode`: (drops, users, antennas) by default, with y_k = h_k^H x + n.
        power, noise_power : float, optional
            P and sigma^2, W; by default 1, or none beside the limits of antennas, and 0.01 at a plausible SNR.
        alpha_c, min_rate : float
            Largest share of P for the near-field users, in (0, 1]; minimum rate of every user, bps/Hz.
        near_field : array_like or str, optional
            Labels to use, bool (drops, users), or the panel to fit, ``"upa:16x16"``; by default the scheme finds them.
        scheme, refine : str, int
            Name of a scheme of the server, and WMMSE steps after the network; ``noma`` requires receivers with SIC.
        effort : {"fast", "balanced", "best"}, optional
            Model and steps in place of the server's model and of `refine`.
        want : iterable of str, optional
            Names of the arrays to return, all by default; of ``["lambda", "power"]`` the precoder is formed here.
        timeout : float, optional
            Time limit from the call to its result, s, waits for other threads included; by default the client's.
        **options
            Options of the precoding problem, as for `nflae_bridge.precode`.

        Returns
        -------
        Result
            Read-only arrays; a `PartialResult` where not all were wanted.

        Raises
        ------
        BridgeError
            By its subclass for each error code; `NoAnswer`, also a TimeoutError, at the deadline.
        """
        check_option_names(options)
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        budget = {"power": power, "noise_power": noise_power, "alpha_c": alpha_c, "min_rate": min_rate}
        work = SchemeChoice(scheme, refine, effort), layout, convention, receive_antennas
        request, combiner = make_request(channels, near_field, budget, *work, options)
        request = with_wanted(request, want, combiner is not None)
        return result_of_reply(self._call(request, deadline), request, combiner)

    def predict(
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
        """Predict the channels after a history on the server, as `nflae_bridge.predict` does.

        Parameters
        ----------
        history : array_like or History
            Complex, (snapshots, users, antennas), oldest first.
        times, ahead, method, geometry, csi_snr_db, layout, convention, receive_antennas, force
            As for `nflae_bridge.predict`; the times of a `History` are in it.
        timeout : float, optional
            As for `precode`.

        Returns
        -------
        PredictedChannels
            Read-only arrays.

        Raises
        ------
        BridgeError
            As for `precode`; `BadChannels` for snapshots that are no sequence.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        options = {"method": method, "geometry": geometry, "csi_snr_db": csi_snr_db, "force": force}
        request = make_prediction(history, times, ahead, options, (layout, convention, receive_antennas))
        return prediction_of(self._call(request, deadline))

    def predict_and_precode(
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
        history, times, ahead, method, geometry, csi_snr_db, layout, convention, receive_antennas, force
            As for `predict`.
        power, noise_power, alpha_c, min_rate, near_field, scheme, refine, effort, timeout
            As for `precode`; the drops are the predicted snapshots.

        Returns
        -------
        prediction : PredictedChannels
            Predicted channels.
        result : Result
            Result for each of them.

        Raises
        ------
        BridgeError
            As for `predict`.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        options = {"method": method, "geometry": geometry, "csi_snr_db": csi_snr_db, "force": force}
        request = make_prediction(history, times, ahead, options, (layout, convention, receive_antennas))
        budget = {"power": power, "noise_power": noise_power, "alpha_c": alpha_c, "min_rate": min_rate}
        request = then_precode(request, near_field, budget, SchemeChoice(scheme, refine, effort))
        reply = self._call(request, deadline)
        return prediction_of(reply), result_of_reply(reply, request)

    def track(
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
        """Track users through further snapshots, as ``nflae track`` does; the server keeps the state between calls.

        Parameters
        ----------
        channels, layout, convention : array_like, str
            Complex (snapshots, users, antennas) of a linear array, or of the axes of `layout`; NaN where missing.
        times : array_like
            Times of the snapshots, after those of the calls before, s.
        powers : array_like, optional
            Linear beam powers (snapshots, users, beams) instead of channels.
        timeout : float, optional
            As for `precode`.
        **arguments
            Track, satellite positions, detections and array, see `nflae_bridge.live.client.tracking.TrackArguments`.

        Returns
        -------
        TrackedUsers

        Raises
        ------
        BridgeError
            As for `precode`; `NoTrack` for a track that has expired.
        """
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        request = make_track(channels, times, powers, (layout, convention), arguments)
        return tracked_users_of(self._call(request, deadline))

    def status(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the server's model, device, queue depth, counts, latency percentiles and drops per second."""
        deadline = Deadline.after(self._server.timeout if timeout is None else timeout)
        return self._call(StatusRequest(""), deadline).status

    def close(self) -> None:
        """Disconnect; later calls, and one in progress in another thread, raise BridgeError."""
        self._closed = True
        own = self._states.get(os.getpid())
        if own is not None and not own.turns.is_mine:  # else in a signal handler: the call in progress disconnects
            own.turns.run(own.connection.close, _CLOSE_SECONDS)

    __reduce__ = refuse_pickling

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, request: PrecodeRequest | StatusRequest, deadline: Deadline) -> Reply:
        own = self._own_state()
        reply = own.turns.run(lambda: self._answer(own.connection, request, deadline), deadline.left)
        if reply is None:
            raise NoAnswer(
                f"{self._server.address}: other calls of this client took the whole time limit of {deadline.limit:g} s;"
                " raise timeout, or use a Client per thread"
            )
        return reply

    def _answer(
        self, connection: Connection[Link], request: PrecodeRequest | StatusRequest, deadline: Deadline
    ) -> Reply:
        try:
            again = pauses()
            while True:
                self._check_frame_limit(connection, request, deadline)
                reply = self._exchange(connection, request, deadline)
                if reply.error is None or is_final(reply, deadline, pause := next(again)):
                    return reply
                time.sleep(pause)
        finally:
            if self._closed:
                connection.close()

    def _own_state(self) -> _State:
        """Return the state of this process: a child of ``fork`` shares neither connection nor lock with its parent."""
        if self._closed:
            raise BridgeError("this client is closed")
        own = self._states.get(os.getpid())
        if own is None:
            made = _State(Turns(), Connection(self._server, blocking_link(self._server)))
            own = self._states.setdefault(os.getpid(), made)
            if own is not made:  # another thread was first
                made.connection.close()
        return own

    def _check_frame_limit(
        self, connection: Connection[Link], request: PrecodeRequest | StatusRequest, deadline: Deadline
    ) -> None:
        if not needs_frame_limit(request):
            return
        if connection.frame_limit is None:
            connection.use_status(self._exchange(connection, StatusRequest(""), deadline).status)
            assert connection.frame_limit is not None
        check_frame_limit(request, connection.frame_limit)

    def _exchange(
        self, connection: Connection[Link], request: PrecodeRequest | StatusRequest, deadline: Deadline
    ) -> Reply:
        request_id = next(self._ids)
        losses, is_sent = 0, False
        try:
            connection.begin()
            while deadline.left > 0:
                if self._closed:
                    raise BridgeError("this client was closed during the call")
                if not is_sent and connection.link.can_send():
                    is_sent = connection.send_request(request, request_id, deadline)
                seconds = min(_POLL_SECONDS, deadline.left)
                if not is_sent:
                    connection.link.wait(seconds)
                reply = connection.receive(seconds if is_sent else 0.0)
                if reply is not None and reply.id == request_id:
                    connection.is_settled = True
                    return reply
                if self._count_loss(connection):
                    losses += 1
                    is_sent = False
                    if losses == MAX_LOSSES:
                        connection.give_up()
                        raise self._server.connection_lost()
            connection.is_settled = not is_sent
            raise connection.no_answer(deadline)
        finally:
            if not connection.is_settled:  # neither the request nor a late answer to it outlives the call
                connection.reset()
                connection.is_settled = True

    def _count_loss(self, connection: Connection[Link]) -> bool:
        """Return whether the connection was lost since the last call; raise ConnectionLost if it is refused."""
        loss = connection.loss()
        if loss:
            raise self._server.refusal(loss)
        return loss is not None
