"""Reduce users with several receive antennas to channels of one antenna each."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

__all__ = ["JOINT", "MODES", "Mode", "combine"]

Mode = Literal["each", "strongest", "eigen"]
MODES: tuple[str, ...] = get_args(Mode)
JOINT = "joint"
"""Treatment that keeps the receive antennas, for a precoder that is chosen together with the receive combiners."""


def combine(
    channels: npt.NDArray[Any], mode: str
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64] | None]:
    """Reduce channels of several receive antennas per user to channels (drops, users, antennas).

    Parameters
    ----------
    channels : numpy.ndarray
        Complex, (drops, users, receive antennas, antennas); row r of user k is h_kr, with y_kr = h_kr^H x.
    mode : {"each", "strongest", "eigen", "joint"}
        Treat every receive antenna as a user of its own, user by user; take the antenna of largest channel norm; or
        combine the antennas by the dominant left singular vector u_k of the matrix of rows h_kr^H, z_k = u_k^H y_k.
        ``"joint"`` keeps them: channels (drops, users, receive antennas, antennas).

    Returns
    -------
    channels : numpy.ndarray
        Complex64, (drops, users', antennas), C-contiguous.
    receive_combiner : numpy.ndarray or None
        Complex64, (drops, users, receive antennas), u_k of unit norm, its entry at the strongest antenna positive; for
        ``"strongest"`` a unit vector; None for ``"each"`` and ``"joint"``.

    Raises
    ------
    ValueError
        If there is no such mode.
    """
    drops, users, receive, antennas = channels.shape
    if mode == JOINT:
        return np.ascontiguousarray(channels, np.complex64), None
    if mode == "each":
        return np.ascontiguousarray(channels.reshape(drops, users * receive, antennas), np.complex64), None
    if mode not in MODES:
        raise ValueError(f"receive antennas {mode!r}: expected one of {', '.join(MODES)}")
    with np.errstate(over="ignore", invalid="ignore"):
        rows = channels.astype(np.complex128)
        finite = np.isfinite(channels).all(axis=(2, 3), keepdims=True)
        safe = np.where(finite, rows, 0)  # users with NaN or Inf are found, and named, by the caller
        strongest = np.argmax((np.abs(safe) ** 2).sum(-1), axis=-1)[..., None]
        combiner = np.zeros((drops, users, receive), np.complex128)
        if mode == "strongest":
            np.put_along_axis(combiner, strongest, 1, axis=-1)
        else:
            # h_kr^H are the rows, so that their Gram matrix is the conjugate of that of h_kr.
            gram = (safe @ safe.conj().swapaxes(-1, -2)).conj()
            combiner = np.linalg.eigh(gram)[1][..., -1]
            reference = np.take_along_axis(combiner, strongest, axis=-1)
            combiner = combiner * np.exp(-1j * np.angle(reference))
        combined = np.where(finite[..., 0], (combiner[..., None] * safe).sum(2), rows.sum(2))
    return np.ascontiguousarray(combined, np.complex64), combiner.astype(np.complex64)
