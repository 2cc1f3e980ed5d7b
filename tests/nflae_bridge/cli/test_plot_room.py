"""A plot without room costs no results: refused before the work, or after the results are written and printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from matlab_io.errors import NflaeError
from nflae_bridge.plots.look import FigureLook
from tests.channel_files import Run, WriteMat, load, random_channels

SMALL = ("--layout", "nks", "--size", "1.6x1.2in")


def refuse(*_: object) -> bytes:
    raise NflaeError("no room")


@pytest.mark.parametrize(
    "command",
    [("precode", "-o", "out.mat", "--scheme", "mrt"), ("evaluate", "--schemes", "mrt", "--csv", "out.csv")],
)
def test_a_map_without_room_is_refused_before_the_work(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = nflae(command[0], write_mat(random_channels(drops=2)), *command[1:], *SMALL, "--plot", "p.png")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("nflae: error: 1.6 x 1.2 inches have no room for this plot")
    assert "mean sum rate" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mat"]


def test_tables_are_written_and_printed_before_the_plot_is_refused(
    nflae: Run, write_mat: WriteMat, tmp_path: Path
) -> None:
    tables = [tmp_path / "ev.csv", tmp_path / "pd.csv"]
    options = ("--plot", tmp_path / "p.png", "--plot-kind", "cdf", "--csv", tables[0], "--per-drop", tables[1])
    done = nflae("evaluate", write_mat(random_channels(drops=2)), "--schemes", "mrt", *options, *SMALL)
    assert done.exit_code == 1
    assert "have no room for this plot" in done.stderr
    assert "capacity (DPC)" in done.stdout
    assert all(path.stat().st_size > 0 for path in tables)
    assert not (tmp_path / "p.png").exists()


def test_bench_keeps_its_tables(nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FigureLook, "render", refuse)
    monkeypatch.setattr("nflae_bridge.studies.benchmark.scaling.AXES", {"batch": (1, 2)})
    quick = ("--schemes", "mrt", "--drops", 2, "--antennas", 4, "--users", 2, "--repeats", 1, "--threads", 1)
    done = nflae("bench", "-o", tmp_path, "--batches", 1, "--scaling", *quick)
    assert (done.exit_code, "no room" in done.stderr) == (1, True)
    assert "median" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.csv", "scaling.csv"]


def test_a_bench_without_room_is_refused_before_it_measures(nflae: Run, tmp_path: Path) -> None:
    quick = ("--schemes", "nflae,mrt,rzf", "--drops", 2, "--antennas", 4, "--users", 2, "--repeats", 1)
    for more, size, refused in (((), "1.6x1.2in", True), (("--scaling",), "6x4in", True)):
        done = nflae("bench", "-o", tmp_path / "out", "--batches", 1, *quick, *more, "--size", size)
        assert (done.exit_code, "have no room for this plot" in done.stderr) == (1, refused)
        assert not (tmp_path / "out").exists()


def test_channels_of_rows_and_columns_are_drawn_as_a_panel(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(grid=random_channels(drops=2).T.reshape(2, 8, 3, 2, order="F"))
    plot = ("--scheme", "mrt", "--plot", tmp_path / "map.svg")
    done = nflae("precode", source, "-o", tmp_path / "out.mat", "--layout", "nnks", *plot)
    assert done.exit_code == 0, done.output
    drawn = (tmp_path / "map.svg").read_text()
    assert "<!-- upa:2x8, 16 antennas -->" in drawn
    assert "<!-- elevation [degrees] -->" in drawn
    source = write_mat(grid=random_channels(drops=2).T.reshape(2, 4, 2, 3, 2, order="F"))
    for command in (("precode", "-o", tmp_path / "three.mat"), ("evaluate",)):
        done = nflae(command[0], source, *command[1:], "--layout", "nnnks", "--plot", tmp_path / "three.svg")
        assert done.exit_code == 1
        assert "grid has 3 axes of antennas (layout nnnks); lines and panels of rows x columns are drawn" in done.stderr
    assert not (tmp_path / "three.mat").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--objective", "max-min"), "bps/Hz, the smallest rate of a drop"),
        (("--objective", "proportional-fair", "--window", 2), ", the sum over users of ln(mean rate in bps/Hz)"),
        (("--weights", "3,1,2"), "bps/Hz, the weighted sum rate"),
    ],
)
def test_the_objective_that_is_solved_is_reported(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    H, output = random_channels(drops=4), tmp_path / "out.mat"
    H[2] = np.nan
    kept = H[:2] if "--window" in options else H
    arguments = ("--on-bad-drop", "skip", "--batch", 2, "--scheme", "rzf")
    done = nflae("precode", write_mat(kept, noise_power=0.1), "-o", output, "--layout", "nks", *arguments, *options)
    assert done.exit_code == 0, done.output
    rate = load(output)["rate"].reshape(3, -1).T
    rate = rate[np.isfinite(rate).all(-1)]
    expected = {
        "max-min": rate.min(-1).mean(),
        "proportional-fair": np.log(rate.mean(0)).sum(),
        "3,1,2": (rate @ np.array([3, 1, 2])).mean(),
    }[str(options[1])]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("mean objective"))
    value, _, _ = line.removeprefix("mean objective").strip().partition(words)
    assert float(value.strip(" ,")) == pytest.approx(expected, abs=6e-4)
