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
from typing import Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.errors import BadRequest, TooLarge, error_of_code
from nflae_bridge.live.headers import Frame
from nflae_bridge.live.protocol import PrecodeRequest, Reply, StatusRequest, encode_request
from simulator.downlink.budget import BudgetError, LinkBudget

DEFAULT_TIMEOUT = 30.0  # s

_FIRST_PAUSE = 0.02  # s
_LONGEST_PAUSE = 0.2  # s
_RETRIED = ("busy", "stopping")
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
        """Make the deadline `seconds` from now; raises BadRequest unless it is a positive finite number."""
        check_seconds(seconds)
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Time left, s."""
        return self.at - time.monotonic()


def check_seconds(seconds: float) -> None:
    """Check a time limit.

    Parameters
    ----------
    seconds : float
        Time limit, s.

    Raises
    ------
    BadRequest
        Unless it is a positive finite number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float, np.number)):
        raise BadRequest(f"timeout must be a number of seconds, got {seconds!r}")
    if not 0 < seconds < math.inf:
        raise BadRequest(f"timeout must be positive and finite, in seconds, got {seconds}")


def make_request(
    channels: npt.ArrayLike,
    near_field: npt.ArrayLike | None,
    budget: dict[str, float],
    scheme: str,
    refine: int,
) -> PrecodeRequest:
    """Make a request without an identifier.

    Parameters
    ----------
    channels : array_like
        Complex channels, (drops, users, antennas) or (users, antennas).
    near_field : array_like or None
        Given near-field labels, bool (drops, users).
    budget : dict
        Fields of `LinkBudget`.
    scheme : str
        Name of the scheme.
    refine : int
        WMMSE steps after the network.

    Returns
    -------
    PrecodeRequest
        Request.

    Raises
    ------
    BadRequest
        For channels or labels of a wrong type or shape, and for a number out of its range.
    """
    drops = _checked_drops(channels)
    labels = None if near_field is None else _checked_labels(near_field, drops.shape[:2])
    if isinstance(refine, bool) or not isinstance(refine, (int, np.integer)) or refine < 0:
        raise BadRequest(f"refine must be a whole number of at least 0, got {refine!r}")
    if not isinstance(scheme, str):
        raise BadRequest(f"scheme must be the name of a scheme, got {scheme!r}")
    try:
        checked = LinkBudget(**{name: float(value) for name, value in budget.items()})
    except BudgetError as error:
        raise BadRequest(str(error)) from None
    except (TypeError, ValueError):
        raise BadRequest(f"power, noise_power, alpha_c and min_rate must be one number each, got {budget}") from None
    return PrecodeRequest("", drops, checked, scheme=scheme, refine=int(refine), near_field=labels)


def _checked_drops(channels: npt.ArrayLike) -> npt.NDArray[np.complex64]:
    given = np.asarray(channels)
    if not np.iscomplexobj(given) or given.ndim not in (2, 3) or given.size == 0:
        remedy = "; subcarriers are drops: reshape(-1, users, antennas)" if given.ndim > 3 else ""
        raise BadRequest(
            f"channels must be complex (drops, users, antennas), got {given.dtype} of {given.shape}{remedy}"
        )
    drops = given if given.ndim == 3 else given[None]
    _, users, antennas = drops.shape
    if users > antennas:
        warnings.warn(
            f"channels {given.shape} are read as {users} users and {antennas} antennas; if users and antennas are"
            " swapped, pass np.swapaxes(channels, -1, -2)",
            stacklevel=2,
        )
    with np.errstate(over="ignore"):  # beyond single precision: the server reports drop, user and antenna
        return drops.astype(np.complex64, copy=False)


def _checked_labels(near_field: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    labels = np.asarray(near_field)
    if labels.shape not in (shape, shape[1:] if shape[0] == 1 else shape) or not np.isin(labels, (0, 1)).all():
        raise BadRequest(f"near_field must be bool (drops, users) = {shape}, got {labels.dtype} of {labels.shape}")
    return labels.astype(np.bool_).reshape(shape)


def address_request(request: PrecodeRequest | StatusRequest, request_id: str, deadline: Deadline) -> list[Frame]:
    """Encode a request under an identifier, with the time that is left.

    Parameters
    ----------
    request : PrecodeRequest or StatusRequest
        Request.
    request_id : str
        Identifier.
    deadline : Deadline
        Deadline of the call.

    Returns
    -------
    list of bytes or memoryview
        Frames of the message.
    """
    if isinstance(request, StatusRequest):
        return encode_request(StatusRequest(request_id))
    return encode_request(replace(request, id=request_id, deadline=max(deadline.left, 1e-3)))


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


def frame_limit(status: dict[str, Any]) -> float:
    """Return the size of the largest frame that a server accepts.

    Parameters
    ----------
    status : dict
        Status of the server.

    Returns
    -------
    float
        Size, bytes; infinite where the status has none.
    """
    limit = status.get("max_message_bytes")
    return float(limit) if isinstance(limit, int) and limit > 0 else math.inf


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
    """Yield identifiers that no other client uses."""
    client_id = uuid.uuid4().hex[:12]
    return (f"{client_id}-{number}" for number in count())


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
