"""Draw users of the low-altitude scenarios in space, and their channels to the array."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from simulator.channels.multipath import delay_phase, multipath_channels
from simulator.geometry.arrays import AngleConvention, UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import DEFAULT_LOSS, is_near_field

ScenarioName = Literal["uav", "paper"]


@dataclass(frozen=True)
class Scenario:
    """Describe the distribution of users and the propagation between them and the array.

    Parameters
    ----------
    array
        Array of the base station.
    users
        Users per drop, K.
    x_range, height_range
        Rectangle in which users are uniformly distributed, m.
    ground_share
        Fraction of users placed on the ground (1.5 m) instead.
    angle
        Sign convention of the depression angle, see `simulator.geometry.arrays.angle_and_distance`.
    scattered_paths
        Number L of NLoS paths per user, each from a scatterer uniformly distributed in the same rectangle.
    rician_factor_db
        Power of the LoS path relative to the sum of all NLoS paths, dB.
    path_loss_reference
        Reference distance, m: the LoS path has ||h||^2 = (reference / r)^2; None for ||h|| = 1 for every user.
    near_field_loss
        Delta in the definition of the near field.
    offsets
        Frequencies of the subcarriers relative to the carrier, Hz. Phases of the waves over the array are those of the
        subcarrier (beam split), and paths turn by their delay relative to the line of sight.
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
    offsets: tuple[float, ...] = (0.0,)

    def draw(self, drops: int, generator: torch.Generator) -> Drops:
        """Draw independent drops.

        Parameters
        ----------
        drops
            Number of drops.
        generator
            Source of randomness; equal states give equal drops.

        Returns
        -------
        Drops
            Channels and user positions.
        """
        return _draw(self, drops, generator)

    def stream(self, drops: int, generator: torch.Generator, block: int = 256) -> Iterator[Drops]:
        """Draw drops in blocks, with memory independent of their number.

        Parameters
        ----------
        drops
            Number of drops.
        generator
            Source of randomness.
        block
            Largest number of drops per block.

        Yields
        ------
        Drops
            Channels and user positions of a block.
        """
        for start in range(0, drops, block):
            yield self.draw(min(block, drops - start), generator)


@dataclass(frozen=True)
class Drops:
    """Hold channels with the true positions and labels of their users.

    Parameters
    ----------
    channels
        complex64 (drops x subcarriers, users, antennas), the subcarriers of a drop in sequence; row k is h_k.
    x, height
        User positions, float64 (drops, users), m.
    angle
        From the normal of the array, float64 (drops, users), rad.
    distance
        From the centre of the array, float64 (drops, users), m.
    near_field
        bool (drops, users).
    """

    channels: Tensor
    x: Tensor
    height: Tensor
    angle: Tensor
    distance: Tensor
    near_field: Tensor


def scenario(name: ScenarioName, users: int = 10, antennas: int = 256) -> Scenario:
    """Return a named scenario.

    Parameters
    ----------
    name
        ``paper``: line of sight, unit-norm channels, signed angles, as in the publications. ``uav``: drones and ground
        users with path loss and three scattered paths each.
    users
        Users per drop.
    antennas
        Antennas of the array.

    Returns
    -------
    Scenario
        The scenario.

    Raises
    ------
    ValueError
        For an unknown name, or fewer than one user or antenna.
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
    """Hold the scatterers between users and array.

    Parameters
    ----------
    x, height
        Positions, float64 S, m.
    gain
        Gains relative to the LoS path, complex128 S.
    """

    x: Tensor
    height: Tensor
    gain: Tensor


def draw_scatterers(scene: Scenario, shape: tuple[int, ...], generator: torch.Generator) -> Scatterers:
    """Draw scatterers, uniform in the rectangle of the scenario, with gains CN(0, 1 / (Rician factor x L)).

    Parameters
    ----------
    scene
        Scenario.
    shape
        Shape S, with L > 0, the number of scattered paths per user, as its last element.
    generator
        Source of randomness.

    Returns
    -------
    Scatterers
        Positions and gains, of shape S.
    """
    x = draw_uniform(*scene.x_range, shape, generator)
    height = draw_uniform(*scene.height_range, shape, generator)
    variance = 10 ** (-scene.rician_factor_db / 10) / shape[-1]
    real, imaginary = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, device=generator.device) for _ in range(2)
    )
    gain = torch.complex(real, imaginary) * math.sqrt(variance / 2)
    return Scatterers(x, height, gain)


def path_loss(scene: Scenario, distance: Tensor) -> Tensor:
    """Compute the amplitude of the LoS path: reference / max(r, 1 m), or 1 without path loss.

    Parameters
    ----------
    scene
        Scenario.
    distance
        r, float64, of any shape, m.

    Returns
    -------
    Tensor
        Amplitude, float64, of the shape of ``distance``.
    """
    if scene.path_loss_reference is None:
        return torch.ones_like(distance)
    return scene.path_loss_reference / distance.clamp(min=1.0)


def draw_uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw independent uniform numbers.

    Parameters
    ----------
    low, high
        Range.
    shape
        Shape of the result.
    generator
        Source of randomness; its device is that of the result.

    Returns
    -------
    Tensor
        float64, of the shape.
    """
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64, device=generator.device)


def draw_heights(scene: Scenario, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw the heights of users: uniform in the range of the scenario, or on the ground.

    Parameters
    ----------
    scene
        Scenario.
    shape
        Shape of the result.
    generator
        Source of randomness.

    Returns
    -------
    Tensor
        float64, of the shape, m.
    """
    height = draw_uniform(*scene.height_range, shape, generator)
    if scene.ground_share > 0:
        on_ground = draw_uniform(0, 1, shape, generator) < scene.ground_share
        height = torch.where(on_ground, torch.full_like(height, GROUND_USER_HEIGHT), height)
    return height


def _draw(scene: Scenario, drops: int, generator: torch.Generator) -> Drops:
    shape = (drops, scene.users)
    x, height = draw_uniform(*scene.x_range, shape, generator), draw_heights(scene, shape, generator)
    angle, distance = angle_and_distance(x, height, scene.array, scene.angle)

    angles, distances, delays = angle.unsqueeze(-1), distance.unsqueeze(-1), distance.new_zeros(*shape, 1)
    los_phase = draw_uniform(0, 2 * math.pi, (*shape, 1), generator)
    gains = torch.polar(torch.ones_like(los_phase), los_phase)
    if scene.scattered_paths:
        scatterers = draw_scatterers(scene, (*shape, scene.scattered_paths), generator)
        scatterer_angle, scatterer_distance = angle_and_distance(
            scatterers.x, scatterers.height, scene.array, scene.angle
        )
        angles = torch.cat([angles, scatterer_angle], -1)
        distances = torch.cat([distances, scatterer_distance], -1)
        hop = torch.hypot(scatterers.x - x.unsqueeze(-1), scatterers.height - height.unsqueeze(-1))
        delays = torch.cat([delays, scatterer_distance + hop - distance.unsqueeze(-1)], -1)
        gains = torch.cat([gains, scatterers.gain], -1)
    gains = gains * path_loss(scene, distance).unsqueeze(-1)
    channels = [
        multipath_channels(scene.array, angles, distances, gains * delay_phase(delays, offset), offset)
        for offset in scene.offsets
    ]
    near = is_near_field(scene.array, angle, distance, scene.near_field_loss)
    return Drops(torch.stack(channels, 1).flatten(0, 1), x, height, angle, distance, near)
