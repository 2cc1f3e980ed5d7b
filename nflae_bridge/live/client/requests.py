"""Make the requests of both clients: checks before sending, deadlines, identifiers, and errors of replies."""

from __future__ import annotations

import math
import random
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import convert_argument, kept
from matlab_io.errors import NflaeError
from matlab_io.reading.arrays import check_swapped, read_array
from nflae_bridge.files.budget.user_snr import check_default_noise
from nflae_bridge.live.errors import BadRequest, TooLarge, error_of_code
from nflae_bridge.live.protocol.fields import check_network_fields
from nflae_bridge.live.protocol.frames import encode_request
from nflae_bridge.live.protocol.headers import MAX_REFINE, Effort, Frame, MemoryReference, ReceiveMode
from nflae_bridge.live.protocol.messages import PLAIN, PrecodeRequest, Reply, StatusRequest, problem_arrays
from simulator.downlink.budget import LinkBudget
from simulator.problems.options import ProblemOptions, describe_array_problem, total_power
from simulator.problems.problem import PrecodingProblem

DEFAULT_TIMEOUT = 30.0  # s
LONGEST_TIMEOUT = 1e6  # s; more than any call takes, and far below what clocks and sockets hold

_FIRST_PAUSE = 0.02  # s
_LONGEST_PAUSE = 0.2  # s
_RETRIED = ("busy", "stopping", "no_segment")
_JOINT_AXES = 4  # drops, users, receive antennas, antennas
_ALWAYS_ACCEPTED_BYTES = 1 << 20  # the smallest limit that a server can have


@dataclass(frozen=True)
class Deadline:
    """Hold the deadline of a call.

    Parameters
    ----------
    limit : float
        Time limit, s, counted from the call.
    at : float
        Deadline on the clock of `time.monotonic`, s.
    """

    limit: float
    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Make the deadline `seconds` from now; raises BadRequest as `checked_seconds` does."""
        limit = checked_seconds(seconds)
        return cls(limit, time.monotonic() + limit)

    @property
    def left(self) -> float:
        """Time left, s."""
        return self.at - time.monotonic()


def checked_seconds(seconds: float, name: str = "timeout") -> float:
    """Convert a time limit to a number of Python, which clocks and sockets require.

    Parameters
    ----------
    seconds : float
        Time limit, s.
    name : str
        Name of the argument.

    Returns
    -------
    float
        Time limit, s.

    Raises
    ------
    BadRequest
        Unless it is positive and at most `LONGEST_TIMEOUT`.
    """
    limit = seconds if type(seconds) is float else float(convert(name, "float", seconds))
    if not 0 < limit <= LONGEST_TIMEOUT:
        raise BadRequest(f"{name} must be positive and at most {LONGEST_TIMEOUT:g} s, got {seconds}")
    return limit


def convert(name: str, annotation: str, value: Any) -> Any:
    """Convert an argument to the type of its annotation.

    Parameters
    ----------
    name, annotation, value
        As for `matlab_io.arguments.convert_argument`.

    Returns
    -------
    object
        Converted argument.

    Raises
    ------
    BadRequest
        If it is of another type.
    """
    try:
        return convert_argument(name, annotation, value)
    except NflaeError as error:
        raise BadRequest(str(error)) from None


@dataclass(frozen=True)
class SchemeChoice:
    """Hold the scheme of a call, and the effort or the WMMSE steps of the network.

    Parameters
    ----------
    scheme : str
        Name of a scheme of the server.
    refine : int
        WMMSE steps after the network.
    effort : {"fast", "balanced", "best"} or None
        Model and refinement in place of the server's own and of `refine`.

    Raises
    ------
    BadRequest
        If one is of a wrong type or out of its range, or they exclude each other.
    """

    scheme: str = "nflae"
    refine: int = 0
    effort: Effort | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "refine", _checked_refine(self.scheme, self.refine, self.effort))


@kept
def _checked_refine(scheme: str, refine: int, effort: str | None) -> int:
    scheme, effort = convert("scheme", "str", scheme), convert("effort", "str | None", effort)
    refine = int(convert("refine", "int", refine))
    if not 0 <= refine <= MAX_REFINE:
        raise BadRequest(f"refine must be a whole number from 0 to {MAX_REFINE}, got {refine}")
    if effort is not None and effort not in get_args(Effort):
        raise BadRequest(f"unknown effort {effort[:60]!r}: expected {', '.join(get_args(Effort))}")
    _check_network(scheme, refine, effort)
    return refine


def _check_network(*fields: Any) -> None:
    try:
        check_network_fields(*fields)
    except ValueError as error:
        raise BadRequest(str(error)) from None


def make_request(
    channels: npt.ArrayLike,
    near_field: npt.ArrayLike | str | None,
    budget: dict[str, float | None],
    choice: SchemeChoice,
    layout: str | None = None,
    convention: str | None = None,
    receive_antennas: str | None = None,
    options: ProblemOptions | None = None,
) -> tuple[PrecodeRequest, npt.NDArray[np.complex64] | None]:
    """Make a request without an identifier. Receive antennas are combined here, so that less is sent.

    Parameters
    ----------
    channels : array_like
        Complex channels, (drops, users, antennas) or (users, antennas), or of the axes of `layout`.
    near_field, budget
        Given near-field labels, bool (drops, users), the panel to fit, or None; fields of `LinkBudget`, of which a
        noise power of None is the default one, for channels at which it is plausible.
    choice : SchemeChoice
        Scheme and effort.
    layout, convention, receive_antennas, options
        As for `read_array`; options of the precoding problem.

    Returns
    -------
    request : PrecodeRequest
        Request.
    receive_combiner : numpy.ndarray or None
        Complex64, (drops, users, receive antennas); None where no receive antennas were combined.

    Raises
    ------
    BadRequest
        For channels or labels of a wrong type or shape, and for a number out of its range.
    """
    for name, value in (("layout", layout), ("convention", convention), ("receive_antennas", receive_antennas)):
        if value is not None:
            convert(name, "str | None", value)
    given: npt.NDArray[Any] = convert("channels", "npt.ArrayLike", channels)
    drops, combiner = _checked_drops(given, layout, convention, receive_antennas)
    problem = PLAIN
    if options or receive_antennas is not None:
        problem = _described(options or {}, receive_antennas, budget.get("power"), layout, given.shape, drops)
    labels = _checked_labels(near_field, drops.shape[:2])
    try:
        power = total_power(problem, drops.shape[-1], budget.get("power"))
        checked = _checked_budget(**(budget | {"power": power}))
        if budget.get("noise_power", math.nan) is None:
            check_default_noise(drops, float(checked.power))
    except NflaeError as error:
        raise BadRequest(str(error)) from None
    request = PrecodeRequest("", drops, checked, near_field=labels, **vars(choice))
    if problem.is_plain:
        return request, combiner
    _check_network(choice.scheme, choice.refine, choice.effort, problem.objective)
    joint: ReceiveMode | None = "joint" if problem.joint_receivers else None
    return replace(request, problem=problem, want=problem_arrays(problem), receive_antennas=joint), combiner


@kept
def _checked_budget(**quantities: float | None) -> LinkBudget:
    given = {name: value for name, value in quantities.items() if not (name == "noise_power" and value is None)}
    return LinkBudget(**{name: convert(name, "float", value) for name, value in given.items()})


def _described(
    options: ProblemOptions,
    receive_antennas: str | None,
    power: float | None,
    layout: str | None,
    shape: tuple[int, ...],
    drops: npt.NDArray[np.complex64],
) -> PrecodingProblem:
    """Make the problem of an array of a shape and layout, which has been read as drops."""
    try:
        problem = describe_array_problem(options, receive_antennas, power is not None, layout, shape)
        problem.check(len(drops), drops.shape[1], drops.shape[-1], drops.shape[2] if drops.ndim == _JOINT_AXES else 1)
    except NflaeError as error:
        raise BadRequest(str(error)) from None
    return problem


def _checked_drops(
    channels: npt.NDArray[Any], layout: str | None, convention: str | None, receive_antennas: str | None
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64] | None]:
    try:
        drops, combiner = read_array(channels, layout, convention, receive_antennas, joint=True)
        swapped = None if layout is not None else check_swapped(channels.shape, *drops.shape[1:])
    except NflaeError as error:
        raise BadRequest(str(error)) from None
    if swapped is not None:
        warnings.warn(swapped, stacklevel=4)  # at the call of `Client.precode`
    return drops, combiner


def _checked_labels(
    near_field: npt.ArrayLike | str | None, shape: tuple[int, ...]
) -> npt.NDArray[np.bool_] | str | None:
    if near_field is None or (isinstance(near_field, str) and near_field.startswith("upa:")):
        return near_field
    if isinstance(near_field, str):
        raise BadRequest(f"near_field must be bool {shape} or a panel, 'upa:ROWSxCOLUMNS', got {near_field[:60]!r}")
    labels: npt.NDArray[Any] = convert("near_field", "npt.ArrayLike", near_field)
    if labels.shape not in (shape, shape[1:] if shape[0] == 1 else shape) or not np.isin(labels, (0, 1)).all():
        raise BadRequest(f"near_field must be bool (drops, users) = {shape}, got {labels.dtype} of {labels.shape}")
    return labels.astype(np.bool_).reshape(shape)


def address_request(
    request: PrecodeRequest | StatusRequest,
    request_id: str,
    deadline: Deadline,
    memory: MemoryReference | None = None,
) -> list[Frame]:
    """Encode a request under an identifier, with the time that is left.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.
    request_id : str
        Identifier.
    deadline : Deadline
        Deadline of the call.
    memory : MemoryReference, optional
        Place of the channels in shared memory.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    if isinstance(request, StatusRequest):
        return encode_request(StatusRequest(request_id))
    return encode_request(request.changed(id=request_id, deadline=max(deadline.left, 1e-3)), memory)


def payload_bytes(request: PrecodeRequest | StatusRequest) -> int:
    """Return the size of a request's channels.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.

    Returns
    -------
    int
        Size, bytes.
    """
    return request.channels.nbytes if isinstance(request, PrecodeRequest) else 0


def needs_frame_limit(request: PrecodeRequest | StatusRequest) -> bool:
    """Return whether the server's limit must be known before a request is sent; a larger frame ends the connection.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.

    Returns
    -------
    bool
        False for one that every server accepts.
    """
    return payload_bytes(request) > _ALWAYS_ACCEPTED_BYTES


def check_frame_limit(request: PrecodeRequest | StatusRequest, limit: float) -> None:
    """Check a request against the size of the largest frame that the server accepts.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.
    limit : float
        Limit of the server, bytes.

    Raises
    ------
    TooLarge
        If the channels are larger.
    """
    size = payload_bytes(request)
    if size > limit:
        raise TooLarge(
            f"{size / 2**20:.1f} MB of channels: this server accepts {limit / 2**20:g} MB per request"
            " (--max-message-mb); send fewer drops at a time"
        )


def request_ids() -> Iterator[str]:
    """Return an iterator of identifiers that no other client uses; no exception of a signal handler ends it."""
    return map(f"{uuid.uuid4().hex[:12]}-{{}}".format, count())


def pauses() -> Iterator[float]:
    """Yield the pauses before a request to a busy or stopping server is sent again, s; increasing, randomised."""
    longest = _FIRST_PAUSE
    while True:
        yield random.uniform(0.5, 1.0) * longest
        longest = min(2 * longest, _LONGEST_PAUSE)


def is_final(reply: Reply, deadline: Deadline, pause: float) -> bool:
    """Return the end of a call: False if its request is to be sent again after the pause.

    Parameters
    ----------
    reply : Reply
        Reply.
    deadline : Deadline
        Deadline of the call.
    pause : float
        Pause before the request would be sent again, s.

    Returns
    -------
    bool
        True for a result.

    Raises
    ------
    BridgeError
        If the reply holds an error, unless the server is busy or stopping and time is left.
    """
    if reply.error is None:
        return True
    if reply.error.code not in _RETRIED or deadline.left <= pause:
        raise error_of_code(reply.error.code, str(reply.error))
    return False
