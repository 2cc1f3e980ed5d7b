"""``nflae simulate --source site``: its channel file, its folder of sensors, and the commands that read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from matlab_io.sequences import read_folder, read_recording
from simulator.channels.sources import channels
from simulator.geometry.arrays import UniformLinearArray
from simulator.sensors.flights import draw_flights
from simulator.sensors.site import draw_site
from tests.channel_files import Run

SIZE = ("--users", 4, "--drops", 9, "--antennas", 16)
MODALITIES = ("unit1_rgb", "unit1_radar", "unit1_lidar", "unit1_csi")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_what_the_sensors_record_and_follows_from_the_seed(nflae: Run, tmp_path: Path) -> None:
    folder = tmp_path / "one" / "site"
    done = nflae("simulate", "--source", "site", "--sensors", folder, *SIZE, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "36 samples of 4 flights, 16 beams" in done.output
    read = read_folder(folder, MODALITIES)
    assert read.notes == ()
    assert read.sequence.tolist() == np.repeat([1, 2, 3, 4], 9).tolist()
    found = scipy.io.loadmat(folder / "channels.mat")
    assert found["H"].shape == (16, 4, 9)
    positions = read.positions()
    assert positions is not None
    for name, column in (("gps_east", 0), ("gps_north", 1)):
        np.testing.assert_allclose(found[name], positions[:, column].reshape(4, 9), atol=1e-6)
    np.testing.assert_allclose(found["gps_height"] - found["array_height"], positions[:, 2].reshape(4, 9), atol=1e-9)
    for sample in (0, 8, 9, 35):
        csi = read_recording(folder / read.files["unit1_csi"][sample])
        np.testing.assert_array_equal(csi[:, 0], found["H"][:, sample // 9, sample % 9])
    assert read_recording(folder / read.files["unit1_rgb"][5]).shape == (64, 64)
    other = tmp_path / "two" / "site"
    assert nflae("simulate", "--source", "site", "--sensors", other, *SIZE, "--seed", 3).exit_code == 0
    assert content(folder) == content(other)
    third = tmp_path / "three" / "site"
    assert nflae("simulate", "--source", "site", "--sensors", third, *SIZE, "--seed", 4).exit_code == 0
    assert not (read_folder(third).powers == read.powers).any()
    assert (np.abs(np.subtract(read_folder(third).mast[0], read.mast[0]))[:2] > 1e-3).any()  # type: ignore[index]


def test_the_channel_file_has_the_truth_and_is_tracked(nflae: Run, tmp_path: Path) -> None:
    output = tmp_path / "site.mat"
    done = nflae("simulate", "-o", output, "--source", "site", "--users", 6, "--drops", 12, "--seed", 1)
    assert done.exit_code == 0, done.output
    found = scipy.io.loadmat(output)
    array = UniformLinearArray(256, 30e9, 15.0, 0.0)
    scene = draw_site(array, 1)
    path = draw_flights(scene, 6, 12, 1 / 3, 1)
    np.testing.assert_allclose(found["x"], np.hypot(path[..., 0], path[..., 1]))
    np.testing.assert_array_equal(found["in_sight"].astype(bool), ~scene.blocked(path))
    np.testing.assert_array_equal(found["H"].T, channels("site", users=6, drops=12, seed=1))
    np.testing.assert_array_equal(found["H"].T, scene.channels(path.swapaxes(0, 1)).numpy())
    assert nflae("track", output, "-o", tmp_path / "track.mat").exit_code == 0
    tracked = scipy.io.loadmat(tmp_path / "track.mat")
    error = np.hypot(tracked["x"] - found["x"], tracked["height"] - found["height"])
    reported = np.hypot(found["gps_x"] - found["x"], found["gps_height"] - found["height"])
    seen = found["in_sight"].astype(bool) & (np.arange(12) >= 6)
    assert seen.sum() > 5
    assert np.median(error[seen]) < 0.5 * np.median(reported[seen])


def test_noise_of_the_csi_is_in_the_folder_too(nflae: Run, tmp_path: Path) -> None:
    output, folder = tmp_path / "site.mat", tmp_path / "site"
    arguments = ("--source", "site", *SIZE, "--csi-snr-db", 10, "--sensors", folder)
    assert nflae("simulate", "-o", output, *arguments).exit_code == 0
    found = scipy.io.loadmat(output)["H"]
    exact = channels("site", users=4, drops=9, antennas=16).T
    assert np.mean(np.abs(found - exact) ** 2) == pytest.approx(0.1 * np.mean(np.abs(exact) ** 2), rel=0.2)
    read = read_folder(folder)
    np.testing.assert_array_equal(read_recording(folder / read.files["unit1_csi"][10])[:, 0], found[:, 1, 1])
    assert not (folder / "channels.mat").exists()


def test_wrong_usage_writes_nothing(nflae: Run, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").touch()
    new = tmp_path / "new"
    for arguments, code, says in (
        (("--source", "site"), 2, "give -o OUT.mat"),
        (("--sensors", new), 1, "source uav takes no sensors"),
        (("--source", "site", "--sensors", full), 1, "full: exists; name a new folder"),
        (("--source", "site", "--sensors", new, "--subcarriers", 4, "--bandwidth-mhz", 9), 1, "site takes no"),
    ):
        done = nflae("simulate", *arguments)
        assert done.exit_code == code
        assert says in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
