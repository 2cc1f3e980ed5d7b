"""Compute on a server, and by a fallback in its absence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.result import Result
from nflae_bridge.api.predict import PredictedChannels
from nflae_bridge.live.client.connection import ServerAddress
from nflae_bridge.live.client.links.monitor import Monitor
from nflae_bridge.live.errors import BridgeError, ConnectionLost, NoAnswer, ServerBusy, ServerFault, ServerStopping
from nflae_bridge.live.gnuradio.counts import Counts

Fallback = Literal["stop", "hold", "rzf"]
Compute = Callable[..., Result]
T = TypeVar("T", bound=np.generic)

_ABSENCES = (NoAnswer, ConnectionLost, ServerBusy, ServerFault, ServerStopping)
# While the fallback computes, the server is tried again at this interval, and for this long at most, s.
_RETRY_SECONDS, _TRIAL_SECONDS = 2.0, 1.0
_POLL_MS = 100
_EVENTS = zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class Log(Protocol):
    """Write events; see `nflae_bridge.live.log.EventLog`."""

    def info(self, event: str, **fields: object) -> None:
        """Write an event of normal operation."""

    def warning(self, event: str, **fields: object) -> None:
        """Write a fault of a peer."""


class ServerWatch:
    """Follow the presence of a server by a connection of its own, in a thread.

    Parameters
    ----------
    address : ServerAddress
        Address and keys of the server.
    log : Log
        Log of its arrivals and departures.

    Attributes
    ----------
    present : bool
        True while the server is connected.
    """

    def __init__(self, address: ServerAddress, log: Log) -> None:
        self.present = False
        self._address, self._log = address, log
        self._reported: bool | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nflae-server-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            events = Monitor(socket, _EVENTS)
            self._address.connect(socket)
            while not self._closing.is_set():
                events.reader.poll(_POLL_MS)
                for event, _ in events.read():
                    self._report(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)
            events.close()

    def _report(self, present: bool) -> None:
        self.present = present
        if present == self._reported:
            return
        self._reported = present
        if present:
            self._log.info("server_connected", address=self._address.address)
        else:
            self._log.warning("server_absent", address=self._address.address)


@dataclass
class RemoteOptions:
    """Hold the options of a computation on a server.

    Parameters
    ----------
    scheme : str
        Name of the scheme.
    refine : int
        WMMSE steps after the network.
    timeout : float
        Time limit of a call, s.
    fallback : {"stop", "hold", "rzf"}
        In the server's absence raise its error, send the last precoders again, or compute RZF here.
    """

    scheme: str
    refine: int
    timeout: float
    fallback: Fallback = "stop"


class RemotePrecode:
    """Compute on a server; a `Precode`.

    Parameters
    ----------
    server : callable
        ``Client.precode``.
    watch : ServerWatch
        Presence of the server.
    options : RemoteOptions
        Options.
    rzf : callable or None
        Local computation, for ``fallback="rzf"``.
    counts : Counts
        Counts to update.
    log : Log
        Log of the changes to and from the fallback.
    """

    def __init__(
        self,
        server: Compute,
        watch: ServerWatch,
        options: RemoteOptions,
        rzf: Compute | None,
        counts: Counts,
        log: Log,
    ) -> None:
        self._server, self._watch, self._options, self._rzf = server, watch, options, rzf
        self._counts, self._log = counts, log
        self._held: Result | None = None
        self._away = False
        self._tried = 0.0

    def __call__(
        self,
        channels: npt.NDArray[np.complex64],
        *,
        power: float,
        noise_power: float,
        alpha_c: float,
        min_rate: float,
    ) -> Result:
        """Compute the results of as many drops.

        Raises
        ------
        BridgeError
            For a request that the server refuses; with ``fallback="stop"`` for its absence as well.
        """
        budget = {"power": power, "noise_power": noise_power, "alpha_c": alpha_c, "min_rate": min_rate}
        while True:
            result = self._from_server(channels, budget)
            if result is not None:
                self._held = result
                return result
            substitute = self._substitute(channels, budget)
            if substitute is not None:
                self._counts.substituted += len(channels)
                return substitute

    def _from_server(self, channels: npt.NDArray[np.complex64], budget: dict[str, float]) -> Result | None:
        """Return the server's result, or None in its absence."""
        options = self._options
        timeout = options.timeout
        if self._away and self._held_fits(channels):
            timeout = min(timeout, _TRIAL_SECONDS)
            if not self._watch.present or time.monotonic() - self._tried < _RETRY_SECONDS:
                return None
        try:
            result = self._server(channels, scheme=options.scheme, refine=options.refine, timeout=timeout, **budget)
        except _ABSENCES as error:
            if options.fallback == "stop":
                raise
            self._left(error)
            return None
        if self._away:
            self._away = False
            self._log.info("server_answers")
        return result

    def _left(self, error: BridgeError) -> None:
        self._tried = time.monotonic()
        if not self._away:
            self._away = True
            self._log.warning("fallback", scheme=self._options.fallback, message=str(error))

    def _held_fits(self, channels: npt.NDArray[np.complex64]) -> bool:
        """Return whether the fallback has a result for channels of this size."""
        if self._options.fallback == "rzf":
            return True
        return self._held is not None and self._held.precoder.shape[1:] == channels.shape[1:]

    def _substitute(self, channels: npt.NDArray[np.complex64], budget: dict[str, float]) -> Result | None:
        if not self._held_fits(channels):
            return None
        if self._rzf is not None:
            return replace(self._rzf(channels, **budget), fallback=np.ones(len(channels), bool))
        assert self._held is not None
        return hold(self._held, channels, budget)


class RemotePredict:
    """Predict on a server; a `Predict`, with None in the server's absence where there is a fallback.

    Parameters
    ----------
    server : callable
        ``Client.predict``.
    watch : ServerWatch
        Presence of the server.
    timeout : float
        Time limit of a call, s.
    fallback : {"stop", "hold", "rzf"}
        See `RemoteOptions`.
    **options
        Those of ``Client.predict``.
    """

    def __init__(
        self,
        server: Callable[..., PredictedChannels],
        watch: ServerWatch,
        timeout: float,
        fallback: Fallback,
        **options: object,
    ) -> None:
        self._server, self._watch, self._timeout, self._fallback = server, watch, timeout, fallback
        self._options = options

    def __call__(self, history: npt.NDArray[np.complex64], *, ahead: int) -> PredictedChannels | None:
        """Predict the next snapshots of all users.

        Parameters
        ----------
        history : numpy.ndarray
            Complex64, (snapshots, users, antennas), oldest first; NaN in gaps.
        ahead : int
            Number of snapshots to predict.

        Returns
        -------
        PredictedChannels or None
            None in the server's absence.

        Raises
        ------
        BridgeError
            `BadChannels` for a history that is no sequence, and other refusals; absence with ``fallback="stop"``.
        """
        if self._fallback != "stop" and not self._watch.present:
            return None
        try:
            return self._server(history, ahead=ahead, timeout=self._timeout, **self._options)
        except _ABSENCES:
            if self._fallback == "stop":
                raise
            return None


def hold(result: Result, channels: npt.NDArray[np.complex64], budget: dict[str, float]) -> Result:
    """Apply the precoders of the last drop of a result to other channels; SINRs and rates are those of the channels.

    Parameters
    ----------
    result : Result
        Earlier result.
    channels : numpy.ndarray
        Channels, complex64 (drops, users, antennas).
    budget : dict
        Fields of a `LinkBudget`; powers above its power are scaled to it.

    Returns
    -------
    Result
        Result, with `fallback` true.
    """
    drops = len(channels)
    precoder, power = result.precoder[-1], result.power[-1] * min(1.0, budget["power"] / result.power[-1].sum())
    gains = np.abs(channels.astype(np.complex128).conj() @ precoder.T.astype(np.complex128)) ** 2 * power
    own = np.diagonal(gains, axis1=1, axis2=2)
    sinr = own / (gains.sum(2) - own + budget["noise_power"])
    rate = np.log2(1 + sinr)

    def repeated(array: npt.NDArray[T]) -> npt.NDArray[T]:
        return np.broadcast_to(array, (drops, *array.shape))

    return Result(
        precoder=repeated(precoder),
        power=repeated(power),
        uplink_power=repeated(result.uplink_power[-1]),
        near_field_score=repeated(result.near_field_score[-1]),
        near_field=repeated(result.near_field[-1]),
        sinr=sinr,
        rate=rate,
        sum_rate=rate.sum(1),
        feasible=(rate >= budget["min_rate"]).all(1),
        fallback=np.ones(drops, bool),
    )
