"""Maximum-likelihood labels against geometry, and against every exact spherical wave on a fine grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from simulator.channels.scenario import scenario
from simulator.csi.impairments import noisy_csi
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.localization import most_likely_labels, most_likely_positions
from simulator.geometry.near_field import effective_rayleigh_distance, is_near_field
from simulator.geometry.steering import far_field_steering, near_field_steering


def users_around_the_border(array: UniformLinearArray, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(theta, r) with r log-uniform from a quarter to four times the border's."""
    generator = torch.Generator().manual_seed(seed)
    angle, octaves = torch.rand(2, count, generator=generator, dtype=torch.float64) * 2 - 1
    angle = 1.1 * angle
    return angle, effective_rayleigh_distance(array, angle) * 4**octaves


def gains_on_a_grid(array: UniformLinearArray, channels: Tensor) -> tuple[Tensor, Tensor]:
    """The largest |b^H y| among near waves, and among far ones, of 90,000 exact spherical waves; (users,) each."""
    angle = torch.asin(torch.linspace(-0.999, 0.999, 12 * array.antennas, dtype=torch.float64))[:, None]
    ratio = 2 ** torch.linspace(-3, 7, 240, dtype=torch.float64)
    distance = effective_rayleigh_distance(array, angle) * ratio
    waves = near_field_steering(array, angle.expand_as(distance), distance)
    gain = torch.einsum("adn,un->uad", waves.conj(), channels).abs()
    near = is_near_field(array, angle.expand_as(distance), distance)
    return gain[:, near].amax(-1), gain[:, ~near].amax(-1)


@pytest.mark.parametrize("antennas", [24, 32])
@pytest.mark.parametrize("snr_db", [0.0, 5.0])
def test_label_is_that_of_the_best_of_all_spherical_waves(antennas: int, snr_db: float) -> None:
    array = UniformLinearArray(antennas=antennas)
    generator = torch.Generator().manual_seed(antennas)
    angle, distance = users_around_the_border(array, 60, 1)
    channels = noisy_csi(near_field_steering(array, angle, distance), snr_db, generator)
    near, far = gains_on_a_grid(array, channels)
    clear = (near / far - 1).abs() > 1e-3  # the grid's own error
    assert float(clear.double().mean()) > 0.85
    assert bool((most_likely_labels(array, channels) == (near > far))[clear].all())
    # noise has moved some users across the border: the labels aren't merely the truth
    assert bool(((near > far) != is_near_field(array, angle, distance))[clear].any())


@pytest.mark.parametrize("antennas", [64, 200, 256])
def test_noiseless_users_are_labelled_by_where_they_are(antennas: int) -> None:
    array = UniformLinearArray(antennas=antennas)
    angle, distance = users_around_the_border(array, 500, 2)
    clear = (distance / effective_rayleigh_distance(array, angle) - 1).abs() > 0.01
    found = most_likely_labels(array, near_field_steering(array, angle, distance))
    assert bool((found == is_near_field(array, angle, distance))[clear].all())
    assert float(clear.double().mean()) > 0.97


def test_plane_waves_are_far() -> None:
    array = UniformLinearArray(antennas=128)
    assert not most_likely_labels(array, far_field_steering(array, torch.linspace(-1.2, 1.2, 101))).any()


def test_phase_and_scale_change_no_label_and_shapes_are_kept() -> None:
    array, generator = UniformLinearArray(antennas=128), torch.Generator().manual_seed(4)
    drawn = scenario("paper", 5, 128).draw(40, generator)
    noisy = noisy_csi(drawn.channels, 5.0, generator)
    phase = 2 * math.pi * torch.rand(40, 5, 1, generator=generator)
    scale = 10 ** (16 * torch.rand(40, 5, 1, generator=generator) - 8)
    found = most_likely_labels(array, noisy)
    assert found.shape == (40, 5)
    assert found.dtype == torch.bool
    assert bool((most_likely_labels(array, noisy * torch.polar(scale, phase)) == found).all())
    assert bool((most_likely_labels(array, noisy[3, 1]) == found[3, 1]).all())


@pytest.mark.parametrize("antennas", [512, 1024])
def test_positions_of_large_arrays(antennas: int) -> None:
    array = UniformLinearArray(antennas=antennas)
    angle = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64)
    distance = array.aperture * torch.logspace(0.8, 2, 9, dtype=torch.float64)
    found_angle, found_distance, conjugated = most_likely_positions(array, near_field_steering(array, angle, distance))
    assert not conjugated
    np.testing.assert_allclose(found_angle, angle, atol=2e-4)
    np.testing.assert_allclose(found_distance, distance, rtol=0.02)


def test_channels_of_another_array_are_refused() -> None:
    with pytest.raises(ValueError, match="128 antennas, the channels 64"):
        most_likely_labels(UniformLinearArray(antennas=128), torch.ones(1, 64, dtype=torch.complex64))
    with pytest.raises(ValueError, match="128 antennas, the channels 64"):
        most_likely_positions(UniformLinearArray(antennas=128), torch.ones(1, 64, dtype=torch.complex64))


@pytest.mark.parametrize("conjugated", [False, True])
@pytest.mark.parametrize("antennas", [64, 256])
def test_users_are_found_where_they_are(antennas: int, conjugated: bool) -> None:
    array = UniformLinearArray(antennas=antennas)
    angle = torch.deg2rad(torch.tensor([-40.0, -3.0, 0.0, 12.0, 55.0], dtype=torch.float64))
    distance = torch.tensor([2.0, 4.0, 5.0, 3.0, 1.5], dtype=torch.float64) * antennas / 64
    channels = near_field_steering(array, angle, distance) * torch.polar(torch.tensor(3.0), torch.tensor(1.0))
    channels = channels.conj().resolve_conj() if conjugated else channels
    found_angle, found_distance, found_conjugated = most_likely_positions(array, channels)
    assert found_conjugated == conjugated
    np.testing.assert_allclose(found_angle, angle, atol=2e-4)
    np.testing.assert_allclose(found_distance, distance, rtol=0.02)


def test_users_are_found_beside_scattered_paths() -> None:
    drops = scenario("uav", users=40).draw(1, torch.Generator().manual_seed(2))
    angle, distance, conjugated = most_likely_positions(scenario("uav").array, drops.channels[0])
    assert not conjugated
    assert float((angle - drops.angle[0]).abs().median()) < 1e-3
    near = drops.near_field[0]
    assert float(((distance - drops.distance[0]) / drops.distance[0])[near].abs().median()) < 0.05
