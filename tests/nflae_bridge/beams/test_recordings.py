"""Recordings of samples as inputs of the network: conversions against definitions, absent and damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matlab_io.errors import NflaeError
from matlab_io.sequences import read_folder, write_folder
from nflae_bridge.beams.inputs import available, configure, prepare
from nflae_bridge.beams.recordings import read_recorded, values_of
from simulator.beams.windows import cut_windows
from tests.beam_sequences import passing_users

RNG = np.random.default_rng(0)


def test_pictures_are_means_over_cells_from_0_to_1() -> None:
    picture = RNG.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    found = values_of("picture", [picture])[0]
    expected = picture.reshape(32, 2, 32, 3, 3).mean((1, 3)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    grey = values_of("picture", [picture[..., 0]])[0]
    np.testing.assert_allclose(grey, np.repeat(expected[:1], 3, 0), rtol=1e-5)
    assert values_of("vision", [picture]).shape == (1, 3, 96, 96)


def test_raw_radar_samples_have_their_peak_at_angle_and_range() -> None:
    antenna, sample, chirp = np.ogrid[:4, :64, :16]
    raw = np.exp(2j * np.pi * (0.25 * antenna + 20 / 64 * sample + 0.2 * chirp)) + 5  # a moving target and a wall
    map_ = values_of("radar", [raw])[0, 0]
    assert map_.shape == (32, 32)
    peak = np.unravel_index(map_.argmax(), map_.shape)
    assert peak == (10, 24)  # range 20 of 64; a quarter cycle per antenna: 48 of 64
    assert abs(float(map_.mean())) < 1e-5
    same = values_of("radar", [1e3 * RNG.uniform(size=(20, 20))])
    assert same.shape == (1, 1, 32, 32)


def test_points_and_boxes_are_sets_of_one_size() -> None:
    points = RNG.uniform(-40, 40, (100, 3))
    few = points[:5].copy()
    few[2] = np.nan
    many, padded = values_of("points", [points, few])
    assert many.shape == (32, 3)
    np.testing.assert_allclose(many[[0, -1]], points[[0, -1]] / 50, rtol=1e-5)
    np.testing.assert_allclose(padded[:4], few[[0, 1, 3, 4]] / 50, rtol=1e-5)
    assert not padded[4:].any()
    boxes = values_of("detections", [np.arange(8.0)])[0]
    np.testing.assert_array_equal(boxes[:2], [[0, 1, 2, 3], [4, 5, 6, 7]])
    assert boxes.shape == (8, 4)


def test_csi_is_free_of_scale_and_common_phase() -> None:
    channel = RNG.normal(size=(16, 1)) + 1j * RNG.normal(size=(16, 1))
    first, second = values_of("csi", [channel, 3e-6 * np.exp(2j) * channel])
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)
    complex_ = first.astype(np.float64).view(np.complex128)
    assert np.mean(np.abs(complex_) ** 2) == pytest.approx(1, rel=1e-5)
    assert np.angle(complex_.sum()) == pytest.approx(0, abs=1e-5)
    picture = values_of("csi-picture", [channel])[0]
    assert picture.shape == (3, 32, 32)
    product = complex_[3] * complex_[5].conj()
    np.testing.assert_allclose(
        4 * picture[:, 6, 10] - 2, [product.real, product.imag, abs(product)], rtol=1e-4, atol=1e-5
    )


def test_other_sizes_and_nothing_at_all_are_refused() -> None:
    with pytest.raises(NflaeError, match="input csi: sample 2 has 8 values, the ones before 4"):
        values_of("csi", [np.ones(2), np.ones(4)])
    with pytest.raises(NflaeError, match="input radar: no sample has a recording of it"):
        values_of("radar", [None])


def test_absent_and_damaged_files_are_masked(tmp_path: Path) -> None:
    samples = passing_users(3, 10)
    pictures = [np.full((8, 8), number, np.uint8) for number in range(30)]
    write_folder(tmp_path / "seen", samples, recordings={"unit1_rgb": pictures})
    write_folder(tmp_path / "blind", passing_users(2, 10, seed=5))
    read = read_folder(tmp_path / "seen")
    cells = list(read.files["unit1_rgb"])
    cells[4] = ""
    (tmp_path / "seen" / cells[7]).write_bytes(b"no picture")
    read = replace(read, files={"unit1_rgb": tuple(cells)})
    folders = [read, read_folder(tmp_path / "blind")]
    recorded, notes = read_recorded(folders, ["power", "picture", "radar"])
    assert list(recorded) == ["picture"]
    assert [note.partition("input ")[2] for note in notes] == [
        "picture absent in 2 of 30 samples (empty or damaged)",
        "picture absent in 20 of 20 samples (no column)",
    ]
    windows = cut_windows(folders, 4, 2, recorded)
    assert available(windows) == ["power", "beam", "prompt", "position", "picture"]
    values, present = prepare(configure(["power", "picture"], windows), windows)
    samples_of = windows.first[:, None] + np.arange(4)
    np.testing.assert_array_equal(present[..., 1], ~np.isin(samples_of, [4, 7, *range(30, 50)]))
    assert bool(present[..., 0].all())
    expected = np.where(present[..., 1], samples_of, 0) / 255
    np.testing.assert_allclose(values[1][..., 0, 0, 0], expected, rtol=1e-5)
    part = windows.part(windows.flight == 1)
    np.testing.assert_array_equal(part.past_values("picture"), windows.past_values("picture")[windows.flight == 1])


def test_paths_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"")
    samples = replace(passing_users(1, 8), path=tmp_path / "inside", files={"unit1_rgb": ("../secret.png",) * 8})
    with pytest.raises(NflaeError, match=r"\.\./secret.png leads out of the folder"):
        read_recorded([samples], ["picture"])
