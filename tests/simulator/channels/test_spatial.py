"""Users in three dimensions: positions, polarisation, subcarriers, and the plane scenario they contain."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.channels.scenario import GROUND_USER_HEIGHT, Scenario, scenario
from simulator.channels.spatial import SpatialScenario
from simulator.geometry.panel_near_field import best_plane_wave_gain
from simulator.geometry.panels import UniformPlanarArray, direction_and_distance, spherical_wave

PANEL = UniformPlanarArray(rows=8, columns=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_users_stand_in_the_sector_and_at_the_heights_of_the_scenario() -> None:
    scene = SpatialScenario(PANEL, scenario("uav", users=5), math.radians(90))
    position = scene.draw(200, seeded()).position
    ground, azimuth = torch.hypot(position[..., 0], position[..., 1]), torch.atan2(position[..., 1], position[..., 0])
    assert 5 <= float(ground.min()) < 8
    assert 197 < float(ground.max()) <= 200
    assert float(azimuth.abs().max()) <= math.radians(45)
    assert float(azimuth.std()) == pytest.approx(math.radians(90) / math.sqrt(12), rel=0.05)
    assert float((position[..., 2] == GROUND_USER_HEIGHT).double().mean()) == pytest.approx(0.4, abs=0.05)


def test_line_of_sight_is_the_spherical_wave_of_the_position() -> None:
    drops = SpatialScenario(PANEL, Scenario(users=3)).draw(20, seeded(1))
    wave = spherical_wave(PANEL, *direction_and_distance(drops.position, PANEL))
    np.testing.assert_allclose((wave.conj() * drops.channels).sum(-1).abs(), 1, atol=1e-5)
    near = best_plane_wave_gain(PANEL, *direction_and_distance(drops.position, PANEL)) <= 0.9
    assert torch.equal(drops.near_field, near)


def test_panel_that_grows_makes_users_near_field() -> None:
    shares = []
    for size in (8, 48, 96):
        scene = SpatialScenario(UniformPlanarArray(size, size), Scenario(users=4, x_range=(1.0, 20.0)))
        shares.append(float(scene.draw(30, seeded(2)).near_field.double().mean()))
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.05


def test_polarisations_share_the_energy_and_the_wave() -> None:
    pairs = replace(PANEL, polarisations=2)
    drops = SpatialScenario(pairs, Scenario(users=4)).draw(100, seeded(3))
    assert drops.channels.shape == (100, 4, 64)
    np.testing.assert_allclose(torch.linalg.vector_norm(drops.channels, dim=-1), 1, atol=1e-5)
    first, second = drops.channels.split(32, -1)
    share = first.abs().square().sum(-1)
    assert float(share.mean()) == pytest.approx(0.5, abs=0.05)
    overlap = (first.conj() * second).sum(-1).abs() / (share * (1 - share)).sqrt()
    np.testing.assert_allclose(overlap[(share > 0.01) & (share < 0.99)], 1, atol=1e-3)
    scattered = SpatialScenario(pairs, Scenario(users=4, scattered_paths=3, rician_factor_db=-20.0)).draw(
        100, seeded(3)
    )
    energy = scattered.channels.abs().square().sum(-1).mean()
    assert float(energy) == pytest.approx(1 + 100, rel=0.2)  # a Rician factor of -20 dB


def test_subcarriers_are_those_of_the_wave_at_their_frequency() -> None:
    scene = SpatialScenario(PANEL, replace(Scenario(users=2), offsets=(0.0, 3e9)))
    drops = scene.draw(5, seeded(4))
    assert drops.channels.shape == (10, 2, 32)
    narrow = replace(scene, plane=Scenario(users=2)).draw(5, seeded(4))
    assert torch.equal(drops.channels[::2], narrow.channels)
    wave = spherical_wave(PANEL, *direction_and_distance(drops.position, PANEL), PANEL.carrier + 3e9)
    np.testing.assert_allclose((wave.conj() * drops.channels[1::2]).sum(-1).abs(), 1, atol=1e-5)
