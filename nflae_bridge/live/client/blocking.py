"""Request precoders by blocking calls.

A request is idempotent: after the loss of a connection it is sent again until its deadline. The first answer is
returned; messages that answer no open request are ignored.
"""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt
import zmq
from zmq.utils.monitor import recv_monitor_message

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

_POLL_MS = 50  # interval between checks of the connection while a reply is awaited


class Client:
    """Connect to ``nflae serve``; a context manager that threads may share, one request at a time.

    The connection is made in the background: the absence of a server is reported by the first call.

    Parameters
    ----------
    address : str
        ZeroMQ address of the server.
    timeout : float
        Default time limit of a call, s.
    server_key, client_key : Path, optional
        The server's NAME.key and the client's NAME.key_secret; both or neither.

    Raises
    ------
    NflaeError
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
    ) -> None:
        self._server = ServerAddress(address, timeout, server_key, client_key)
        self._lock = threading.Lock()
        self._ids = request_ids()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._events: zmq.Socket[bytes] = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            self._server.connect(self._socket)
        except BaseException:
            self.close()
            raise

    def precode(
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
        """Compute precoders, powers and near/far labels on the server, as `nflae_bridge.precode` does.

        Parameters
        ----------
        channels : array_like
            Complex (drops, users, antennas), or (users, antennas) for one drop; row k is h_k with y_k = h_k^H x + n.
            For H with y = H x pass ``H.conj()``.
        power, noise_power : float
            P and sigma^2, W.
        alpha_c : float
            Largest share of P for the near-field users, in (0, 1].
        min_rate : float
            Minimum rate of every user, bps/Hz.
        near_field : array_like, optional
            Near-field labels to use, bool (drops, users); by default the scheme finds them.
        scheme : str
            Name of a scheme of the server; SINRs and rates of ``noma`` require receivers with SIC.
        refine : int
            WMMSE steps after the network.
        timeout : float, optional
            Time limit, s; by default the client's.

        Returns
        -------
        Result
            Read-only arrays.

        Raises
        ------
        BridgeError
            By its subclass for each error code; `NoAnswer`, also a TimeoutError, at the deadline.
        """
        budget = {"power": power, "noise_power": noise_power, "alpha_c": alpha_c, "min_rate": min_rate}
        return result_of(self._call(make_request(channels, near_field, budget, scheme, refine), timeout))

    def status(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the server's model, device, queue depth, counts, latency percentiles and drops per second."""
        return self._call(StatusRequest(""), timeout).status

    def close(self) -> None:
        """Disconnect; later calls raise BridgeError."""
        close_sockets(self._socket, self._events)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, request: PrecodeRequest | StatusRequest, timeout: float | None) -> Reply:
        timeout = self._server.timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        with self._lock:
            if self._socket.closed:
                raise BridgeError("this client is closed")
            while True:
                request_id = next(self._ids)
                frames = address_request(request, request_id, deadline)
                reply = self._exchange(frames, request_id, deadline, timeout)
                if reply.error is None or reply.error.code != "stopping":
                    raise_error(reply)
                    return reply
                if time.monotonic() + RETRY_SECONDS > deadline:
                    raise_error(reply)
                time.sleep(RETRY_SECONDS)

    def _exchange(self, frames: list[Any], request_id: str, deadline: float, timeout: float) -> Reply:
        self._connection_was_lost()
        self._send(frames, deadline, timeout)
        losses = 0
        while (left := deadline - time.monotonic()) > 0:
            if not self._socket.poll(min(_POLL_MS, math.ceil(1e3 * left))):
                if self._connection_was_lost():
                    losses += 1
                    if losses == MAX_LOSSES:
                        raise self._server.connection_lost()
                    self._send(frames, deadline, timeout)  # stays in the socket until it is connected again
                continue
            reply = decode_if_valid(self._socket.recv_multipart())
            if reply is not None and reply.id == request_id:
                return reply
        raise self._server.no_answer(timeout)

    def _send(self, frames: list[Any], deadline: float, timeout: float) -> None:
        # Without a time limit the send would never return where the server has refused the key.
        self._socket.sndtimeo = max(0, math.ceil(1e3 * (deadline - time.monotonic())))
        try:
            self._socket.send_multipart(frames)
        except zmq.Again:
            raise self._server.no_answer(timeout) from None

    def _connection_was_lost(self) -> bool:
        """Return whether the connection was lost since the last call."""
        lost = False
        while self._events.poll(0):
            recv_monitor_message(self._events)
            lost = True
        return lost
