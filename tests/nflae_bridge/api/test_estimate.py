"""nflae estimate and nflae_bridge.estimate: received pilots in, channels out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

import nflae_bridge
from matlab_io import open_channels
from tests.channel_files import Run, load, random_channels

Channels = npt.NDArray[np.complex64]


def waves(drops: int = 4, users: int = 3, antennas: int = 32) -> Channels:
    """Sums of two plane waves, unit mean power per antenna, (drops, users, antennas)."""
    rng = np.random.default_rng(1)
    turns = rng.random((drops, users, 2, 1)) * np.arange(antennas)
    gains = rng.standard_normal((drops, users, 2, 1)) + 1j * rng.standard_normal((drops, users, 2, 1))
    channels = (gains * np.exp(2j * np.pi * turns)).sum(2)
    return (channels / np.sqrt((np.abs(channels) ** 2).mean(-1, keepdims=True))).astype(np.complex64)


def noise(*shape: int) -> Channels:
    return random_channels(*shape, seed=5) * np.float32(np.sqrt(shape[-1]))


def pilot_matrix(antennas: int = 32, symbols: int = 16) -> npt.NDArray[np.complex128]:
    return np.exp(2j * np.pi * np.random.default_rng(2).random((antennas, symbols))) / np.sqrt(antennas)


def error_db(found: Channels, true: Channels) -> float:
    return float(10 * np.log10((np.abs(found - true) ** 2).sum() / (np.abs(true) ** 2).sum()))


def test_permuting_the_users_permutes_the_estimates() -> None:
    received, order = waves() + 0.7 * noise(4, 3, 32), [2, 0, 1]
    found, again = nflae_bridge.estimate(received), nflae_bridge.estimate(received[:, order])
    np.testing.assert_allclose(again.channels, found.channels[:, order], atol=1e-4)
    np.testing.assert_allclose(again.csi_error_db, found.csi_error_db[:, order], atol=0.05)


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
def test_a_file_of_noisy_channels_is_estimated_in_its_convention(nflae: Run, tmp_path: Path, convention: str) -> None:
    channels = waves()
    received = channels + 0.4 * noise(4, 3, 32)
    array = received.T if convention == "hermitian" else received.conj().transpose(1, 2, 0)
    layout = "nks" if convention == "hermitian" else "kns"
    scipy.io.savemat(tmp_path / "in.mat", {"H": array, "layout": layout, "noise_power": 0.02})
    output = tmp_path / "out.mat"
    done = nflae("estimate", tmp_path / "in.mat", "-o", output, "--csi-snr-db", 8)
    assert done.exit_code == 0, done.output
    found = load(output)
    assert found["H"].shape == array.shape
    assert found["csi_error_db"].shape == found["method"].shape == (3, 4)
    with open_channels(output) as file:
        assert file.convention == convention
        rows = file.read(0, 4)
        assert file.scalars["noise_power"] == 0.02
    assert error_db(rows, channels) < error_db(received, channels) - 5
    python = nflae_bridge.estimate(received, csi_snr_db=8.0)
    np.testing.assert_allclose(rows, python.channels, atol=1e-4)
    np.testing.assert_allclose(found["csi_error_db"].T, python.csi_error_db, atol=1e-3)
    names = str(found["nflae_info"]["methods"]).split(",")
    assert [[names[int(i) - 1] for i in row] for row in found["method"].T] == python.method.tolist()


@pytest.mark.parametrize("drops_per_block", [2, 20])
def test_the_noise_of_a_file_is_that_of_all_drops(
    nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drops_per_block: int
) -> None:
    """The first drops fill all beams: their noise is known from the later ones, whatever the length of a block."""
    monkeypatch.setattr("nflae_bridge.engine.devices.drops_per_block", lambda *sizes: drops_per_block)
    channels = np.concatenate([noise(3, 2, 64), waves(9, 2, 64)])
    received = channels + 0.2 * noise(24, 2, 64)[12:]
    scipy.io.savemat(tmp_path / "in.mat", {"H": received.T, "layout": "nks"})
    done = nflae("estimate", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--snapshots", 1)
    assert done.exit_code == 0, done.output
    found, whole = load(tmp_path / "out.mat")["H"].T, nflae_bridge.estimate(received).channels
    np.testing.assert_allclose(found, whole, atol=1e-4)
    assert error_db(found[:3], channels[:3]) < -12
    assert error_db(nflae_bridge.estimate(received[:3], method="beam-gain").channels, channels[:3]) > -8


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
def test_a_pilot_matrix_in_either_convention(nflae: Run, tmp_path: Path, convention: str) -> None:
    """Y = Phi' * H + noise, or Y = H * Phi + noise, as MATLAB computes them."""
    channels, pilots = waves(), pilot_matrix()
    if convention == "hermitian":
        array = np.stack([pilots.conj().T @ drop.T for drop in channels], -1)
    else:
        array = np.stack([drop.conj() @ pilots for drop in channels], -1)
    layout = "nks" if convention == "hermitian" else "kns"
    scipy.io.savemat(tmp_path / "in.mat", {"Y": array, "Phi": pilots, "layout": layout})
    output, options = tmp_path / "out.mat", ("--var", "Y", "--pilots", "Phi", "--noise-dbw", -40)
    done = nflae("estimate", tmp_path / "in.mat", "-o", output, *options, "--mat-version", "7.3")
    assert done.exit_code == 0, done.output
    symbols, model = pilots.shape[1], "Phi' * H" if convention == "hermitian" else "H * Phi"
    assert f"Y read as {symbols} pilot symbols x " in done.output
    assert f"read as Y = {model} + noise ({convention})" in done.output
    assert "y_k" not in done.output
    with open_channels(output) as file:
        assert file.convention == convention
        assert error_db(file.read(0, 4), channels) < -15
    received = np.einsum("nm,skn->skm", pilots.conj(), channels)
    python = nflae_bridge.estimate(received, pilots=pilots, noise_variance=1e-4)
    assert error_db(python.channels, channels) < -15
    assert set(python.method.ravel()) <= {"omp", "polar-omp", "ls"}


def test_a_panel_is_known_by_its_two_axes(nflae: Run, tmp_path: Path) -> None:
    rows, columns = np.exp(0.9j * np.arange(4)), np.exp(2.1j * np.arange(8))
    panel = np.broadcast_to((rows[:, None] * columns)[:, :, None, None], (4, 8, 2, 3))
    received = panel + noise(3, 2, 32).T.reshape(4, 8, 2, 3, order="F")
    scipy.io.savemat(tmp_path / "in.mat", {"H": received, "layout": "nnks"})
    done = nflae("estimate", tmp_path / "in.mat", "-o", tmp_path / "out.mat")
    assert "geometry panel:4x8" in done.output, done.output
    found = load(tmp_path / "out.mat")["H"]
    assert found.shape == panel.shape
    assert error_db(found, panel) < -9
    line = nflae("estimate", tmp_path / "in.mat", "-o", tmp_path / "line.mat", "--geometry", "line")
    assert line.exit_code == 0
    assert error_db(load(tmp_path / "line.mat")["H"], panel) > error_db(found, panel) + 2


def test_a_covariance_per_user(nflae: Run, tmp_path: Path) -> None:
    channels = np.repeat(waves(1, 3), 6, 0) * noise(6, 3, 1)
    received = channels + 2 * noise(6, 3, 32)
    base = waves(1, 3)[0]
    covariance = np.stack([np.outer(row, row.conj()) for row in base], -1)
    scipy.io.savemat(tmp_path / "in.mat", {"H": received.T, "C": covariance, "layout": "nks"})
    options = ("--var", "H", "--covariance", "C", "--method", "lmmse", "--noise-dbw", 10 * np.log10(4))
    done = nflae("estimate", tmp_path / "in.mat", "-o", tmp_path / "out.mat", *options)
    assert done.exit_code == 0, done.output
    found = load(tmp_path / "out.mat")["H"].T
    assert error_db(found, channels) < error_db(received, channels) - 10
    python = nflae_bridge.estimate(
        received, method="lmmse", covariance=covariance.transpose(2, 0, 1), noise_variance=4.0
    )
    np.testing.assert_allclose(found, python.channels, atol=1e-3)


def test_snapshots_share_their_directions(nflae: Run, tmp_path: Path) -> None:
    channels = np.repeat(waves(1, 2), 4, 0)
    received = channels + 1.5 * noise(4, 2, 32)
    scipy.io.savemat(tmp_path / "in.mat", {"H": received.T, "layout": "nks"})
    done = nflae("estimate", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--snapshots", 4)
    assert done.exit_code == 0, done.output
    found = load(tmp_path / "out.mat")
    assert len(np.unique(found["csi_error_db"], axis=1).T) == 1
    together = nflae_bridge.estimate(received, snapshots=4)
    np.testing.assert_allclose(found["H"].T, together.channels, atol=1e-4)
    assert error_db(together.channels, channels) < error_db(nflae_bridge.estimate(received).channels, channels)


BAD = {
    "no such method": (("--method", "magic"), 1, "no estimation method 'magic': there are auto, ls, beam-gain"),
    "beams without geometry": (("--method", "omp", "--geometry", "none"), 1, "give --geometry line or panel"),
    "noise without geometry": (("--geometry", "none"), 1, "in.mat: H: .*give --csi-snr-db or --noise-dbw"),
    "panel of another size": (("--geometry", "panel:5x5"), 1, "in.mat: H: geometry panel:5x5 has 25 antennas"),
    "no panel": (("--geometry", "round"), 1, "no geometry 'round'"),
    "SNR that is none": (("--csi-snr-db", "nan"), 2, "give auto or the SNR per antenna in dB"),
    "SNR and noise": (("--csi-snr-db", 3, "--noise-dbw", 3), 2, "state the same quantity"),
    "no pilot matrix": (("--pilots", "Phi"), 1, "no variable Phi; pass --pilots"),
    "pilots of another size": (("--pilots", "few"), 1, "pilot matrix is 8 x 4, expected N x 32"),
    "pilots transposed": (("--pilots", "turned"), 1, "pilot matrix is 32 x 64, .*; transpose it"),
    "pilots of low rank": (("--pilots", "flat"), 1, "has rank 1, expected 32"),
    "no covariance": (("--method", "lmmse"), 1, "needs a covariance: give --covariance VAR"),
    "covariance of another size": (("--covariance", "few"), 1, "covariance is 8 x 4, expected 32 x 32"),
    "covariance that is none": (("--covariance", "flat"), 1, "not Hermitian"),
    "snapshots that do not divide": (("--snapshots", 3), 1, "--snapshots 3 does not divide the 4 drops"),
}


@pytest.mark.parametrize(("options", "code", "message"), BAD.values(), ids=list(BAD))
def test_bad_options_get_one_line(
    nflae: Run, tmp_path: Path, options: tuple[object, ...], code: int, message: str
) -> None:
    content = {"H": waves().T, "few": pilot_matrix(8, 4), "flat": np.outer(np.arange(32), np.ones(32)) * 1j}
    content["turned"] = pilot_matrix(64, 32).T
    scipy.io.savemat(tmp_path / "in.mat", {**content, "layout": "nks"})
    done = nflae("estimate", tmp_path / "in.mat", "-o", tmp_path / "out.mat", "--var", "H", *options)
    assert done.exit_code == code, done.output
    assert re.search(message, done.output), done.output
    assert not (tmp_path / "out.mat").exists()


@pytest.mark.parametrize(("value", "message"), [(0.0, "zero on every antenna"), (np.nan, "NaN or Inf")])
def test_bad_drops_are_named(nflae: Run, tmp_path: Path, value: float, message: str) -> None:
    received = waves()
    received[2, 1] = value
    scipy.io.savemat(tmp_path / "in.mat", {"H": received.T, "layout": "nks"})
    done = nflae("estimate", tmp_path / "in.mat", "-o", tmp_path / "out.mat")
    assert done.exit_code == 1
    assert re.search(rf"in\.mat: H: drop 3, user 2 has .*{message}", done.output), done.output
    with pytest.raises(nflae_bridge.NflaeError, match=f"drop 3, user 2 has .*{message}"):
        nflae_bridge.estimate(received)


def test_channels_taken_for_noise_are_doubted(nflae: Run, tmp_path: Path) -> None:
    """Rayleigh fading fills all beams as noise does; few waves do not."""
    rng = np.random.default_rng(2)
    rich = (rng.normal(size=(20, 4, 64)) + 1j * rng.normal(size=(20, 4, 64))).astype(np.complex64)
    (doubt,) = nflae_bridge.estimate(rich).notes
    assert re.search(r"noise is [789]\d % of the received power.* state --csi-snr-db", doubt)
    assert nflae_bridge.estimate(rich, csi_snr_db=20).notes == ()
    waves = np.exp(2j * np.pi * rng.random((3, 20, 4, 1)) * np.arange(64)).sum(0).astype(np.complex64)
    assert nflae_bridge.estimate(waves + 0.3 * rich).notes == ()
    scipy.io.savemat(tmp_path / "rich.mat", {"H": rich.transpose(2, 1, 0), "layout": "nks"})
    done = nflae("estimate", tmp_path / "rich.mat", "-o", tmp_path / "out.mat")
    assert done.exit_code == 0
    assert "are taken for noise" in done.stderr
