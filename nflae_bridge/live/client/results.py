"""Make the results of replies, of all arrays or of those that were wanted; form precoders that were not sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import kept
from matlab_io.errors import NflaeError
from matlab_io.result import OPTIONAL_ARRAYS, RECEIVE_COMBINER, RESULT_ARRAYS, RESULT_NAMES, Result
from nflae_bridge.live.client.requests import convert
from nflae_bridge.live.errors import BadRequest
from nflae_bridge.live.protocol.messages import PLAIN, PrecodeRequest, Reply, problem_arrays

_ENTRIES = (*RESULT_ARRAYS, *OPTIONAL_ARRAYS)
_NAMES = {entry.field: entry.name for entry in _ENTRIES}
_ALL = frozenset(RESULT_NAMES)
_PRECODER, _DUAL = "precoder", "lambda"  # on the wire
_DROPS_AT_ONCE = 64


class NotRequested(NflaeError, AttributeError):
    """Report the use of an array that was not wanted and cannot be formed of those that were."""


def with_wanted(request: PrecodeRequest, want: Iterable[str] | None, combined: bool) -> PrecodeRequest:
    """Return a request for the arrays that a call wants, with channels of its own where the precoder is formed here.

    Parameters
    ----------
    request : PrecodeRequest
        Request for all arrays.
    want : iterable of str, or None
        Names of fields of `Result`, or on the wire; None for all.
    combined : bool
        Receive antennas were combined by the client, whose combiners need not be sent.

    Returns
    -------
    PrecodeRequest

    Raises
    ------
    BadRequest
        For a name of no such array, a name given twice, for none, and for what holds no names.
    """
    if want is None:
        return request
    if not isinstance(want, Iterable):
        raise BadRequest(f"want must be names of arrays, or None for all, got {type(want).__name__} {want!r:.60}")
    given = (want,) if isinstance(want, str) else tuple(want)
    sent = _sent(given, request.want, combined)
    is_formed = _DUAL in sent and _PRECODER not in sent and request.problem is PLAIN
    channels = request.channels.copy() if is_formed else request.channels  # the caller may write to its array
    return request.changed(channels=channels, want=sent)


@kept
def _sent(want: tuple[str, ...], present: tuple[str, ...], combined: bool) -> tuple[str, ...]:
    known = (*present, RECEIVE_COMBINER.name) if combined else present
    names = [_NAMES.get(name, name) for name in (convert("want", "str", each) for each in want)]
    for name in names:
        if name not in known:
            raise BadRequest(f"want names {name[:60]!r}: the arrays of this result are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise BadRequest(f"want names an array twice: {', '.join(names)}")
    sent = tuple(name for name in names if name in present)
    if not sent:
        raise BadRequest(f"want names no array of the server: choose of {', '.join(present)}, or leave it out for all")
    return sent


def result_of_reply(
    reply: Reply, request: PrecodeRequest, receive_combiner: npt.NDArray[np.complex64] | None = None
) -> Result:
    """Make the result of a reply.

    Parameters
    ----------
    reply : Reply
        Reply.
    request : PrecodeRequest
        Its request.
    receive_combiner : numpy.ndarray, optional
        Combiners of receive antennas that the client has combined.

    Returns
    -------
    Result
        Read-only arrays; a `PartialResult` where not all were wanted.
    """
    arrays = dict(reply.arrays)
    if receive_combiner is not None:
        arrays[RECEIVE_COMBINER.name] = receive_combiner
    if arrays.keys() >= _ALL:
        return Result.from_arrays(arrays)
    return PartialResult(arrays, request)


class _MissingArray:
    """Stand for an array with a default in `Result`, which would hide that it was not wanted."""

    def __set_name__(self, owner: type[PartialResult], name: str) -> None:
        self._name = name

    def __get__(self, result: PartialResult | None, owner: type[PartialResult]) -> None:
        if result is not None and _NAMES[self._name] in problem_arrays(result._request.problem):
            raise result.not_requested(self._name)


class PartialResult(Result):
    """Hold the arrays of a result that were wanted; the use of any other raises `NotRequested`.

    With the dual uplink powers, but without the precoder, its columns are formed of the channels at their first use:
    w_k is column k of H (I + Lambda H^H H / sigma^2)^-1, scaled to unit norm. `receive_combiner`, `analog` and
    `digital` are None where the result has no such array.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        Arrays by their names on the wire, drops first.
    request : PrecodeRequest
        Request that they answer.
    """

    receive_combiner = _MissingArray()
    analog = _MissingArray()
    digital = _MissingArray()

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], request: PrecodeRequest) -> None:
        for entry in _ENTRIES:
            if entry.name in arrays:
                object.__setattr__(self, entry.field, arrays[entry.name])
        object.__setattr__(self, "_request", request)

    def __getattr__(self, name: str) -> Any:
        """Form the precoder, or raise the error of an array that was not wanted."""
        if name not in _NAMES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        request, dual = self._request, vars(self).get("uplink_power")
        if name != _PRECODER or dual is None:
            raise self.not_requested(name)
        if request.problem is not PLAIN or not np.isfinite(dual).all():
            of = "of this problem" if request.problem is not PLAIN else f"of scheme {request.scheme!r}"
            raise NotRequested(
                f"precoder was not requested, and precoders {of} do not follow from lambda; add 'precoder'"
            )
        formed = form_precoder(request.channels, dual / float(request.budget.noise_power))
        formed.flags.writeable = False
        object.__setattr__(self, name, formed)
        return formed

    def not_requested(self, name: str) -> NotRequested:
        """Return the error of an array that was not wanted."""
        held = ", ".join(entry.name for entry in _ENTRIES if entry.field in vars(self))
        return NotRequested(f"{name} was not requested: want names {held}; add {_NAMES[name]!r}")


def form_precoder(channels: npt.NDArray[Any], dual_ratio: npt.NDArray[np.float64]) -> npt.NDArray[np.complex64]:
    """Form the unit-norm precoding vectors of the optimal structure.

    Parameters
    ----------
    channels : numpy.ndarray
        Channels h_k, complex64 (drops, users, antennas).
    dual_ratio : numpy.ndarray
        lambda_k / sigma^2, float64 (drops, users).

    Returns
    -------
    numpy.ndarray
        Complex64, (drops, users, antennas).

    References
    ----------
    E. Bjornson, M. Bengtsson, B. Ottersten, "Optimal Multiuser Transmit Beamforming: A Difficult Problem with a Simple
    Solution Structure", IEEE Signal Processing Magazine 31, 2014.
    """
    formed = np.empty(channels.shape, np.complex64)
    for start in range(0, len(channels), _DROPS_AT_ONCE):
        part = slice(start, start + _DROPS_AT_ONCE)
        rows = channels[part].astype(np.complex128)
        system = dual_ratio[part, :, None] * (rows.conj() @ rows.transpose(0, 2, 1))
        coefficients = np.linalg.inv(np.eye(rows.shape[1]) + system)
        beams = coefficients.transpose(0, 2, 1) @ rows
        formed[part] = beams / np.linalg.norm(beams, axis=2, keepdims=True)
    return formed
