"""Compute the sizes of the frames that a header announces."""

from __future__ import annotations

import math

from nflae_bridge.live.protocol.headers import (
    CancelHeader,
    PrecodeHeader,
    PredictHeader,
    RequestHeader,
    StatusHeader,
)
from nflae_bridge.live.protocol.track_header import TrackHeader

_ITEM_BYTES = {"complex64": 8, "complex128": 16}


def announced_bytes(header: RequestHeader) -> list[int]:
    """Return the sizes of the frames that follow a header.

    Parameters
    ----------
    header : PrecodeHeader, PredictHeader, TrackHeader, StatusHeader or CancelHeader
        Header of a request.

    Returns
    -------
    list of int
        Sizes, bytes.
    """
    if isinstance(header, StatusHeader | CancelHeader):
        return []
    if isinstance(header, TrackHeader):
        return header.frame_bytes
    sizes = [channel_bytes(header)] if header.memory is None else []
    if isinstance(header, PredictHeader):
        return [*sizes, header.shape[1] * header.ahead] if header.near_field is True else sizes
    drops, users, _, _ = header.sizes
    if header.near_field is True:
        sizes.append(drops * users)
    if header.weights is True:
        sizes.append(8 * drops * users)
    return sizes


def channel_bytes(header: PrecodeHeader | PredictHeader) -> int:
    """Return the size of the channels that a header announces.

    Parameters
    ----------
    header : PrecodeHeader or PredictHeader
        Header.

    Returns
    -------
    int
        Size, bytes.
    """
    return math.prod(header.shape) * _ITEM_BYTES[header.dtype]
