"""The command line as a whole: how quickly it starts, how it fails, and the commands beside precode."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

import simulator.schemes.registry
from matlab_io import open_channels
from nflae_bridge import __version__
from nflae_bridge.cli.commands.models.models import parameter_count
from nflae_bridge.cli.failure import Failure, explain
from nflae_bridge.network.checkpoint import read_tensors
from nflae_bridge.training.loop import Trainer
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import is_near_field
from simulator.schemes import scheme
from tests.channel_files import Run, WriteMat, random_channels

HEAVY = ("torch", "numpy", "scipy", "h5py", "matplotlib", "transformers", "pandas")
COMMANDS = ("inspect", "precode", "evaluate", "simulate", "models", "train", "serve", "keys", "stream", "link")
COMMANDS += ("reproduce", "bench")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS), ["models"]])
def test_help_imports_nothing_that_computes(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom nflae_bridge.cli.group import main\n"
        f"try: main({arguments!r}, prog_name='nflae')\nexcept SystemExit as end: assert not end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\nassert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_precode_imports_nothing_for_others(write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(random_channels(drops=1), noise_power=0.01)
    arguments = ["precode", str(source), "-o", str(tmp_path / "out.mat")]
    script = (
        "import sys\nfrom nflae_bridge.cli.group import main\n"
        f"try: main({arguments!r}, prog_name='nflae')\nexcept SystemExit as end: assert not end.code\n"
        "others = ('scipy.optimize', 'matplotlib', 'transformers', 'pandas', 'zmq', 'dask')\n"
        "loaded = [name for name in others if name in sys.modules]\nassert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_lists_the_commands_and_teaches_by_example(nflae: Run) -> None:
    overview = nflae("--help").output
    for name in COMMANDS:
        assert name in overview
        page = nflae(name, "--help")
        assert page.exit_code == 0
        assert f"nflae {name}" in page.output.split("Examples:")[1]
    assert nflae("--version").output.strip() == f"nflae, version {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["serve", "--max-batch", "0"],
        ["serve", "--bind", "tcp://127.0.0.1:99999"],
        ["serve", "--bind", "tcp://127.0.0.1:*", "--bind", "udp://127.0.0.1:5999"],
        ["serve", "--bind", "inproc://serve"],
        ["serve", "--bind", "tcp://127.0.0.1"],
        ["serve", "--bind", "localhost:5999"],
        ["serve", "--server-key", "server.key_secret"],
        ["serve", "--metrics-port", "65536"],
        ["serve", "--http", "8080"],
        ["serve", "--http", "0.0.0.0:8080"],
        ["serve", "--http", "127.0.0.1:8080", "--http-array", "circle:30"],
        ["serve", "--http-token", "long-enough"],
        ["keys", "../lab"],
        ["stream"],
        ["stream", "--users", "4", "--antennas", "8", "--csi", "push:tcp://127.0.0.1:1"],
        ["precode"],
        ["precode", "in.mat"],
        ["precode", "in.mat", "-o", "out.mat", "--scheme", "magic"],
        ["precode", "in.mat", "-o", "out.mat", "--alpha-c", "much"],
        ["precode", "in.mat", "-o", "out.mat", "--refine", "-1"],
        ["evaluate", "in.mat", "--schemes", "rzf,magic"],
        ["simulate", "-o", "out.mat", "--drops", "0"],
        ["train", "-o", "runs"],
    ],
)
def test_wrong_usage_exits_2(nflae: Run, arguments: list[str]) -> None:
    assert nflae(*arguments).exit_code == 2


def test_console_script_exits_1_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nflae_bridge.cli"]
    arguments = ["precode", str(tmp_path / "absent.mat"), "-o", str(tmp_path / "out.mat")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"nflae: error: {tmp_path}/absent.mat: no such file\n"
    debugged = subprocess.run([*command, "--debug", *arguments], capture_output=True, text=True, check=False)
    assert debugged.returncode == 1
    assert "Traceback" in debugged.stderr


def test_every_kind_of_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(PermissionError(13, "Permission denied", "f.mat")) == "f.mat: permission denied"
    assert "out of memory" in explain(torch.OutOfMemoryError("CUDA out of memory"))
    assert "out of memory" in explain(MemoryError())
    assert "interrupted" in explain(KeyboardInterrupt())
    assert "--debug" in explain(ZeroDivisionError("division by zero"))
    Failure("two\nlines").show()
    assert capsys.readouterr().err == "nflae: error: two lines\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("swallowed", [False, True])
def test_an_interrupted_run_leaves_nothing(
    nflae: Run,
    write_mat: WriteMat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    swallowed: bool,
) -> None:
    rzf, before = scheme("rzf"), signal.getsignal(number)

    def interrupted(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            if swallowed:  # as HDF5 does
                raise TypeError("operation not defined") from None
            raise
        return rzf(batch, budget)

    monkeypatch.setitem(simulator.schemes.registry.REGISTRY.loaded, "rzf", interrupted)
    done = nflae("precode", write_mat(random_channels()), "-o", tmp_path / "out.mat", "--scheme", "rzf")
    assert done.exit_code == 1
    assert done.stderr == "nflae: error: interrupted; an unfinished output is removed\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.mat"]
    assert signal.getsignal(number) == before


# --- inspect


def test_inspect_says_what_is_taken_as_the_channels(nflae: Run, write_mat: WriteMat) -> None:
    done = nflae("inspect", write_mat(random_channels(), noise_power=0.5, note="Rayleigh"))
    assert done.exit_code == 0
    for text in ("16 x 3 x 6", "complex single", "layout nks", "y = H' x", "hermitian", "noise_power = 0.5 W", "note"):
        assert text in done.output


def test_inspect_names_the_readings_of_an_ambiguous_file(nflae: Run, write_mat: WriteMat) -> None:
    source = write_mat(H=None, channel=random_channels(users=4, antennas=4).T)
    done = nflae("inspect", source)
    assert done.exit_code == 0
    assert "4 antennas x 4 users x 6 drops, users in columns, y = H' x" in done.output
    assert "4 antennas x 4 users x 6 drops, users in rows, y = H x" in done.output
    assert "not read: pass --layout" in done.output
    assert nflae("inspect", source, "--layout", "kns").exit_code == 0


def test_inspect_fails_only_where_it_must(nflae: Run, write_mat: WriteMat, tmp_path: Path) -> None:
    source = write_mat(table=np.ones((3, 3)))
    done = nflae("inspect", source)
    assert done.exit_code == 0
    assert "not found" in done.output
    assert nflae("inspect", source, "--var", "absent").exit_code == 1
    assert nflae("inspect", tmp_path / "absent.mat").exit_code == 1


# --- simulate


def test_simulated_channels_are_the_seeds(nflae: Run, tmp_path: Path) -> None:
    size = ("--drops", 5, "--users", 3, "--antennas", 16)
    contents = []
    variants = {"a": (), "b": (), "c": ("--seed", 1), "d": ("--csi-snr-db", 10), "e": ("--mat-version", "7.3")}
    for name, extra in variants.items():
        path = tmp_path / f"{name}.mat"
        assert nflae("simulate", "-o", path, *size, *extra).exit_code == 0
        with open_channels(path) as file:
            contents.append(file.read(0, 5))
    a, b, c, d, e = contents
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, e)
    assert not np.allclose(a, c)
    error = (np.abs(d - a) ** 2).mean() / (np.abs(a) ** 2).mean()
    assert 0.05 < error < 0.2  # 10 dB below the channel


@pytest.mark.parametrize("name", ["uav", "paper"])
def test_simulated_truth_belongs_to_the_channels(nflae: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / "out.mat"
    size = ("--drops", 300, "--users", 2, "--antennas", 128)
    assert nflae("simulate", "-o", path, *size, "--scenario", name).exit_code == 0
    told = scipy.io.loadmat(path)
    x, height = (torch.from_numpy(np.ascontiguousarray(told[field])) for field in ("x", "height"))
    array = UniformLinearArray(128, *(told[field].item() for field in ("carrier_hz", "array_height", "array_tilt_rad")))
    angle, distance = angle_and_distance(x, height, array)
    np.testing.assert_allclose(told["angle_rad"], angle)
    np.testing.assert_allclose(told["distance"], distance)
    np.testing.assert_array_equal(told["near_field"], is_near_field(array, angle, distance))
    # The channels' strongest wave comes from where the truth says, over several blocks of the generator.
    from simulator.geometry.localization import most_likely_positions

    H = torch.from_numpy(np.ascontiguousarray(told["H"][:, :, -1].T))
    found, _, _ = most_likely_positions(array, H)
    np.testing.assert_allclose(found, angle[:, -1], atol=0.01)


# --- evaluate


def test_evaluate_compares_all_schemes(nflae: Run, tmp_path: Path, untrained: Path) -> None:
    source, table, plot = tmp_path / "in.mat", tmp_path / "t.csv", tmp_path / "p.png"
    size = ("--drops", 12, "--users", 4, "--antennas", 64, "--scenario", "paper")
    assert nflae("simulate", "-o", source, *size).exit_code == 0
    arguments = ("--model", untrained, "--drops", 10, "--csv", table, "--plot", plot, "--optimiser")
    done = nflae("evaluate", source, *arguments)
    assert done.exit_code == 0, done.output
    assert "the first 10 of 12" in done.output
    assert "block of 10 drops, on cpu" in done.output
    assert "without alpha_c and min_rate" not in done.output
    with table.open() as file:
        rows = {row["scheme"]: row for row in csv.DictReader(file)}
    classical = {"mrt", "zf", "rzf", "wmmse", "sdma", "ldma", "noma"}
    assert set(rows) == {*classical, "nflae", "optimiser", "capacity"}
    assert "the rates of noma need users that decode and cancel" in done.output
    rate = {name: float(row["mean_sum_rate"]) for name, row in rows.items()}
    assert rate["mrt"] < rate["rzf"] <= rate["nflae"] * (1 + 1e-9)
    assert rate["rzf"] < rate["wmmse"] <= rate["optimiser"] * (1 + 1e-6)
    assert rate["optimiser"] < rate["capacity"]
    assert all(float(rows[name]["seconds_per_drop"]) > 0 for name in rows if name not in ("optimiser", "capacity"))
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_evaluate_takes_a_few_schemes_under_constraints(nflae: Run, write_mat: WriteMat, untrained: Path) -> None:
    H = random_channels()
    H[2, 1] = 0
    arguments = ("--schemes", "rzf,nflae", "--alpha-c", 0.5, "--min-rate", 30, "--on-bad-drop", "skip")
    done = nflae("evaluate", write_mat(H), "--model", untrained, *arguments)
    assert done.exit_code == 0, done.output
    assert "wmmse" not in done.output
    assert "(SIC)" not in done.output
    assert "100.0 %" in done.output  # nobody gets 30 bps/Hz
    assert "1 bad drop skipped" in done.output
    assert "without alpha_c and min_rate" in done.output


def test_evaluate_refuses_what_precode_refuses(
    nflae: Run, write_mat: WriteMat, untrained: Path, tmp_path: Path
) -> None:
    H = random_channels()
    H[2, 1] = 0
    source = write_mat(H)
    for arguments, says in (((), "drop 3, user 2 is zero"), (("--csv", source), "is also the input")):
        done = nflae("evaluate", source, "--model", untrained, *arguments)
        assert done.exit_code == 1
        assert says in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.mat"]


# --- models


def test_models_are_listed_without_loading_them(nflae: Run, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nflae_bridge.network.shipped.SHIPPED", untrained.parent)
    done = nflae("models")
    assert done.exit_code == 0
    assert "untrained" in done.output
    assert "0.9700" in done.output
    from nflae_bridge.network.checkpoint import load_checkpoint

    count = sum(value.numel() for value in load_checkpoint(untrained).network.parameters())
    assert parameter_count(untrained) == count
    assert f"{count:,}" in done.output


def test_details_of_a_model(nflae: Run, untrained: Path, tmp_path: Path) -> None:
    done = nflae("models", untrained)
    assert done.exit_code == 0
    assert "validation.accuracy" in done.output
    assert nflae("models", "absent").exit_code == 1
    assert nflae("models", tmp_path).exit_code == 1
    (tmp_path / "model.json").write_text("{")
    assert "damaged" in nflae("models", tmp_path).stderr


# --- train


def test_train_writes_a_model_that_precode_takes(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nflae_bridge.training.data.DropDistribution.validation", _short_validation)
    run = tmp_path / "run"
    arguments = ("train", "--preset", "tiny", "-o", run, "--seed", 5, "--threads", 1)
    done = nflae(*arguments, "--steps", 2)
    assert done.exit_code == 0, done.output
    assert f"nflae precode IN.mat -o OUT.mat --model {run}" in done.output
    found = json.loads((run / "model.json").read_text())["validation"]
    score = f"best score {found['rate_over_wmmse'] + found['accuracy']:.4f} (sum rate over"
    assert score in " ".join(done.output.split())
    assert json.loads((run / "model.json").read_text())["step"] == 2
    again = nflae(*arguments, "--steps", 4)
    assert again.exit_code == 1
    assert "--resume" in again.stderr
    resumed = nflae(*arguments, "--steps", 4, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert "at step 2" in resumed.output
    short = nflae(*arguments, "--steps", 3, "--resume")
    assert short.exit_code == 1
    assert f"{run}: the run is at step 4, beyond --steps 3: pass more steps" in short.stderr
    source = write_mat(random_channels())
    assert nflae("precode", source, "-o", tmp_path / "out.mat", "--model", run).exit_code == 0


def test_the_minutes_of_a_run_include_its_set_up(nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            cls.now += 90.0
            return cls.now

    def note(trainer: Trainer, minutes: float) -> Iterator[None]:
        given.append(minutes)
        trainer.step = 1
        return iter(())

    monkeypatch.setattr("nflae_bridge.training.data.DropDistribution.validation", _short_validation)
    monkeypatch.setattr("nflae_bridge.cli.commands.models.train.time", Clock)
    monkeypatch.setattr(Trainer, "run", note)
    done = nflae("train", "--preset", "tiny", "-o", tmp_path / "run", "--steps", 2, "--minutes", 10)
    assert done.exit_code == 0, done.output
    assert given == [8.5]


@pytest.mark.parametrize("preset", ["cnn", "transformer"])
def test_train_tells_of_the_least_loss_where_that_is_what_counts(
    nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    from nflae_bridge.tasks.precode import PRECODE
    from nflae_bridge.training.data import PublishedDrops

    few = PublishedDrops(users=4, train=8, validate=4, batch=4)
    declared = PRECODE.presets[preset]
    monkeypatch.setitem(PRECODE.presets, preset, replace(declared, recipe=replace(declared.recipe, data=few)))
    run = tmp_path / "run"
    done = nflae("train", "--preset", preset, "-o", run, "--steps", 1, "--device", "cpu")
    assert done.exit_code == 0, done.output
    loss = json.loads((run / "model.json").read_text())["validation"]["loss"]
    assert f"best loss {loss:.4f} (of the validation drops)" in " ".join(done.output.split())
    assert "best score" not in done.output
    source = tmp_path / "in.mat"
    assert nflae("simulate", "-o", source, "--drops", 2, "--users", 4).exit_code == 0
    assert nflae("precode", source, "-o", tmp_path / "out.mat", "--model", run).exit_code == 0
    assert nflae("models", run).exit_code == 0


def test_train_says_what_it_cannot_do(nflae: Run, tmp_path: Path) -> None:
    assert "tiny, small" in nflae("train", "--preset", "huge", "-o", tmp_path / "run").stderr
    assert "no run to resume" in nflae("train", "--preset", "tiny", "-o", tmp_path / "run", "--resume").stderr
    (tmp_path / "file").touch()
    assert "is a file" in nflae("train", "--preset", "tiny", "-o", tmp_path / "file").stderr
    missing = nflae("train", "--preset", "gpt2", "-o", tmp_path / "run", "--backbone", tmp_path / "absent")
    assert missing.exit_code == 1
    assert "absent" in missing.stderr


def test_an_interrupted_training_says_how_to_go_on(nflae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nflae_bridge.tasks.precode import PRECODE
    from nflae_bridge.training.loop import Trainer

    monkeypatch.setattr("nflae_bridge.training.data.DropDistribution.validation", _short_validation)
    declared = PRECODE.presets["tiny"]
    monkeypatch.setitem(PRECODE.presets, "tiny", replace(declared, recipe=replace(declared.recipe, save_every=1)))
    train_one = Trainer.train_one

    def interrupted(self: Trainer) -> object:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return train_one(self)

    monkeypatch.setattr(Trainer, "train_one", interrupted)
    run = tmp_path / "run"
    done = nflae("train", "--preset", "tiny", "-o", run, "--steps", 9)
    assert done.exit_code == 1
    assert f"continue with: nflae train --preset tiny -o {run} --steps 9 --resume" in done.stderr
    assert read_tensors(run / "last.safetensors")[1]["step"] == 2


def _short_validation(distribution: object) -> list:
    """One batch of what training sees: the real thing takes longer than these tests may."""
    return [distribution.training(99, 0).select(torch.arange(4))]  # type: ignore[attr-defined]
