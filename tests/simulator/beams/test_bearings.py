"""Bearings: what a codebook of a vertical array depends on, from positions with heights."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.beams.bearings import bearings
from simulator.beams.registry import forecaster
from simulator.beams.windows import Windows


def test_bearings_are_elevation_azimuth_and_distance() -> None:
    angle, across, distance = 0.4, -1.1, 37.0
    level = distance * np.cos(angle)
    place = np.array([[level * np.cos(across), level * np.sin(across), distance * np.sin(angle)]])
    np.testing.assert_allclose(bearings(place), [[np.sin(angle), across, np.log(distance)]])
    assert np.isfinite(bearings(np.zeros((2, 3)))).all()
    flat = np.ones((4, 5, 2))
    assert bearings(flat) is flat


@pytest.mark.parametrize("east", [20.0, 90.0])
def test_the_map_of_positions_knows_elevations_at_other_distances(east: float) -> None:
    rng = np.random.default_rng(0)

    def users(places: np.ndarray) -> Windows:
        sine = places[:, 2] / np.linalg.norm(places, axis=-1)
        centre = (sine + 1) / 2 * 16 - 0.5
        powers = np.exp(-((np.arange(16) - centre[:, None]) ** 2)).astype(np.float32)
        past = np.repeat(powers[:, None], 2, 1)
        zero = np.zeros(len(places), np.int64)
        return Windows(
            past, past[:, :1], np.repeat(places[:, None], 2, 1), zero, zero, zero, True, np.arange(len(places))
        )

    near = np.stack([rng.uniform(40, 60, 2000), rng.uniform(-20, 20, 2000), rng.uniform(-40, 40, 2000)], -1)
    level = np.full(200, east)
    test = users(np.stack([level, 0 * level, level * rng.uniform(-0.6, 0.6, 200)], -1))
    method = forecaster("position-map")
    scores = method.scores(test, method.state(users(near), 0))
    assert (scores.argmax(-1) == test.future.argmax(-1)).mean() > 0.85
