"""Sites: what blocks, channels against sums over elements and paths, flights, satellites, and what sensors show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simulator.geometry.arrays import UniformLinearArray
from simulator.sensors.camera import PIXELS, picture
from simulator.sensors.flights import draw_flights, satellite_positions
from simulator.sensors.ranging import RANGE_METRES, points, radar_map
from simulator.sensors.recording import record
from simulator.sensors.site import Site, draw_site

ARRAY = UniformLinearArray(antennas=32, carrier=30e9, height=15.0, tilt=0.0)
STEP = 1 / 3


def one_building(gains: tuple[complex, ...] = (0.2 + 0.1j,)) -> Site:
    boxes = np.array([[40.0, 50.0, -10.0, 10.0, 20.0]])
    return Site(ARRAY, boxes, np.array([0.3]), np.array([[40.0, 4.0, 10.0]])[: len(gains)], np.array(gains))


def test_a_building_blocks_what_is_behind_it() -> None:
    site = one_building()
    places = np.array(
        [[80.0, 0, 10], [80, 0, 26], [30, 0, 10], [80, 30, 10], [80, -15, 10], [45, 0, 21.5], [45, 0, 19]]
    )
    assert site.blocked(places).tolist() == [True, False, False, False, True, False, True]
    assert site.inside(places).tolist() == [False] * 6 + [True]
    assert site.inside(places, 2.0)[5]


def test_blockage_is_that_of_points_along_the_line() -> None:
    site = draw_site(ARRAY, 4)
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(5, 150, 300), rng.uniform(-70, 70, 300), rng.uniform(0, 50, 300)], -1)
    share = np.linspace(0, 1, 4001)[:, None, None]
    line = site.origin + share * (places - site.origin)
    differing = site.inside(line).any(0) != site.blocked(places)
    assert differing.mean() <= 0.01  # lines that graze a corner between two points
    assert 0.1 < site.blocked(places).mean() < 0.9


def test_channels_are_sums_over_paths_in_three_dimensions() -> None:
    site = one_building()
    places = np.array([[20.0, 15.0, 8.0], [80.0, 0.0, 10.0]])
    at = site.origin - ARRAY.element_offsets().numpy()[:, None] * [0.0, 0.0, 1.0]  # element N at the bottom
    wave = 2 * np.pi / ARRAY.wavelength
    expected = []
    for place, loss in zip(places, (1.0, 10 ** (-25 / 20)), strict=True):
        length = np.linalg.norm(place - at, axis=-1)
        distance = np.linalg.norm(place - site.origin)
        h = loss * 60 / distance * np.exp(-1j * wave * length) / math.sqrt(32)
        whole = np.linalg.norm(site.scatterers[0] - site.origin) + np.linalg.norm(place - site.scatterers[0])
        legs = np.linalg.norm(site.scatterers[0] - at, axis=-1) + np.linalg.norm(place - site.scatterers[0])
        expected.append(h + site.gains[0] * 60 / whole * np.exp(-1j * wave * legs) / math.sqrt(32))
    np.testing.assert_allclose(site.channels(places).numpy(), expected, atol=2e-5)


def test_flights_stay_in_the_sector_outside_of_buildings_and_below_their_speed() -> None:
    site = draw_site(ARRAY, 1)
    path = draw_flights(site, 40, 60, STEP, 7)
    assert not site.inside(path, 1.9).any()
    east, north, height = np.moveaxis(path, -1, 0)
    assert (east >= 15).all()
    assert (east <= 140).all()
    assert (np.abs(north) <= np.minimum(0.8 * east, 60)).all()
    assert (height >= 4).all()
    assert (height <= 45).all()
    velocity = np.diff(path, axis=1) / STEP
    assert np.hypot(velocity[..., 0], velocity[..., 1]).max() <= 22 + 1e-9
    assert np.abs(velocity[..., 2]).max() <= 8 + 1e-9
    moving = np.hypot(velocity[..., 0], velocity[..., 1]) > 0
    assert moving.mean() > 0.8
    assert np.ptp(height) > 20


@pytest.mark.parametrize("step", [0.1, 1.0])
def test_the_spread_of_flights_does_not_depend_on_the_step(step: float) -> None:
    path = draw_flights(one_building(()), 300, 2, step, 3)
    climb = np.diff(path[..., 2], axis=1)[:, 0] / step
    kept = math.exp(-step / 8)
    assert climb.std() == pytest.approx(math.hypot(2 * kept, 4 * math.sqrt(1 - kept**2)), rel=0.15)


def test_satellites_have_a_bias_per_flight_and_a_wander() -> None:
    true = np.zeros((400, 60, 3))
    error = satellite_positions(true, STEP, 5)
    assert error.std() == pytest.approx(math.sqrt(2 * 1.4**2 + 0.3**2), rel=0.05)
    assert error.mean(1).std() == pytest.approx(1.55, abs=0.12)  # the bias, and what remains of the wander
    lag = (error[:, 1:] - error[:, :-1]).std()
    assert lag == pytest.approx(math.sqrt(2 * 1.4**2 * (1 - math.exp(-STEP / 3.2)) + 2 * 0.3**2), rel=0.05)
    np.testing.assert_array_equal(satellite_positions(true, STEP, 5), error)
    assert (satellite_positions(true, STEP, 6) != error).all()


def test_pictures_show_drones_in_sight_where_they_are() -> None:
    site = one_building()
    place = np.array([20.0, 10.0, 20.0])
    seen, empty = (picture(site, place, sight, 1.0, np.random.default_rng(3)).astype(float) for sight in (True, False))
    row, column = np.unravel_index((empty - seen).argmax(), seen.shape)
    assert abs(row - (PIXELS / 2 - 32 * 5 / 20)) <= 1
    assert abs(column - (PIXELS / 2 - 32 * 10 / 20)) <= 1
    assert (np.abs(empty - seen) > 0).mean() < 0.05
    assert empty[28, 32] == pytest.approx(255 * 0.3, abs=30)  # the wall, in front of the sky
    assert empty[5, 32] == pytest.approx(255 * 0.8, abs=30)


def test_radar_and_lidar_show_drones_in_sight_and_walls() -> None:
    site = one_building()
    place = np.array([24.0, 18.0, 27.0])
    offset = place - site.origin
    maps = np.mean([radar_map(site, place, True, np.random.default_rng(seed)) for seed in range(20)], 0)
    maps -= np.mean([radar_map(site, place, False, np.random.default_rng(seed)) for seed in range(20)], 0)
    bin_, angle = np.unravel_index(maps.argmax(), maps.shape)
    assert bin_ == int(np.linalg.norm(offset) / RANGE_METRES)
    assert abs(-57.5 + 5 * angle - math.degrees(math.atan2(offset[2], 30))) <= 2.5
    near, far = (points(site, each, True, np.random.default_rng(1)) for each in (place, place + np.array([0, 0, 90])))
    assert len(near) == len(far) + 6
    np.testing.assert_allclose(near[-6:].mean(0), offset, atol=0.5)
    walls = near[(np.abs(near[:, 0] - 40) < 1e-3)]
    assert len(walls) == 12
    assert walls[:, 2].min() >= -15


def test_recordings_are_of_the_flights_and_of_the_seed_alone() -> None:
    site = draw_site(ARRAY, 2)
    path = draw_flights(site, 3, 5, STEP, 2)
    reported = satellite_positions(path, STEP, 2)
    found, again = (record(site, path, reported, STEP, 2) for _ in range(2))
    positions = found.sequences.positions()
    assert positions is not None
    np.testing.assert_allclose(positions, reported.reshape(-1, 3) - site.origin, atol=1e-6)
    assert found.sequences.sequence.tolist() == np.repeat([1, 2, 3], 5).tolist()
    assert found.sequences.seconds is not None
    np.testing.assert_allclose(found.sequences.seconds[5:10], STEP * np.arange(5))
    codebook = np.exp(1j * np.pi * np.outer((2 * np.arange(32) + 1) / 32 - 1, np.arange(32) - 15.5)) / math.sqrt(32)
    exact = np.abs(site.channels(path.reshape(-1, 3)).numpy() @ codebook.conj().T) ** 2
    strong = exact > 0.1
    assert np.abs(found.sequences.powers / exact - 1)[strong].max() < 0.8
    assert found.sequences.powers[exact < 1e-3].mean() == pytest.approx(0.004, rel=0.3)
    for column, arrays in found.files.items():
        assert len(arrays) == 15
        for one, other in zip(arrays, again.files[column], strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.sequences.powers, again.sequences.powers)
