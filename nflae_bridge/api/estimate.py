"""Estimate NumPy arrays of channels from received pilots in one call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import checked
from matlab_io.errors import NflaeError
from matlab_io.extras import explain_import
from matlab_io.labelled import ArrayResult, LabelledArray, LabelledSet
from matlab_io.reading.arrays import read_array
from matlab_io.result import ESTIMATION_ARRAYS

if TYPE_CHECKING:
    import torch

    from simulator.csi.estimation.users import EstimationMethod


@dataclass(frozen=True, eq=False, repr=False)
class EstimatedChannels(ArrayResult):
    """Hold estimated channels; two results are equal only if they are one object.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (drops, users, antennas); rows h_k with y_k = h_k^H x.
    csi_error_db : numpy.ndarray
        Estimated error, energy over that of the channel, dB, float64 (drops, users); NaN if unknown.
    method : numpy.ndarray
        Method of each estimate, the one of the largest weight where several are averaged, str (drops, users).
    notes : tuple of str
        Doubts about the estimates, one line each.
    """

    channels: npt.NDArray[np.complex64]
    csi_error_db: npt.NDArray[np.float64]
    method: npt.NDArray[np.str_]
    notes: tuple[str, ...] = ()

    def labelled(self) -> LabelledSet:
        """Return the arrays with the names of their axes."""
        channels, error = (entry.label(getattr(self, entry.field), "drop") for entry in ESTIMATION_ARRAYS[:2])
        method = LabelledArray("method", ("drop", "user"), self.method, "", "method of the largest weight")
        return LabelledSet((channels, error, method), {}, {"notes": list(self.notes)} if self.notes else {})


@checked()
def estimate(
    received: npt.ArrayLike,
    *,
    pilots: npt.ArrayLike | None = None,
    method: str = "auto",
    geometry: str = "line",
    snapshots: int = 1,
    csi_snr_db: float | None = None,
    noise_variance: float | None = None,
    covariance: npt.ArrayLike | None = None,
    layout: str | None = None,
    convention: str | None = None,
    receive_antennas: str | None = None,
    model: str | Path = "auto",
    device: str = "auto",
) -> EstimatedChannels:
    """Estimate channels from received pilots.

    Parameters
    ----------
    received : array_like
        Complex, (drops, users, antennas), received orthogonal pilots: rows h_k + n_k. With ``pilots``, (drops, users,
        symbols): rows Phi^H h_k + n_k; other layouts by ``layout``, where ``n`` is the axis of the symbols.
    pilots : array_like, optional
        Phi, complex, (antennas, symbols): column m is the transmit vector of symbol m.
    method : str
        ``"auto"``: average of the methods, weighted by their estimated errors; ``"ls"``, ``"beam-gain"``, ``"omp"``,
        ``"polar-omp"``, ``"lmmse"`` or ``"nflae"``.
    geometry : str
        ``"line"``, ``"panel:ROWSxCOLUMNS"`` or ``"none"``.
    snapshots : int
        Successive drops in which a user has the same directions.
    csi_snr_db, noise_variance : float, optional
        SNR per antenna or symbol, dB, or noise variance; by default estimated.
    covariance : array_like, optional
        E h h^H, complex, (antennas, antennas) or (users, antennas, antennas).
    layout, convention, receive_antennas : str, optional
        As for `nflae_bridge.precode`.
    model, device : str
        Model and device of the network, as for `nflae_bridge.precode`.

    Returns
    -------
    EstimatedChannels

    Raises
    ------
    NflaeError
        If an argument does not fit, or a user's pilots are zero or not finite; the message is one line, drops and users
        counted from 1.
    """
    rows, _ = read_array(received, layout, convention, receive_antennas)
    _check_rows(rows, snapshots)
    try:
        chosen = estimation_method(
            rows.shape[1:], method, geometry, csi_snr_db, noise_variance, pilots, covariance, str(model), device
        )
        return _estimate(rows, snapshots, chosen)
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.estimate") from error


def _check_rows(rows: npt.NDArray[np.complex64], snapshots: int) -> None:
    """Check the received pilots, and that the snapshots divide the drops."""
    fault = first_fault(rows)
    if fault is not None:
        drop, user, reason = fault
        raise NflaeError(f"received: drop {drop + 1}, user {user + 1} {reason}; leave the drop out")
    if snapshots < 1 or len(rows) % snapshots:
        raise NflaeError(f"snapshots={snapshots}: give a divisor of the {len(rows)} drops")


def _estimate(rows: npt.NDArray[np.complex64], snapshots: int, method: EstimationMethod) -> EstimatedChannels:
    """Estimate the channels of checked pilots."""
    import torch

    from simulator.csi.estimation.users import doubt_noise, estimate_users

    grouped = torch.from_numpy(rows).reshape(-1, snapshots, *rows.shape[1:])
    found = estimate_users(grouped, method)
    names = np.array(found.method).reshape(found.csi_error_db.shape)
    doubt = None if found.noise_share is None else doubt_noise(float(found.noise_share.median()))
    return EstimatedChannels(
        found.channels.reshape(*rows.shape[:2], -1).cpu().numpy(),
        np.repeat(found.csi_error_db.double().cpu().numpy(), snapshots, 0),
        np.repeat(names, snapshots, 0),
        () if doubt is None else (doubt,),
    )


def first_fault(rows: npt.NDArray[np.complex64]) -> tuple[int, int, str] | None:
    """Find the first user whose received pilots are not finite or all zero.

    Parameters
    ----------
    rows : numpy.ndarray
        Complex64, (drops, users, symbols).

    Returns
    -------
    tuple of int, int and str or None
        Drop and user, counted from 0, and the fault; None if there is none.
    """
    finite, zero = np.isfinite(rows).all(-1), (rows == 0).all(-1)
    faults = np.argwhere(~finite | zero)
    if not len(faults):
        return None
    drop, user = (int(index) for index in faults[0])
    return drop, user, "has pilots of zero on every antenna" if zero[drop, user] else "has NaN or Inf"


def estimation_method(
    shape: tuple[int, ...],
    method: str,
    geometry: str,
    csi_snr_db: float | None = None,
    noise_variance: float | None = None,
    pilots: npt.ArrayLike | None = None,
    covariance: npt.ArrayLike | None = None,
    model: str = "auto",
    device: str = "auto",
) -> EstimationMethod:
    """Check the arguments of an estimation and load what it needs.

    Parameters
    ----------
    shape : tuple of int
        Users and received symbols.
    method, geometry, csi_snr_db, noise_variance, pilots, covariance, model, device
        As for `estimate`.

    Returns
    -------
    EstimationMethod

    Raises
    ------
    NflaeError
        If something does not exist, is missing or does not fit.
    """
    from nflae_bridge.engine.devices import choose_device
    from simulator.csi.beams import parse_geometry
    from simulator.csi.estimation.users import EstimationMethod

    users, symbols = shape
    arrangement = parse_geometry(geometry)
    try:
        matrix = None if pilots is None else _checked_pilots(pilots, symbols)
        antennas = symbols if matrix is None else matrix.shape[0]
        spread = None if covariance is None else _checked_covariance(covariance, users, antennas)
    except ValueError as error:
        raise NflaeError(str(error)) from None
    arrangement.check(antennas)
    place = choose_device(device)
    chosen = EstimationMethod(
        method,
        arrangement,
        None if matrix is None else matrix.to(place),
        noise_variance,
        csi_snr_db,
        None if spread is None else spread.to(place),
        device=place,
    )
    chosen.check()
    return _with_network(chosen, model)


def _with_network(method: EstimationMethod, model: str) -> EstimationMethod:
    """Load the network of methods that use one; refuse a model of others."""
    from nflae_bridge.network.shipped import load_model
    from simulator.csi.estimation.candidates import GainNetwork

    if method.name not in ("auto", "nflae") or method.pilots is not None or method.geometry.kind == "none":
        if model != "auto":
            needs = "methods auto and nflae, orthogonal pilots and a known geometry"
            raise NflaeError(f"model {model!r} is for {needs}; leave it out")
        return method
    network = cast(GainNetwork, load_model(model, method.device, "estimate").network.to(method.device))
    return replace(method, network=network)


def _checked_pilots(pilots: npt.ArrayLike, symbols: int) -> torch.Tensor:
    """Return the pilot matrix, complex64 (N, symbols)."""
    import torch

    from simulator.csi.estimation.pilots import check_pilots

    matrix = torch.tensor(np.asarray(pilots, np.complex64))
    check_pilots(matrix, symbols)
    return matrix


def _checked_covariance(covariance: npt.ArrayLike, users: int, antennas: int) -> torch.Tensor:
    """Return the covariance of every user or of all, complex128 (users or 1, N, N)."""
    import torch

    wide = np.asarray(covariance, np.complex128)
    wide = wide[None] if wide.ndim == 2 else wide
    if wide.shape not in ((1, antennas, antennas), (users, antennas, antennas)):
        raise ValueError(
            f"the covariance is {' x '.join(map(str, np.shape(covariance)))}, expected {antennas} x {antennas}, or one"
            f" such matrix per user ({users})"
        )
    if not np.isfinite(wide).all():
        raise ValueError("the covariance holds NaN or Inf")
    size = np.abs(wide).max()
    if np.abs(wide - wide.conj().swapaxes(-1, -2)).max() > 1e-4 * size:
        raise ValueError("the covariance is not Hermitian, expected E h h^H")
    if np.linalg.eigvalsh(wide).min() < -1e-4 * size:
        raise ValueError("the covariance has a negative eigenvalue, expected E h h^H")
    return torch.tensor(wide)
