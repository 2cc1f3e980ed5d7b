"""Filter positions by an extended Kalman filter over waves, satellite positions and detections.

State per user: position (x, z) in the plane of `simulator.geometry.arrays`, velocity, and the error of the satellite
positions in two parts: a constant bias, and a Gauss-Markov process that forgets. While a user is in sight its waves
measure both; afterwards the estimate of the process fades, that of the bias stays. The angle and the curvature 1 / r of
the strongest spherical wave are separate measurements: beyond the near field the curvature has a large variance and
leaves the distance to the other sensor. A measurement whose innovation is implausible is left out, so that a reflection
does not move a blocked user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.geometry.arrays import UniformLinearArray
from simulator.tracking.result import CSI, DETECTION, GPS

__all__ = ["NO_CURVATURE", "RESOLVED", "Fixes", "TrackFilter", "TrackSettings"]

Array = npt.NDArray[np.float64]
_STATES = 8  # position, velocity, bias and wander of satellite positions, two each
_SPEED = 10.0  # m/s, standard deviation of a velocity at the start
_GATE = 9.0  # squared innovation per component, in variances
_GPS_GATE = 100.0
_CONTRADICTION = 9.0  # between wave and satellite position, in variances
_SIGHT = 0.45  # of the channel's energy in one spherical wave, from which on the wave is the line of sight
_MULTIPATH = 1.5  # factor on the standard deviations of white noise
_CORRELATED = 0.4  # beam widths, deviation of angles by reflections that last for several steps
_ITERATIONS = 4
RESOLVED = 0.25  # relative standard deviation of a distance that is resolved
_MISSES = 3  # implausible waves in a row after which a user is located anew
_FORGOTTEN = 9.0  # on the variance of a start from measurements that correct it, too
_FARTHEST = 200.0  # m, of a start without satellite position
_USUAL = 50.0  # m, of a start without any distance
_NO_DISTANCE = 1e6  # m, standard deviation of the distance of an object without one
NO_CURVATURE = 1e3  # 1/m, standard deviation of the curvature where there is none


@dataclass(frozen=True)
class TrackSettings:
    """Hold standard deviations of the motion and of the satellite positions.

    Parameters
    ----------
    acceleration
        Of the velocity after a second, m/s.
    gps_noise
        Of the satellite positions from step to step, m.
    gps_bias, gps_wander
        Of their constant bias and of the slow process beside it, m.
    gps_wander_seconds
        Time constant of this process, s.
    detection_angle, detection_distance
        Of detections by a camera or a radar at the array, rad and m.
    """

    acceleration: float = 5.0
    gps_noise: float = 0.6
    gps_bias: float = 1.5
    gps_wander: float = 1.5
    gps_wander_seconds: float = 3.5
    detection_angle: float = math.radians(0.5)
    detection_distance: float = 1.0

    @property
    def gps_variance(self) -> float:
        """Variance of one satellite position per axis, m^2."""
        return self.gps_noise**2 + self.gps_bias**2 + self.gps_wander**2


@dataclass(frozen=True)
class Fixes:
    """Hold the measurements of one step.

    Parameters
    ----------
    angle, distance
        Of the strongest spherical wave, float64 (users,), rad from the array's normal and m; NaN without one, and an
        infinite distance where the wave has no curvature.
    share
        Share of the channel's energy in this wave, float64 (users,).
    gps
        Satellite positions (x, z), float64 (users, 2), m; NaN without one.
    angle_deviation
        Standard deviation of angles without curvature, rad, float64 (users,); None for those of waves in white noise.
    detections
        Angle from the array's normal and distance of the objects that another sensor at the array has detected, of no
        known user, float64 (objects, 2), rad and m; an infinite distance where it measures angles alone.
    """

    angle: Array
    distance: Array
    share: Array
    gps: Array
    angle_deviation: Array | None = None
    detections: Array | None = None

    def deviations(self, array: UniformLinearArray) -> tuple[Array, Array]:
        """Return the standard deviations of angle, rad, and curvature 1 / r, 1/m, each (users,).

        Cramer-Rao bounds of the first and second phase difference along N elements at the SNR share / (1 - share),
        which counts multipath as noise, times 1.5.

        Parameters
        ----------
        array
            The array.

        Returns
        -------
        angle, curvature : numpy.ndarray
        """
        if self.angle_deviation is not None:
            return np.nan_to_num(self.angle_deviation, nan=1.0), np.full(len(self.angle), NO_CURVATURE)
        share = np.clip(np.nan_to_num(self.share), 1e-3, 1 - 1e-4)
        noise = _MULTIPATH * np.sqrt((1 - share) / share / array.antennas)
        cosine = np.maximum(np.cos(np.nan_to_num(self.angle)), 0.1)
        angle = noise * math.sqrt(6) / (math.pi * array.antennas * cosine)
        curvature = noise * math.sqrt(90) / math.pi * array.wavelength / (array.aperture * cosine) ** 2
        return angle, curvature


class TrackFilter:
    """Follow users from step to step.

    Parameters
    ----------
    array
        The array.
    first
        Measurements of the first step; users with neither start 50 m away on the array's normal, uncertain.
    settings
        Standard deviations.
    """

    def __init__(self, array: UniformLinearArray, first: Fixes, settings: TrackSettings) -> None:
        self.array, self.settings = array, settings
        users = len(first.angle)
        self.state = np.zeros((users, _STATES))
        self.covariance = np.zeros((users, _STATES, _STATES))
        self.misses = np.zeros(users, np.int64)
        self.ranged = np.zeros(users, np.bool_)  # a sensor has resolved the distance since the start
        self._start(first, np.ones(users, np.bool_), np.full(users, _USUAL))
        self.covariance[:, :2, :2] *= _FORGOTTEN
        seen = np.isfinite(first.gps).all(-1)
        self.state[seen, :2] = first.gps[seen]
        self.covariance[seen, :2, :2] = np.eye(2) * settings.gps_variance

    def _start(self, fixes: Fixes, chosen: npt.NDArray[np.bool_], supposed: Array) -> None:
        """Locate users by their waves alone, else at a supposed distance, at rest, with the bias unknown."""
        sigma_angle, sigma_curvature = fixes.deviations(self.array)
        known = np.isfinite(fixes.angle)
        distance = np.clip(np.where(np.isfinite(fixes.distance), fixes.distance, supposed), 1.0, _FARTHEST)
        depression = np.nan_to_num(fixes.angle) + self.array.tilt
        along = np.stack([np.cos(depression), -np.sin(depression)], -1)
        across = np.stack([np.sin(depression), np.cos(depression)], -1)
        radial = np.where(known, np.minimum(sigma_curvature * distance**2, distance), _USUAL) + 0.5
        lateral = np.where(known, sigma_angle * distance, _USUAL) + 0.05
        place = np.einsum("u,ui,uj->uij", radial**2, along, along) + np.einsum(
            "u,ui,uj->uij", lateral**2, across, across
        )
        state = np.zeros_like(self.state)
        state[:, :2] = distance[:, None] * along + [0.0, self.array.height]
        covariance = np.zeros_like(self.covariance)
        covariance[:, :2, :2] = place
        covariance[:, [2, 3], [2, 3]] = _SPEED**2
        covariance[:, [4, 5], [4, 5]] = self.settings.gps_bias**2
        covariance[:, [6, 7], [6, 7]] = self.settings.gps_wander**2
        self.state[chosen], self.covariance[chosen], self.ranged[chosen] = state[chosen], covariance[chosen], False

    def predicted(self, seconds: float) -> tuple[Array, Array]:
        """Return state and covariance after a time.

        Parameters
        ----------
        seconds
            The time, s.

        Returns
        -------
        state, covariance : numpy.ndarray
            (users, 8) and (users, 8, 8).
        """
        kept = math.exp(-seconds / self.settings.gps_wander_seconds)
        step = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, kept, kept])
        step[0, 2] = step[1, 3] = seconds
        motion = self.settings.acceleration**2 * seconds
        noise = np.zeros((_STATES, _STATES))
        for place in (0, 1):
            noise[place, place], noise[place + 2, place + 2] = motion * seconds**2 / 3, motion
            noise[place, place + 2] = noise[place + 2, place] = motion * seconds / 2
            noise[place + 6, place + 6] = self.settings.gps_wander**2 * (1 - kept**2)
        return self.state @ step.T, step @ self.covariance @ step.T + noise

    def update(
        self, fixes: Fixes, seconds: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Predict the users and correct them by the measurements.

        Parameters
        ----------
        fixes
            Measurements.
        seconds
            Time since the last step, s; 0 in the first.

        Returns
        -------
        source, distance_source : numpy.ndarray
            Indices into `simulator.tracking.result.SOURCES`, int64 (users,): the sensors that were accepted, and those
            of them that resolve the distance by themselves.
        contradicted : numpy.ndarray
            Strong waves that do not fit the satellite position, bool (users,).
        """
        if seconds > 0:
            self.state, self.covariance = self.predicted(seconds)
        gps = np.zeros((len(self.state), 2, _STATES))
        gps[:, 0, [0, 4, 6]] = gps[:, 1, [1, 5, 7]] = 1
        expected = self.state[:, :2] + self.state[:, 4:6] + self.state[:, 6:]
        noise = np.full((len(self.state), 2), self.settings.gps_noise**2)
        satellite = self._correct(fixes.gps - expected, gps, noise, _GPS_GATE)
        sight = np.isfinite(fixes.angle) & (np.nan_to_num(fixes.share) > _SIGHT)
        deviations = fixes.deviations(self.array)
        contradicted = sight & self._contradicted(fixes, np.stack(deviations, -1))
        sight &= ~contradicted
        width = 2 / (self.array.antennas * np.maximum(np.cos(np.nan_to_num(fixes.angle)), 0.1))
        assumed = np.stack([np.hypot(deviations[0], _CORRELATED * width), deviations[1]], -1)
        measured = np.stack([fixes.angle + self.array.tilt, 1 / fixes.distance], -1)
        wave = self._correct_iterated(measured, assumed, sight, curved=True)
        self.misses = np.where(sight & ~wave, self.misses + 1, np.where(wave, 0, self.misses))
        lost = (self.misses >= _MISSES) & ~satellite  # else the waves are reflections
        if lost.any():
            self._start(fixes, lost, self._distances())
            self.misses[lost] = 0
        detected, ranged = self._correct_by_detections(fixes.detections)
        resolved = (wave | lost) & (deviations[1] * self._distances() < RESOLVED)
        self.ranged |= resolved | satellite | ranged
        source = CSI * (wave | lost) + GPS * satellite + DETECTION * detected
        return source, CSI * resolved + GPS * satellite + DETECTION * ranged, contradicted

    def _contradicted(self, fixes: Fixes, deviations: Array) -> npt.NDArray[np.bool_]:
        """Return the users whose wave does not fit their satellite position, even with its bias: a reflection."""
        known = np.isfinite(fixes.gps[:, 0]) & np.isfinite(fixes.gps[:, 1])
        place = np.concatenate([np.nan_to_num(fixes.gps), np.zeros((len(known), _STATES - 2))], -1)
        expected, slope = self._seen(place, curved=True)
        variance = self.settings.gps_variance * (slope**2).sum(-1) + deviations**2
        away = np.stack([fixes.angle + self.array.tilt, 1 / fixes.distance], -1) - expected
        away[:, 0] = (away[:, 0] + np.pi) % (2 * np.pi) - np.pi
        contradicted: npt.NDArray[np.bool_] = known & (away**2 > _CONTRADICTION * variance).any(-1)
        return contradicted

    def doubt(self, fixes: Fixes) -> Array:
        """Return the least deviation of distances that no sensor has resolved: bearings seem to fix them by themselves.

        Parameters
        ----------
        fixes
            Measurements of the step.

        Returns
        -------
        numpy.ndarray
            float64 (users,), m: of the curvature of the single wave, at 50 m or more; 0 where resolved since the start.
        """
        least = np.clip(self._distances(), _USUAL, _FARTHEST)
        return np.where(self.ranged, 0.0, np.minimum(fixes.deviations(self.array)[1] * least**2, least))

    def _distances(self) -> Array:
        return np.hypot(self.state[:, 0], self.state[:, 1] - self.array.height)

    def _correct_by_detections(self, detections: Array | None) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Give each detection to the user that it fits best, and correct them; users corrected, and in distance."""
        users = len(self.state)
        chosen = np.full(users, -1)
        if detections is None or not len(detections):
            return chosen >= 0, chosen >= 0
        ranged = np.isfinite(detections[:, 1])
        deviations = np.full(detections.shape, self.settings.detection_angle)
        deviations[:, 1] = np.where(ranged, self.settings.detection_distance, _NO_DISTANCE)
        expected, slope = self._seen(self.state, curved=False)
        spread = np.diagonal(slope @ self.covariance @ slope.swapaxes(1, 2), axis1=1, axis2=2)
        measured = np.stack([detections[:, 0] + self.array.tilt, np.where(ranged, detections[:, 1], _USUAL)], -1)
        away = (measured - expected[:, None]) ** 2 / (spread[:, None] + deviations**2)  # (users, objects, 2)
        misfit = np.where(np.isfinite(away).all(-1) & (away < _GATE).all(-1), away.sum(-1), np.inf)
        while np.isfinite(misfit).any():
            user, number = np.unravel_index(misfit.argmin(), misfit.shape)
            chosen[user] = number
            misfit[user], misfit[:, number] = np.inf, np.inf
        accepted = self._correct_iterated(measured[chosen], deviations[chosen], chosen >= 0, curved=False)
        return accepted, accepted & ranged[chosen]

    def _seen(self, state: Array, curved: bool) -> tuple[Array, Array]:
        """Return depression angle and curvature, or distance, of states, (users, 2), with slopes, (users, 2, 8)."""
        x, z = state[:, 0], state[:, 1] - self.array.height
        squared = np.maximum(x**2 + z**2, 1e-2)
        slope = np.zeros((len(x), 2, _STATES))
        slope[:, 0, 0], slope[:, 0, 1] = z / squared, -x / squared
        power, sign = (1.5, -1) if curved else (0.5, 1)
        slope[:, 1, 0], slope[:, 1, 1] = sign * x / squared**power, sign * z / squared**power
        return np.stack([np.arctan2(-z, x), squared ** (sign / 2)], -1), slope

    def _correct_iterated(
        self, measured: Array, deviations: Array, sight: npt.NDArray[np.bool_], curved: bool
    ) -> npt.NDArray[np.bool_]:
        """Apply measurements as `_seen` by an iterated update: the angle is far more accurate than the prediction."""
        variance, measured = deviations**2, np.where(sight[:, None], measured, np.nan)
        prior, covariance = self.state, self.covariance
        point, accepted = prior, sight
        for iteration in range(_ITERATIONS):
            expected, slope = self._seen(point, curved)
            innovation = measured - expected
            innovation[:, 0] = (innovation[:, 0] + np.pi) % (2 * np.pi) - np.pi
            innovation = innovation - (slope @ (prior - point)[..., None])[..., 0]
            self.state, self.covariance = prior, covariance
            gate = _GATE if iteration == 0 else np.inf
            accepted = accepted & self._correct(np.where(accepted[:, None], innovation, np.nan), slope, variance, gate)
            point = self.state
        return accepted

    def _correct(self, innovation: Array, slope: Array, variance: Array, gate: float) -> npt.NDArray[np.bool_]:
        """Apply a measurement to the users for which it is plausible; NaN is none."""
        size = innovation.shape[1]
        spread = slope @ self.covariance @ slope.swapaxes(1, 2)
        spread[:, np.arange(size), np.arange(size)] += variance
        known = np.isfinite(innovation).all(-1)
        value = np.nan_to_num(innovation)[..., None]
        distance = (value * np.linalg.solve(spread, value)).sum((1, 2))
        accepted: npt.NDArray[np.bool_] = known & (distance <= gate * size)
        gain = self.covariance @ slope.swapaxes(1, 2) @ np.linalg.inv(spread)
        gain[~accepted] = 0
        self.state = self.state + (gain @ value)[..., 0]
        reduced = (np.eye(_STATES) - gain @ slope) @ self.covariance
        self.covariance = (reduced + reduced.swapaxes(1, 2)) / 2
        return accepted
