"""Satellite positions corrected by moving objects in LiDAR points: standing points, gaps, and other objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from matlab_io.sequences import read_folder, write_folder
from nflae_bridge.beams.inputs import available, configure, prepare
from nflae_bridge.beams.located import corrected_positions, moving_objects
from nflae_bridge.beams.recordings import read_recorded
from simulator.beams.bearings import bearings
from simulator.beams.windows import cut_windows
from tests.beam_sequences import passing_users

SAMPLES = 60
PATH = np.stack([20 + 0.5 * np.arange(SAMPLES), np.full(SAMPLES, 3.0), np.linspace(2, 9, SAMPLES)], -1)


def clouds(seed: int = 0) -> list[np.ndarray]:
    """Return a dense wall, single points anywhere, and five points of a drone on `PATH`."""
    rng = np.random.default_rng(seed)
    wall = np.stack([np.full(400, 40.5), *rng.uniform(-5, 5, (2, 400))], -1)
    parts = [(wall, rng.uniform(-60, 60, (10, 3)), place + 0.2 * rng.normal(size=(5, 3))) for place in PATH]
    return [np.concatenate(part).astype(np.float32) for part in parts]


def test_the_object_that_moves_is_found_beside_a_wall_with_more_points() -> None:
    found = moving_objects(clouds())
    away = np.abs(PATH[:, 0] - 40.5) > 1.5  # in the wall's own cells the drone cannot be told from it
    assert np.linalg.norm(found - PATH, axis=-1)[away].max() < 0.5
    assert found.dtype == np.float32


def test_samples_without_an_object_are_nan() -> None:
    some = clouds()
    assert np.isnan(moving_objects([None, *some[1:]])[0]).all()
    bare = [each[:-5] for each in some]  # without the drone
    assert np.isnan(moving_objects(bare)).all()
    noisy = np.concatenate([some[5], np.full((1, 3), np.nan, np.float32)])
    np.testing.assert_allclose(moving_objects([*some[:5], noisy, *some[6:]])[5], PATH[5], atol=0.5)


def test_positions_are_corrected_by_the_last_difference() -> None:
    true = PATH[None, :5]
    error = np.array([[1.0, 0, 2], [2.0, 0, 2], [3.0, 0, 2], [4.0, 0, 2], [5.0, 0, 2]])
    objects = true.copy()
    objects[0, [0, 3, 4]] = np.nan
    objects[0, 2] += 50  # another one
    found = corrected_positions(true + error, objects)
    np.testing.assert_allclose((found - true)[0, :, 0], [-1, 0, 1, 2, 3])  # the error of sample 2 taken off throughout
    np.testing.assert_allclose((found - true)[0, :, 2], 0, atol=1e-12)
    none = np.full_like(objects, np.nan)
    np.testing.assert_array_equal(corrected_positions(true + error, none), true + error)


def test_the_input_needs_heights_and_points_and_holds_bearings(tmp_path: Path) -> None:
    flat = passing_users(3, 20)
    assert flat.user is not None
    assert flat.mast is not None
    up = np.full((60, 1), 12.0)
    high = replace(flat, user=np.concatenate([flat.user, up], 1), mast=np.concatenate([flat.mast, 0 * up], 1))
    offset = np.array([1.5, -1.0, 0.5])
    place = high.positions()
    assert place is not None
    write_folder(tmp_path / "seen", high, recordings={"unit1_lidar": clouds()})
    folder = read_folder(tmp_path / "seen")
    recorded, _ = read_recorded([folder, folder], ["located"])  # the background is that of each folder
    np.testing.assert_allclose(recorded["located"], np.tile(moving_objects(clouds()), (2, 1)), atol=1e-4)
    windows = cut_windows([folder], 5, 3, {"located": (place - offset).astype(np.float32)})
    (config,) = configure(["located"], windows)
    (values,), present = prepare((config,), windows)
    assert present.all()
    assert windows.position is not None
    np.testing.assert_allclose(values[..., :3], bearings(windows.position - offset), atol=1e-3)
    low = replace(windows, position=windows.position[..., :2])
    assert "located" in available(windows)
    assert "located" not in available(low)
