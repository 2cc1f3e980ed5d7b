"""nflae predict and nflae precode --ahead: snapshots in, the channels after them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import nflae_bridge
from matlab_io import open_channels
from nflae_bridge.cli.options.prediction import METHOD_METAVAR
from simulator.csi.prediction.registry import METHODS
from tests.channel_files import Run, WriteMat, load
from tests.moving_users import moving_users

AR = ("--method", "ar")


def error_db(found: npt.NDArray[np.complex64], true: npt.NDArray[np.complex64]) -> float:
    return float(10 * np.log10((np.abs(found - true) ** 2).sum() / (np.abs(true) ** 2).sum()))


def test_the_snapshots_after_the_last_are_written(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, output = moving_users(28), tmp_path / "next.mat"
    done = nflae("predict", write_mat(channels[:24]), "-o", output, *AR, "--ahead", 4, "--slot-ms", 0.5)
    assert done.exit_code == 0, done.output
    assert "16 snapshots (8 ms); 4 snapshots (2 ms) ahead; the file holds 24" in done.output
    found = load(output)
    assert found["H"].shape == (16, 3, 4)
    assert found["H"].dtype == np.complex64
    assert found["csi_error_db"].shape == found["method"].shape == (3, 4)
    assert error_db(found["H"].T, channels[24:]) < -20
    assert error_db(np.broadcast_to(channels[23], (4, 3, 16)), channels[24:]) > -5, "holding would not do"
    info = found["nflae_info"]
    names = str(info["methods"]).split(",")
    assert {names[int(index) - 1] for index in found["method"].ravel()} == {"ar"}
    assert (info["history"], info["ahead"], info["method"]) == (16, 4, "ar")
    assert found["slot_seconds"] == pytest.approx(5e-4)
    with open_channels(output) as file:  # states its axes and convention
        np.testing.assert_array_equal(file.read(0, 4), found["H"].T)


def test_python_gives_the_same(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, output = moving_users(20, snr_db=10.0), tmp_path / "next.mat"
    options = ("--geometry", "panel:4x4", "--csi-snr-db", 10, "--history", 12, "--ahead", 3)
    assert nflae("predict", write_mat(channels), "-o", output, *AR, *options).exit_code == 0
    found = nflae_bridge.predict(channels[8:], ahead=3, method="ar", geometry="panel:4x4", csi_snr_db=10.0)
    np.testing.assert_allclose(load(output)["H"].T, found.channels, atol=1e-4)
    assert found.method == ("ar",) * 3


def test_rolling_predicts_after_every_snapshot_from_those_before(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    channels, output = moving_users(22, snr_db=15.0), tmp_path / "all.mat"
    done = nflae("predict", write_mat(channels), "-o", output, *AR, "--rolling", "--ahead", 2, "--history", 8)
    assert done.exit_code == 0, done.output
    found = load(output)
    assert found["H"].shape == (16, 3, 2, 22)
    assert found["method"].shape == (3, 2, 22)
    for last in (7, 13, 21):
        alone = nflae_bridge.predict(channels[last - 7 : last + 1], ahead=2, method="ar")
        np.testing.assert_allclose(found["H"][..., last].T, alone.channels, atol=1e-4)
    for last in (0, 2):  # too short a history: held
        held = np.broadcast_to(channels[last], (2, 3, 16))
        np.testing.assert_allclose(found["H"][..., last].T, held, atol=1e-6)
    names = str(found["nflae_info"]["methods"]).split(",")
    used = [[names[int(index) - 1] for index in found["method"][:, 0, slot]] for slot in (2, 3)]
    assert used == [["hold"] * 3, ["ar"] * 3]


@pytest.mark.parametrize("layout", ["nkfs", "nksf"])
def test_every_subcarrier_is_predicted_on_its_own(nflae: Run, write_mat: WriteMat, tmp_path: Path, layout: str) -> None:
    bands = np.stack([moving_users(14, seed=seed) for seed in range(3)], axis=1)  # slots x subcarriers x users x ...
    stored = bands if layout == "nkfs" else bands.swapaxes(0, 1)
    source, output = write_mat(h=np.ascontiguousarray(stored.T)), tmp_path / "next.mat"
    done = nflae("predict", source, "-o", output, *AR, "--ahead", 4, "--layout", layout, "--rolling")
    assert done.exit_code == 0, done.output
    found = load(output)["H"]
    assert found.shape == (16, 3, 3, 4, 14)
    for subcarrier in range(3):
        alone = nflae_bridge.predict(bands[:, subcarrier], method="ar")
        np.testing.assert_allclose(found[:, :, subcarrier, :, -1].T, alone.channels, atol=1e-4)


def test_a_direct_file_gives_a_direct_file(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, output = moving_users(20), tmp_path / "next.mat"
    direct = np.ascontiguousarray(channels.conj().transpose(1, 2, 0))  # users x antennas x slots
    done = nflae("predict", write_mat(h=direct), "-o", output, *AR, "--layout", "kns")
    assert done.exit_code == 0, done.output
    found = load(output)
    assert (found["layout"].item(), found["convention"].item(), found["H"].shape) == ("kns", "direct", (3, 16, 4))
    alone = nflae_bridge.predict(channels[4:], method="ar")
    np.testing.assert_allclose(found["H"].conj().transpose(2, 0, 1), alone.channels, atol=1e-4)


def test_precode_ahead_precodes_the_predicted_channels(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, output = moving_users(20, snr_db=20.0), tmp_path / "w.mat"
    options: tuple[object, ...] = ("--scheme", "rzf", "--noise-dbw", -10)
    done = nflae(
        "precode", write_mat(channels), "-o", output, *options, "--ahead", 3, "--history", 8, *AR, "--batch", 6
    )
    assert done.exit_code == 0, done.output
    found = load(output)
    assert found["precoder"].shape == (16, 3, 20)
    assert (found["nflae_info"]["ahead"], found["nflae_info"]["history"]) == (3, 8)
    for slot in (7, 12, 19):
        predicted = nflae_bridge.predict(channels[slot - 7 : slot + 1], ahead=3, method="ar").channels[-1:]
        expected = nflae_bridge.precode(predicted, scheme="rzf", noise_power=0.1)
        np.testing.assert_allclose(found["precoder"][..., slot].T, expected.precoder[0], atol=1e-3)


def test_gaps_are_filled_said_and_bounded(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, output = moving_users(28), tmp_path / "next.mat"
    holed = channels[:24].copy()
    holed[[12, 20], 1] = np.nan
    holed[15, 2] = 0
    done = nflae("predict", write_mat(holed), "-o", output, *AR)
    assert done.exit_code == 0, done.output
    assert "drop 13, user 2: NaN, Inf or zero at every antenna; 3 such gaps are filled" in done.stderr
    assert error_db(load(output)["H"].T, channels[24:]) < -10
    done = nflae("precode", write_mat(holed), "-o", tmp_path / "w.mat", "--scheme", "rzf", "--ahead", 2, *AR)
    assert done.exit_code == 0, done.output
    assert "drop 13, user 2" in done.stderr
    assert "--on-bad-drop" not in done.stderr
    holed[[10, 11, 17], 1] = np.nan
    done = nflae("predict", write_mat(holed), "-o", output, *AR)
    assert done.exit_code == 1
    assert "drop 11, user 2: NaN, Inf or zero at every antenna; 5 of the 16 snapshots" in done.stderr


def exchanged(channels: npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
    return np.concatenate([channels[:18], channels[18:, [1, 0, 2]]])


def jumped(channels: npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
    return np.concatenate([channels[:18], 1e4 * channels[18:]])


def shuffled(channels: npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
    shape = (2, *channels.shape)
    parts = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    return np.asarray(parts[0] + 1j * parts[1], np.complex64)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (exchanged, "drop 19, user 2: is user 1 of the snapshot before"),
        (jumped, "drop 19, user 1: the gain changes by +80"),
        (shuffled, "drop 9 and those after it, user 1 to 3: successive snapshots are uncorrelated"),
    ],
)
def test_what_is_no_sequence_is_refused_unless_forced(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, change: object, told: str
) -> None:
    source, output = write_mat(change(moving_users())), tmp_path / "next.mat"  # type: ignore[operator]
    done = nflae("predict", source, "-o", output, *AR)
    assert done.exit_code == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert told in line
    assert line.startswith(f"nflae: error: {source}: H: ")
    assert not output.exists()
    done = nflae("predict", source, "-o", output, *AR, "--force")
    assert done.exit_code == 0, done.output
    assert told in done.stderr


@pytest.mark.parametrize(
    ("snapshots", "options", "told"),
    [
        (24, ("--ahead", 9), "9 snapshots ahead is beyond half the history of 16: give at most 8"),
        (6, ("--ahead", 4), "4 snapshots ahead is beyond half the history of 6: give at most 3"),
        (24, ("--geometry", "panel:3x5"), "geometry panel:3x5 has 15 antennas, the channels have 16"),
        (24, ("--geometry", "ring"), "no geometry 'ring'"),
        (24, ("--method", "oracle"), "no prediction method 'oracle'"),
    ],
)
def test_bad_input_is_one_line(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, snapshots: int, options: tuple[object, ...], told: str
) -> None:
    done = nflae("predict", write_mat(moving_users(snapshots)), "-o", tmp_path / "next.mat", *options)
    assert done.exit_code == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert told in line
    assert not (tmp_path / "next.mat").exists()


@pytest.mark.parametrize(
    ("command", "options", "told"),
    [
        ("predict", ("--csi-snr-db", "loud"), "give auto or the SNR per antenna in dB"),
        ("predict", ("--history", 0), "history"),
        ("predict", ("--ahead", 0), "ahead"),
        ("precode", ("--history", 8), "--history applies to --ahead only"),
        ("precode", ("--geometry", "line"), "--geometry applies to --ahead only"),
        ("precode", ("--ahead", 2, "--plot", "p.png"), "leave it out with --ahead"),
    ],
)
def test_wrong_usage(nflae: Run, tmp_path: Path, command: str, options: tuple[object, ...], told: str) -> None:
    done = nflae(command, "in.mat", "-o", tmp_path / "out.mat", *options)
    assert done.exit_code == 2, done.output
    assert told in " ".join(done.output.replace("│", " ").split())


def test_help_lists_the_methods_there_are() -> None:
    assert METHOD_METAVAR.split("|") == list(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_predicts(nflae: Run, write_mat: WriteMat, tmp_path: Path, method: str) -> None:
    channels, output = moving_users(20, snr_db=20.0), tmp_path / "next.mat"
    options = ("--method", method, "--ahead", 2, "--geometry", "line")
    done = nflae("predict", write_mat(channels[:18]), "-o", output, *options)
    assert done.exit_code == 0, done.output
    found = load(output)
    names = str(found["nflae_info"]["methods"]).split(",")
    used = {names[int(index) - 1] for index in found["method"].ravel()}
    assert used <= set(names) if method == "auto" else used == {method}
    if method != "hold":
        assert error_db(found["H"].T, channels[18:]) < -10


def test_one_snapshot_is_held_and_said(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, output = moving_users(1), tmp_path / "next.mat"
    done = nflae("predict", write_mat(channels), "-o", output, "--layout", "nks", "--ahead", 2)
    assert done.exit_code == 0, done.output
    assert "one snapshot has no past: it is held" in done.stderr
    np.testing.assert_allclose(load(output)["H"].T, np.repeat(channels, 2, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "told"), [(-1, "slot_seconds = -1: expected"), ("abc", r"slot_seconds (1 x 3 char): expected")]
)
def test_a_wrong_slot_length_is_refused_unless_given(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, stated: object, told: str
) -> None:
    source, output = write_mat(moving_users(20), slot_seconds=stated), tmp_path / "next.mat"
    done = nflae("predict", source, "-o", output, *AR)
    assert done.exit_code == 1
    assert f"{told} one positive number" in done.stderr
    assert not output.exists()
    assert nflae("predict", source, "-o", output, *AR, "--slot-ms", 1).exit_code == 0


def test_combined_receive_antennas_cannot_be_predicted(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels = np.stack([moving_users(20), moving_users(20, seed=1)], axis=1)  # slots x receive x users x antennas
    source = write_mat(h=np.ascontiguousarray(channels.T))
    options = ("--layout", "nkrs", "--receive-antennas")
    done = nflae("predict", source, "-o", tmp_path / "out.mat", *options, "eigen")
    assert done.exit_code == 1
    assert "pass --receive-antennas each" in done.stderr
    assert nflae("predict", source, "-o", tmp_path / "out.mat", *AR, *options, "each").exit_code == 0


def test_times_of_the_file_are_resampled_said_and_checked(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    dense = moving_users(260, paths=1)
    slow = np.exp(0.02j * np.arange(260))[:, None, None] * np.abs(dense[:1])
    places = 10 * np.arange(24) + np.random.default_rng(2).integers(-2, 3, 24)
    output = tmp_path / "next.mat"

    def run(times: npt.NDArray[np.float64], *more: object) -> tuple[int, str]:
        source = write_mat(slow[places].astype(np.complex64), when=times)
        done = nflae("predict", source, "-o", output, *AR, "--times", "when", *more)
        return done.exit_code, done.output

    code, said = run(1e-4 * places)
    assert code == 0, said
    assert "times are uneven: 16 snapshots resampled to 16" in said
    expected = nflae_bridge.predict(slow[places][-16:], times=1e-4 * places[-16:], method="ar")
    np.testing.assert_allclose(load(output)["H"].T, expected.channels, atol=1e-4)
    code, said = run(1e-4 * places, "--rolling")
    assert code == 0, said
    np.testing.assert_allclose(load(output)["H"][..., -1].T, expected.channels, atol=1e-4)
    code, said = run(1e-3 * np.arange(24.0))
    assert "16 snapshots (16 ms)" in said
    assert "resampled" not in said
    assert "times do not rise: snapshot 24" in run(np.r_[np.arange(23.0), 5])[1]
    assert "when has 23 values; expected one per drop, 24" in run(np.arange(23.0))[1]
    assert "no numbers other" in run(np.arange(24.0), "--times", "other")[1]
