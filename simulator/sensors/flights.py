"""Draw smooth three-dimensional flights of drones at a site, and the satellite positions that they report."""

from __future__ import annotations

import math

import numpy as np

from simulator.sensors.site import FARTHEST, NEAREST, SECTOR, Array, Site

__all__ = ["draw_flights", "satellite_positions"]

_SPEED, _SLOWEST, _FASTEST = 12.0, 5.0, 22.0  # m/s
_CLIMB = 8.0  # m/s, at most
_LOWEST, _HIGHEST = 4.0, 45.0  # m
_WIDEST = 30.0  # m, north or south of the mast
_MARGIN = 2.0  # m, to walls and roofs
_BIAS, _WANDER, _WANDER_SECONDS = 1.4, 1.4, 3.2  # m and s, per axis
_NOISE = 0.3  # m


def draw_flights(site: Site, flights: int, steps: int, step_seconds: float, seed: int) -> Array:
    """Draw flights whose speed, heading and climb wander, inside a sector east of the mast and outside of buildings.

    Turn rate, speed and climb are Ornstein-Uhlenbeck processes with time constants of 1.5, 10 and 8 s. Drones turn back
    at the edge of the sector and before buildings.

    Parameters
    ----------
    site
        The site.
    flights, steps
        Their numbers.
    step_seconds
        Time between steps, s.
    seed
        Equal seeds give equal flights.

    Returns
    -------
    numpy.ndarray
        Positions, float64 (flights, steps, 3), m.
    """
    rng = np.random.default_rng([seed, 1])
    place = _starts(site, flights, rng)
    heading = rng.uniform(-math.pi, math.pi, flights)
    turn, speed, climb = np.zeros(flights), rng.uniform(6, 20, flights), rng.normal(size=flights) * 2
    path = np.empty((flights, steps, 3))
    path[:, 0] = place
    for step in range(1, steps):
        turn = _wandered(turn, 0.0, 0.4, 1.5, step_seconds, rng)
        speed = np.clip(_wandered(speed, _SPEED, 4.0, 10.0, step_seconds, rng), _SLOWEST, _FASTEST)
        climb = np.clip(_wandered(climb, 0.0, 4.0, 8.0, step_seconds, rng), -_CLIMB, _CLIMB)
        heading = heading + turn * step_seconds
        velocity = np.stack([speed * np.cos(heading), speed * np.sin(heading), climb], -1)
        following = place + velocity * step_seconds
        high = (following[:, 2] < _LOWEST) | (following[:, 2] > _HIGHEST)
        climb = np.where(high, -climb, climb)
        following[:, 2] = np.clip(following[:, 2], _LOWEST, _HIGHEST)
        turned = ~_allowed(site, following)
        heading = np.where(turned, heading + math.pi, heading)
        place = np.where(turned[:, None], place, following)
        path[:, step] = place
    return path


def _wandered(
    value: Array, mean: float, deviation: float, constant: float, seconds: float, rng: np.random.Generator
) -> Array:
    """Return the next values of Ornstein-Uhlenbeck processes."""
    kept = math.exp(-seconds / constant)
    return mean + kept * (value - mean) + deviation * math.sqrt(1 - kept**2) * rng.normal(size=value.shape)


def _allowed(site: Site, place: Array) -> np.ndarray:
    """Return whether positions are in the sector and outside of buildings, bool (flights,)."""
    east, north = place[:, 0], np.abs(place[:, 1])
    sector = (east > NEAREST) & (east < FARTHEST) & (north < np.minimum(SECTOR * east, _WIDEST))
    return np.asarray(sector & ~site.inside(place, _MARGIN))


def _starts(site: Site, flights: int, rng: np.random.Generator) -> Array:
    """Draw positions in the sector; the highest ones are above all buildings, so that the draw ends."""
    found = np.empty((0, 3))
    while len(found) < flights:
        east = rng.uniform(20, 130, 2 * flights)
        north = SECTOR * east * rng.uniform(-1, 1, 2 * flights)
        drawn = np.stack([east, north, rng.uniform(6, 40, 2 * flights)], -1)
        found = np.concatenate([found, drawn[_allowed(site, drawn)]])
    return found[:flights]


def satellite_positions(positions: Array, step_seconds: float, seed: int) -> Array:
    """Add the error of satellite positions: a bias per flight, a slow wander, and white noise.

    Standard deviations per axis are 1.4 m of the bias, 1.4 m of the wander (time constant 3.2 s) and 0.3 m of the
    noise.

    Parameters
    ----------
    positions
        True positions, float64 (flights, steps, 3), m.
    step_seconds
        Time between steps, s.
    seed
        Equal seeds give equal errors.

    Returns
    -------
    numpy.ndarray
        float64 (flights, steps, 3), m.
    """
    rng = np.random.default_rng([seed, 2])
    flights, steps, _ = positions.shape
    bias = _BIAS * rng.normal(size=(flights, 1, 3))
    wander = _WANDER * rng.normal(size=(flights, 3))
    path = np.empty_like(positions)
    for step in range(steps):
        path[:, step] = wander
        wander = _wandered(wander, 0.0, _WANDER, _WANDER_SECONDS, step_seconds, rng)
    return positions + bias + path + _NOISE * rng.normal(size=positions.shape)
