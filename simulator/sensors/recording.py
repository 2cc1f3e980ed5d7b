"""Record flights at a site by a beam sweep, satellites, camera, radar and LiDAR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io.sequences import Sequences
from simulator.geometry.steering import far_field_steering
from simulator.sensors.camera import picture
from simulator.sensors.ranging import points, radar_map
from simulator.sensors.site import Array, Site
from simulator.tracking.tracker import codebook_sines

__all__ = ["Recording", "record"]

_POWER_NOISE = 0.004  # 24 dB below the strongest beam in sight at 60 m
_METRES_PER_DEGREE = (110_540.0, 111_320.0)  # of latitude, and of longitude at the equator


@dataclass(frozen=True)
class Recording:
    """Hold what the sensors of a site record.

    Parameters
    ----------
    sequences
        Beam powers, satellite positions and times, one sequence per flight, flight after flight.
    files
        Recordings of each sample by column: pictures ``unit1_rgb``, radar maps ``unit1_radar``, points
        ``unit1_lidar``.
    """

    sequences: Sequences
    files: Mapping[str, Sequence[npt.NDArray[Any]]]


def record(site: Site, positions: Array, satellites: Array, step_seconds: float, seed: int) -> Recording:
    """Record flights.

    Parameters
    ----------
    site
        The site.
    positions, satellites
        True and reported positions, float64 (flights, steps, 3), m.
    step_seconds
        Time between steps, s.
    seed
        Equal seeds give equal recordings; each seed up to 10^7 has a mast of its own.

    Returns
    -------
    Recording
    """
    rng = np.random.default_rng([seed, 3])
    flights, steps, _ = positions.shape
    flat = positions.reshape(-1, 3)
    number = np.repeat(np.arange(1, flights + 1), steps)
    sight = ~site.blocked(flat)
    mast = np.array([40 + seed // 1000 % 10_000 * 2e-3, 5 + seed % 1000 * 2e-3, site.array.height])
    sequences = Sequences(
        Path("site"),
        _powers(site, flat, rng),
        True,
        number,
        np.arange(len(flat)),
        number,
        _geographic(mast, satellites.reshape(-1, 3)),
        np.tile(mast, (len(flat), 1)),
        np.tile(step_seconds * np.arange(steps), flights),
    )
    light = np.repeat(rng.uniform(0.5, 1.1, flights), steps)
    samples: list[tuple[Array, bool]] = list(zip(flat, sight.tolist(), strict=True))
    files: dict[str, list[npt.NDArray[Any]]] = {
        "unit1_rgb": [picture(site, *each, day, rng) for each, day in zip(samples, light, strict=True)],
        "unit1_radar": [radar_map(site, *each, rng) for each in samples],
        "unit1_lidar": [points(site, *each, rng) for each in samples],
    }
    return Recording(sequences, files)


def _powers(site: Site, flat: Array, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Measure the powers of the codebook with as many beams as antennas, float32 (samples, beams)."""
    code = far_field_steering(site.array, torch.asin(codebook_sines(site.array.antennas))).conj()
    received = (site.channels(flat) @ code.T).numpy()
    noise = rng.normal(size=(2, *received.shape)) * np.sqrt(_POWER_NOISE / 2)
    return np.asarray(np.abs(received + noise[0] + 1j * noise[1]) ** 2, np.float32)


def _geographic(mast: Array, positions: Array) -> Array:
    """Return latitude, longitude and height of positions relative to the mast's foot."""
    north, east = _METRES_PER_DEGREE
    longitude = mast[1] + positions[:, 0] / (east * np.cos(np.radians(mast[0])))
    return np.stack([mast[0] + positions[:, 1] / north, longitude, positions[:, 2]], -1)
