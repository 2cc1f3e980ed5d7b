"""Track users through all snapshots of a recording."""

from __future__ import annotations

import numpy as np

from simulator.geometry.arrays import UniformLinearArray
from simulator.tracking.filter import Array, TrackSettings
from simulator.tracking.tracker import Observations, Track, Tracker

__all__ = ["track"]


def track(
    array: UniformLinearArray,
    seen: Observations,
    step_seconds: float | Array,
    ahead: int = 3,
    settings: TrackSettings | None = None,
) -> Track:
    """Track all users through successive snapshots, each step from those up to it.

    Parameters
    ----------
    array
        The array.
    seen
        The measurements of all snapshots.
    step_seconds
        Time between snapshots, or the times of all, float64 (steps,), s.
    ahead
        Steps for which beams are forecast.
    settings
        Standard deviations; None: those of drones.

    Returns
    -------
    Track

    Raises
    ------
    ValueError
        If the times do not rise.
    """
    times = np.asarray(step_seconds, np.float64)
    return Tracker(array, ahead, settings).advance(times if times.ndim else times * np.arange(seen.shape[0]), seen)
