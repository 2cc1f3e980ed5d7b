"""The low-altitude scenarios: users drawn in space, and their channels to the array."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from simulator.channels.multipath import multipath_channels
from simulator.geometry.arrays import AngleConvention, UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import DEFAULT_LOSS, is_near_field

ScenarioName = Literal["uav", "paper"]


@dataclass(frozen=True)
class Scenario:
    """Where users stand and what lies between them and the array.

    array: the base station's array.
    users: users per drop, K.
    x_range, height_range: users are uniform in this rectangle, m.
    ground_share: share of users put on the ground (1.5 m) instead.
    angle: how the depression angle is signed, see `geometry.angle_and_distance`.
    scattered_paths: NLoS paths L a user, each from a scatterer uniform in the same rectangle.
    rician_factor_db: power of the LoS path over that of all NLoS paths together, dB.
    path_loss_reference: ||h||^2 = (reference / r)^2 of the LoS path, m; None: ||h|| = 1 for every user.
    near_field_loss: Delta in the definition of the near field.
    """

    array: UniformLinearArray = field(default_factory=UniformLinearArray)
    users: int = 10
    x_range: tuple[float, float] = (0.0, 200.0)
    height_range: tuple[float, float] = (0.0, 30.0)
    ground_share: float = 0.0
    angle: AngleConvention = "signed"
    scattered_paths: int = 0
    rician_factor_db: float = 10.0
    path_loss_reference: float | None = None
    near_field_loss: float = DEFAULT_LOSS

    def draw(self, drops: int, generator: torch.Generator) -> Drops:
        """Draw ``drops`` independent drops; the same generator state gives the same drops."""
        return _draw(self, drops, generator)

    def stream(self, drops: int, generator: torch.Generator, block: int = 256) -> Iterator[Drops]:
        """The drops in blocks, so that memory doesn't grow with their number."""
        for start in range(0, drops, block):
            yield self.draw(min(block, drops - start), generator)


@dataclass(frozen=True)
class Drops:
    """Channels and what is true of the users they belong to.

    channels: complex64 (drops, users, antennas).
    x, height, distance: float64 (drops, users), m. angle: the same, rad from the array's normal.
    near_field: bool (drops, users).
    """

    channels: Tensor
    x: Tensor
    height: Tensor
    angle: Tensor
    distance: Tensor
    near_field: Tensor


def scenario(name: ScenarioName, users: int = 10, antennas: int = 256) -> Scenario:
    """A named scenario. ``paper``: the publications' (line of sight, unit-norm channels, signed angles).
    ``uav``: drones and ground users with path loss and three scattered paths each.

    Raises ValueError for an unknown name or fewer than one user or antenna.
    """
    if users < 1 or antennas < 1:
        raise ValueError(f"users and antennas must be at least 1, got {users} and {antennas}")
    base = Scenario(array=UniformLinearArray(antennas=antennas), users=users)
    if name == "paper":
        return base
    if name == "uav":
        return replace(
            base,
            x_range=(5.0, 200.0),
            height_range=(5.0, 60.0),
            ground_share=0.4,
            scattered_paths=3,
            path_loss_reference=60.0,
        )
    raise ValueError(f"unknown scenario {name!r}: there are 'uav' and 'paper'")


GROUND_USER_HEIGHT = 1.5


@dataclass(frozen=True)
class Scatterers:
    """Points that throw a user's wave on to the array. x, height: float64 S, m. gain: complex128 S, of the LoS's 1."""

    x: Tensor
    height: Tensor
    gain: Tensor


def draw_scatterers(scene: Scenario, shape: tuple[int, ...], generator: torch.Generator) -> Scatterers:
    """Scatterers of the scenario: uniform in its rectangle, their gains CN(0, 1 / (Rician factor x L)).

    shape: S, ending with L, the scattered paths a user (> 0).
    """
    x = _uniform(*scene.x_range, shape, generator)
    height = _uniform(*scene.height_range, shape, generator)
    variance = 10 ** (-scene.rician_factor_db / 10) / shape[-1]
    gain = torch.complex(
        torch.randn(*shape, generator=generator, dtype=torch.float64),
        torch.randn(*shape, generator=generator, dtype=torch.float64),
    ) * math.sqrt(variance / 2)
    return Scatterers(x, height, gain)


def path_loss(scene: Scenario, distance: Tensor) -> Tensor:
    """Amplitude of the LoS path: reference / r, r at least 1 m, or 1; float64, the shape of ``distance`` (m)."""
    if scene.path_loss_reference is None:
        return torch.ones_like(distance)
    return scene.path_loss_reference / distance.clamp(min=1.0)


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def _draw(scene: Scenario, drops: int, generator: torch.Generator) -> Drops:
    shape = (drops, scene.users)
    x = _uniform(*scene.x_range, shape, generator)
    height = _uniform(*scene.height_range, shape, generator)
    if scene.ground_share > 0:
        on_ground = _uniform(0, 1, shape, generator) < scene.ground_share
        height = torch.where(on_ground, torch.full_like(height, GROUND_USER_HEIGHT), height)
    angle, distance = angle_and_distance(x, height, scene.array, scene.angle)

    angles, distances = angle.unsqueeze(-1), distance.unsqueeze(-1)
    los_phase = _uniform(0, 2 * math.pi, (*shape, 1), generator)
    gains = torch.polar(torch.ones_like(los_phase), los_phase)
    if scene.scattered_paths:
        scatterers = draw_scatterers(scene, (*shape, scene.scattered_paths), generator)
        scatterer_angle, scatterer_distance = angle_and_distance(
            scatterers.x, scatterers.height, scene.array, scene.angle
        )
        angles = torch.cat([angles, scatterer_angle], -1)
        distances = torch.cat([distances, scatterer_distance], -1)
        gains = torch.cat([gains, scatterers.gain], -1)
    gains = gains * path_loss(scene, distance).unsqueeze(-1)
    channels = multipath_channels(scene.array, angles, distances, gains)
    near = is_near_field(scene.array, angle, distance, scene.near_field_loss)
    return Drops(channels, x, height, angle, distance, near)
