"""Draw users in three dimensions around a planar array, and their channels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from simulator.channels.multipath import delay_phase
from simulator.channels.scenario import Scenario, draw_heights, draw_scatterers, draw_uniform, path_loss
from simulator.geometry.panel_near_field import is_panel_near_field
from simulator.geometry.panels import UniformPlanarArray, direction_and_distance, spherical_wave


@dataclass(frozen=True)
class SpatialScenario:
    """Describe users in a sector in front of a planar array, and the propagation between them and the array.

    A user's antenna is linearly polarised and of random orientation; at an array of cross-polarised pairs the line of
    sight has the real polarisation (cos psi, sin psi), each scattered path a random complex one of unit norm.

    Parameters
    ----------
    array
        Array of the base station.
    plane
        Distribution of users and scatterers in the vertical plane, and propagation; its ``x_range`` holds distances
        from the mast over ground, its ``array`` and ``angle`` are not used.
    sector
        Width of the sector, centred on the normal of the array, in which azimuths are uniform, rad.
    """

    array: UniformPlanarArray = field(default_factory=UniformPlanarArray)
    plane: Scenario = field(default_factory=Scenario)
    sector: float = math.radians(120.0)

    def draw(self, drops: int, generator: torch.Generator) -> SpatialDrops:
        """Draw independent drops.

        Parameters
        ----------
        drops
            Number of drops.
        generator
            Source of randomness; equal states give equal drops.

        Returns
        -------
        SpatialDrops
            Channels and user positions.
        """
        return _draw(self, drops, generator)

    def stream(self, drops: int, generator: torch.Generator, block: int = 64) -> Iterator[SpatialDrops]:
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
        SpatialDrops
            Channels and user positions of a block.
        """
        for start in range(0, drops, block):
            yield self.draw(min(block, drops - start), generator)


@dataclass(frozen=True)
class SpatialDrops:
    """Hold channels with the true positions and labels of their users.

    Parameters
    ----------
    channels
        complex64 (drops x subcarriers, users, antennas), the subcarriers of a drop in sequence; row k is h_k.
    position
        x, y and height above ground, float64 (drops, users, 3), m.
    near_field
        bool (drops, users).
    """

    channels: Tensor
    position: Tensor
    near_field: Tensor


def _draw(scene: SpatialScenario, drops: int, generator: torch.Generator) -> SpatialDrops:
    plane, shape = scene.plane, (drops, scene.plane.users)
    position = _positions(
        scene, draw_uniform(*plane.x_range, shape, generator), draw_heights(plane, shape, generator), generator
    )
    direction, distance = direction_and_distance(position, scene.array)
    phase = draw_uniform(0, 2 * math.pi, (*shape, 1), generator)
    gains = torch.polar(torch.ones_like(phase), phase)
    psi = draw_uniform(0, 2 * math.pi, (*shape, 1), generator)
    polarisation = torch.stack([torch.cos(psi), torch.sin(psi)], -1).to(torch.complex128)
    directions, distances, delays = direction.unsqueeze(-2), distance.unsqueeze(-1), torch.zeros_like(phase)
    if plane.scattered_paths:
        paths = (*shape, plane.scattered_paths)
        scatterers = draw_scatterers(plane, paths, generator)
        places = _positions(scene, scatterers.x, scatterers.height, generator)
        away = direction_and_distance(places, scene.array)
        hop = torch.linalg.vector_norm(places - position.unsqueeze(-2), dim=-1)
        turned = torch.randn(*paths, 2, generator=generator, dtype=torch.complex128)
        turned = turned / torch.linalg.vector_norm(turned, dim=-1, keepdim=True)
        directions, distances = torch.cat([directions, away[0]], -2), torch.cat([distances, away[1]], -1)
        delays = torch.cat([delays, away[1] + hop - distance.unsqueeze(-1)], -1)
        gains, polarisation = torch.cat([gains, scatterers.gain], -1), torch.cat([polarisation, turned], -2)
    gains = gains * path_loss(plane, distance).unsqueeze(-1)
    weights = gains.unsqueeze(-1) * (polarisation if scene.array.polarisations == 2 else torch.ones(1))
    channels = [
        _sum_of_waves(scene.array, directions, distances, weights * delay_phase(delays, offset).unsqueeze(-1), offset)
        for offset in plane.offsets
    ]
    near = is_panel_near_field(scene.array, direction, distance, plane.near_field_loss)
    return SpatialDrops(torch.stack(channels, 1).flatten(0, 1), position, near)


def _positions(scene: SpatialScenario, ground: Tensor, height: Tensor, generator: torch.Generator) -> Tensor:
    """Place points at a distance over ground and a height, at random azimuths of the sector; float64 (..., 3), m."""
    azimuth = draw_uniform(-scene.sector / 2, scene.sector / 2, ground.shape, generator)
    return torch.stack([ground * torch.cos(azimuth), ground * torch.sin(azimuth), height], -1)


def _sum_of_waves(
    array: UniformPlanarArray, directions: Tensor, distances: Tensor, weights: Tensor, offset: float
) -> Tensor:
    """Compute channels, complex64 (..., antennas), of paths with weights (..., paths, polarisations)."""
    weights = weights.to(torch.complex64)
    total = torch.zeros(*weights.shape[:-2], weights.shape[-1], array.elements, dtype=torch.complex64)
    for path in range(weights.shape[-2]):  # one path at a time limits memory to that of the channels
        wave = spherical_wave(array, directions[..., path, :], distances[..., path], array.carrier + offset)
        total += weights[..., path, :, None] * wave.unsqueeze(-2)
    return total.flatten(-2)
