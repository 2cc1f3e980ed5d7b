"""Move users along waypoints and compute channels that are consistent in phase along them, with Doppler shifts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.channels.scenario import Scenario, draw_scatterers, path_loss
from simulator.geometry.arrays import angle_and_distance
from simulator.geometry.near_field import is_near_field
from simulator.geometry.steering import near_field_steering

_SLOTS_AT_A_TIME = 256


@dataclass(frozen=True)
class Waypoints:
    """Describe the path of one user: straight legs at constant speed each, at rest before the first and after the last.

    Parameters
    ----------
    time
        Times at the points, float64 (points,), s, strictly increasing.
    x, height
        Positions, float64 (points,), m.

    Raises
    ------
    ValueError
        For differing shapes, no point, values that are not finite, or times that do not increase.
    """

    time: Tensor
    x: Tensor
    height: Tensor

    def __post_init__(self) -> None:
        for name in ("time", "x", "height"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        if self.time.ndim != 1 or not self.time.shape == self.x.shape == self.height.shape or not len(self.time):
            raise ValueError("a path needs time, x and height for each of its points, one at least")
        if not all(bool(values.isfinite().all()) for values in (self.time, self.x, self.height)):
            raise ValueError("times and positions have to be finite")
        if bool((self.time.diff() <= 0).any()):
            raise ValueError("times have to rise from point to point")

    def at(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute position and velocity at given times.

        Parameters
        ----------
        time
            Times, float64, of any shape, s.

        Returns
        -------
        x, height, speed_x, speed_up : Tensor
            Positions, m, and velocity components, m/s; float64, of the shape of ``time``.
        """
        if len(self.time) == 1:
            zero = torch.zeros_like(time)
            return self.x[0] + zero, self.height[0] + zero, zero, zero
        leg = torch.searchsorted(self.time, time, right=True).clamp(1, len(self.time) - 1) - 1
        moving = (time >= self.time[0]) & (time < self.time[-1])
        fraction = ((time - self.time[leg]) / self.time.diff()[leg]).clamp(0, 1)

        def along(points: Tensor) -> tuple[Tensor, Tensor]:
            step = points.diff()[leg]
            return points[leg] + fraction * step, moving * step / self.time.diff()[leg]

        (x, speed_x), (height, speed_up) = along(self.x), along(self.height)
        return x, height, speed_x, speed_up


def waypoints_at_speed(x: Sequence[float], height: Sequence[float], speed: float) -> Waypoints:
    """Return the path through given points at one speed, from time 0.

    Parameters
    ----------
    x, height
        Positions, m; successive points differ.
    speed
        m/s, > 0.

    Returns
    -------
    Waypoints
        The path.

    Raises
    ------
    ValueError
        For a speed that is not positive, and as `Waypoints`.
    """
    if not speed > 0:
        raise ValueError(f"speed must be positive, got {speed}")
    points = torch.tensor([list(x), list(height)], dtype=torch.float64)
    lengths = torch.linalg.vector_norm(points.diff(dim=1), dim=0)
    time = torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0) / speed])
    return Waypoints(time, points[0], points[1])


@dataclass(frozen=True)
class Flight:
    """Hold channels slot by slot with the true positions and labels of their users.

    Parameters
    ----------
    channels
        complex64 (slots, users, antennas); a scheme treats slots as drops.
    x, height
        User positions, float64 (slots, users), m.
    angle
        From the normal of the array, float64 (slots, users), rad.
    distance
        From the centre of the array, float64 (slots, users), m.
    near_field
        bool (slots, users).
    doppler_hz
        Doppler shift of the line of sight, float64 (slots, users), Hz; positive for approaching users.
    slot_seconds
        Slot duration, s.
    """

    channels: Tensor
    x: Tensor
    height: Tensor
    angle: Tensor
    distance: Tensor
    near_field: Tensor
    doppler_hz: Tensor
    slot_seconds: float


def fly(
    paths: Sequence[Waypoints],
    scene: Scenario,
    slots: int,
    slot_seconds: float,
    generator: torch.Generator,
    first: int = 0,
) -> Flight:
    """Compute the channels of moving users at times first T, (first + 1) T, ...

    h(t) = g(r) [exp(-j 2 pi r / lambda) sqrt(N) alpha b(theta, r) + sum_l c_l exp(-j 2 pi (r_l + q_l) / lambda)
    b(theta_l, r_l)] with the user's current r and theta, the fixed r_l and theta_l of scatterer l, and the current
    distance q_l between scatterer l and user. All Doppler shifts follow from these lengths. g is the path loss; as in
    `Scenario`, b has unit norm and sqrt(N) alpha = 1.

    Parameters
    ----------
    paths
        Paths, one per user.
    scene
        Array, path loss and scatterers, of which ``scattered_paths`` per user are drawn as for a drop; ``users`` and
        ``ground_share`` are ignored.
    slots
        Number of slots, >= 1.
    slot_seconds
        Slot duration T, s.
    generator
        Source of the positions and gains of the scatterers. Equal states give equal flights; with the same state and
        another ``first``, the flight continues, so that long flights can be computed in parts.
    first
        Index of the first slot.

    Returns
    -------
    Flight
        Channels and user positions, slot by slot.

    Raises
    ------
    ValueError
        Without paths, with fewer than one slot, or for a slot duration that is not positive.
    """
    if not paths or slots < 1 or not 0 < slot_seconds < math.inf:
        raise ValueError(f"a flight needs paths, slots and a slot length, got {len(paths)}, {slots}, {slot_seconds} s")
    time = torch.arange(first, first + slots, dtype=torch.float64) * slot_seconds
    tracks = zip(*(path.at(time) for path in paths), strict=True)
    x, height, speed_x, speed_up = (torch.stack(track, -1) for track in tracks)
    angle, distance = angle_and_distance(x, height, scene.array, scene.angle)
    closing_speed = -(x * speed_x + (height - scene.array.height) * speed_up) / distance.clamp(min=1e-9)

    channels = _direct_waves(scene, angle, distance)
    if scene.scattered_paths:
        channels += _scattered_waves(scene, x, height, path_loss(scene, distance), generator)
    near = is_near_field(scene.array, angle, distance, scene.near_field_loss)
    doppler = closing_speed / scene.array.wavelength
    return Flight(channels, x, height, angle, distance, near, doppler, slot_seconds)


def _direct_waves(scene: Scenario, angle: Tensor, distance: Tensor) -> Tensor:
    """Return the line-of-sight channels of users at (angle, distance), complex64 (slots, users, antennas)."""
    amplitude = path_loss(scene, distance)
    channels = torch.empty(*distance.shape, scene.array.antennas, dtype=torch.complex64)
    for start in range(0, len(distance), _SLOTS_AT_A_TIME):  # float64 phases need several times the channels' memory
        block = slice(start, start + _SLOTS_AT_A_TIME)
        wave = near_field_steering(scene.array, angle[block], distance[block])
        phasor = _propagated(distance[block], amplitude[block], scene.array.wavelength)
        channels[block] = wave * phasor.unsqueeze(-1)
    return channels


def _scattered_waves(
    scene: Scenario, x: Tensor, height: Tensor, amplitude: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the channels by way of fixed scatterers, complex64 (slots, users, antennas)."""
    scatterers = draw_scatterers(scene, (x.shape[-1], scene.scattered_paths), generator)
    angle, distance = angle_and_distance(scatterers.x, scatterers.height, scene.array, scene.angle)
    waves = near_field_steering(scene.array, angle, distance)
    to_user = torch.hypot(x.unsqueeze(-1) - scatterers.x, height.unsqueeze(-1) - scatterers.height)
    propagated = _propagated(distance + to_user, amplitude.unsqueeze(-1), scene.array.wavelength)
    return torch.einsum("skl,kln->skn", propagated * scatterers.gain.to(torch.complex64), waves)


def _propagated(length: Tensor, amplitude: Tensor, wavelength: float) -> Tensor:
    """Return a exp(-j 2 pi length / lambda), complex64, with whole cycles removed in float64."""
    cycles = length / wavelength
    phase = -2 * math.pi * (cycles - cycles.round())
    return torch.polar(amplitude.expand_as(phase).contiguous(), phase).to(torch.complex64)
