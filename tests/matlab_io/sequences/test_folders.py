"""Folders and .mat files of sequences: equal when read back; what is unusable is counted, what is wrong is named."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from matlab_io.errors import MatFileError
from matlab_io.sequences import Sequences, read_folder, read_mat, read_sequences, write_folder, write_mat
from tests.beam_sequences import passing_users

ARRAYS = ("powers", "sequence", "step", "flight", "user", "mast", "seconds", "best")
Rows = list[dict[str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "road", passing_users(3))
    return tmp_path / "road"


def edit(folder: Path, change: Callable[[Rows], Rows]) -> Path:
    table = next(folder.glob("*.csv"))
    with table.open(newline="") as file:
        rows = change(list(csv.DictReader(file)))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["index", "seq_index"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def assert_equal(one: Sequences, other: Sequences) -> None:
    assert one.measured == other.measured
    for name in ARRAYS:
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None), name
        if first is not None:
            np.testing.assert_array_equal(first, second, name)
            assert first.dtype == second.dtype, name


def test_folder_and_mat_file_are_read_back_equal(folder: Path, tmp_path: Path) -> None:
    made, read = passing_users(3), read_sequences(folder)
    assert_equal(made, read)
    assert read.notes == ()
    assert read.name == "road"
    for version in ("4", "6", "7", "7.3"):
        write_mat(tmp_path / "road.mat", read, version)
        assert_equal(made, read_sequences(tmp_path / "road.mat"))


def test_positions_are_metres_east_and_north_of_the_mast(folder: Path) -> None:
    positions = read_folder(folder).positions()
    assert positions is not None
    np.testing.assert_allclose(positions[:, 1], 10, atol=1e-4)
    assert np.ptp(positions[:14, 0]) > 1
    assert read_folder(folder, positions=False).positions() is None


def test_unusable_samples_are_left_out_counted_and_leave_a_gap(folder: Path, tmp_path: Path) -> None:
    powers = sorted(folder.glob("unit1/mmWave_data/*.txt"), key=lambda path: int(path.stem.split("_")[-1]))
    powers[3].write_text("0.5\n0.25\n")
    powers[4].write_text("\n".join(["nan"] * 16))
    powers[5].write_text("not a number")
    powers[6].write_text("\n".join(["0"] * 16))
    powers[7].write_bytes(b"\xff\xfe\x00")

    def without_cells(rows: Rows) -> Rows:
        rows[20]["unit1_pwr_60ghz"], rows[21]["unit2_loc"], rows[22]["seq_index"] = "", "NaN", ""
        return rows

    read = read_folder(edit(folder, without_cells))
    assert len(read.step) == 42 - 8
    assert not set(read.step) & {3, 4, 5, 6, 7, 20, 21, 22}
    [note] = read.notes
    assert "8 of 42 samples left out" in note
    assert "1 with truncated file of unit1_pwr_60ghz (expected 16 values) (first in row 4)" in note
    assert "2 with damaged file of unit1_pwr_60ghz (first in row 6)" in note
    for reason in ("NaN or Inf", "only zeros", "empty unit1_pwr_60ghz", "empty unit2_loc", "empty seq_index"):
        assert reason in note
    write_folder(tmp_path / "again", read)
    assert_equal(read, read_folder(tmp_path / "again"))
    write_mat(tmp_path / "again.mat", read)
    assert_equal(read, read_mat(tmp_path / "again.mat"))


def test_labels_are_those_of_the_powers(folder: Path) -> None:
    def shifted(rows: Rows) -> Rows:
        rows[0]["unit1_beam"] = str(int(rows[0]["unit1_beam"]) % 16 + 1)
        return rows

    read = read_folder(edit(folder, shifted))
    np.testing.assert_array_equal(read.best, passing_users(3).powers.argmax(-1))
    expected = "scenario_road.csv: unit1_beam is not the strongest beam of 1 of 42 samples; labels are of powers"
    assert read.notes == (expected,)


def test_beam_indices_alone_and_relative_positions(folder: Path) -> None:
    def reduced(rows: Rows) -> Rows:
        return [
            {name: row[name] for name in ("unit1_beam", "seq_index")} | {"unit2_pos": "[0.25, 0.5]"} for row in rows
        ]

    read = read_folder(edit(folder, reduced))
    assert not read.measured
    assert read.powers.shape == (42, 16)
    np.testing.assert_array_equal(read.best, passing_users(3).best)
    np.testing.assert_array_equal(read.positions(), np.tile([0.25, 0.5], (42, 1)))
    assert "no powers" in read.notes[0]


def test_numbered_columns_are_samples_and_shared_files_one_flight(tmp_path: Path) -> None:
    steps, rows = 5, []
    write_folder(tmp_path / "part", passing_users(2, 8))
    for flight in range(2):
        for start in range(2):
            numbers = [8 * flight + start + step + 1 for step in range(steps)]
            row = {
                f"unit1_pwr_60ghz_{k}": f"unit1/mmWave_data/unit1_pwr_60ghz_{n}.txt" for k, n in enumerate(numbers, 1)
            }
            row |= {f"unit2_loc_{k}": f"unit2/GPS_data/unit2_loc_{n}.txt" for k, n in enumerate(numbers[:2], 1)}
            rows.append(row | {"unit1_loc": "unit1/GPS_data/unit1_loc_1.txt", "unit1_rgb": "unit1/camera_data/a.png"})
    read = read_folder(edit(tmp_path / "part", lambda _: rows))
    assert read.sequence.tolist() == np.repeat([1, 2, 3, 4], steps).tolist()
    assert read.flight.tolist() == np.repeat([1, 1, 1, 1], steps).tolist()  # one picture in common
    read = read_folder(edit(tmp_path / "part", lambda rows: [row | {"unit1_rgb": ""} for row in rows]))
    assert read.flight.tolist() == np.repeat([1, 1, 3, 3], steps).tolist()
    np.testing.assert_array_equal(read.powers[5:10], passing_users(2, 8).powers[1:6])
    assert read.user is None
    assert "12 of 20 samples have no position: positions are not used" in read.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [], "has no samples"),
        (lambda rows: [{k: v for k, v in row.items() if k != "seq_index"} for row in rows], "no column seq_index"),
        (
            lambda rows: [{k: v for k, v in row.items() if k not in ("unit1_pwr_60ghz", "unit1_beam")} for row in rows],
            "no column unit1_pwr_60ghz",
        ),
        (
            lambda rows: [{k: v for k, v in row.items() if k != "unit1_loc"} for row in rows],
            "without a column unit1_loc",
        ),
        (
            lambda rows: [row | {"unit1_pwr_60ghz": "./unit1/none.txt"} for row in rows],
            "row 1: .*none.txt: no such file",
        ),
        (lambda rows: [row | {"unit1_pwr_60ghz": "../x.txt"} for row in rows], "leads out of the folder"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "index: sample 2 .* is earlier than sample 1"),
        (
            lambda rows: [*rows, *rows[:3]],
            r"index: sample \d+ of sequence \d+ has the number of sample 1 \(1\); remove",
        ),
        (lambda rows: [*rows[1:], rows[0]], r"index: sample \d+ of sequence \d+ is earlier than sample \d+ before it"),
        (
            lambda rows: [
                {k: v for k, v in row.items() if k != "index"} | {"seconds": str(-at)} for at, row in enumerate(rows)
            ],
            "seconds: sample 2",
        ),
        (lambda rows: [row | {"unit1_beam": "x"} for row in rows], "row 1: unit1_beam: expected a number, found 'x'"),
        (lambda rows: [row | {"unit1_pwr_60ghz": "[-3, -5]"} for row in rows], "linear powers, not dB"),
        (lambda rows: [row | {"unit1_pwr_60ghz": ""} for row in rows], "no usable sample"),
    ],
)
def test_wrong_folders_are_refused_in_one_line(folder: Path, change: Callable[[Rows], Rows], message: str) -> None:
    with pytest.raises(MatFileError, match=message) as caught:
        read_folder(edit(folder, change))
    assert "\n" not in str(caught.value)
    assert "scenario_road.csv" in str(caught.value)


def test_missing_modalities_folders_and_tables_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MatFileError, match="no column unit1_rgb"):
        read_folder(folder, ["unit1_rgb"])
    with pytest.raises(MatFileError, match="no such file; copy the files of unit1_rgb"):
        read_folder(edit(folder, lambda rows: [row | {"unit1_rgb": "./a.png"} for row in rows]), ["unit1_rgb"])
    assert read_folder(folder).files["unit1_rgb"][0] == "./a.png"
    with pytest.raises(MatFileError, match="no CSV file"):
        read_folder(tmp_path)
    for name in "abc":
        (tmp_path / f"{name}.csv").touch()
        listed = {"b": r"2 CSV files \(a.csv, b.csv\);", "c": r"3 CSV files \(a.csv, b.csv, \.\.\.\);"}
        if name != "a":
            with pytest.raises(MatFileError, match=listed[name]):
                read_folder(tmp_path)
    with pytest.raises(MatFileError, match="no such folder or file"):
        read_sequences(tmp_path / "nowhere")
    with pytest.raises(MatFileError, match="exists; name a new folder"):
        write_folder(folder, passing_users(2))


def test_times_of_the_day_are_read(folder: Path) -> None:
    def stamped(rows: Rows) -> Rows:
        return [
            {k: v for k, v in row.items() if k != "seconds"} | {"time_stamp[UTC]": f"['11-46-{at:02d}-{9000 + at}']"}
            for at, row in enumerate(rows)
        ]

    seconds = read_folder(edit(folder, stamped)).seconds
    assert seconds is not None
    assert seconds[1] == pytest.approx(11 * 3600 + 46 * 60 + 1 + 0.009001)


def test_wrong_mat_files_are_refused(tmp_path: Path) -> None:
    good = {"seq_index": np.ones((1, 6)), "unit1_pwr_60ghz": np.ones((4, 6)), "unit1_loc": np.ones((2, 6))}

    def refused(message: str, **changed: object) -> None:
        content = {name: value for name, value in (good | changed).items() if value is not None}
        scipy.io.savemat(tmp_path / "x.mat", content)
        with pytest.raises(MatFileError, match=message):
            read_mat(tmp_path / "x.mat")

    refused("no variable seq_index", seq_index=None)
    refused("no variable unit1_pwr_60ghz", unit1_pwr_60ghz=None)
    refused("unit2_loc without unit1_loc", unit2_loc=np.ones((2, 6)), unit1_loc=None)
    refused("unit1_pwr_60ghz: 6 x 4; expected beams x 6", unit1_pwr_60ghz=np.ones((6, 4)))
    refused("no usable sample", unit1_pwr_60ghz=np.zeros((4, 6)))
    refused("seconds: sample 2", seconds=-np.arange(6.0))
    refused("strongest beam, from 1", unit1_pwr_60ghz=None, unit1_beam=np.zeros((1, 6)))


def test_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv.DictWriter, "writerows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "new", passing_users(2))
    assert not os.listdir(tmp_path)


def test_flights_of_a_folder_without_mast(tmp_path: Path) -> None:
    made = replace(passing_users(2), mast=None, seconds=None)
    write_folder(tmp_path / "drone", made)
    assert_equal(made, read_folder(tmp_path / "drone"))


def with_heights() -> Sequences:
    made = passing_users(2)
    assert made.user is not None
    assert made.mast is not None
    rise = np.linspace(4, 30, len(made.user))[:, None]
    return replace(made, user=np.append(made.user, rise, 1), mast=np.append(made.mast, 0 * rise + 15, 1))


def test_heights_of_users_and_mast_are_read_back(tmp_path: Path) -> None:
    made = with_heights()
    write_folder(tmp_path / "site", made)
    assert_equal(made, read_folder(tmp_path / "site"))
    write_mat(tmp_path / "site.mat", made)
    assert_equal(made, read_mat(tmp_path / "site.mat"))
    positions = read_folder(tmp_path / "site").positions()
    assert positions is not None
    np.testing.assert_allclose(positions[[0, -1], 2], [4 - 15, 30 - 15])
    scipy.io.savemat(
        tmp_path / "part.mat",
        {"seq_index": np.ones(6), "unit1_pwr_60ghz": np.ones((4, 6)), "unit1_loc": np.ones((2, 6))}
        | {"unit2_loc": np.ones((3, 6))},
    )
    with pytest.raises(MatFileError, match="only one of unit1_loc and unit2_loc has heights"):
        read_mat(tmp_path / "part.mat")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda rows: [{k: v for k, v in row.items() if k != "unit1_height"} for row in rows], "unit2_height alone"),
        (lambda rows: [row | {"unit2_height": ""} if row["index"] == "3" else row for row in rows], "1 of 28 samples"),
    ],
)
def test_incomplete_heights_are_not_used_and_reported(
    tmp_path: Path, change: Callable[[Rows], Rows], note: str
) -> None:
    write_folder(tmp_path / "site", with_heights())
    read = read_folder(edit(tmp_path / "site", change))
    assert read.user is not None
    assert read.user.shape == (28, 2)
    assert note in read.notes[0]
    assert "heights are not used" in read.notes[0]


def test_positions_are_checked(folder: Path, tmp_path: Path) -> None:
    made = passing_users(3)
    assert made.user is not None
    assert made.mast is not None
    lost = made.user.copy()
    lost[4] = 0
    write_folder(tmp_path / "lost", replace(made, user=lost))
    read = read_folder(tmp_path / "lost")
    assert 4 not in read.step
    assert len(read.step) == 41
    assert "1 with unit2_loc over 100 km from the mast (first in row 5)" in read.notes[0]
    driving = made.mast + np.linspace(0, 1e-3, len(made.mast))[:, None]
    write_folder(tmp_path / "car", replace(made, mast=driving))
    [note] = read_folder(tmp_path / "car").notes
    assert "unit1_loc moves by 145 m: the site is that of the first sample" in note
    write_mat(tmp_path / "car.mat", replace(made, mast=driving))
    assert read_mat(tmp_path / "car.mat").notes == (note.replace("scenario_car.csv", "car.mat"),)
    exchanged = replace(made, user=made.user[:, ::-1], mast=made.mast[:, ::-1])
    write_folder(tmp_path / "exchanged", exchanged)
    write_mat(tmp_path / "exchanged.mat", exchanged)
    for path in (tmp_path / "exchanged", tmp_path / "exchanged.mat"):
        with pytest.raises(MatFileError, match=r"row 1: unit1_loc: -111.93, 33.42 is no latitude and longitude"):
            read_sequences(path)


@pytest.mark.skipif(
    "NFLAE_DEEPSENSE" not in os.environ, reason="NFLAE_DEEPSENSE names no folder of DeepSense 6G scenarios"
)
def test_real_folders_are_unchanged_by_reading_and_writing(tmp_path: Path) -> None:
    for folder in sorted(path for path in Path(os.environ["NFLAE_DEEPSENSE"]).iterdir() if list(path.glob("*.csv"))):
        read = read_folder(folder)
        write_folder(tmp_path / folder.name, read, source=folder)
        again = read_folder(tmp_path / folder.name)
        assert_equal(read, again)
        assert read.files == again.files
