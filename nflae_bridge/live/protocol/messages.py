"""Define the requests to ``nflae serve`` and the answers, as Python objects."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UnsetType

from matlab_io.result import ANALOG, DIGITAL, RECEIVE_COMBINER, RESULT_NAMES
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.fields import Convention
from nflae_bridge.live.protocol.headers import (
    PREDICTION_NAMES,
    ArrayName,
    Effort,
    PrecodeHeader,
    PredictedName,
    ReceiveMode,
    ReturnedName,
)
from nflae_bridge.live.protocol.memory import AnswerRoom
from nflae_bridge.live.protocol.track_header import TRACK_NAMES, TrackName
from simulator.downlink.budget import DEFAULT_POWER, BudgetError, LinkBudget
from simulator.problems.options import OPTION_NAMES, describe_problem, total_power
from simulator.problems.problem import PrecodingProblem, ProblemError

PLAIN = PrecodingProblem()
"""The sum rate under the link budget alone."""

_OF_PLAIN = tuple(
    (field.name, field.default)
    for field in msgspec.structs.fields(PrecodeHeader)
    if field.name in (*OPTION_NAMES, "subcarriers")
)

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
        `receive_antennas`, (drops, users, receive antennas, antennas); the subcarriers of a snapshot are consecutive.
    budget : LinkBudget
        Link budget of all drops, one number per quantity.
    convention : {"hermitian", "direct"}
        Convention of `channels`.
    scheme : str
        Name of the precoding scheme.
    refine : int
        WMMSE steps after the network.
    near_field : numpy.ndarray, str or None
        Given near-field labels, bool (drops, users), or the panel to whose channels waves are fitted; None if the
        scheme finds them.
    want : tuple of str
        Names of the arrays to return.
    receive_antennas : {"each", "strongest", "eigen", "joint"} or None
        Treatment of several receive antennas per user.
    deadline : float
        Time that the client waits for the computation to begin, s.
    problem : PrecodingProblem
        Precoding problem; by default the plain one.
    effort : {"fast", "balanced", "best"} or None
        Choice of model and refinement; None: those of the server, and `refine`.
    room : AnswerRoom or None
        Room for the answer in memory shared with the client; the channels are in it, too, and can change at any time.
    """

    id: str
    channels: Array
    budget: LinkBudget = field(default_factory=LinkBudget)
    convention: Convention = "hermitian"
    scheme: str = "nflae"
    refine: int = 0
    near_field: npt.NDArray[np.bool_] | str | None = None
    want: tuple[ArrayName, ...] = RESULT_NAMES
    deadline: float = math.inf
    receive_antennas: ReceiveMode | None = None
    problem: PrecodingProblem = PLAIN
    effort: Effort | None = None
    room: AnswerRoom | None = field(default=None, compare=False)

    def changed(self, **fields: Any) -> Self:
        """Return the request with other values of some fields, in a tenth of the time of `dataclasses.replace`."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), **fields)
        return other

    @property
    def size(self) -> tuple[int, int, int]:
        """Drops, users and antennas of the problem, after the treatment of receive antennas."""
        drops, users, *receive, antennas = self.channels.shape
        return drops, users * (receive[0] if self.receive_antennas == "each" else 1), antennas

    @property
    def returned(self) -> tuple[ReturnedName, ...]:
        """Names of the arrays of the answer: those wanted, and the receive combiners where antennas are combined."""
        combined = self.receive_antennas in ("strongest", "eigen") and RECEIVE_COMBINER.name not in self.want
        return (*self.want, RECEIVE_COMBINER.name) if combined else self.want

    @property
    def labels(self) -> bool | str:
        """Presence of labels, or the panel by which they are found."""
        return self.near_field if isinstance(self.near_field, str) else self.near_field is not None

    @property
    def streams(self) -> int:
        """Streams per user."""
        if not self.problem.joint_receivers:
            return 1
        receive, antennas = self.channels.shape[2:]
        return self.problem.streams or min(receive, antennas)

    @property
    def quantities(self) -> dict[str, float]:
        """The link budget by the names of its quantities: W, W, a share of the power, bps/Hz."""
        return quantities_of(self.budget)


def quantities_of(budget: LinkBudget) -> dict[str, float]:
    """Return the numbers of a link budget by the names of its quantities.

    Parameters
    ----------
    budget : LinkBudget
        Link budget of one number per quantity.

    Returns
    -------
    dict
        W, W, a share of the power, bps/Hz.
    """
    return {name: float(value) for name, value in vars(budget).items()}


def problem_arrays(problem: PrecodingProblem) -> tuple[ArrayName, ...]:
    """Return the names of all arrays of an answer to a request for precoders.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem of the request.

    Returns
    -------
    tuple of str
        Names of `RESULT_ARRAYS`, then those that the problem adds.
    """
    names = RESULT_NAMES
    if problem.joint_receivers:
        names = (*names, RECEIVE_COMBINER.name)
    return names if problem.rf_chains is None else (*names, ANALOG.name, DIGITAL.name)


def stated_problem(
    header: PrecodeHeader, weights: npt.NDArray[np.float64] | None = None
) -> tuple[PrecodingProblem, LinkBudget]:
    """Make the problem and the link budget that a header states, and check that they fit the channels.

    Parameters
    ----------
    header : PrecodeHeader
        Header of a request.
    weights : numpy.ndarray, optional
        Weights of every drop, float64 (drops, users), where they are in a frame; ones before its arrival.

    Returns
    -------
    problem : PrecodingProblem
        Problem.
    budget : LinkBudget
        Link budget.

    Raises
    ------
    WireError
        ``bad_request``, with the name of the field.
    """
    if header.receive_antennas != "joint" and all(getattr(header, name) == default for name, default in _OF_PLAIN):
        return PLAIN, _link_budget(header, DEFAULT_POWER if isinstance(header.power, UnsetType) else header.power)
    drops, users, receive, antennas = header.sizes
    given = None if isinstance(header.power, UnsetType) else header.power
    options: dict[str, Any] = {name: getattr(header, name) for name in OPTION_NAMES}
    if isinstance(header.weights, bool):
        framed = np.ones(users) if weights is None else weights
        options["weights"] = framed if header.weights else None
    try:
        if (header.power_scope == "total") != (header.subcarriers is not None):
            raise ProblemError('power_scope "total" and subcarriers, the drops that share the power, belong together')
        problem = describe_problem(
            options,
            receive_antennas=header.receive_antennas,
            has_total=given is not None,
            subcarriers=header.subcarriers or 1,
        )
        problem.check(drops, users, antennas, receive)
        budget = _link_budget(header, total_power(problem, antennas, given))
        return PLAIN if problem.is_plain else problem, budget
    except ProblemError as error:
        raise WireError("bad_request", f"header: {error}") from None


def _link_budget(header: PrecodeHeader, power: float) -> LinkBudget:
    try:
        return LinkBudget(power, header.noise_power, header.alpha_c, header.min_rate)
    except BudgetError as error:
        raise WireError("bad_request", f"header: {error}") from None


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


@dataclass(frozen=True)
class TrackOptions:
    """Hold what a request for a track has beside channels or powers.

    Parameters
    ----------
    times : tuple of float
        Times of the snapshots, rising, s.
    track : str or None
        Identifier of the track; None begins one, for which the following count.
    height : float or None
        Height of the array's centre, m.
    tilt, carrier : float
        Down-tilt of the array, rad, and carrier frequency, Hz.
    beam_angles : tuple of float or None
        Angles of the beams of powers, rising, degrees; None: evenly spaced in the sine.
    ahead : int
        Snapshots for which beams are forecast.
    gps : numpy.ndarray or None
        Satellite positions, x and height, float64 (snapshots, users, 2), m; NaN where missing.
    detections : numpy.ndarray or None
        Angles and distances of detected objects, float64 (snapshots, objects, 2), degrees and m; NaN where missing.
    geometry : str
        Arrangement of the antennas; ``"line"``, others are refused.
    """

    times: tuple[float, ...]
    track: str | None = None
    height: float | None = None
    tilt: float = 0.0
    carrier: float = 30e9
    beam_angles: tuple[float, ...] | None = None
    ahead: int = 3
    gps: Array | None = field(default=None, compare=False)
    detections: Array | None = field(default=None, compare=False)
    geometry: str = "line"


@dataclass(frozen=True)
class TrackRequest(PrecodeRequest):
    """Request the positions of users in further snapshots of a track.

    Parameters
    ----------
    channels : numpy.ndarray
        Channels as sent, (snapshots, users, antennas), or linear beam powers, float64 (snapshots, users, beams).
    want : tuple of str
        Names of the arrays to return.
    options : TrackOptions
        Times, track and further measurements.
    """

    want: tuple[TrackName, ...] = TRACK_NAMES
    options: TrackOptions = TrackOptions((0.0,))

    @property
    def is_powers(self) -> bool:
        """True for beam powers instead of channels."""
        return self.channels.dtype.kind == "f"


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
