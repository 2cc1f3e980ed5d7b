"""Check and convert the channels and link budgets of requests for the schemes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io.reading.receive_antennas import combine
from matlab_io.result import RECEIVE_COMBINER
from nflae_bridge.files.validation import Channels, first_bad_drop
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.messages import PrecodeRequest
from simulator.downlink.budget import LinkBudget

OVERFLOW = WireError(
    "bad_channels",
    "the rates are not finite numbers: scale the channels, power and noise power to a common unit",
)

_CHECKED_NUMBERS = 1 << 20


def combine_antennas(request: PrecodeRequest) -> tuple[PrecodeRequest, npt.NDArray[np.complex64] | None]:
    """Treat the receive antennas of a request, unless their combiners are part of the problem.

    Parameters
    ----------
    request : PrecodeRequest
        Request.

    Returns
    -------
    request : PrecodeRequest
        Request with channels of one antenna per user.
    receive_combiner : numpy.ndarray or None
        Complex64, (drops, users, receive antennas); None where none were combined.
    """
    if request.receive_antennas is None or request.problem.joint_receivers:
        return request, None
    rows = request.channels.conj() if request.convention == "direct" else request.channels
    channels, combiner = combine(rows, request.receive_antennas)
    want = tuple(name for name in request.want if name != RECEIVE_COMBINER.name)  # which no scheme computes
    return replace(request, channels=channels, convention="hermitian", receive_antennas=None, want=want), combiner


def fault_of_request(request: PrecodeRequest, interrupt: Callable[[], None]) -> WireError | None:
    """Return the fault of the first unusable drop of a request.

    Parameters
    ----------
    request : PrecodeRequest
        Request.
    interrupt : callable
        Called between the blocks.

    Returns
    -------
    WireError or None
        ``bad_channels``, with drop, user and antenna.
    """
    drops, *others = request.channels.shape
    step = max(1, _CHECKED_NUMBERS // math.prod(others))
    for start in range(0, drops, step):
        if start:
            interrupt()
        bad = first_bad_drop(_single(request.channels[start : start + step]))
        if bad is not None:
            return WireError("bad_channels", f"drop {start + bad.drop + 1}, {bad.describe()}")
    return None


def _single(channels: npt.NDArray[Any]) -> Channels:
    if channels.dtype == np.complex64:
        return channels
    with np.errstate(over="ignore"):  # values beyond single precision are reported as Inf
        return channels.astype(np.complex64)


def writable_channels(channels: npt.NDArray[Any], convention: str) -> Channels:
    """Return h_k of some drops, complex64, in memory that can be written, as PyTorch requires.

    Parameters
    ----------
    channels : numpy.ndarray
        Channels as sent, complex64 or complex128, drops first.
    convention : {"hermitian", "direct"}
        Their convention.

    Returns
    -------
    numpy.ndarray
        The channels themselves where they are such.
    """
    if convention == "hermitian" and channels.dtype == np.complex64 and channels.flags.writeable:
        return channels
    copied: Channels = np.array(channels, np.complex64)
    if convention == "direct":
        np.conj(copied, out=copied)
    return copied


def page_locked_channels(requests: Sequence[PrecodeRequest], start: int, stop: int) -> Channels:
    """Return h_k of some drops of one request, or of all of several, in page-locked memory of PyTorch's pool.

    Parameters
    ----------
    requests : sequence of PrecodeRequest
        Requests of one size of drop.
    start, stop : int
        First drop of the one request, and the one after the last.

    Returns
    -------
    numpy.ndarray
        Complex64, which copies to a GPU read without a copy in between; freed, it goes back to the pool.
    """
    parts = [request.channels[start:stop] for request in requests]
    drops = sum(map(len, parts))
    joined: Channels = torch.empty(drops, *parts[0].shape[1:], dtype=torch.complex64, pin_memory=True).numpy()
    place = 0
    for request, part in zip(requests, parts, strict=True):
        written = joined[place : place + len(part)]
        with np.errstate(over="ignore"):  # values beyond single precision become Inf
            if request.convention == "direct":
                np.conj(part, out=written, casting="same_kind")
            else:
                np.copyto(written, part, casting="same_kind")
        place += len(part)
    return joined


def joint_budget(requests: Sequence[PrecodeRequest]) -> LinkBudget:
    """Join the budgets of requests.

    Parameters
    ----------
    requests : sequence of PrecodeRequest
        Requests.

    Returns
    -------
    LinkBudget
        Numbers where the requests agree, else tensors (drops,).
    """
    if len(requests) == 1 or all(request.budget == requests[0].budget for request in requests[1:]):
        return requests[0].budget
    repeats = [len(request.channels) for request in requests]
    budgets = [request.quantities for request in requests]

    def join(name: str) -> float | torch.Tensor:
        values = [budget[name] for budget in budgets]
        if len(set(values)) == 1:
            return values[0]
        return torch.from_numpy(np.repeat(values, repeats))

    return LinkBudget(**{name: join(name) for name in budgets[0]})
