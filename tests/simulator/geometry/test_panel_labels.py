"""Labels of panels against the definition, exact waves, the exhaustive search and repeated noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simulator.geometry.panel_labels import fit_spherical_wave, panel_near_field_score
from simulator.geometry.panel_localization import most_likely_panel_labels, most_likely_place
from simulator.geometry.panel_near_field import best_plane_wave_gain, is_panel_near_field
from simulator.geometry.panels import UniformPlanarArray, parse_panel, plane_wave, spherical_wave


def near_users(array: UniformPlanarArray, seed: int, users: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Directions, distances and channels of users on both sides of the border of the near field."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.rand(users, 2, generator=generator, dtype=torch.float64) - 0.5
    border = max(array.apertures) ** 2 / array.wavelength
    distance = border * (0.15 + 0.8 * torch.rand(users, generator=generator, dtype=torch.float64))
    wave = spherical_wave(array, direction, distance)
    phases = torch.polar(torch.ones(users, 1), 6 * torch.rand(users, 1, generator=generator))
    return direction, distance, torch.cat([wave * phases] * array.polarisations, -1)


def noisy(channels: Tensor, array: UniformPlanarArray, snr_db: float, seed: int = 1) -> Tensor:
    """Channels with white noise, at an SNR per antenna."""
    noise = torch.randn(channels.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex64)
    return channels + noise * 10 ** (-snr_db / 20) / array.elements**0.5


@pytest.mark.parametrize(
    "name", ["upa:12x16", "upa:12x16x2", "upa:9x7", "upa:1x80", "upa:80x1", "upa:3x40", "upa:17x40"]
)
def test_waves_and_labels_of_any_panel(name: str) -> None:
    array = parse_panel(name)
    direction, distance, channels = near_users(array, 5)
    truth = is_panel_near_field(array, direction, distance)
    clear = (best_plane_wave_gain(array, direction, distance) - 0.9).abs() > 0.01
    assert 5 < int(truth.sum()) < 35
    assert torch.equal((panel_near_field_score(array, channels) > 0.5)[clear], truth[clear])
    fit = fit_spherical_wave(array, channels)
    extended = torch.tensor([array.columns > 1, array.rows > 1])
    outside = distance > 1.1 * math.hypot(*array.apertures)  # nearer users are fitted at the panel's diagonal
    found, expected = fit.direction[:, extended].double(), direction[:, extended]
    torch.testing.assert_close(found[outside], expected[outside], atol=2e-3, rtol=0)
    if bool(extended.all()):  # a line does not show the angle around it, on which its curvature depends
        curvature = array.wavelength / distance[outside]
        torch.testing.assert_close(fit.curvature[outside].double(), curvature, rtol=0.04, atol=0)


@pytest.mark.parametrize("name", ["upa:10x12", "upa:8x8x2"])
def test_labels_from_noisy_channels_are_those_of_the_exhaustive_search(name: str) -> None:
    array = parse_panel(name)
    direction, distance, channels = near_users(array, 6, 24)
    received = noisy(channels, array, 0.0)
    labels = panel_near_field_score(array, received) > 0.5
    assert int((labels != most_likely_panel_labels(array, received)).sum()) <= 1
    truth = is_panel_near_field(array, direction, distance)
    assert int((labels != truth).sum()) <= int((most_likely_panel_labels(array, received) != truth).sum()) + 1


def test_places_of_the_exhaustive_search() -> None:
    array = UniformPlanarArray(8, 12)
    direction, distance, channels = near_users(array, 5, 12)
    found, away = most_likely_place(array, channels)
    near = is_panel_near_field(array, direction, distance)
    torch.testing.assert_close(found, direction, atol=3e-3, rtol=0)
    torch.testing.assert_close(away[near], distance[near], rtol=0.05, atol=0)


def test_labels_depend_on_nothing_but_the_wavefront() -> None:
    array = parse_panel("upa:12x16x2")
    channels = noisy(near_users(array, 7)[2], array, 5.0)
    score = panel_near_field_score(array, channels)
    assert 0 < int((score > 0.5).sum()) < len(score)
    turned = torch.polar(torch.full((40, 1), 1e-6), torch.arange(40.0).unsqueeze(-1))
    second = torch.cat([torch.ones(192), torch.full((192,), 1j)])  # the phase between polarisations is free
    same = {"atol": 2e-3, "rtol": 0.0}
    torch.testing.assert_close(panel_near_field_score(array, channels * turned * second), score, **same)
    torch.testing.assert_close(panel_near_field_score(array, channels.conj()), score, **same)
    one_by_one = torch.cat([panel_near_field_score(array, channel.unsqueeze(0)) for channel in channels])
    torch.testing.assert_close(one_by_one, score, **same)
    assert panel_near_field_score(array, channels.reshape(8, 5, -1)).shape == (8, 5)
    assert panel_near_field_score(array, channels[:0]).shape == (0,)


def test_deviation_is_that_of_repeated_estimates_and_the_score_a_probability() -> None:
    array = UniformPlanarArray(16, 16)
    direction, distance = torch.tensor([[0.3, -0.2]], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    channels = spherical_wave(array, direction, distance).expand(2000, -1)
    fit = fit_spherical_wave(array, noisy(channels, array, 0.0))
    assert float(fit.curvature.std() / fit.deviation.mean()) == pytest.approx(1, abs=0.1)
    assert float(fit.curvature.mean()) == pytest.approx(float(array.wavelength / distance), rel=0.02)
    score = panel_near_field_score(array, noisy(channels, array, 0.0))
    beyond = torch.special.ndtri(score.clamp(1e-9, 1 - 1e-9))  # of a normal distribution where no score saturates
    assert float(beyond.std()) == pytest.approx(1, abs=0.15)


def test_border_follows_the_loss() -> None:
    array = UniformPlanarArray(16, 16)
    distance = torch.linspace(0.15, 0.9, 200, dtype=torch.float64)
    direction = torch.tensor([0.2, 0.1], dtype=torch.float64).expand(200, 2)
    gain = best_plane_wave_gain(array, direction, distance)
    channels = spherical_wave(array, direction, distance)
    for loss in (0.05, 0.1, 0.2):
        clear = (gain - (1 - loss)).abs() > 3e-3
        near = panel_near_field_score(array, channels, loss) > 0.5
        assert torch.equal(near[clear], (gain <= 1 - loss)[clear])
        assert 0 < int(near.sum()) < 200


def test_noise_is_not_taken_for_curvature() -> None:
    array = UniformPlanarArray(16, 16)
    direction, _, channels = near_users(array, 6)
    far = noisy(plane_wave(array, direction), array, 5.0)
    assert float(panel_near_field_score(array, far).max()) < 0.01
    small = UniformPlanarArray(2, 2)  # no wave from beyond its diagonal is near-field
    assert not bool((panel_near_field_score(small, noisy(torch.ones(200, 4) / 2, small, 0.0)) > 0.5).any())
    assert math.isfinite(float(panel_near_field_score(small, channels[:1, :4]).sum()))


def test_channels_of_another_array_are_refused() -> None:
    channels = torch.ones(1, 12, dtype=torch.complex64)
    for label in (panel_near_field_score, most_likely_panel_labels):
        with pytest.raises(ValueError, match="the array has 192 antennas, the channels 12"):
            label(UniformPlanarArray(12, 16), channels)
