"""``nflae track``: file in, file out, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from simulator.geometry.arrays import UniformLinearArray
from tests.channel_files import Run, WriteMat, load, random_channels
from tests.simulator.tracking.test_track import ARRAY, STEP, beam_powers, errors, flight


def written(write_mat: WriteMat, name: str = "in.mat", **changed: object) -> Path:
    channels, place = flight(ARRAY, 10)
    content = {
        "slot_seconds": STEP,
        "array_height": ARRAY.height,
        "array_tilt_rad": ARRAY.tilt,
        "carrier_hz": ARRAY.carrier,
        "gps_x": place[..., 0].T,
        "gps_height": place[..., 1].T,
    }
    stated = {key: value for key, value in (content | changed).items() if value is not None}
    return write_mat(channels.numpy(), name, **stated)


def test_track_writes_positions_and_beams_of_matlab_order(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    done = nflae("track", written(write_mat), "-o", tmp_path / "out.mat", "--ahead", 2)
    assert done.exit_code == 0, done.output
    found, (_, place) = load(tmp_path / "out.mat"), flight(ARRAY, 10)
    assert errors(np.stack([found["x"].T, found["height"].T], -1), place)[3:].max() < 1
    assert found["next_beams"].shape == (3, 2, 2, 10)
    assert {found[name].shape for name in ("position_std", "angle_deg", "distance", "in_sight", "source")} == {(2, 10)}
    names = str(found["nflae_info"]["sources"]).strip("[]'").split(",")
    assert {names[int(code) - 1] for code in found["source"].ravel()} == {"csi+gps"}
    assert "in sight 100 %" in done.output
    options = ("--slot-ms", 250, "--array-height", 12, "--tilt-deg", 5, "--carrier-ghz", 30)
    bare = written(write_mat, "bare.mat", slot_seconds=None, array_height=None, array_tilt_rad=None, carrier_hz=None)
    assert nflae("track", bare, "-o", tmp_path / "same.mat", *options).exit_code == 0
    np.testing.assert_allclose(load(tmp_path / "same.mat")["x"], found["x"], rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"slot_seconds": None}, "states no time between snapshots (slot_seconds); give --slot-ms"),
        (
            {"array_height": None},
            "satellite positions without the mast's: no variable array_height; give --array-height",
        ),
        ({"gps_x": None}, "gps_height without gps_x"),
        ({"gps_x": np.ones((2, 3))}, "gps_x: 2 x 3; expected real 2 x 10"),
        ({"array_tilt_rad": 2.0}, "tilt of the array: 2 is impossible"),
        ({"detections_distance": np.ones((1, 10))}, "detections_distance without detections_angle_deg"),
        ({"detections_angle_deg": np.ones((1, 9))}, "detections_angle_deg: 1 x 9; expected real 1 x 10"),
    ],
)
def test_wrong_files_are_refused_and_nothing_written(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    done = nflae("track", written(write_mat, **changed), "-o", tmp_path / "out.mat")
    assert done.exit_code == 1
    [line] = [line for line in done.output.splitlines() if line.startswith("nflae: error:")]
    assert message in line
    assert not (tmp_path / "out.mat").exists()


def test_beams_of_missing_channels_are_those_of_the_predicted_position(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    whole, holed = written(write_mat), written(write_mat, "holed.mat")
    content = {key: value for key, value in scipy.io.loadmat(holed).items() if not key.startswith("__")}
    content["H"][:, 1, 6] = np.nan
    scipy.io.savemat(holed, content)
    outputs = []
    for source in (whole, holed):
        done = nflae("track", source, "-o", tmp_path / f"{source.stem}_out.mat")
        assert done.exit_code == 0, done.output
        outputs.append(load(tmp_path / f"{source.stem}_out.mat"))
    assert "H: NaN, Inf or zero in 1 of 20 channels (users x snapshots)" in done.output
    expected, found = outputs
    assert expected["in_sight"][1, 6] == 1 != found["in_sight"][1, 6]
    assert abs(found["beam"][1, 6] - expected["beam"][1, 6]) <= 2
    assert np.abs(found["next_beams"][0, 1, :, 6] - expected["next_beams"][0, 1, :, 6]).max() <= 2
    np.testing.assert_array_equal(found["beam"][0], expected["beam"][0])


@pytest.mark.parametrize("known", [True, False])
def test_plots_show_the_flights_and_animations_move(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, known: bool
) -> None:
    _, place = flight(ARRAY, 10)
    true = {"x": place[..., 0].T, "height": place[..., 1].T} if known else {}
    source = written(write_mat, **true)
    for name in ("f.svg", "f.gif"):
        done = nflae("track", source, "-o", tmp_path / "out.mat", "--plot", tmp_path / name, "--size", "4x3.4in")
        assert done.exit_code == 0, done.output
        assert f"plotted            {tmp_path / name}" in done.output
    drawn = (tmp_path / "f.svg").read_text()
    for label, shown in (
        ("median error", known),
        ("true", known),
        ("deviation", not known),
        ("satellites", True),
        ("beam now", True),
        ("out of sight", False),
    ):
        assert (f"<!-- {label}" in drawn) == shown, label
    with Image.open(tmp_path / "f.gif") as animation:
        assert animation.n_frames == 10
        first = np.asarray(animation.convert("RGB"))
        animation.seek(9)
        assert (np.asarray(animation.convert("RGB")) != first).any()
    for arguments, code in ((("--plot", tmp_path / "f.txt"), 1), (("--size", "3x3"), 2), (("--plot", source), 1)):
        (tmp_path / "out.mat").unlink(missing_ok=True)
        assert nflae("track", source, "-o", tmp_path / "out.mat", *arguments).exit_code == code
        assert not (tmp_path / "out.mat").exists()
    options = ("--plot", tmp_path / "small.png", "--size", "1.2x1in")
    done = nflae("track", source, "-o", tmp_path / "out.mat", *options)
    assert (done.exit_code, "1.2 x 1 inches have no room" in done.stderr) == (1, True)
    assert "in sight" not in done.stdout
    assert not (tmp_path / "out.mat").exists()


def test_assumptions_are_said_and_subcarriers_refused(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("array_height", "array_tilt_rad", "carrier_hz", "gps_x", "gps_height"))
    done = nflae("track", written(write_mat, **nothing), "-o", tmp_path / "out.mat")
    assert done.exit_code == 0, done.output
    small = write_mat(flight(UniformLinearArray(16), 3)[0].numpy(), "small.mat", slot_seconds=STEP)
    plane = nflae("track", small, "-o", tmp_path / "small_out.mat").output
    assert "nflae: note: the wavefronts are too plane to tell the sign of phase" in plane
    assert "too plane" not in done.output
    for note in ("carrier 30 GHz", "the array's centre is the origin", "no gps_x and gps_height"):
        assert f"nflae: note: {note}" in done.output
    scipy.io.savemat(tmp_path / "f.mat", {"H": random_channels().T, "layout": "nkf", "slot_seconds": 0.1})
    done = nflae("track", tmp_path / "f.mat", "-o", tmp_path / "no.mat")
    assert done.exit_code == 1
    assert "has subcarriers; save the channels of one" in done.output


def test_phases_and_contradicting_satellites_are_said(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    channels, place = flight(ARRAY, 10)
    contradicts = "nflae: note: the waves contradict the satellite positions in"
    stated = {"slot_seconds": STEP, "array_height": ARRAY.height, "array_tilt_rad": ARRAY.tilt}
    stated |= {"gps_x": place[..., 0].T, "gps_height": place[..., 1].T}
    for changed, antennas, phase, note in (
        ({}, channels, "exp(-j k r)", None),
        ({}, channels.conj().resolve_conj(), "exp(+j k r)", None),
        ({}, channels.flip(-1), "exp(-j k r)", "is the order of the antennas reversed (antenna 1 is on top)"),
        ({"gps_x": 1e3 * place[..., 0].T}, channels, "exp(-j k r)", "or are the positions not in metres"),
    ):
        source = write_mat(antennas.numpy(), "in.mat", **(stated | changed))
        done = nflae("track", source, "-o", tmp_path / "out.mat")
        assert done.exit_code == 0, done.output
        assert str(load(tmp_path / "out.mat")["nflae_info"]["phase"]).strip("[]'") == phase
        assert ("phases             exp(+j k r)" in done.output) == (phase == "exp(+j k r)")
        said = [line for line in done.output.splitlines() if line.startswith(contradicts)]
        assert len(said) == (note is not None)
        assert all(str(note) in line for line in said)
    powers = {"p": beam_powers(ARRAY, channels).T[::-1], "t": STEP * np.arange(10), **stated}
    scipy.io.savemat(tmp_path / "p.mat", powers)
    done = nflae("track", tmp_path / "p.mat", "-o", tmp_path / "out.mat", "--powers", "p", "--times", "t")
    assert "are the beams mirrored (angles are positive below the normal)" in done.output


def test_powers_times_and_detections_of_a_file(nflae: Run, tmp_path: Path) -> None:
    channels, place = flight(ARRAY, 10)
    content = {
        "p": beam_powers(ARRAY, channels).T,
        "t": STEP * np.arange(10),
        "array_height": ARRAY.height,
        "array_tilt_rad": ARRAY.tilt,
        "gps_x": place[..., 0].T,
        "gps_height": place[..., 1].T,
        "detections_angle_deg": np.full((3, 10), np.nan),
    }
    source, output = tmp_path / "p.mat", tmp_path / "out.mat"
    scipy.io.savemat(source, content)
    done = nflae("track", source, "-o", output, "--powers", "p", "--times", "t")
    assert done.exit_code == 0, done.output
    assert "no beam_angles_deg beside the powers: 128 beams evenly spaced" in done.output
    found = load(output)
    assert errors(np.stack([found["x"].T, found["height"].T], -1), place)[3:].max() < 2
    assert "powers+gps" in str(found["nflae_info"]["sources"])
    assert (found["angle_source"] == 2).all()
    assert (found["distance_source"] == 3).all()
    np.testing.assert_array_equal(found["times"].ravel(), content["t"])
    output.unlink()
    for changed, message in (
        ({"t": content["t"][::-1]}, "time 2 s of snapshot 2 is not after 2.25 s"),
        ({"t": np.arange(3.0)}, "t: 3 values; expected the times of all 10 snapshots, s"),
        ({"p": content["p"][:, 0]}, "p: 128 x 10, float64; expected real powers, beams x users x snapshots"),
        ({"p": -content["p"]}, "p: negative values; expected linear powers"),
        ({"q": content["p"], "p": "text"}, "no numeric variable p"),
        ({"beam_angles_deg": np.arange(64.0)}, "beam_angles_deg: 64 values for powers of 128 beams"),
        ({"array_height": []}, "satellite positions without the mast's"),
    ):
        scipy.io.savemat(source, content | changed)
        done = nflae("track", source, "-o", output, "--powers", "p", "--times", "t")
        assert done.exit_code == 1
        [line] = [line for line in done.output.splitlines() if line.startswith("nflae: error:")]
        assert message in line
        assert not output.exists()
    assert nflae("track", source, "-o", output, "--times", "t", "--slot-ms", 1).exit_code == 2
