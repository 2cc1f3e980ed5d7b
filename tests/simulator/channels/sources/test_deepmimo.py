"""DeepMIMO: scenario folders, against channels its own generator computed of them, and datasets saved as .mat."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from matlab_io import MatFileError
from matlab_io.errors import NflaeError
from simulator.channels.sources import Request, channels, draw

RECORDED = Path(__file__).parent / "recorded"
FOLDER = RECORDED / "seven_places"  # written by DeepMIMO 4.0.5; no ray reaches the third place
REACHED = [0, 1, 3, 4, 5, 6]


def theirs(station: int) -> npt.NDArray[Any]:
    """Channels that DeepMIMO 4.0.5 computed, as h: (places, antennas, subcarriers), of subcarriers 0, 16, 32, 48.

    Of 64 subcarriers in 50 MHz, and divided by sqrt(64) as it does.
    """
    with np.load(RECORDED / "seven_places_channels.npz") as answers:
        direct: npt.NDArray[Any] = answers[f"channel_{station}"][:, 0]
    return direct.conj() * 8


@pytest.mark.parametrize("station", [1, 2])
def test_folder_gives_what_deepmimo_computes(station: int) -> None:
    found = channels("deepmimo", file=FOLDER, antennas=8, base_station=station)
    assert found.shape == (1, 6, 8)
    assert found.dtype == np.complex64
    expected = theirs(station)[REACHED, :, 0]
    np.testing.assert_allclose(found[0], expected, atol=1e-6 * np.abs(expected).max())


def test_subcarriers_turn_as_deepmimos_do() -> None:
    """Its subcarriers 0, 16, 32, 48 are 12.5 MHz apart, as four of ours in 50 MHz: their products agree."""
    ours = channels("deepmimo", file=FOLDER, antennas=8, base_station=1, subcarriers=4, bandwidth=50e6)
    assert ours.shape == (4, 6, 8)
    # A place with one ray: from one subcarrier to the next it turns by the same phase in both.
    alone = REACHED.index(3)
    expected = theirs(1)[3]
    steps = ours[1:, alone] * ours[:-1, alone].conj()
    np.testing.assert_allclose(steps, (expected[:, 1:] * expected[:, :-1].conj()).T, rtol=1e-4)


def test_drops_are_draws_of_places() -> None:
    asked = {"file": FOLDER, "antennas": 8, "base_station": 2, "users": 3, "drops": 40}
    found = channels("deepmimo", **asked, seed=4)
    assert found.shape == (40, 3, 8)
    np.testing.assert_array_equal(found, channels("deepmimo", **asked, seed=4))
    assert not np.array_equal(found, channels("deepmimo", **asked, seed=5))
    every = channels("deepmimo", file=FOLDER, antennas=8, base_station=2)[0]
    place = np.abs(found[:, :, None] - every).max(-1).argmin(-1)
    np.testing.assert_array_equal(found, every[place])
    assert all(len(set(row)) == 3 for row in place)
    assert set(place.ravel()) == set(range(6))


def test_what_is_known(tmp_path: Path) -> None:
    drawn = draw("deepmimo", Request(file=FOLDER, antennas=8, base_station=1))
    assert drawn.metadata["carrier_hz"] == 28e9
    assert "1 more have no channel" in drawn.remark
    h = next(drawn.blocks)
    assert drawn.metadata["noise_power"] == pytest.approx((np.abs(h) ** 2).sum(-1).mean() / 100, rel=1e-5)


def test_folder_of_mat_files(tmp_path: Path) -> None:
    """DeepMIMO takes its matrices as .npz and as .mat; so do we."""
    folder = tmp_path / "as_mat"
    shutil.copytree(FOLDER, folder)
    for file in folder.glob("*_t*.npz"):
        with np.load(file) as content:
            scipy.io.savemat(file.with_suffix(".mat"), dict(content))
        file.unlink()
    asked = {"antennas": 8, "base_station": 1}
    np.testing.assert_array_equal(
        channels("deepmimo", file=folder, **asked), channels("deepmimo", file=FOLDER, **asked)
    )


def dataset(stations: int = 1, users: int = 3, subcarriers: int = 4, receive: int = 1) -> npt.NDArray[Any]:
    rng = np.random.default_rng(2)
    shape = (stations, users, receive, 8, subcarriers)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def save_as_matlab(path: Path, content: npt.NDArray[Any]) -> Path:
    """DeepMIMO_dataset{i}.user{j}.channel, and beside it what the MATLAB generator puts there too."""
    cells = np.empty((1, len(content)), object)
    for i, station in enumerate(content):
        users = np.empty((1, len(station)), object)
        for j, channel in enumerate(station):
            users[0, j] = {"channel": channel, "LoS_status": 1.0, "loc": np.arange(3.0), "path_params": {"ToA": 1e-7}}
        others = np.empty((1, 1), object)
        others[0, 0] = {"channel": np.ones((8, 8, 4), complex)}
        cells[0, i] = {"user": users, "basestation": others, "loc": np.zeros(3)}
    scipy.io.savemat(path, {"DeepMIMO_dataset": cells})
    return path


def test_matlab_dataset(tmp_path: Path) -> None:
    content = dataset(stations=2)
    path = save_as_matlab(tmp_path / "set.mat", content)
    found = channels("deepmimo", file=path, base_station=2)
    assert found.shape == (4, 3, 8)  # a drop a subcarrier
    np.testing.assert_array_equal(found, content[1, :, 0].conj().transpose(2, 0, 1))
    with pytest.raises(NflaeError, match="holds channels of 2 base stations; choose one, base station 1 to 2"):
        channels("deepmimo", file=path)


def test_python_dataset(tmp_path: Path) -> None:
    content = dataset()
    scipy.io.savemat(tmp_path / "set.mat", {"channel": content[0]})
    found = channels("deepmimo", file=tmp_path / "set.mat")
    np.testing.assert_array_equal(found, content[0, :, 0].conj().transpose(2, 0, 1))


def test_what_a_scenario_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "lacking"
    shutil.copytree(FOLDER, folder)
    asked = {"file": folder, "antennas": 8, "base_station": 1}
    (folder / "phase_t000_tx000_r001.npz").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(MatFileError, match=r"phase_t000_tx000_r001\.npz: .*damaged"):
        channels("deepmimo", **asked)
    (folder / "phase_t000_tx000_r001.npz").unlink()
    with pytest.raises(NflaeError, match=r"has no phase_t000_tx000_r001\.npz or \.mat; the channel needs power, phase"):
        channels("deepmimo", **asked)
    with pytest.raises(NflaeError, match="holds channels of 2 base stations"):
        channels("deepmimo", file=folder, antennas=8)
    for file in folder.glob("power*"):
        file.unlink()
    with pytest.raises(NflaeError, match="no power_t"):
        channels("deepmimo", **asked)
    (folder / "params.json").unlink()
    with pytest.raises(NflaeError, match=r"no params\.json"):
        channels("deepmimo", **asked)


@pytest.mark.parametrize(
    ("content", "asked", "told"),
    [
        ({"other": np.ones((2, 2))}, {}, "no field channel.*it holds other"),
        ({"channel": dataset(receive=2)[0]}, {}, "2 receive antennas"),
        ({"channel": dataset()[0]}, {"antennas": 8}, "whose antennas are fixed"),
        ({"channel": dataset()[0]}, {"users": 4}, "holds 3 users with a channel, and 4 per drop"),
        ({"channel": 0 * dataset()[0]}, {}, "the channel of every user is zero"),
        ({"channel": np.nan * dataset()[0]}, {}, "not finite"),
    ],
)
def test_what_a_dataset_lacks(tmp_path: Path, content: dict[str, Any], asked: dict[str, int], told: str) -> None:
    scipy.io.savemat(tmp_path / "set.mat", content)
    with pytest.raises(NflaeError, match=told):
        channels("deepmimo", file=tmp_path / "set.mat", **asked)
