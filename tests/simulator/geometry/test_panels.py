"""Planar arrays against Euclidean distances, the line they contain, and brute-force searches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import is_near_field
from simulator.geometry.panel_near_field import (
    best_plane_wave_gain,
    is_panel_near_field,
    panel_curvatures,
    separable_gain,
)
from simulator.geometry.panels import (
    UniformPlanarArray,
    azimuth_and_depression,
    direction_and_distance,
    direction_cosines,
    parse_panel,
    plane_wave,
    spherical_wave,
)
from simulator.geometry.steering import far_field_steering, near_field_steering

PANEL = UniformPlanarArray(rows=6, columns=9)


def elements(array: UniformPlanarArray) -> np.ndarray:
    """Coordinates (elements, 3), long double, of element r + rows c."""
    down = np.array([-np.sin(np.longdouble(array.tilt)), 0, -np.cos(np.longdouble(array.tilt))])
    places = []
    for c in range(array.columns):
        for r in range(array.rows):
            y = (c - (array.columns - 1) / 2) * np.longdouble(array.spacing)
            v = (r - (array.rows - 1) / 2) * np.longdouble(array.spacing)
            places.append(np.array([0, y, array.height], np.longdouble) + v * down)
    return np.array(places)


coordinates = st.tuples(st.floats(0.3, 300), st.floats(-200, 200), st.floats(0, 60))


@given(coordinates, st.sampled_from([0.0, 5.0, -20.0]))
def test_spherical_wave_is_the_distance_to_every_element(place: tuple[float, float, float], tilt: float) -> None:
    array = UniformPlanarArray(rows=6, columns=9, tilt=math.radians(tilt))
    position = np.array(place, np.longdouble)
    away = np.sqrt(((elements(array) - position) ** 2).sum(1))
    centre = np.sqrt(((np.array([0, 0, array.height], np.longdouble) - position) ** 2).sum())
    cycles = (away - centre) / np.longdouble(array.wavelength)
    expected = np.exp(-2j * np.pi * (cycles - np.round(cycles)).astype(float)) / np.sqrt(array.elements)
    wave = spherical_wave(array, *direction_and_distance(torch.tensor(place, dtype=torch.float64), array))
    np.testing.assert_allclose(wave.numpy(), expected, atol=1e-6)


def test_wave_of_another_frequency_scales_its_phases() -> None:
    direction, distance = torch.tensor([0.3, -0.2]), torch.tensor(4.0)
    other = UniformPlanarArray(rows=6, columns=9, carrier=33e9)
    np.testing.assert_allclose(
        spherical_wave(PANEL, direction, distance, 60e9).numpy(),
        spherical_wave(PANEL, direction, distance).numpy() ** 2 * np.sqrt(PANEL.elements),
        atol=1e-6,
    )
    assert not np.allclose(spherical_wave(PANEL, direction, distance, 33e9), spherical_wave(other, direction, distance))


def test_panel_of_one_column_is_the_line() -> None:
    line, panel = UniformLinearArray(antennas=96), UniformPlanarArray(rows=96, columns=1)
    x, height = torch.linspace(2, 150, 40, dtype=torch.float64), torch.linspace(0, 40, 40, dtype=torch.float64)
    angle, distance = angle_and_distance(x, height, line)
    direction, away = direction_and_distance(torch.stack([x, torch.zeros_like(x), height], -1), panel)
    torch.testing.assert_close(direction[:, 1], torch.sin(angle))
    torch.testing.assert_close(away, distance)
    torch.testing.assert_close(spherical_wave(panel, direction, away), near_field_steering(line, angle, distance))
    torch.testing.assert_close(plane_wave(panel, direction), far_field_steering(line, angle))
    assert bool((is_panel_near_field(panel, direction, away) == is_near_field(line, angle, distance)).all())


@given(coordinates)
def test_azimuth_and_depression_lead_back_to_the_user(place: tuple[float, float, float]) -> None:
    x, y, z = place
    if x * math.cos(PANEL.tilt) + (PANEL.height - z) * math.sin(PANEL.tilt) < 1e-3:  # behind the array
        return
    position = torch.tensor(place, dtype=torch.float64)
    azimuth, depression = azimuth_and_depression(direction_and_distance(position, PANEL)[0], PANEL)
    assert float(azimuth) == pytest.approx(math.atan2(y, x), abs=1e-6)
    assert float(depression) == pytest.approx(math.atan2(PANEL.height - z, math.hypot(x, y)), abs=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (32, 128)])
def test_closed_form_of_the_gain_on_the_principal_planes(rows: int, columns: int) -> None:
    array = UniformPlanarArray(rows=rows, columns=columns)
    for direction in ([0.0, 0.0], [0.4, 0.0], [0.0, -0.5]):
        for distance in (8.0, 20.0, 60.0):
            at = torch.tensor(direction, dtype=torch.float64), torch.tensor(distance, dtype=torch.float64)
            wave, plane = spherical_wave(array, *at).numpy(), plane_wave(array, at[0]).numpy()
            assert abs(np.vdot(plane, wave)) == pytest.approx(float(separable_gain(array, *at)), abs=4e-3)
    curvature = panel_curvatures(array, torch.tensor([0.6, 0.0]), torch.tensor(5.0))
    expected = columns * array.spacing * 0.8 / math.sqrt(2 * array.wavelength * 5)
    assert float(curvature[0]) == pytest.approx(expected, rel=1e-6)


def test_best_plane_wave_is_the_peak_of_a_fine_grid() -> None:
    array = UniformPlanarArray(rows=24, columns=40)
    generator = torch.Generator().manual_seed(1)
    direction = 1.2 * torch.rand(12, 2, generator=generator, dtype=torch.float64) - 0.6
    distance = 0.7 + 4 * torch.rand(12, generator=generator, dtype=torch.float64)
    waves = spherical_wave(array, direction, distance).reshape(-1, array.columns, array.rows)
    grid = torch.fft.fft2(waves, s=(16 * array.columns, 16 * array.rows)).abs().amax((1, 2)) / array.elements**0.5
    best = best_plane_wave_gain(array, direction, distance)
    assert bool((best >= grid - 1e-3).all())
    assert bool((best <= grid + 0.01).all())
    assert (is_panel_near_field(array, direction, distance) == (best <= 0.9)).all()
    assert 0 < int((best <= 0.9).sum()) < len(best)


def test_arrays_are_named_as_they_are_parsed() -> None:
    assert parse_panel("upa:8x32x2") == UniformPlanarArray(8, 32, 2)
    assert parse_panel("upa:8x32", 7e9).wavelength == pytest.approx(0.0428, abs=1e-4)
    assert str(parse_panel("upa:8x32x2")) == "upa:8x32x2"
    assert parse_panel("upa:8x32x2").antennas == 512
    for wrong in ("upa", "upa:8", "upa:0x4", "upa:8x4x3", "8x4", "ula"):
        with pytest.raises(NflaeError, match=r"upa:ROWSxCOLUMNS"):
            parse_panel(wrong)


@given(coordinates)
def test_direction_cosines_invert_azimuth_and_depression(place: tuple[float, float, float]) -> None:
    direction, _ = direction_and_distance(torch.tensor(place, dtype=torch.float64), PANEL)
    x, y, z = place
    azimuth = torch.tensor(math.atan2(y, x), dtype=torch.float64)
    depression = torch.tensor(math.atan2(PANEL.height - z, math.hypot(x, y)), dtype=torch.float64)
    torch.testing.assert_close(direction_cosines(azimuth, depression, PANEL), direction)
