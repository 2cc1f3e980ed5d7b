"""Simulate a radar and a LiDAR on the mast: range-angle maps and points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.sensors.site import Array, Site

__all__ = ["RANGE_BINS", "RANGE_METRES", "points", "radar_map"]

RANGE_BINS, RANGE_METRES = 20, 8.0
_ELEVATIONS = np.radians(np.arange(-57.5, 60, 5))  # of the 24 angle bins
_RANGES = (np.arange(RANGE_BINS) + 0.5) * RANGE_METRES
_NOISE = 0.02
_CLUTTER = 0.8
_REFERENCE = 45.0  # m, at which the mean echo of a drone is 1
_STRONGEST = 3.0
_WALL_POINTS, _DRONE_POINTS, _GROUND_POINTS = 12, 6, 8
_REACH = 80.0  # m, up to which the LiDAR resolves a drone
_SCATTER = 0.3  # m


def radar_map(site: Site, position: Array, in_sight: bool, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return a map of power over distance and elevation: noise, buildings, and a fluctuating echo of the drone.

    Parameters
    ----------
    site
        The site.
    position
        Position of the drone, float64 (3,), m.
    in_sight
        Whether no building is between radar and drone.
    rng
        Source of noise and fluctuation.

    Returns
    -------
    numpy.ndarray
        Power, linear, float32 (20, 24): bins of 8 m, and of 5 degrees from -60 to 60.
    """
    found = rng.exponential(_NOISE, (RANGE_BINS, len(_ELEVATIONS)))
    for west, _, south, north, height in site.boxes:
        found += _CLUTTER * _echo(site, np.array([west, (south + north) / 2, 0.6 * height]))
    if in_sight:
        mean = float(_REFERENCE / np.linalg.norm(position - site.origin)) ** 4
        found += min(_STRONGEST, mean * rng.exponential()) * _echo(site, position)
    return found.astype(np.float32)


def _echo(site: Site, place: Array) -> Array:
    """Return the response of the radar to a point, 1 at its peak."""
    offset = place - site.origin
    elevation = np.arctan2(offset[2], np.hypot(offset[0], offset[1]))
    distance = np.exp(-(((_RANGES - np.linalg.norm(offset)) / 6) ** 2))
    angle = np.exp(-(((_ELEVATIONS - elevation) / np.radians(6)) ** 2))
    return np.asarray(np.outer(distance, angle))


def points(site: Site, position: Array, in_sight: bool, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return reflecting points: on walls that face the mast, on the ground, and of a drone in sight within 80 m.

    Parameters
    ----------
    site
        The site.
    position
        Position of the drone, float64 (3,), m.
    in_sight
        Whether no building is between LiDAR and drone.
    rng
        Source of the points.

    Returns
    -------
    numpy.ndarray
        Positions relative to the sensor, east, north and up, float32 (points, 3), m.
    """
    west, _, south, north, height = (np.repeat(side, _WALL_POINTS) for side in site.boxes.T)
    share = rng.random((2, len(west)))
    walls = np.stack([west, south + share[0] * (north - south), share[1] * height], -1)
    distance, side = rng.uniform(8, 60, _GROUND_POINTS), rng.uniform(-0.7, 0.7, _GROUND_POINTS)
    ground = np.stack([distance, side * distance, 0 * distance], -1)
    parts = [walls[~site.blocked(walls - [1e-3, 0, 0])], ground[~site.blocked(ground)]]
    if in_sight and np.linalg.norm(position - site.origin) < _REACH:
        parts.append(position + _SCATTER * rng.normal(size=(_DRONE_POINTS, 3)))
    return np.asarray(np.concatenate(parts) - site.origin, np.float32)
