"""Moving users: paths through waypoints, phases and Doppler by geometry, channels consistent along the way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.channels.multipath import multipath_channels
from simulator.channels.scenario import Scenario, draw_scatterers, scenario
from simulator.channels.trajectory import Flight, Waypoints, fly, waypoints_at_speed
from simulator.geometry.arrays import angle_and_distance
from simulator.geometry.near_field import is_near_field

SLOT = 0.5e-3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def line_of_sight(antennas: int = 64) -> Scenario:
    return scenario("paper", antennas=antennas)


def flown(scene: Scenario, speed: float = 20.0, slots: int = 40, seed: int = 0, start: float = 60.0) -> Flight:
    paths = [
        waypoints_at_speed([start, start + 60], [30, 10], speed),
        waypoints_at_speed([start + 20, start - 20], [40, 40], speed),
    ]
    return fly(paths, scene, slots, SLOT, seeded(seed))


def correlation(flight: Flight, lag: int) -> float:
    """Mean |h(s)^H h(s + lag)| / (||h(s)|| ||h(s + lag)||)."""
    early, late = flight.channels[:-lag], flight.channels[lag:]
    norms = torch.linalg.vector_norm(early, dim=-1) * torch.linalg.vector_norm(late, dim=-1)
    return float(((early.conj() * late).sum(-1).abs() / norms).mean())


def test_users_pass_their_waypoints_at_their_times() -> None:
    path = Waypoints(torch.tensor([1.0, 3.0, 4.0]), torch.tensor([10.0, 30.0, 30.0]), torch.tensor([5.0, 5.0, 25.0]))
    x, height, speed_x, speed_up = path.at(torch.tensor([0.0, 1.0, 2.0, 3.0, 3.5, 4.0, 9.0], dtype=torch.float64))
    assert x.tolist() == [10, 10, 20, 30, 30, 30, 30]
    assert height.tolist() == [5, 5, 5, 5, 15, 25, 25]
    assert speed_x.tolist() == [0, 10, 10, 0, 0, 0, 0]
    assert speed_up.tolist() == [0, 0, 0, 20, 20, 0, 0]


def test_a_speed_gives_the_times() -> None:
    path = waypoints_at_speed([0, 30, 30], [10, 50, 40], speed=10)
    assert path.time.tolist() == [0, 5, 6]


def test_a_path_of_one_point_stays_there() -> None:
    flight = fly([Waypoints(*torch.tensor([[0.0], [50.0], [20.0]]))], scenario("uav"), 3, SLOT, seeded())
    assert flight.x.tolist() == [[50], [50], [50]]
    assert not flight.doppler_hz.any()
    torch.testing.assert_close(flight.channels[2], flight.channels[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("time", "x", "says"),
    [([], [], "one at least"), ([0, 1], [5], "one at least"), ([0, 0], [1, 2], "rise"), ([0, 1], [1, math.nan], "fin")],
)
def test_impossible_paths_are_refused(time: list[float], x: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Waypoints(torch.tensor(time), torch.tensor(x), torch.tensor(x))


def test_impossible_flights_are_refused() -> None:
    path = waypoints_at_speed([50, 60], [10, 10], 1.0)
    for paths, slots, length in (([], 5, SLOT), ([path], 0, SLOT), ([path], 5, 0.0), ([path], 5, math.nan)):
        with pytest.raises(ValueError, match="needs paths, slots"):
            fly(paths, scenario("uav"), slots, length, seeded())
    with pytest.raises(ValueError, match="speed must be positive"):
        waypoints_at_speed([50, 60], [10, 10], 0.0)


def test_channel_at_a_waypoint_is_the_static_ones() -> None:
    """Written out path by path, from nothing but the places."""
    scene = scenario("uav", antennas=32)
    flight = flown(scene, slots=4, seed=3)
    scatterers = draw_scatterers(scene, (2, scene.scattered_paths), seeded(3))
    array = scene.array
    for user, (x, height) in enumerate([(60.0, 30.0), (80.0, 40.0)]):
        theta, r = angle_and_distance(torch.tensor(x), torch.tensor(height), array)
        q = torch.hypot(x - scatterers.x[user], height - scatterers.height[user])
        theta_l, r_l = angle_and_distance(scatterers.x[user], scatterers.height[user], array)
        lengths = torch.cat([r[None], r_l + q])
        gains = torch.cat([torch.ones(1), scatterers.gain[user]]) * 60.0 / r
        gains = gains * torch.exp(-2j * math.pi * lengths / array.wavelength)
        static = multipath_channels(array, torch.cat([theta[None], theta_l]), torch.cat([r[None], r_l]), gains)
        torch.testing.assert_close(flight.channels[0, user], static, rtol=0, atol=2e-6)


def test_truth_is_that_of_the_geometry() -> None:
    scene = scenario("uav", antennas=128)
    flight = flown(scene)
    angle, distance = angle_and_distance(flight.x, flight.height, scene.array)
    torch.testing.assert_close(flight.angle, angle)
    torch.testing.assert_close(flight.distance, distance)
    assert torch.equal(flight.near_field, is_near_field(scene.array, angle, distance))
    np.testing.assert_allclose(flight.x[:, 1], 80 - 20 * SLOT * np.arange(40))


def test_line_of_sight_turns_with_the_way_to_the_user() -> None:
    """From slot to slot by -2 pi (r(s+1) - r(s)) / lambda at the array's centre: by its Doppler shift times T."""
    scene = line_of_sight(antennas=65)  # the element in the middle is the array's centre
    flight = flown(scene, slots=200)
    centre = flight.channels[:, :, 32].to(torch.complex128)
    turned = torch.angle(centre[1:] * centre[:-1].conj()) / (2 * math.pi)
    advance = -flight.distance.diff(dim=0) / scene.array.wavelength
    error = turned - advance
    assert float((error - error.round()).abs().max()) < 1e-6
    middle = (flight.doppler_hz[1:] + flight.doppler_hz[:-1]) / 2 * SLOT
    torch.testing.assert_close(advance, middle, rtol=0, atol=1e-6)
    assert float(flight.doppler_hz[0, 1]) > 0  # it comes nearer
    assert float(flight.doppler_hz.abs().max()) <= 20 / scene.array.wavelength


def test_phases_survive_a_million_wavelengths() -> None:
    scene = line_of_sight(antennas=65)
    flight = fly([waypoints_at_speed([10_000, 10_001], [15, 15], 2.0)], scene, 3, SLOT, seeded())
    phase = torch.angle(flight.channels[:, 0, 32].to(torch.complex128)) / (2 * math.pi)
    error = phase + flight.distance[:, 0] / scene.array.wavelength
    assert float((error - error.round()).abs().max()) < 1e-6


def test_slots_decorrelate_the_faster_the_user() -> None:
    scene = replace(scenario("uav", antennas=64), scattered_paths=6, rician_factor_db=-3.0)
    found = [correlation(flown(scene, speed), 5) for speed in (0.02, 0.5, 5.0, 30.0)]
    assert found[0] > 0.999
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.9


def test_neighbouring_slots_are_alike_in_line_of_sight() -> None:
    flight = flown(line_of_sight(antennas=256), speed=20.0, slots=400)
    assert correlation(flight, 1) > 0.999
    assert correlation(flight, 300) < 0.5  # three metres on, another beam


def test_flight_does_not_depend_on_how_it_is_cut() -> None:
    scene = scenario("uav", antennas=16)
    paths = [waypoints_at_speed([60, 62], [30, 31], 10.0), waypoints_at_speed([90, 88], [5, 5], 20.0)]
    whole = fly(paths, scene, 600, SLOT, seeded())
    parts = [fly(paths, scene, 150, SLOT, seeded(), first) for first in range(0, 600, 150)]
    assert torch.equal(whole.channels, torch.cat([part.channels for part in parts]))
    assert torch.equal(whole.doppler_hz, torch.cat([part.doppler_hz for part in parts]))


def test_the_generator_decides() -> None:
    scene = scenario("uav", antennas=16)
    assert torch.equal(flown(scene, seed=1).channels, flown(scene, seed=1).channels)
    assert not torch.equal(flown(scene, seed=1).channels, flown(scene, seed=2).channels)
    still = flown(line_of_sight(16), seed=1)
    assert torch.equal(still.channels, flown(line_of_sight(16), seed=2).channels)
