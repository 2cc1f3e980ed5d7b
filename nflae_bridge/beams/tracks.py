"""Forecast the next beams of tracks by a beam model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from nflae_bridge.beams.model import BeamModel
from simulator.beams.windows import Windows
from simulator.tracking.result import BEAM_SOURCES
from simulator.tracking.tracker import Track

__all__ = ["check_model", "forecast_beams"]

_UNEVEN = 0.5  # largest deviation of the time between two snapshots of a window, of the median
_OF_POWERS = {"power", "beam", "prompt"}  # inputs that beam powers give


def check_model(model: BeamModel, path: Path, beams: int, ahead: int) -> None:
    """Check that a model forecasts the beams of a track from its powers.

    Parameters
    ----------
    model
        The model.
    path
        File of the powers.
    beams, ahead
        Number of beams, and of snapshots to forecast.

    Raises
    ------
    NflaeError
        If the model has another number of beams, forecasts fewer snapshots, or requires more than powers.
    """
    if beams != model.beams:
        raise NflaeError(
            f"{path}: has powers of {beams} beams, the model {model.folder} forecasts {model.beams}; give a model of"
            " this codebook, or leave out --model"
        )
    if ahead > model.ahead:
        raise NflaeError(
            f"--ahead {ahead}: the model {model.folder} forecasts {model.ahead} snapshots; give --ahead {model.ahead}"
        )
    further = ["position"] if model.positions else [name for name in model.inputs() if name not in _OF_POWERS]
    if further:
        raise NflaeError(
            f"{model.folder}: its forecasts require {further[0]}, a track has beam powers alone; train a model with"
            " --no-positions and --inputs power"
        )


def forecast_beams(
    model: BeamModel, found: Track, powers: npt.NDArray[np.float64], times: npt.NDArray[np.float64]
) -> tuple[Track, float]:
    """Replace the next beams of a track by those of the model's chosen forecasters.

    Where one of the powers of the model's past snapshots is missing, or the times between them are uneven, the beams
    of the track remain.

    Parameters
    ----------
    model
        The model, which has passed `check_model`.
    found
        The track.
    powers
        Linear powers, float64 (steps, users, beams); NaN where missing.
    times
        Times of the snapshots, float64 (steps,), s.

    Returns
    -------
    found : Track
        With ``next_beams_source`` ``model``, or ``repeated`` where all chosen forecasters repeat the last beam.
    share : float
        Share of users and snapshots whose beams were replaced.
    """
    steps = len(powers)
    if steps < model.past:
        return found, 0.0
    known = np.isfinite(powers).all(-1) & (np.nan_to_num(powers).max(-1) > 0)
    gaps = np.diff(times)
    even = np.concatenate([[True], np.abs(gaps - np.median(gaps)) <= _UNEVEN * np.median(gaps)])
    rows = np.arange(steps - model.past + 1)[:, None] + np.arange(model.past)
    complete = known[rows].all(1) & even[rows[:, 1:]].all(1)[:, None]  # (windows, users), by their last snapshots
    first, user = np.nonzero(complete)
    if not len(first):
        return found, 0.0
    past = powers[first[:, None] + np.arange(model.past), user[:, None]]
    scores = model.forecast(_windows(past / past.max((1, 2), keepdims=True), model.ahead, user))
    ahead = found.next_beams.shape[2]
    best = np.argsort(-scores[:, :ahead], -1, kind="stable")[..., : found.next_beams.shape[-1]]
    next_beams, source = found.next_beams.copy(), found.next_beams_source.copy()
    last = first + model.past - 1
    next_beams[last, user] = best
    repeated = set(model.choice.default[:ahead]) == {"repeat"}
    source[last, user] = BEAM_SOURCES.index("repeated" if repeated else "model")
    return replace(found, next_beams=next_beams, next_beams_source=source), len(first) / source.size


def _windows(past: npt.NDArray[np.float64], ahead: int, user: npt.NDArray[np.int64]) -> Windows:
    """Return windows of no folder of the training; what follows them is unknown."""
    none = np.full(len(past), -1)
    future = np.zeros((len(past), ahead, past.shape[-1]), np.float32)
    return Windows(past.astype(np.float32), future, None, none, user, none, True, np.arange(len(past)))
