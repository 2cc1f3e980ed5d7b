"""Users that move: paths through waypoints, and channels that are consistent along them, Doppler included."""

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
    """One user's path: straight from point to point, at constant speed on each leg; at rest before and afterwards.

    time: float64 (points,), s, strictly rising. x, height: float64 (points,), m.

    Raises ValueError for shapes that differ, no point, numbers that aren't finite or times that don't rise.
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
            raise ValueError("times and places have to be finite")
        if bool((self.time.diff() <= 0).any()):
            raise ValueError("times have to rise from point to point")

    def at(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, height (m) and their speeds (m/s) at these times; float64, the shape of ``time`` (s)."""
        if len(self.time) == 1:
            still = torch.zeros_like(time)
            return self.x[0] + still, self.height[0] + still, still, still
        leg = torch.searchsorted(self.time, time, right=True).clamp(1, len(self.time) - 1) - 1
        moving = (time >= self.time[0]) & (time < self.time[-1])
        share = ((time - self.time[leg]) / self.time.diff()[leg]).clamp(0, 1)

        def along(points: Tensor) -> tuple[Tensor, Tensor]:
            step = points.diff()[leg]
            return points[leg] + share * step, moving * step / self.time.diff()[leg]

        (x, speed_x), (height, speed_up) = along(self.x), along(self.height)
        return x, height, speed_x, speed_up


def waypoints_at_speed(x: Sequence[float], height: Sequence[float], speed: float) -> Waypoints:
    """The path through these points (m) at one speed (m/s), from time 0. Raises ValueError as `Waypoints`.

    Speed has to be positive and no two successive points the same.
    """
    if not speed > 0:
        raise ValueError(f"speed must be positive, got {speed}")
    places = torch.tensor([list(x), list(height)], dtype=torch.float64)
    lengths = torch.linalg.vector_norm(places.diff(dim=1), dim=0)
    time = torch.cat([torch.zeros(1, dtype=torch.float64), lengths.cumsum(0) / speed])
    return Waypoints(time, places[0], places[1])


@dataclass(frozen=True)
class Flight:
    """Channels slot by slot, and what is true of the users they belong to.

    channels: complex64 (slots, users, antennas): to a scheme, slots are drops.
    x, height, distance: float64 (slots, users), m. angle: the same, rad from the array's normal.
    near_field: bool (slots, users). doppler_hz: of the line of sight, float64 (slots, users); positive approaching.
    slot_seconds: from one slot to the next.
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
    """Channels of users on these paths at times 0, T, 2T, ..., or from slot ``first`` on.

    h(t) = g(r) [exp(-j 2 pi r / lambda) sqrt(N) alpha b(theta, r) + sum_l c_l exp(-j 2 pi (r_l + q_l) / lambda)
    b(theta_l, r_l)], r and theta being the user's now, r_l and theta_l the l-th scatterer's, which stays where it is,
    and q_l the way from it to the user now. All Doppler shifts follow from these lengths. g is the path loss; as in
    `Scenario`, b has unit norm and sqrt(N) alpha = 1.

    paths: one a user. scene: the array, path loss and scatterers: ``scattered_paths`` of them a user, drawn as for a
    drop; its ``users`` and ``ground_share`` play no part. slots: S >= 1. slot_seconds: T, s.
    generator: places and gains of the scatterers; the same state gives the same flight, and, given anew with
    ``first``, its continuation: a long flight can be had in parts.

    Raises ValueError for no path, fewer than one slot or a slot length that isn't positive.
    """
    if not paths or slots < 1 or not 0 < slot_seconds < math.inf:
        raise ValueError(f"a flight needs paths, slots and a slot length, got {len(paths)}, {slots}, {slot_seconds} s")
    time = torch.arange(first, first + slots, dtype=torch.float64) * slot_seconds
    tracks = zip(*(path.at(time) for path in paths), strict=True)
    x, height, speed_x, speed_up = (torch.stack(track, -1) for track in tracks)
    angle, distance = angle_and_distance(x, height, scene.array, scene.angle)
    closing_speed = -(x * speed_x + (height - scene.array.height) * speed_up) / distance.clamp(min=1e-9)

    loss = path_loss(scene, distance)
    channels = torch.empty(slots, len(paths), scene.array.antennas, dtype=torch.complex64)
    for start in range(0, slots, _SLOTS_AT_A_TIME):  # the float64 phases need several times the channels' memory
        now = slice(start, start + _SLOTS_AT_A_TIME)
        wave = near_field_steering(scene.array, angle[now], distance[now])
        channels[now] = wave * _after(distance[now], loss[now], scene.array.wavelength).unsqueeze(-1)
    if scene.scattered_paths:
        scatterers = draw_scatterers(scene, (len(paths), scene.scattered_paths), generator)
        from_there = angle_and_distance(scatterers.x, scatterers.height, scene.array, scene.angle)
        waves = near_field_steering(scene.array, *from_there)
        onwards = torch.hypot(x.unsqueeze(-1) - scatterers.x, height.unsqueeze(-1) - scatterers.height)
        arriving = _after(from_there[1] + onwards, loss.unsqueeze(-1), scene.array.wavelength)
        gains = arriving * scatterers.gain.to(torch.complex64)
        channels += torch.einsum("skl,kln->skn", gains, waves)
    near = is_near_field(scene.array, angle, distance, scene.near_field_loss)
    doppler = closing_speed / scene.array.wavelength
    return Flight(channels, x, height, angle, distance, near, doppler, slot_seconds)


def _after(length: Tensor, amplitude: Tensor, wavelength: float) -> Tensor:
    """a exp(-j 2 pi length / lambda), complex64; ten thousand cycles leave float32 no phase, so they go first."""
    cycles = length / wavelength
    phase = -2 * math.pi * (cycles - cycles.round())
    return torch.polar(amplitude.expand_as(phase).contiguous(), phase).to(torch.complex64)
