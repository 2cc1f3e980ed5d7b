"""``nflae reproduce``: what it is asked for, which folders it refuses, and how it goes on after an interruption."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import transformers
from matplotlib.figure import Figure

from nflae_bridge.studies.reproduction import EXPERIMENTS, load_experiment
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from tests.channel_files import Run

ENDINGS = (".csv", ".jsonl", ".md", ".png")
Failed = Callable[..., str]


@pytest.fixture
def failed(nflae: Run) -> Failed:
    """Runs a ``nflae reproduce`` that has to fail, and returns its one line."""

    def run(*arguments: object) -> str:
        done = nflae("reproduce", *arguments)
        assert done.exit_code == 1, done.output
        assert done.stderr.startswith("nflae: error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    return run


@dataclass
class Work:
    """What was computed, and the unit, if any, before which an interrupt comes."""

    done: list[str] = field(default_factory=list)
    interrupt: str | None = None

    def compute(self, name: str, index: int, note: Note) -> list[Row]:
        note("at work")
        if f"{name} {index}" == self.interrupt:
            self.interrupt = None
            raise KeyboardInterrupt
        self.done.append(f"{name} {index}")
        values: list[float | None] = [math.pi / 10**index, index / 3, None, math.nan, 1e-9 / 7]
        return [{"x": index, "text": 'a, "b" | ü', "y": value, "n": 2 * index} for value in values]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Puts experiments of three quick units, with rows of all kinds of values, in the place of all of them.

    They say to train what the real ones train.
    """
    kept = Work()

    def draw(study: Study, rows: pd.DataFrame) -> Figure:
        figure = Figure(figsize=(4, 3))
        figure.subplots().plot(rows["x"], rows["y"])
        return figure

    def checks(study: Study, rows: pd.DataFrame) -> list[Check]:
        return [Check("rows are there", len(rows) == 15, f"{len(rows)} rows"), Check("pigs fly", False, "none")]

    def quick(name: str) -> Experiment:
        def units(study: Study) -> list[Unit]:
            return [Unit(f"unit {index}", partial(kept.compute, name, index)) for index in range(3)]

        real = load_experiment(name)
        return Experiment(
            *(name, real.title, real.source, units, draw, lambda rows: rows.set_index("x"), checks),
            networks=real.networks,
            full_networks=real.full_networks,
        )

    monkeypatch.setattr("nflae_bridge.studies.reproduction.load_experiment", quick)
    return kept


@pytest.fixture
def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No language model can be had, from wherever."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\nand more lines of it")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", refuse)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files(*experiments: str) -> list[str]:
    return sorted(name + ending for name in experiments for ending in ENDINGS)


# What is asked for


def test_a_size_without_room_costs_the_figures_alone(nflae: Run, failed: Failed, work: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"
    message = failed("enfr", "gain", "-o", out, "--size", "1x1in")
    assert message.startswith("nflae: error: enfr, gain: 1 x 1 inches have no room for this plot in style house: ")
    assert "only the plots are left to draw" in message
    assert names(out) == sorted(name for name in files("enfr", "gain") if not name.endswith(".png"))
    assert "![" not in (out / "gain.md").read_text()
    assert len(work.done) == 6
    assert nflae("reproduce", "enfr", "gain", "-o", out, "--size", "6x4in").exit_code == 0
    assert (names(out), len(work.done)) == (files("enfr", "gain"), 6)
    assert "](gain.png)" in (out / "gain.md").read_text()


def test_unknown_experiment_exits_2_with_the_list(nflae: Run, tmp_path: Path) -> None:
    done = nflae("reproduce", "gain", "tea", "-o", tmp_path / "out")
    assert done.exit_code == 2
    told = " ".join(done.output.replace("│", " ").split())
    assert "no experiment tea" in told
    listed = told.split("; give ")[1].replace(" or of ", " ").replace(",", " ").split()
    assert listed == ["all", *EXPERIMENTS]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [["-o", "out"], ["gain"], ["gain", "-o", "out", "--budget", "huge"], ["gain", "-o", "out", "--seed", "-1"]],
)
def test_wrong_usage_exits_2(nflae: Run, arguments: list[str]) -> None:
    assert nflae("reproduce", *arguments).exit_code == 2


def test_help_lists_every_experiment_and_imports_nothing_that_computes(nflae: Run) -> None:
    page = nflae("reproduce", "--help")
    assert page.exit_code == 0
    lines = [line.split(maxsplit=1) for line in page.output.splitlines()]
    for name, what in EXPERIMENTS.items():
        assert [name, what] in lines
    assert "nflae reproduce all" in page.output.split("Examples:")[1]
    script = (
        "import sys\nfrom nflae_bridge.cli.group import main\n"
        "try: main(['reproduce', '--help'], prog_name='nflae')\nexcept SystemExit as end: assert not end.code\n"
        "loaded = [n for n in ('torch', 'numpy', 'pandas', 'matplotlib', 'transformers') if n in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_is_an_experiment_of_that_name() -> None:
    for name in EXPERIMENTS:
        found = load_experiment(name)
        assert found.name == name
        assert set(found.networks) <= {"paper", "transformer", "cnn", "tiny"}


def test_all_means_every_one(nflae: Run, work: Work, tmp_path: Path) -> None:
    done = nflae("reproduce", "all", "-o", tmp_path, "--backbone", "gpt2-random")
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == files(*EXPERIMENTS)
    assert work.done == [f"{name} {index}" for name in EXPERIMENTS for index in range(3)]
    assert "hub" not in done.output


def test_named_ones_alone_run_each_once_and_tell_what_was_found(nflae: Run, work: Work, tmp_path: Path) -> None:
    done = nflae("reproduce", "gain", "enfr", "gain", "-o", tmp_path / "new" / "out")
    assert done.exit_code == 0, done.output
    assert work.done == [f"{name} {index}" for name in ("gain", "enfr") for index in range(3)]
    assert names(tmp_path / "new" / "out") == files("gain", "enfr")
    for ending in (".csv", ".png", ".md"):
        assert f"gain{ending}" in done.output
    told = [line.split() for line in done.output.splitlines()]
    assert ["rows", "are", "there", "yes", "15", "rows"] in told
    assert ["pigs", "fly", "no", "none"] in told
    with (tmp_path / "new" / "out" / "gain.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["x"] for row in rows] == [str(index) for index in range(3) for _ in range(5)]
    assert {row["text"] for row in rows} == {'a, "b" | ü'}
    assert [row["y"] for row in rows[5:10]] == ["0.314159", "0.333333", "", "", "1.42857e-10"]


# Folders


def test_folder_that_is_a_file(failed: Failed, work: Work, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert f"{tmp_path}/out: is a file; name a folder" in failed("gain", "-o", tmp_path / "out")
    assert "not a directory" in failed("gain", "-o", tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "mine"
    assert not work.done


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder in which nobody may write, as Linux has one")
@pytest.mark.parametrize("folder", ["/proc", "/proc/results"])
def test_folder_in_which_nobody_can_write(failed: Failed, work: Work, folder: str) -> None:
    line = failed("gain", "-o", folder)
    for text in (f"{folder}: cannot be written to", "name another folder"):
        assert text in line
    assert not work.done


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(failed: Failed, work: Work, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert f"{tmp_path}: cannot be written to" in failed("gain", "-o", tmp_path)


@pytest.mark.parametrize("ending", [".csv", ".png", ".md"])
def test_results_that_no_run_left_are_kept_unless_told_otherwise(
    nflae: Run, failed: Failed, work: Work, tmp_path: Path, ending: str
) -> None:
    mine = tmp_path / f"gain{ending}"
    mine.write_text("mine")
    told = failed("enfr", "gain", "-o", tmp_path)
    for text in (str(tmp_path), mine.name, "--overwrite"):
        assert text in told
    assert names(tmp_path) == [mine.name]
    assert mine.read_text() == "mine"
    assert nflae("reproduce", "enfr", "-o", tmp_path).exit_code == 0  # of another experiment
    assert nflae("reproduce", "gain", "-o", tmp_path, "--overwrite").exit_code == 0
    assert mine.read_bytes() != b"mine"
    assert names(tmp_path) == files("enfr", "gain")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--budget", "full"), "budget is quick there, full here"),
        (("--seed", 7), "seed is 2026 there, 7 here"),
        (("--backbone", "/models/gpt2"), "backbone is gpt2-random there, /models/gpt2 here"),
    ],
)
def test_rows_of_another_run_are_kept_unless_told_otherwise(
    nflae: Run, failed: Failed, work: Work, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    before = ("convergence", "-o", tmp_path, "--backbone", "gpt2-random")
    assert nflae("reproduce", *before).exit_code == 0
    kept = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    work.done.clear()
    # The one that would run first is free: it must not be started on either.
    line = failed("enfr", *before, *options)
    for text in (str(tmp_path), told, "--overwrite"):
        assert text in line
    assert not work.done
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == kept
    if "--backbone" in options:
        return
    assert nflae("reproduce", *before, *options, "--overwrite").exit_code == 0
    assert work.done == [f"convergence {index}" for index in range(3)]
    identity = json.loads((tmp_path / "convergence.jsonl").read_text().splitlines()[0])["identity"]
    assert identity[told.split()[0]] == str(options[1])


def test_backbone_is_no_matter_where_none_is_trained(nflae: Run, work: Work, tmp_path: Path) -> None:
    assert nflae("reproduce", "gain", "-o", tmp_path, "--backbone", "gpt2-random").exit_code == 0
    assert nflae("reproduce", "gain", "-o", tmp_path, "--backbone", "/nowhere").exit_code == 0
    assert len(work.done) == 3


# Backbones


def assert_backbone_refused(line: str, backbone: object) -> None:
    for text in (repr(str(backbone)), "the hub", "--backbone DIR", "--backbone gpt2-random"):
        assert text in line


def test_missing_backbone_folder_is_told_before_any_work(
    failed: Failed, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = failed("enfr", "se-users", "-o", tmp_path / "out", "--backbone", tmp_path / "absent")
    assert_backbone_refused(line, tmp_path / "absent")
    assert "se-users" in line
    assert "enfr" not in line
    assert not work.done
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(("budget", "experiment"), [("quick", "accuracy"), ("full", "accuracy"), ("full", "transfer")])
def test_backbone_that_the_hub_has_not_is_told_before_any_work(
    failed: Failed, work: Work, tmp_path: Path, no_backbone: None, budget: str, experiment: str
) -> None:
    line = failed("gain", experiment, "-o", tmp_path, "--budget", budget)
    assert_backbone_refused(line, "gpt2")
    assert experiment in line
    assert not work.done
    assert names(tmp_path) == []


@pytest.mark.parametrize("arguments", [("transfer",), ("accuracy", "--backbone", "gpt2-random"), ("enfr", "mobility")])
def test_who_needs_no_pretrained_backbone_asks_for_none(
    nflae: Run, work: Work, tmp_path: Path, no_backbone: None, arguments: tuple[str, ...]
) -> None:
    done = nflae("reproduce", *arguments, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert "hub" not in done.output


def test_overwrite_destroys_nothing_when_the_backbone_is_missing(
    nflae: Run, failed: Failed, work: Work, tmp_path: Path, no_backbone: None
) -> None:
    assert nflae("reproduce", "accuracy", "-o", tmp_path, "--backbone", "gpt2-random").exit_code == 0
    kept = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert_backbone_refused(failed("accuracy", "-o", tmp_path, "--overwrite"), "gpt2")
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == kept


@pytest.mark.slow
def test_hub_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
        }
        script = (
            "import time\nfrom nflae_bridge.cli.group import main\n"
            "time.sleep = lambda seconds: None\n"  # the hub's client tries again and again, half a minute long
            f"main(['reproduce', 'gain', 'se-users', '-o', {str(tmp_path / 'out')!r}], prog_name='nflae')"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("backbone ")]
    assert line.startswith("nflae: error: se-users: ")
    assert "cannot be loaded from the hub" in line
    assert_backbone_refused(line, "gpt2")
    assert names(tmp_path / "out") == []


# Interruptions


@pytest.fixture
def unbroken(nflae: Run, work: Work, tmp_path: Path) -> Path:
    """The folder of gain and enfr in one go."""
    folder = tmp_path / "unbroken"
    assert nflae("reproduce", "gain", "enfr", "-o", folder).exit_code == 0
    work.done.clear()
    return folder


def assert_same_results(folder: Path, unbroken: Path) -> None:
    assert names(folder) == names(unbroken) == files("gain", "enfr")
    for name in names(folder):
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name


@pytest.mark.parametrize(("experiment", "index"), [("gain", 0), ("gain", 1), ("gain", 2), ("enfr", 1)])
def test_interrupted_run_goes_on_where_it_was_to_the_same_bytes(
    nflae: Run, failed: Failed, work: Work, tmp_path: Path, unbroken: Path, experiment: str, index: int
) -> None:
    out, work.interrupt = tmp_path / "out", f"{experiment} {index}"
    line = failed("gain", "enfr", "-o", out)
    done_before = 3 * (experiment == "enfr") + index
    counted = {0: " before a unit was done", 1: "; 1 finished unit"}.get(done_before, f"; {done_before} finished units")
    assert f"interrupted{counted} in" in line
    for text in (str(out), "repeat the command to resume"):
        assert text in line
    lines = (out / f"{experiment}.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines[1:]] == [f"unit {before}" for before in range(index)]
    assert not (out / f"{experiment}.csv").exists()
    done = nflae("reproduce", "gain", "enfr", "-o", out)
    assert done.exit_code == 0, done.output
    assert work.done == [f"{name} {index}" for name in ("gain", "enfr") for index in range(3)]
    assert_same_results(out, unbroken)


def test_a_finished_run_is_not_computed_again(nflae: Run, work: Work, tmp_path: Path, unbroken: Path) -> None:
    again = shutil.copytree(unbroken, tmp_path / "again")
    for path in again.iterdir():
        if path.suffix != ".jsonl":
            path.unlink()
    assert nflae("reproduce", "gain", "enfr", "-o", again).exit_code == 0
    assert not work.done
    assert_same_results(again, unbroken)


def test_repeating_does_not_overwrite_what_an_overwriting_run_finished(
    failed: Failed, work: Work, unbroken: Path
) -> None:
    work.interrupt = "enfr 1"
    assert "repeat the command without --overwrite to resume" in failed("gain", "enfr", "-o", unbroken, "--overwrite")


@pytest.mark.parametrize("cut", [1, 30, 10**6])
def test_half_written_last_line_is_dropped(nflae: Run, work: Work, tmp_path: Path, unbroken: Path, cut: int) -> None:
    """As after a kill: lines up to some byte of the third unit's, and none of what is made of them."""
    lines = (unbroken / "gain.jsonl").read_bytes().splitlines(keepends=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / "gain.jsonl").write_bytes(b"".join(lines[:3]) + lines[3].rstrip(b"\n")[:cut])
    assert nflae("reproduce", "gain", "enfr", "-o", out).exit_code == 0
    assert work.done == ["gain 2", *(f"enfr {index}" for index in range(3))]
    assert_same_results(out, unbroken)


@pytest.mark.parametrize("damage", [b"{", b'{"key": "unit 1"}', b'"unit 1"'])
def test_damaged_line_is_refused_with_its_number(
    failed: Failed, work: Work, tmp_path: Path, unbroken: Path, damage: bytes
) -> None:
    lines = (unbroken / "enfr.jsonl").read_bytes().splitlines()
    (unbroken / "enfr.jsonl").write_bytes(b"\n".join([*lines[:2], damage, *lines[3:], b""]))
    line = failed("gain", "enfr", "-o", unbroken)
    assert f"{unbroken}/enfr.jsonl: line 3 is damaged; remove the file" in line
    assert not work.done
