"""Find drops that cannot be precoded: NaN, Inf, or a user whose channel is zero at every antenna."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BadDrop", "Channels", "energy_bounds", "energy_range", "fault_of", "first_bad_drop", "good_drops"]

Channels = npt.NDArray[np.complex64]


@dataclass(frozen=True)
class BadDrop:
    """Describe the first fault of a drop.

    Parameters
    ----------
    drop, user : int
        Indices, counted from 0.
    antenna : int or None
        Index, counted from 0; None if the user is zero at every antenna.
    fault : str
        ``"NaN"``, ``"Inf"`` or ``"zero at every antenna"``.
    """

    drop: int
    user: int
    antenna: int | None
    fault: str

    def describe(self) -> str:
        """Describe user, antenna and fault, with indices counted from 1 as in MATLAB and in files."""
        antenna = "" if self.antenna is None else f", antenna {self.antenna + 1}"
        return f"user {self.user + 1}{antenna} is {self.fault} (counted from 1)"


def good_drops(channels: Channels) -> npt.NDArray[np.bool_]:
    """Return the drops in which every number is finite and no user's channel is zero.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, antennas); with an axis of receive antennas after the users, these may be zero one by
        one.

    Returns
    -------
    numpy.ndarray
        Bool, (drops,).
    """
    if _have_energy(channels):
        return np.ones(len(channels), np.bool_)
    channels = channels.reshape(*channels.shape[:2], -1)
    usable = np.isfinite(channels).all(axis=2) & np.any(channels != 0, axis=2)
    return np.asarray(usable.all(axis=1))


_vecdot: Any = getattr(np, "vecdot", None)  # of NumPy 2, which takes a fifth of the time for one drop


def energy_range(channels: Channels) -> tuple[float, float]:
    """Return the least and the greatest ||h_k||^2 in single precision.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, ...), of at least one drop.

    Returns
    -------
    least, greatest : float
        0 and Inf where single precision cannot hold them; both NaN if one of them is.
    """
    parts = np.ascontiguousarray(channels).view(np.float32).reshape(*channels.shape[:2], -1)
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.einsum("skn,skn->sk", parts, parts) if _vecdot is None else _vecdot(parts, parts)
        return float(np.minimum.reduce(energy, None)), float(np.maximum.reduce(energy, None))


def energy_bounds(channels: Channels) -> tuple[float, float]:
    """Return bounds of all ||h_k||^2, for one drop in half the time of `energy_range`.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, ...), of at least one drop.

    Returns
    -------
    lower, upper : float
        Least energy at the first antenna, and the sum of all energies; where the sum is not finite, for NaN, Inf and
        overflow, 0 in place of the first.
    """
    upper = float(np.vdot(channels, channels).real)
    if not math.isfinite(upper):  # CPython's `abs` of NaN raises OverflowError by an earlier errno
        return 0.0, upper
    return min(map(abs, channels[..., 0].ravel().tolist())) ** 2, upper


def _have_energy(channels: Channels) -> bool:
    """Return whether the energy of every user is positive and finite, which excludes every fault.

    Finite channels can have an energy beyond the range of float32 too.
    """
    if not len(channels):
        return True
    least, greatest = energy_range(channels)
    return least > 0 and greatest < math.inf


def fault_of(channels: Channels, drop: int) -> BadDrop:
    """Return the first fault of a bad drop: its first NaN or Inf, else its first all-zero user.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (users, antennas) or (users, receive antennas, antennas), with a fault.
    drop : int
        Index of the drop, counted from 0.

    Returns
    -------
    BadDrop
    """
    indices = np.argwhere(~np.isfinite(channels))
    if len(indices):
        first = tuple(int(index) for index in indices[0])
        return BadDrop(drop, first[0], first[-1], "NaN" if np.isnan(channels[first]) else "Inf")
    silent = ~np.any(channels.reshape(len(channels), -1) != 0, axis=1)
    return BadDrop(drop, int(np.flatnonzero(silent)[0]), None, "zero at every antenna")


def first_bad_drop(channels: Channels) -> BadDrop | None:
    """Return the fault of the first bad drop, if there is one.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, antennas).

    Returns
    -------
    BadDrop or None
    """
    lower, upper = energy_bounds(channels)
    if (lower > 0 and upper < math.inf) or (good := good_drops(channels)).all():
        return None
    drop = int(np.flatnonzero(~good)[0])
    return fault_of(channels[drop], drop)
