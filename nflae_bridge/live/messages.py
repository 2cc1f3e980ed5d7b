"""Define the requests to ``nflae serve`` and the answers, as Python objects."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.result import RECEIVE_COMBINER, RESULT_NAMES
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.headers import (
    PREDICTION_NAMES,
    ArrayName,
    Convention,
    PredictedName,
    ReceiveMode,
    ReturnedName,
)
from simulator.downlink.budget import LinkBudget

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StatusRequest:
    """Request the status of a server."""

    id: str


@dataclass(frozen=True)
class CancelRequest:
    """End the work for the request of this identifier that the same client has sent before."""

    id: str


@dataclass(frozen=True)
class PrecodeRequest:
    """Request precoders for a batch of drops.

    Parameters
    ----------
    id : str
        Identifier that the answer repeats.
    channels : numpy.ndarray
        Channels as sent, complex64 or complex128, (drops, users, antennas); with ``direct`` row k is conj(h_k). With
        `receive_antennas`, (drops, users, receive antennas, antennas).
    budget : LinkBudget
        Link budget of all drops, one number per quantity.
    convention : {"hermitian", "direct"}
        Convention of `channels`.
    scheme : str
        Name of the precoding scheme.
    refine : int
        WMMSE steps after the network.
    near_field : numpy.ndarray or None
        Given near-field labels, bool (drops, users); None if the scheme finds them.
    want : tuple of str
        Names of the arrays to return.
    receive_antennas : {"each", "strongest", "eigen"} or None
        Treatment of several receive antennas per user.
    deadline : float
        Time that the client waits for the computation to begin, s.
    """

    id: str
    channels: Array
    budget: LinkBudget = field(default_factory=LinkBudget)
    convention: Convention = "hermitian"
    scheme: str = "nflae"
    refine: int = 0
    near_field: npt.NDArray[np.bool_] | None = None
    want: tuple[ArrayName, ...] = RESULT_NAMES
    deadline: float = math.inf
    receive_antennas: ReceiveMode | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Drops, users and antennas of the problem, after the treatment of receive antennas."""
        drops, users, *receive, antennas = self.channels.shape
        return drops, users * (receive[0] if self.receive_antennas == "each" else 1), antennas

    @property
    def returned(self) -> tuple[ReturnedName, ...]:
        """Names of the arrays of the answer: those wanted, and the receive combiners where antennas are combined."""
        combined = self.receive_antennas in ("strongest", "eigen")
        return (*self.want, RECEIVE_COMBINER.name) if combined else self.want

    @property
    def quantities(self) -> dict[str, float]:
        """The link budget by the names of its quantities: W, W, a share of the power, bps/Hz."""
        return {name: float(value) for name, value in asdict(self.budget).items()}


@dataclass(frozen=True)
class PredictionOptions:
    """Hold the options of a prediction.

    Parameters
    ----------
    ahead : int
        Number A of snapshots to predict.
    method, geometry : str
        As for `simulator.csi.prediction`, as sent.
    csi_snr_db : float or None
        SNR per antenna of the snapshots, dB; None if it is estimated.
    times : tuple of float or None
        Times of the snapshots, s.
    force : bool
        Predict snapshots that are not like a sequence, too.
    precodes : bool
        The predicted channels are precoded.
    """

    ahead: int = 4
    method: str = "auto"
    geometry: str = "none"
    csi_snr_db: float | None = None
    times: tuple[float, ...] | None = None
    force: bool = False
    precodes: bool = False


@dataclass(frozen=True)
class PredictRequest(PrecodeRequest):
    """Request the channels after a history; the drops to precode are the predicted snapshots.

    Parameters
    ----------
    channels : numpy.ndarray
        History as sent, (snapshots, users, antennas), oldest first.
    want : tuple of str
        Names of the arrays to return, those of the prediction among them.
    options : PredictionOptions
        Options of the prediction.
    """

    want: tuple[PredictedName, ...] = PREDICTION_NAMES
    options: PredictionOptions = PredictionOptions()

    @property
    def size(self) -> tuple[int, int, int]:
        """Predicted snapshots, users and antennas."""
        _, users, antennas = self.channels.shape
        return self.options.ahead, users, antennas


Request = StatusRequest | CancelRequest | PrecodeRequest


@dataclass(frozen=True)
class Reply:
    """Hold a decoded answer.

    Parameters
    ----------
    id : str or None
        Identifier of the request; None where it could not be read.
    arrays : dict
        Arrays by name, read-only, in Python's axis order.
    info : dict
        Scheme, model, version and link budget behind the result.
    timing_us : dict
        Times ``queue``, ``compute`` and ``total``, microseconds.
    status : dict
        Status of the server, in an answer to a `StatusRequest`.
    error : WireError or None
        Fault, None where there is a result.
    """

    id: str | None
    arrays: dict[str, Array]
    info: dict[str, Any]
    timing_us: dict[str, int]
    status: dict[str, Any]
    error: WireError | None
