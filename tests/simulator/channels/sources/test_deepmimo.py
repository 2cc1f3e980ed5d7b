"""DeepMIMO: scenario folders, against channels its own generator computed of them, and datasets saved as .mat."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import hdf5storage
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


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("station", [1, 2])
def test_folders_of_earlier_versions_give_what_deepmimo_3_computes(version: str, station: int) -> None:
    """Of its first subcarrier, f = 0, times sqrt(64); no ray reaches one place of each base station."""
    with np.load(RECORDED / "deepmimo3_channels.npz") as answers:
        direct = answers[f"places_{version}_{station}"][:, 0, :, 0] * 8
    expected = direct[np.abs(direct).max(1) > 0].conj()
    drawn = draw("deepmimo", Request(file=RECORDED / f"places_{version}", antennas=8, base_station=station))
    assert drawn.metadata["carrier_hz"] == 28e9
    found = np.concatenate(list(drawn.blocks))
    assert found.shape == (1, 6, 8)
    np.testing.assert_allclose(found[0], expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_subcarriers_of_earlier_versions(version: str) -> None:
    """The places with one ray turn from one subcarrier to the next as in DeepMIMO 3: their products agree."""
    with np.load(RECORDED / "deepmimo3_channels.npz") as answers:
        theirs = answers[f"places_{version}_1"][3, 0].conj() * 8
    found = channels(
        "deepmimo", file=RECORDED / f"places_{version}", antennas=8, base_station=1, subcarriers=4, bandwidth=50e6
    )
    steps = found[1:, 2] * found[:-1, 2].conj()  # without the third place, which no ray reaches
    np.testing.assert_allclose(steps, (theirs[:, 1:] * theirs[:, :-1].conj()).T, rtol=1e-4)


def test_damaged_folders_of_earlier_versions(tmp_path: Path) -> None:
    for version in ("v2", "v3"):
        shutil.copytree(RECORDED / f"places_{version}", tmp_path / version)
    asked = {"antennas": 8, "base_station": 1}
    with pytest.raises(NflaeError, match="v3: holds channels of 2 base stations"):
        channels("deepmimo", file=tmp_path / "v3", antennas=8)
    with pytest.raises(NflaeError, match="v2: holds channels of 2 base stations"):
        channels("deepmimo", file=tmp_path / "v2", antennas=8)
    file = tmp_path / "v2" / "places_v2.1.CIR.mat"
    vector = scipy.io.loadmat(file)["CIR_array"]
    scipy.io.savemat(file, {"CIR_array": vector[:, :-3]})
    with pytest.raises(NflaeError, match=r"places_v2\.1\.CIR\.mat: ends after 6 of 7 positions"):
        channels("deepmimo", file=tmp_path / "v2", **asked)
    vector[0, 0] = 6
    scipy.io.savemat(file, {"CIR_array": vector})
    with pytest.raises(NflaeError, match=r"places_v2\.1\.DoD\.mat and \.CIR\.mat have different positions"):
        channels("deepmimo", file=tmp_path / "v2", **asked)
    scipy.io.savemat(tmp_path / "v3" / "BS1_UE_4-7.mat", {"channels": np.zeros((1, 2))})
    with pytest.raises(NflaeError, match=r"BS1_UE_4-7\.mat: no matrix rx_locs"):
        channels("deepmimo", file=tmp_path / "v3", **asked)
    with pytest.raises(NflaeError, match=r"it is a file of a scenario folder, name the folder: deepmimo:.*v3"):
        channels("deepmimo", file=tmp_path / "v3" / "BS1_UE_0-4.mat")


def test_dual_polarised_scenario(tmp_path: Path) -> None:
    """channels_VV, as DeepMIMO 3 takes by default."""
    shutil.copytree(RECORDED / "places_v3", tmp_path / "dual")
    for file in (tmp_path / "dual").glob("BS*"):
        content = scipy.io.loadmat(file)
        rays = content.pop("channels")
        scipy.io.savemat(file, {"rx_locs": content["rx_locs"], "channels_HV": rays[:, ::-1], "channels_VV": rays})
    asked = {"antennas": 8, "base_station": 2}
    np.testing.assert_array_equal(
        channels("deepmimo", file=tmp_path / "dual", **asked),
        channels("deepmimo", file=RECORDED / "places_v3", **asked),
    )


def test_scene_of_a_dynamic_scenario(tmp_path: Path) -> None:
    """scene_0, ... below the folder that has params.mat."""
    shutil.copytree(RECORDED / "places_v3", tmp_path / "scene_0")
    (tmp_path / "scene_0" / "params.mat").rename(tmp_path / "params.mat")
    asked = {"antennas": 8, "base_station": 1}
    np.testing.assert_array_equal(
        channels("deepmimo", file=tmp_path / "scene_0", **asked),
        channels("deepmimo", file=RECORDED / "places_v3", **asked),
    )
    with pytest.raises(NflaeError, match="of a dynamic scenario one scene's"):
        channels("deepmimo", file=tmp_path, **asked)


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
    with pytest.raises(
        NflaeError, match="holds channels of 2 base stations; add --base-station with a number from 1 to 2"
    ):
        channels("deepmimo", file=path)


def version_1(content: npt.NDArray[Any], **beside: Any) -> dict[str, Any]:
    """DeepMIMO_dataset{1}.user{j}.channel of content (users, axes of the channel), and further fields of a user."""
    users = np.empty((1, len(content)), object)
    for j, channel in enumerate(content):
        users[0, j] = {"channel": channel, "loc": np.arange(3.0)} | beside
    cells = np.empty((1, 1), object)
    cells[0, 0] = {"user": users}
    return {"DeepMIMO_dataset": cells}


@pytest.mark.parametrize("subcarriers", [1, 4])
def test_version_1_has_antennas_by_subcarriers(tmp_path: Path, subcarriers: int) -> None:
    content = dataset(subcarriers=subcarriers)[0, :, 0]
    scipy.io.savemat(tmp_path / "set.mat", version_1(content))
    hdf5storage.savemat(str(tmp_path / "saved.mat"), version_1(content), format="7.3")  # as saveDataset = 1 does
    for file in ("set.mat", "saved.mat"):
        found = channels("deepmimo", file=tmp_path / file)
        np.testing.assert_array_equal(found, content.conj().transpose(2, 0, 1))


def test_one_row_is_one_receive_antenna(tmp_path: Path) -> None:
    """Of one subcarrier, 1 x 8 without further fields: no array has one antenna."""
    content = dataset(subcarriers=1)[0]
    scipy.io.savemat(tmp_path / "set.mat", version_1(content[..., 0]))
    np.testing.assert_array_equal(channels("deepmimo", file=tmp_path / "set.mat")[0], content[:, 0, :, 0].conj())


@pytest.mark.parametrize("mode", ["each", "strongest", "eigen"])
def test_version_2_with_one_subcarrier_has_receive_antennas(tmp_path: Path, mode: str) -> None:
    """MATLAB drops the third axis of length one; the fields beside the channel tell the version."""
    content = dataset(subcarriers=1, receive=2)[0]
    scipy.io.savemat(tmp_path / "set.mat", version_1(content[..., 0], LoS_status=1.0, pathloss=90.0))
    found = channels("deepmimo", file=tmp_path / "set.mat", receive_antennas=mode)[0]
    rows = content[..., 0].conj()
    if mode == "each":
        np.testing.assert_array_equal(found, rows.reshape(6, 8))
    elif mode == "strongest":
        strongest = np.linalg.norm(rows, axis=-1).argmax(-1)
        np.testing.assert_array_equal(found, rows[np.arange(3), strongest])
    else:
        np.testing.assert_allclose(
            np.linalg.norm(found, axis=-1), np.linalg.svd(content[..., 0], compute_uv=False)[:, 0], rtol=1e-6
        )


def test_time_domain_channels_become_responses(tmp_path: Path) -> None:
    """generate_OFDM_channels = 0: the third axis counts rays, with their delays ToA beside."""
    content, delays = dataset()[0], np.array([[1e-7, 2e-7, 5e-7, 8e-7]])
    scipy.io.savemat(tmp_path / "set.mat", version_1(content, ToA=delays, LoS_status=1.0))
    found = channels("deepmimo", file=tmp_path / "set.mat", subcarriers=2, bandwidth=10e6)
    offsets = np.array([-2.5e6, 2.5e6])
    expected = np.einsum("kal,lf->fka", content[:, 0], np.exp(-2j * np.pi * delays.T * offsets)).conj()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    carrier = channels("deepmimo", file=tmp_path / "set.mat")
    np.testing.assert_allclose(carrier[0], content[:, 0].sum(-1).conj(), atol=1e-5)
    scipy.io.savemat(tmp_path / "set.mat", version_1(content, ToA=delays[:, 1:]))
    with pytest.raises(NflaeError, match="has 4 rays and its ToA 3 numbers"):
        channels("deepmimo", file=tmp_path / "set.mat")


def test_python_dataset(tmp_path: Path) -> None:
    content = dataset()
    scipy.io.savemat(tmp_path / "set.mat", {"channel": content[0]})
    np.savez(tmp_path / "set.npz", channel=content[0])
    for file in ("set.mat", "set.npz"):
        found = channels("deepmimo", file=tmp_path / file)
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
        ({"channel": dataset(receive=2)[0]}, {}, "2 receive antennas; add --receive-antennas each"),
        ({"channel": dataset()[0]}, {"subcarriers": 2, "bandwidth": 1e6}, "whose subcarriers are fixed"),
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
