"""Convert arrays to the bytes of frames and back, and compute the sizes of the frames that a header announces."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.headers import (
    CancelHeader,
    Frame,
    PrecodeHeader,
    PredictHeader,
    RequestHeader,
    StatusHeader,
)
from nflae_bridge.live.protocol.track_header import TrackHeader

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
    "float64": np.dtype("<f8"),
    "bool": np.dtype("?"),
}
_LITTLE_ENDIAN = "<|=" if sys.byteorder == "little" else "<|"
_COPIED_BYTES = 64 << 10  # below this size a copy takes less time than a view
_MOST_KEPT = 2  # size, relative to an array, of the memory that a view of it may keep in use


def read_array(frame: Frame, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Read the array of a frame.

    Parameters
    ----------
    frame : bytes or memoryview
        The frame.
    name : str
        Its name in errors.
    dtype : numpy.dtype
        Type of the array.
    shape : tuple of int
        Its shape in Python's order.

    Returns
    -------
    numpy.ndarray
        View of the frame.

    Raises
    ------
    WireError
        ``bad_request`` for a frame of another size.
    """
    expected = math.prod(shape) * dtype.itemsize
    if len(frame) != expected:
        sizes = " x ".join(str(size) for size in reversed(shape))
        raise WireError(
            "bad_request", f"{name}: {sizes} of {dtype.name} are {expected} bytes, the frame has {len(frame)}"
        )
    return np.frombuffer(frame, dtype).reshape(shape)


def little_endian(array: Array) -> Frame:
    """Return the bytes of an array.

    Parameters
    ----------
    array : numpy.ndarray
        Array.

    Returns
    -------
    bytes or memoryview
        Little-endian; a copy of a small array, and of a view that would keep more than twice its size in use.
    """
    if array.dtype.byteorder not in _LITTLE_ENDIAN:
        array = array.astype(array.dtype.newbyteorder("<"))
    if array.nbytes < _COPIED_BYTES:
        return array.tobytes()
    if isinstance(array.base, np.ndarray) and array.base.nbytes > _MOST_KEPT * array.nbytes:
        array = array.copy()  # a view would keep the arrays of its whole batch until the client has read it
    raw: memoryview = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return raw


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
    return math.prod(header.shape) * DTYPES[header.dtype].itemsize
