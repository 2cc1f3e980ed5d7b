"""What is wrong with the input is said in one line that names it; exit 1, no output, the input untouched."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

import simulator.schemes.registry
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes import scheme
from tests.channel_files import Run, WriteMat, random_channels

Fails = Callable[..., str]


@pytest.fixture
def fails(nflae: Run, tmp_path: Path) -> Fails:
    """Runs precode, checks that it fails as it should, and returns its one line."""

    def run(source: Path, *arguments: object, output: Path | None = None) -> str:
        before = source.read_bytes() if source.is_file() else None
        there = sorted(tmp_path.rglob("*"))
        done = nflae("precode", source, "-o", output or tmp_path / "out.mat", "--scheme", "rzf", *arguments)
        line = one_line(done)
        assert sorted(tmp_path.rglob("*")) == there, "something was left behind"
        assert before is None or source.read_bytes() == before
        return line

    return run


def one_line(done: Result) -> str:
    """The error's line, of a run that failed with exit status 1 and said nothing else on stderr."""
    assert done.exit_code == 1, done.output
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("nflae: error: ")
    assert "unexpected" not in line
    return line


def test_no_such_variable_lists_the_candidates(fails: Fails, write_mat: WriteMat) -> None:
    line = fails(write_mat(random_channels(), other=np.ones(3)), "--var", "G")
    assert "in.mat" in line
    assert "no variable G" in line
    assert "H (16 x 3 x 6 complex single)" in line


def test_no_complex_array(fails: Fails, write_mat: WriteMat) -> None:
    assert "no complex numeric array" in fails(write_mat(data=np.ones((3, 4))))


@pytest.mark.parametrize("dtype", [np.float64, np.int16])
def test_real_or_integer_channels(fails: Fails, write_mat: WriteMat, dtype: type) -> None:
    line = fails(write_mat(np.ones((5, 3, 16), dtype)))
    assert "is real" in line
    assert "--allow-real" in line


def test_ambiguous_layout_says_the_readings(fails: Fails, write_mat: WriteMat) -> None:
    line = fails(write_mat(h=random_channels(users=8, antennas=8).T))
    assert "--layout nks = 8 antennas x 8 users x 6 drops, users in columns, y = H' x" in line
    assert "--layout kns = 8 antennas x 8 users x 6 drops, users in rows, y = H x" in line


def test_two_candidates(fails: Fails, write_mat: WriteMat) -> None:
    line = fails(write_mat(random_channels(), h=random_channels().T))
    assert "H (" in line
    assert "h (" in line
    assert "--var" in line


@pytest.mark.parametrize(("layout", "says"), [("nkx", "unknown axis"), ("nkk", "twice"), ("ks", "no antenna")])
def test_layout_that_makes_no_sense(fails: Fails, write_mat: WriteMat, layout: str, says: str) -> None:
    assert says in fails(write_mat(random_channels()), "--layout", layout)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "Inf"), (complex(0, -np.inf), "Inf")])
@pytest.mark.parametrize("batch", [1, 100])
def test_not_a_number(fails: Fails, write_mat: WriteMat, value: complex, name: str, batch: int) -> None:
    H = random_channels()
    H[3, 1, 7] = H[4, 0, 0] = value
    line = fails(write_mat(H), "--batch", batch)
    assert f"H: drop 4, user 2, antenna 8 is {name}" in line
    assert "counted from 1" in line
    assert "--on-bad-drop skip" in line


def test_not_a_number_with_subcarriers(fails: Fails, write_mat: WriteMat) -> None:
    H = random_channels(drops=10).reshape(2, 5, 3, 16)
    H[1, 2, 0, 15] = np.nan
    assert "drop 2, subcarrier 3, user 1, antenna 16 is NaN" in fails(write_mat(H), "--layout", "nkfs")


def test_an_all_zero_user(fails: Fails, write_mat: WriteMat) -> None:
    H = random_channels()
    H[5, 2] = 0
    assert "H: drop 6, user 3 is zero at every antenna" in fails(write_mat(H))


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("power", 0.0),
        ("power", -1.0),
        ("noise_power", 0.0),
        ("noise_power", -0.1),
        ("noise_power", np.nan),
        ("noise_power", np.inf),
        ("noise_power_dbw", np.nan),
        ("alpha_c", 0.0),
        ("alpha_c", 1.5),
        ("min_rate", -1.0),
    ],
)
def test_budget_in_the_file_out_of_range(fails: Fails, write_mat: WriteMat, scalar: str, value: float) -> None:
    line = fails(write_mat(random_channels(), **{scalar: value}))
    assert f"in.mat: {scalar}" in line


def test_an_option_overrules_what_the_file_has_wrong(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(random_channels(), noise_power=0.0)
    arguments = ("--noise-dbw", -20, "--scheme", "rzf")
    assert nflae("precode", source, "-o", tmp_path / "out.mat", *arguments).exit_code == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--alpha-c", "0"),
        ("--alpha-c", "1.01"),
        ("--alpha-c", "nan"),
        ("--min-rate", "-0.1"),
        ("--min-rate", "inf"),
        ("--power-dbw", "nan"),
        ("--power-dbw", "5000"),
        ("--noise-dbw", "-inf"),
    ],
)
def test_budget_option_out_of_range(fails: Fails, write_mat: WriteMat, option: str, value: str) -> None:
    assert f"{option} {value}" in fails(write_mat(random_channels()), option, value)


@pytest.mark.parametrize("version", ["7", "7.3"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_a_truncated_file(nflae: Run, fails: Fails, tmp_path: Path, version: str, kept: float) -> None:
    source = tmp_path / "in.mat"
    assert nflae("simulate", "-o", source, "--drops", 40, "--mat-version", version).exit_code == 0
    os.truncate(source, int(kept * source.stat().st_size))
    assert "in.mat" in fails(source)


@pytest.mark.parametrize("content", [b"", b"not a .mat file at all" * 100, bytes(4096)])
def test_no_mat_file(fails: Fails, tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "in.mat"
    source.write_bytes(content)
    assert "in.mat" in fails(source)


def test_no_file_and_a_folder(fails: Fails, tmp_path: Path) -> None:
    assert "no such file" in fails(tmp_path / "absent.mat")
    assert "directory" in fails(tmp_path)


def test_output_is_the_input(fails: Fails, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(random_channels())
    link = tmp_path / "link.mat"
    link.symlink_to(source)
    for output in (source, link, tmp_path / "." / "in.mat"):
        assert "is the input" in fails(source, output=output)


def test_output_in_a_folder_that_is_not_there(fails: Fails, write_mat: WriteMat, tmp_path: Path) -> None:
    assert "does not exist" in fails(write_mat(random_channels()), output=tmp_path / "nowhere" / "out.mat")


def test_an_old_output_survives_a_failure(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    H = random_channels()
    H[5, 0, 0] = np.nan
    output = tmp_path / "out.mat"
    output.write_text("yesterday's")
    one_line(nflae("precode", write_mat(H), "-o", output, "--scheme", "rzf", "--batch", 1))
    assert output.read_text() == "yesterday's"


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A write beyond 200 kB of a file fails, with EFBIG where a full disk gives ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("version", ["7", "7.3"])
def test_a_disk_that_fills(nflae: Run, fails: Fails, tmp_path: Path, version: str) -> None:
    source = tmp_path / "in.mat"
    assert nflae("simulate", "-o", source, "--drops", 30, "--mat-version", version).exit_code == 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    assert "out.mat: cannot be written" in fails(source)


@pytest.mark.parametrize(
    ("plot", "says"),
    [("users.bmp", "name it .png"), ("nowhere/users.png", "does not exist"), ("in.mat", "name it .png")],
)
def test_a_plot_that_cannot_be_written(fails: Fails, write_mat: WriteMat, tmp_path: Path, plot: str, says: str) -> None:
    assert says in fails(write_mat(random_channels()), "--plot", tmp_path / plot)


def test_a_drop_that_cannot_be_drawn(fails: Fails, write_mat: WriteMat, tmp_path: Path) -> None:
    H = random_channels()
    H[1, 0, 0] = np.nan
    source, skip = write_mat(H), ("--on-bad-drop", "skip", "--plot", tmp_path / "p.png", "--plot-drop")
    assert "has 6 drops" in fails(source, *skip, 7)
    assert "drop 2, user 1, antenna 1 is NaN" in fails(source, *skip, 2)


def test_no_such_model_and_no_such_device(fails: Fails, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(random_channels())
    assert "no model 'absent'" in fails(source, "--scheme", "nflae", "--model", "absent")
    assert "is not a model" in fails(source, "--scheme", "nflae", "--model", tmp_path)
    for card, fault in (("{}", "no field 'network'"), ("[]", "not a JSON object"), ("{", "is damaged")):
        (tmp_path / "model.json").write_text(card)
        assert fault in fails(source, "--scheme", "nflae", "--model", tmp_path)
    (tmp_path / "model.json").unlink()
    assert "'tpu'" in fails(source, "--device", "tpu")


def test_an_answer_that_is_not_finite_is_not_written(
    fails: Fails, write_mat: WriteMat, monkeypatch: pytest.MonkeyPatch
) -> None:
    rzf = scheme("rzf")

    def broken(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        answer = rzf(batch, budget)
        sinr = answer.sinr.clone()
        sinr[4, 1] = torch.nan
        return replace(answer, compute_sinr=lambda: sinr)

    monkeypatch.setitem(simulator.schemes.registry.REGISTRY.loaded, "rzf", broken)
    assert "H: drop 5: the rates are not finite numbers" in fails(write_mat(random_channels()))
