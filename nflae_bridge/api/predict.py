"""Predict NumPy arrays of channels in one call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import checked
from matlab_io.errors import NflaeError
from matlab_io.extras import explain_import
from matlab_io.labelled import ArrayResult, LabelledArray, LabelledSet
from matlab_io.reading.arrays import read_array
from matlab_io.result import PATH_ARRAYS, PREDICTION_ARRAYS

if TYPE_CHECKING:
    from simulator.csi.prediction.users import PredictionMethod


_MAX_SNR_DB = 300.0


@dataclass(frozen=True, eq=False, repr=False)
class PredictedChannels(ArrayResult):
    """Hold predicted channels; two results are equal only if they are one object.

    Parameters
    ----------
    channels : numpy.ndarray
        Complex64, (ahead, users, antennas), 1 to ``ahead`` snapshots after the last; rows h_k with y_k = h_k^H x.
    csi_error_db : numpy.ndarray
        Estimated error of each, energy over that of the channel, dB, float64 (ahead, users); NaN if unknown.
    method : tuple of str
        Method used, per user.
    notes : tuple of str
        Lines about the history: gaps filled, uneven times, faults where forced.
    doppler_hz, doppler_cycles, path_gain : numpy.ndarray or None
        Doppler shifts, Hz where times are given, else cycles per snapshot, and mean powers per antenna of each user's
        paths, float64 (users, paths), the strongest first, filled up with NaN; None without ``paths``.
    """

    channels: npt.NDArray[np.complex64]
    csi_error_db: npt.NDArray[np.float64]
    method: tuple[str, ...]
    notes: tuple[str, ...] = ()
    doppler_hz: npt.NDArray[np.float64] | None = None
    doppler_cycles: npt.NDArray[np.float64] | None = None
    path_gain: npt.NDArray[np.float64] | None = None

    def labelled(self) -> LabelledSet:
        """Return the arrays with the names of their axes; ``ahead`` counts the snapshots after the last from 1."""
        found = [entry.label(getattr(self, entry.field), "ahead") for entry in PREDICTION_ARRAYS[:2]]
        found.append(LabelledArray("method", ("user",), np.array(self.method), "", "method used"))
        paths = ((entry, getattr(self, entry.field, None)) for entry in PATH_ARRAYS)
        found += [entry.label(values) for entry, values in paths if values is not None]
        ahead = np.arange(1, len(self.channels) + 1).tolist()
        return LabelledSet(tuple(found), {"ahead": ahead}, {"notes": list(self.notes)} if self.notes else {})


@checked()
def predict(
    history: npt.ArrayLike,
    times: npt.ArrayLike | None = None,
    ahead: int = 4,
    *,
    method: str = "auto",
    geometry: str = "none",
    csi_snr_db: float | None = None,
    layout: str | None = None,
    convention: str | None = None,
    receive_antennas: str | None = None,
    model: str | Path = "auto",
    device: str = "auto",
    force: bool = False,
    paths: bool = False,
) -> PredictedChannels:
    """Predict the channels after a history of snapshots.

    Parameters
    ----------
    history : array_like
        Complex, (snapshots, users, antennas), oldest first. Up to a quarter of a user's snapshots may be gaps (NaN, Inf
        or zero at every antenna): those in between are filled, those after the last known one predicted.
    times : array_like, optional
        Times of the snapshots, s, rising; uneven ones are resampled. By default the snapshots are evenly spaced.
    ahead : int
        Snapshots to predict, at most half of those of the history.
    method, geometry : str
        See `simulator.csi.prediction.registry.predict_window` (a single snapshot is held); ``"none"``, ``"line"`` or
        ``"panel:ROWSxCOLUMNS"``.
    csi_snr_db : float, optional
        SNR per antenna of the snapshots, dB; by default estimated from the history.
    layout, convention, receive_antennas, model, device : str, optional
        As for `nflae_bridge.precode`; the drops are the snapshots.
    force : bool
        Predict although the snapshots do not look like a sequence.
    paths : bool
        Find the paths of every user as well.

    Returns
    -------
    PredictedChannels

    Raises
    ------
    NflaeError
        If the history is no sequence or has too many gaps, times do not rise, or an argument does not fit; the message
        is one line, snapshots and users counted from 1.
    """
    check_axes(history, layout)
    snapshots, _ = read_array(history, layout, convention, receive_antennas)
    try:
        chosen = prediction_method(ahead, method, geometry, csi_snr_db, str(model), device)
        found = _predict(snapshots, times, chosen, force, paths)
    except ModuleNotFoundError as error:
        raise explain_import(error, "nflae_bridge.predict") from error
    if device.startswith("cuda"):
        found = replace(found, notes=(*found.notes, f"device {device}: a prediction is computed on the CPU"))
    return found


def check_axes(history: npt.ArrayLike, layout: str | None) -> None:
    """Refuse two axes that nothing names: `read_array` takes them for users in one snapshot.

    Parameters
    ----------
    history, layout
        As for `predict`.

    Raises
    ------
    NflaeError
        If the history has two axes and no layout.
    """
    if layout is None and np.ndim(history) == 2:
        raise NflaeError(
            f"history {np.shape(history)} has two axes: pass history[:, None] for snapshots of one user, or"
            " history[None] for users in one snapshot"
        )


def _predict(
    snapshots: npt.NDArray[np.complex64],
    times: npt.ArrayLike | None,
    method: PredictionMethod,
    force: bool,
    paths: bool,
) -> PredictedChannels:
    """Check and prepare a history and predict what follows; errors name the history."""
    import torch

    from simulator.csi.prediction.users import check_ahead, paths_of_users, predict_users
    from simulator.csi.sequences.history import check_gaps, take_snapshots
    from simulator.csi.sequences.order import check_sequence

    def name(index: int) -> str:
        return f"snapshot {index + 1}"

    if times is not None and np.iscomplexobj(times):
        raise NflaeError("times must be real numbers of seconds, got complex ones")
    instants = None if times is None else torch.tensor(np.asarray(times, np.float64))
    try:
        method.geometry.check(snapshots.shape[-1])
        taken = take_snapshots(torch.from_numpy(snapshots), instants)
        check_ahead(method.ahead, len(taken.channels))
        fault = check_sequence(taken.channels, taken.missing, name, "pass force=True", force)
        gaps = check_gaps(taken.missing, name)
    except NflaeError as error:
        raise NflaeError(f"history: {error}") from None
    found = predict_users(taken.channels.unsqueeze(0), taken.missing.unsqueeze(0), method)
    held = "one snapshot has no past: it is held" if len(taken.channels) == 1 else None
    notes = tuple(note for note in (*taken.notes, held, fault, gaps) if note)
    result = PredictedChannels(
        found.channels[0].cpu().numpy(), found.csi_error_db[0].cpu().numpy(), tuple(found.method), notes
    )
    if not paths:
        return result
    waves = paths_of_users(taken.channels[None, :, None], taken.missing[None, :, None], method.csi_snr_db)
    cycles, spacing = waves.doppler[0].numpy(), taken.spacing
    doppler = {"doppler_cycles": cycles} if spacing is None else {"doppler_hz": cycles / spacing}
    return replace(result, path_gain=waves.power[0].numpy(), **doppler)


def prediction_method(
    ahead: int, method: str, geometry: str, csi_snr_db: float | None, model: str = "auto", device: str = "auto"
) -> PredictionMethod:
    """Check the arguments of a prediction and load what it needs.

    Parameters
    ----------
    ahead : int
        Snapshots to predict.
    method, geometry, csi_snr_db, model, device
        As for `predict`.

    Returns
    -------
    PredictionMethod

    Raises
    ------
    NflaeError
        If there is no such method, geometry or device, or the SNR is not finite.
    """
    from nflae_bridge.engine.devices import choose_device
    from nflae_bridge.tasks.predict import load_predictor
    from simulator.csi.beams import parse_geometry
    from simulator.csi.prediction.registry import check_method
    from simulator.csi.prediction.users import PredictionMethod

    if csi_snr_db is not None and not abs(csi_snr_db) <= _MAX_SNR_DB:
        raise NflaeError(f"csi_snr_db must be a number of dB from -300 to 300, or None, got {csi_snr_db}")
    choose_device(device)  # only checked: a prediction is computed where its history is, on the CPU
    learned = check_method(method) in ("auto", "nflae")
    if model != "auto" and not learned:
        raise NflaeError(f"model {model!r} is of methods auto and nflae; leave it out with method {method!r}")
    network = load_predictor(model) if learned else None
    return PredictionMethod(ahead, method, parse_geometry(geometry), csi_snr_db, network)
