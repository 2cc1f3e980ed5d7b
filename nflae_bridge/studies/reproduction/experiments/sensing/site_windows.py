"""Draw windows of recorded flights at a synthetic site, with every input of the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nflae_bridge.beams.recordings import RECORDED, values_of
from simulator.beams.windows import Windows, cut_windows
from simulator.geometry.arrays import UniformLinearArray
from simulator.sensors.flights import draw_flights, satellite_positions
from simulator.sensors.recording import record
from simulator.sensors.site import draw_site

__all__ = ["AHEAD", "PAST", "draw_windows"]

PAST, AHEAD = 5, 3
_ANTENNAS, _CARRIER, _HEIGHT = 64, 30e9, 15.0  # number, Hz, m
_STEP_SECONDS, _STEPS = 1 / 3, 24
_COLUMNS = {
    "picture": "unit1_rgb",
    "vision": "unit1_rgb",
    "radar": "unit1_radar",
    "points": "unit1_lidar",
    "located": "unit1_lidar",
}


def draw_windows(inputs: Sequence[str], flights: int, seed: int) -> Windows:
    """Draw a site, flights of 8 s and their recordings.

    Parameters
    ----------
    inputs
        Names of the inputs.
    flights
        Number of flights.
    seed
        Seed of site, flights and noise.

    Returns
    -------
    Windows
        Windows of 5 past samples and 3 ahead, a third of a second apart; powers of 64 beams.
    """
    array = UniformLinearArray(_ANTENNAS, _CARRIER, _HEIGHT, 0.0)
    scene = draw_site(array, seed)
    positions = draw_flights(scene, flights, _STEPS, _STEP_SECONDS, seed)
    recording = record(scene, positions, satellite_positions(positions, _STEP_SECONDS, seed), _STEP_SECONDS, seed)
    files = dict(recording.files)
    if any(RECORDED[name].column.startswith(r"unit\d+_csi") for name in inputs if name in RECORDED):
        channels = scene.channels(positions.reshape(-1, 3)).numpy()
        files["unit1_csi"] = list(np.asarray(channels))
    recorded = {name: values_of(name, files[_COLUMNS.get(name, "unit1_csi")]) for name in inputs if name in RECORDED}
    return cut_windows([recording.sequences], PAST, AHEAD, recorded)
