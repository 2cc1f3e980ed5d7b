"""Follow users through successive blocks of snapshots, with the state between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.localization import most_likely_positions
from simulator.geometry.steering import far_field_steering, near_field_steering
from simulator.tracking.beam_powers import lobe_angles
from simulator.tracking.filter import RESOLVED, Array, Fixes, TrackFilter, TrackSettings
from simulator.tracking.phase_sign import PhaseSign
from simulator.tracking.result import CSI

__all__ = ["Observations", "Track", "Tracker", "codebook_sines"]

_MEASURED, _POSITION, _REPEATED = range(3)  # of `simulator.tracking.result.BEAM_SOURCES`


@dataclass(frozen=True)
class Track:
    """Hold the tracks of users.

    Parameters
    ----------
    position
        x and height, float64 (steps, users, 2), m.
    deviation
        Standard deviation of the position, root of the sum over both axes, float64 (steps, users), m.
    angle, angle_deviation, distance
        From the array's normal, with its standard deviation, rad, and from its centre, m; float64 (steps, users). The
        angle of a user in sight is that of its wave.
    distance_resolved
        Whether a sensor has resolved the distance, and its standard deviation is below a quarter of it, bool (steps,
        users).
    in_sight
        Whether one plausible wave holds 45 % of the energy or more, bool (steps, users).
    source, angle_source, distance_source
        Sensors behind position, angle and distance, indices into `simulator.tracking.result.SOURCES`, int64 (steps,
        users). A plausible wave alone gives the angle; the distance is that of the sensors which resolve it.
    beam
        Strongest beam of the codebook now, from 0, int64 (steps, users).
    next_beams
        Best three beams of the following steps, best first, int64 (steps, users, ahead, 3).
    beam_source, next_beams_source
        Origins of the beams, indices into `simulator.tracking.result.BEAM_SOURCES`, int64 (steps, users).
    contradicted
        Whether a wave of 45 % of the energy or more does not fit the satellite position, bool (steps, users).
    conjugated
        Whether the channels have phases exp(+j k r), so that angles and beams are those of their conjugates; None of
        beam powers, and where the waves are too plane to tell: exp(-j k r) is assumed.
    """

    position: Array
    deviation: Array
    angle: Array
    angle_deviation: Array
    distance: Array
    distance_resolved: npt.NDArray[np.bool_]
    in_sight: npt.NDArray[np.bool_]
    source: npt.NDArray[np.int64]
    angle_source: npt.NDArray[np.int64]
    distance_source: npt.NDArray[np.int64]
    beam: npt.NDArray[np.int64]
    next_beams: npt.NDArray[np.int64]
    beam_source: npt.NDArray[np.int64]
    next_beams_source: npt.NDArray[np.int64]
    contradicted: npt.NDArray[np.bool_]
    conjugated: bool | None


@dataclass(frozen=True)
class Observations:
    """Hold the measurements of successive snapshots, channels or powers and perhaps others.

    Parameters
    ----------
    channels
        complex64 (steps, users, antennas), of any scale and phase; NaN or zero where missing.
    powers
        Linear power per beam, float64 (steps, users, beams); NaN where missing.
    gps
        Satellite positions, x and height, float64 (steps, users, 2), m, NaN where missing.
    detections
        Angle from the array's normal and distance of detected objects, float64 (steps, objects, 2), rad and m; NaN
        where fewer are detected, and an infinite distance where there is only an angle.
    """

    channels: Tensor | None = None
    powers: Array | None = None
    gps: Array | None = None
    detections: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and users."""
        measured = self.powers if self.channels is None else self.channels
        if measured is None:
            raise ValueError("a track requires channels or beam powers")
        return measured.shape[0], measured.shape[1]


def codebook_sines(antennas: int) -> Tensor:
    """Return sin(theta) of the beams of the codebook, as many as antennas, evenly spaced.

    Parameters
    ----------
    antennas
        N.

    Returns
    -------
    Tensor
        float64 (antennas,), ascending.
    """
    return (2 * torch.arange(antennas, dtype=torch.float64) + 1) / antennas - 1


class Tracker:
    """Follow the users of an array.

    Parameters
    ----------
    array
        The array.
    ahead
        Steps for which beams are forecast.
    settings
        Standard deviations; None: those of drones.
    sines
        sin(theta) of the beams of measured powers, ascending, float64 (beams,); None: evenly spaced, as many as there
        are powers.
    """

    def __init__(
        self,
        array: UniformLinearArray,
        ahead: int = 3,
        settings: TrackSettings | None = None,
        sines: Array | None = None,
    ) -> None:
        self.array, self.ahead = array, ahead
        self.time: float | None = None  # of the last step, s
        self._settings = settings or TrackSettings()
        self._sines = sines
        self._filter: TrackFilter | None = None
        self._sign = PhaseSign(array)
        self._step = 0.0  # last time between steps, s
        self._code: Tensor | None = None

    @property
    def users(self) -> int | None:
        """Number of users; None before the first step."""
        return None if self._filter is None else len(self._filter.state)

    def advance(self, times: Array, seen: Observations) -> Track:
        """Track all users through further snapshots, each step from those up to it.

        Parameters
        ----------
        times
            Times of the snapshots, rising, float64 (steps,), s.
        seen
            The measurements.

        Returns
        -------
        Track

        Raises
        ------
        ValueError
            If the times do not rise, or the number of users or beams changes.
        """
        steps, users = seen.shape
        if len(times) != steps or not np.isfinite(times).all():
            raise ValueError(f"{len(times)} times for {steps} snapshots; give one finite number each, s")
        gaps = np.diff(times, prepend=times[0] if self.time is None else self.time)
        late = np.flatnonzero(gaps[self.time is None :] <= 0)
        if len(late):
            number = int(late[0]) + (self.time is None)
            before = times[number - 1] if number else self.time
            raise ValueError(
                f"time {times[number]:g} s of snapshot {number + 1} is not after {before:g} s, the one before; put"
                " the snapshots in order of time"
            )
        if self.users not in (None, users):
            raise ValueError(f"{users} users: this track has {self.users}")
        if not self._step and steps > 1:
            self._step = float(times[1] - times[0])
        fixes, known, best = self._measure(seen)
        if self._filter is None:
            self._filter = TrackFilter(self.array, fixes[0], self._settings)
        rows = [self._advance(gap, *each) for gap, *each in zip(gaps, fixes, known, best, strict=True)]
        self.time = float(times[-1])
        fields: list[Any] = [*map(np.stack, zip(*rows, strict=True)), self._sign.conjugated]
        return Track(*fields)

    def _measure(self, seen: Observations) -> tuple[list[Fixes], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Return the fixes of each step, whether there are channels or powers, and the best three beams."""
        steps, users = seen.shape
        if self._filter is not None and (seen.channels is None) != (self._code is None):
            raise ValueError("a track is of channels or of beam powers throughout; begin another one")
        if seen.channels is not None:
            angle, distance, share, known, power = self._waves(seen.channels)
            deviation: list[Array | None] = [None] * steps
        else:
            assert seen.powers is not None
            beams = seen.powers.shape[-1]
            if self._sines is None:
                self._sines = codebook_sines(beams).numpy()
            found = lobe_angles(seen.powers.reshape(-1, beams).astype(np.float64), self._sines)
            angle, spread, share = (values.reshape(steps, users) for values in found)
            deviation, known = list(spread), np.isfinite(angle)
            distance = np.where(known, np.inf, np.nan)
            power = torch.from_numpy(np.nan_to_num(seen.powers))
        gps = np.full((steps, users, 2), np.nan) if seen.gps is None else seen.gps
        objects = [None] * steps if seen.detections is None else [_detected(each) for each in seen.detections]
        rows = zip(angle, distance, share, gps, deviation, objects, strict=True)
        return [Fixes(*row) for row in rows], known, _best_three(power)

    def _waves(self, channels: Tensor) -> tuple[Array, Array, Array, npt.NDArray[np.bool_], Tensor]:
        """Return angle, distance and share of the energy of the strongest waves, where known, and beam powers."""
        shape, users = channels.shape[:-1], channels.flatten(0, 1)
        if self._code is None:
            self._code = far_field_steering(self.array, torch.asin(codebook_sines(self.array.antennas))).conj()
        known = users.isfinite().all(-1) & (users.abs().amax(-1) > 0)
        if self._sign.weigh(channels, known.reshape(shape)):
            self._filter = None  # its angles are mirrored
        flat = users[known].conj() if self._sign.conjugated else users[known]
        angle, distance, _ = most_likely_positions(self.array, flat, False)
        wave = near_field_steering(self.array, angle, distance)
        inner = (wave.conj() * flat).sum(-1).abs().square()
        share = inner / flat.abs().square().sum(-1)
        power = torch.zeros(len(users), self.array.antennas)
        power[known] = (flat @ self._code.T).abs()
        full = []
        for values in (angle, distance, share.double()):
            whole = torch.full((len(users),), torch.nan, dtype=torch.float64)
            whole[known] = values
            full.append(whole.reshape(shape).numpy())
        return full[0], full[1], full[2], known.reshape(shape).numpy(), power.reshape(*shape, -1)

    def _advance(
        self, gap: float, fixes: Fixes, known: npt.NDArray[np.bool_], best: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.generic], ...]:
        assert self._filter is not None
        source, distance_source, contradicted = self._filter.update(fixes, gap)
        self._step = gap or self._step
        sight = source & CSI > 0
        best = np.where(known[:, None], best, self._beams_at(0.0, best.shape[-1]))
        moving = sight | ~known
        following = [
            np.where(moving[:, None], self._beams_at(step * self._step, best.shape[-1]), best)
            for step in range(1, self.ahead + 1)
        ]
        return (
            *_described(self._filter, fixes, sight),
            sight,
            source,
            np.where(sight, CSI, source),
            distance_source,
            best[:, 0],
            np.stack(following, 1),
            np.where(known, _MEASURED, _POSITION),
            np.where(moving, _POSITION, _REPEATED),
            contradicted,
        )

    def _beams_at(self, seconds: float, count: int) -> npt.NDArray[np.int64]:
        """Return the best beams at the positions predicted for a later time, (users, count)."""
        assert self._filter is not None
        state, _ = self._filter.predicted(seconds)
        angle, distance = angle_and_distance(torch.from_numpy(state[:, 0]), torch.from_numpy(state[:, 1]), self.array)
        if self._code is None:  # powers: by the angle alone, as the patterns of the beams are unknown
            return _best_three(-(torch.sin(angle).unsqueeze(-1) - torch.from_numpy(self._sines)).abs())
        wave = near_field_steering(self.array, angle, distance.clamp(min=1.0))
        return _best_three((wave.to(self._code.dtype) @ self._code.T).abs())


def _detected(objects: Array) -> Array:
    return objects[np.isfinite(objects[:, 0]) & ~np.isnan(objects[:, 1])]


def _described(
    filter_: TrackFilter, fixes: Fixes, sight: npt.NDArray[np.bool_]
) -> tuple[Array, Array, Array, Array, Array, npt.NDArray[np.bool_]]:
    """Return position, deviation, angle, its deviation, distance, and whether the distance is resolved."""
    position, covariance = filter_.state[:, :2], filter_.covariance[:, :2, :2]
    theta, radius = (
        values.numpy()
        for values in angle_and_distance(
            torch.from_numpy(position[:, 0]), torch.from_numpy(position[:, 1]), filter_.array
        )
    )
    radial = (position - [0.0, filter_.array.height]) / np.maximum(radius, 1e-3)[:, None]
    along = np.maximum(np.einsum("ui,uij,uj->u", radial, covariance, radial), 0)
    total = np.maximum(np.trace(covariance, axis1=1, axis2=2), 0)
    across = np.sqrt(np.maximum(total - along, 0)) / np.maximum(radius, 1e-3)
    total += np.maximum(filter_.doubt(fixes) ** 2 - along, 0)
    theta = np.where(sight, fixes.angle, theta)
    spread = np.where(sight, fixes.deviations(filter_.array)[0], across)
    resolved = filter_.ranged & (np.sqrt(along) < RESOLVED * radius)
    return position.copy(), np.sqrt(total), theta, spread, radius, resolved


def _best_three(power: Tensor) -> npt.NDArray[np.int64]:
    best: npt.NDArray[np.int64] = power.topk(min(3, power.shape[-1]), -1).indices.numpy()
    return best
