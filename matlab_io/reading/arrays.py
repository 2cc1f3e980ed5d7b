"""Read channels from arrays of Python users, in any layout."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.conventions import check_convention
from matlab_io.errors import MatFileError, NflaeError
from matlab_io.reading.layout import Layout, parse
from matlab_io.reading.readings import possible
from matlab_io.reading.receive_antennas import JOINT, MODES, combine

__all__ = ["check_swapped", "read_array"]

# More users are taken for antennas unless their axis is named; few may be the users of a small array.
_MAX_USERS_PER_ANTENNA, _FEW_USERS = 4, 16


def read_array(
    channels: npt.ArrayLike,
    layout: str | None = None,
    convention: str | None = None,
    receive_antennas: str | None = None,
    *,
    joint: bool = False,
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64] | None]:
    """Convert an array of channels to (drops, users, antennas).

    Parameters
    ----------
    channels : array_like
        Channels: complex, or real with an axis ``c`` of real and imaginary part.
    layout : str, optional
        Axes in the array's order, see `matlab_io.reading.layout`; by default ``"skn"``, or ``"kn"`` for two axes.
    convention : {"hermitian", "direct"}, optional
        Signal model: y = h^H x, or y = H x; by default hermitian. It must be given with a layout of users in rows,
        which files are read by as y = H x.
    receive_antennas : {"each", "strongest", "eigen"}, optional
        Treatment of several receive antennas per user, see `combine`.
    joint : bool
        Allow the treatment ``"joint"`` too.

    Returns
    -------
    channels : numpy.ndarray
        Complex64, (drops, users, antennas), row k is h_k with y_k = h_k^H x; drops in the array's (C) order. A view
        where type and order permit it, of read-only memory too, which must not be written.
    receive_combiner : numpy.ndarray or None
        Complex64, (drops, users, receive antennas); None where none were combined.

    Raises
    ------
    NflaeError
        If the array is not complex, its axes are not named where they must be, or a choice does not fit; one line.
    """
    given = np.asarray(channels)
    if (layout, convention, receive_antennas) == (None, None, None) and _is_read(given):
        return _writable(given), None
    fitted = _fit(given, layout)
    used = _convention(fitted, layout, convention)
    if not np.iscomplexobj(given) and "c" not in fitted.axes:
        raise NflaeError(f"channels must be complex, got {given.dtype} of shape {given.shape}")
    mode = _mode(fitted, receive_antennas, (*MODES, JOINT) if joint else MODES)
    with np.errstate(over="ignore"):  # beyond single precision: Inf, which is reported by drop, user and antenna
        drops = fitted.to_drops(given.T).astype(np.complex64, copy=False)
    if used == "direct":
        drops = drops.conj()
    if "r" not in fitted.axes:
        return _writable(np.ascontiguousarray(drops.reshape(fitted.drops, fitted.users, fitted.antennas))), None
    return combine(drops.reshape(fitted.drops, fitted.users, fitted.receive_antennas, fitted.antennas), mode)


def _is_read(given: npt.NDArray[Any]) -> bool:
    """Return whether an array is what it is read as, (drops, users, antennas)."""
    return given.ndim == 3 and given.dtype == np.complex64 and given.flags.c_contiguous and given.size > 0


class _SharedMemory:
    """Give out the memory of an array under the flag of writable memory."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array  # keeps the memory
        description = array.__array_interface__
        self.__array_interface__ = {**description, "data": (description["data"][0], False)}


def _writable(array: npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
    """Return a view that PyTorch takes without a warning, of a read-only array too; nothing writes to channels."""
    return array if array.flags.writeable or not array.size else np.asarray(_SharedMemory(array))


def check_swapped(shape: tuple[int, ...], users: int, antennas: int) -> str | None:
    """Refuse channels without a layout whose users and antennas are swapped.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array.
    users, antennas : int
        K and N, as read.

    Returns
    -------
    str or None
        With more users than antennas, a line to warn with.

    Raises
    ------
    NflaeError
        With more than 16 users and more than 4 users per antenna.
    """
    if users <= antennas:
        return None
    read = f"channels {shape} are read as {users} users and {antennas} antennas; if users and antennas"
    swapped = f"{read} are swapped, pass np.swapaxes(channels, -1, -2)"
    if users > _MAX_USERS_PER_ANTENNA * antennas and users > _FEW_USERS:
        raise NflaeError(f"{swapped}; if they are not, state layout={'skn'[-len(shape) :]!r}, convention='hermitian'")
    return swapped


def _fit(given: npt.NDArray[Any], layout: str | None) -> Layout:
    if given.size == 0 or given.ndim == 0:
        raise NflaeError(f"channels must be complex (drops, users, antennas), got {given.dtype} of shape {given.shape}")
    if layout is None:
        if given.ndim not in (2, 3):
            likely = [each.text for each in possible(given.shape, row_major=True)[:4]]
            examples = ", ".join(f"layout={text!r}" for text in likely) or "layout='sfkn'"
            raise NflaeError(
                f"channels must be complex (drops, users, antennas), got {given.dtype} of shape {given.shape};"
                f" name the axes of any other array, e.g. {examples}"
            )
        layout = "kn" if given.ndim == 2 else "skn"
    try:
        return _parse(layout, given.shape)
    except MatFileError as error:
        raise NflaeError(f"channels: {error}") from None


@lru_cache(maxsize=64)
def _parse(layout: str, shape: tuple[int, ...]) -> Layout:
    return parse(layout, shape, row_major=True)


def _convention(fitted: Layout, layout: str | None, convention: str | None) -> str:
    """Return the convention: that given, else hermitian where the layout does not imply another."""
    if convention is None:
        if layout is not None and fitted.convention == "direct":
            raise NflaeError(
                f"layout {layout!r} has users in rows, which may be y = H x or rows h with y = h^H x; pass"
                " convention='direct' or convention='hermitian'"
            )
        return "hermitian"
    try:
        check_convention(convention)
    except ValueError as error:
        raise NflaeError(str(error)) from None
    return convention


def _mode(layout: Layout, mode: str | None, modes: tuple[str, ...]) -> str:
    """Return the treatment of receive antennas, checked against the layout."""
    choices = " or ".join(repr(each) for each in modes)
    if mode is not None and mode not in modes:
        raise NflaeError(f"receive_antennas must be {choices}, got {mode!r}")
    if "r" not in layout.axes and mode is not None:
        raise NflaeError(f"receive_antennas={mode!r}: layout {layout.text!r} has no such axis; name it r")
    if mode is None and layout.receive_antennas > 1:
        raise NflaeError(
            f"channels have {layout.receive_antennas} receive antennas per user (layout {layout.text!r}); pass"
            f" receive_antennas={choices}"
        )
    return mode or "each"
