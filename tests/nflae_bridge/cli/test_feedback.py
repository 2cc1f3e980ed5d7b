"""nflae feedback: channels in, bits and the CSI that follows from them out; in Python the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

import nflae_bridge
from matlab_io import open_channels
from matlab_io.errors import NflaeError
from tests.channel_files import Run, WriteMat, load, random_channels
from tests.moving_users import moving_users


def test_bits_and_csi_are_written_and_the_bits_decode_to_the_csi(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    channels, output, again = moving_users(10), tmp_path / "csi.mat", tmp_path / "again.mat"
    done = nflae("feedback", write_mat(channels), "-o", output, "--bits", 61)
    assert done.exit_code == 0, done.output
    assert "61 bits per user and report, codec auto, line, predictor ar" in done.output
    found = load(output)
    assert found["H"].shape == (16, 3, 10)
    assert (found["bits"].shape, found["bits"].dtype) == ((8, 3, 10), np.uint8)
    assert not (found["bits"][-1] & 0b111).any(), "64 - 61 bits are padding"
    csi = found["H"].T
    inner, power = np.abs((csi.conj() * channels).sum(-1)) ** 2, (np.abs(csi) ** 2).sum(-1)
    similarity = inner / power / (np.abs(channels) ** 2).sum(-1)
    np.testing.assert_allclose(found["sgcs"].T, similarity, atol=1e-5)
    least = 1 - 2 * np.sqrt(inner) / (np.abs(channels) ** 2).sum(-1) + power / (np.abs(channels) ** 2).sum(-1)
    np.testing.assert_allclose(10 ** (found["csi_error_db"].T / 10), least, atol=1e-5)
    assert similarity[-1].min() > 0.99 > similarity[0].min()
    done = nflae("feedback", "--decode", output, "-o", again)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(load(again)["H"], found["H"])
    with open_channels(again) as file:
        np.testing.assert_array_equal(file.read(0, 10), csi)


def test_python_gives_the_same_and_holds_what_is_lost(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, output = moving_users(8), tmp_path / "csi.mat"
    options = ("--codec", "rest", "--predictor", "hold", "--geometry", "panel:4x4")
    assert nflae("feedback", write_mat(channels), "-o", output, "--bits", 50, *options).exit_code == 0
    found = nflae_bridge.feedback(channels, 50, codec="rest", predictor="hold", geometry="panel:4x4")
    np.testing.assert_array_equal(found.reports, load(output)["bits"].T)
    np.testing.assert_array_equal(found.channels, load(output)["H"].T)
    np.testing.assert_array_equal(nflae_bridge.decode_feedback(found.reports, found.link), found.channels)
    received = np.ones((8, 3), bool)
    received[3, 1] = False
    held = nflae_bridge.decode_feedback(found.reports, found.link, received)
    np.testing.assert_array_equal(held[:, [0, 2]], found.channels[:, [0, 2]])
    np.testing.assert_array_equal(held[3:, 1], np.broadcast_to(found.channels[2, 1], (5, 16)))
    late = nflae_bridge.decode_feedback(found.reports, found.link, np.arange(8)[:, None] > [0, -1, -1])
    np.testing.assert_array_equal(late, found.channels * [[[0], [1], [1]]])
    with pytest.raises(NflaeError, match=r"user 1 is out of step: .* number 1, expected 0; reset"):
        nflae_bridge.decode_feedback(found.reports[1:], found.link)


def test_subcarriers_panels_and_conventions_come_back_as_they_were(nflae: Run, tmp_path: Path) -> None:
    source, output, again = tmp_path / "h.mat", tmp_path / "csi.mat", tmp_path / "again.mat"
    random = np.random.default_rng(1)
    shape = (2, 4, 4, 3, 5)  # users, rows, columns, subcarriers, snapshots
    given = random.normal(size=shape) + 1j * random.normal(size=shape)
    scipy.io.savemat(source, {"H": given})
    options = ("--layout", "knnfs", "--convention", "direct", "--geometry", "panel:4x4", "--codec", "polar")
    done = nflae("feedback", source, "-o", output, "--bits", 900, *options)
    assert done.exit_code == 0, done.output
    found = load(output)
    assert found["H"].shape == shape
    assert found["bits"].shape == (113, 2, 3, 5)
    inner = np.abs((found["H"].conj() * given).sum((1, 2))) ** 2
    similarity = inner / (np.abs(found["H"]) ** 2).sum((1, 2)) / (np.abs(given) ** 2).sum((1, 2))
    assert similarity.min() > 0.9
    np.testing.assert_allclose(found["sgcs"], similarity, atol=1e-5)
    assert nflae("feedback", "--decode", output, "-o", again).exit_code == 0
    np.testing.assert_array_equal(load(again)["H"], found["H"])


def test_drops_that_are_no_sequence_are_coded_one_by_one(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    done = nflae("feedback", write_mat(random_channels(drops=6)), "-o", tmp_path / "csi.mat", "--bits", 48)
    assert done.exit_code == 0, done.output
    assert "most reports are resets: the drops are no sequence" in done.output


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--bits", 20), 1, "codec auto with 16 antennas needs at least 27 bits"),
        (("--bits", 64, "--geometry", "panel:4x5"), 1, "panel:4x5 has 20 antennas, the channels have 16"),
        (("--bits", 64, "--geometry", "none"), 1, "needs the geometry of the array: line or panel"),
        (("--bits", 64, "--codec", "best"), 2, "'best' is not one of"),
        ((), 2, "--bits is missing"),
        (("--decode", "--bits", 64), 2, "--bits is not for --decode"),
        (("--decode",), 1, "no variable bits; --decode takes a file of nflae feedback"),
    ],
)
def test_wrong_options_in_one_line(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, options: tuple[object, ...], status: int, message: str
) -> None:
    done = nflae("feedback", write_mat(moving_users(4)), "-o", tmp_path / "csi.mat", *options)
    assert (done.exit_code, message in done.output) == (status, True), done.output
    assert not (tmp_path / "csi.mat").exists()


def test_a_nan_names_drop_and_user(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels = moving_users(4)
    channels[2, 1, 5] = np.nan
    done = nflae("feedback", write_mat(channels), "-o", tmp_path / "csi.mat", "--bits", 64)
    assert done.exit_code == 1
    assert "drop 3" in done.output
    assert "user 2" in done.output


def test_a_missing_first_report_is_out_of_step(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    output, cut = tmp_path / "csi.mat", tmp_path / "cut.mat"
    assert nflae("feedback", write_mat(moving_users(4)), "-o", output, "--bits", 64).exit_code == 0
    found = load(output)
    scipy.io.savemat(cut, {"bits": found["bits"][:, :, 1:], "nflae_info": found["nflae_info"]})
    done = nflae("feedback", "--decode", cut, "-o", tmp_path / "again.mat")
    assert done.exit_code == 1
    assert "bits: drop 1: feedback of user 1 is out of step" in done.output
