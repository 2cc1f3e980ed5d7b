"""Check each command without the packages of the extras: it works, or one line names the extra to install."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from matlab_io.extras import EXTRAS, install_command

ALL = sorted({package for packages in EXTRAS.values() for package in packages})
STREAM = ("stream", "--users", "2", "--antennas", "8", "--csi", "pull:tcp://127.0.0.1:9")
# Imports of a package that is None in sys.modules fail as if it were not installed.
WITHOUT = "import sys\nfor name in {blocked!r}: sys.modules[name] = None\n"
COMMAND = WITHOUT + "from nflae_bridge.cli.group import main\nmain({arguments!r}, prog_name='nflae')"


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=folder)


def without(blocked: list[str], *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run(COMMAND.format(blocked=blocked, arguments=list(arguments)), folder)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["models"],
        ["models", "tiny"],
        ["keys", "mine"],
        *([name, "--help"] for name in ("precode", "serve", "stream", "link", "train", "reproduce", "bench")),
    ],
    ids=" ".join,
)
def test_the_base_install_is_enough(arguments: list[str], tmp_path: Path) -> None:
    done = without(ALL, *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_base_install_lists_the_models(tmp_path: Path) -> None:
    lines = without(ALL, "models", folder=tmp_path).stdout.splitlines()
    assert lines[0].split()[:3] == ["model", "task", "parameters"]
    assert set(lines[1]) == {"-"}
    assert {"small", "tiny"} <= {line.split()[0] for line in lines[2:] if line}


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        (ALL, ["inspect", "in.mat"], "engine"),
        (ALL, ["precode", "in.mat", "-o", "out.mat"], "engine"),
        (ALL, ["evaluate", "in.mat"], "engine"),
        (ALL, ["simulate", "-o", "out.mat"], "engine"),
        (ALL, ["serve"], "engine"),
        (
            ALL,
            [*STREAM, "--precoders", "push:tcp://127.0.0.1:*"],
            "engine",
        ),
        (ALL, ["train", "--preset", "tiny", "-o", "run"], "train"),
        (ALL, ["link", "--scenario", "uav", "-o", "link"], "link"),
        (ALL, ["reproduce", "enfr", "-o", "results"], "reproduce"),
        (ALL, ["bench", "-o", "bench"], "plot"),
        (["h5py"], ["inspect", "in.mat"], "engine"),
        (["scipy"], ["precode", "in.mat", "-o", "out.mat"], "engine"),
        (["safetensors"], ["precode", "in.mat", "-o", "out.mat"], "engine"),
        (["matplotlib"], ["precode", "in.mat", "-o", "out.mat", "--plot", "p.png"], "plot"),
        (["matplotlib"], ["link", "--scenario", "uav", "-o", "link"], "link"),
        (["matplotlib"], ["bench", "-o", "bench"], "plot"),
        (["sionna"], ["simulate", "-o", "out.mat", "--source", "umi"], "sionna"),
        (["sionna"], ["link", "--scenario", "uav", "-o", "link"], "link"),
        (["distributed", "dask"], ["evaluate", "in.mat", "--cluster", "local:2"], "cluster"),
        (["prometheus_client"], ["serve", "--bind", "tcp://127.0.0.1:*", "--metrics-port", "9"], "metrics"),
        (["transformers"], ["train", "--preset", "gpt2", "-o", "run"], "train"),
        (["onnx"], ["train", "--preset", "tiny", "-o", "run"], "train"),
        (["pandas"], ["reproduce", "enfr", "-o", "results"], "reproduce"),
        (["transformers"], ["reproduce", "enfr", "-o", "results"], "reproduce"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else value,
)
def test_one_line_names_the_extra(missing: list[str], arguments: list[str], extra: str, channels_file: Path) -> None:
    folder = channels_file.parent
    before = set(folder.rglob("*"))
    done = without(missing, *arguments, folder=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if " event=" not in line and line.startswith("nflae:")]
    assert line.startswith("nflae: error: ")
    assert f" needs the extra '{extra}' (" in line
    assert line.startswith(("nflae: error: nflae ", "nflae: error: source umi ", "nflae: error: --cluster "))
    assert install_command(extra) in line
    assert {path for path in folder.rglob("*") if path.is_file()} == {path for path in before if path.is_file()}


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("engine", ["inspect", "in.mat"]),
        ("engine", ["precode", "in.mat", "-o", "out.mat"]),
        ("engine", ["evaluate", "in.mat", "--csv", "table.csv"]),
        ("plot", ["evaluate", "in.mat", "--plot", "users.png"]),
        ("plot", ["bench", "-o", "bench", "--batches", "2", "--drops", "2", "--repeats", "1", "--antennas", "16"]),
        pytest.param(
            "link",
            ["link", "in.mat", "-o", "link", "--snr-db", "10", "--drops", "2", "--scheme", "rzf"],
            marks=pytest.mark.slow,
        ),
        pytest.param("reproduce", ["reproduce", "gain", "-o", "results"], marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else value,
)
def test_the_extra_is_enough(extra: str, arguments: list[str], channels_file: Path) -> None:
    if extra == "link" and find_spec("sionna") is None:
        pytest.skip("sionna-no-rt is not installed")
    blocked = sorted(set(ALL) - set(EXTRAS[extra]))
    done = without(blocked, *arguments, folder=channels_file.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_python_users_get_the_same_line(tmp_path: Path) -> None:
    script = WITHOUT.format(blocked=ALL)
    script += "import nflae_bridge\ntry: nflae_bridge.precode([[1j, 1]])\nexcept ImportError as error: print(error)"
    said = run(script, tmp_path).stdout.strip()
    assert said.startswith("nflae_bridge.precode needs the extra 'engine' (")
    assert install_command("engine") in said


@pytest.fixture(scope="module")
def channels_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file of channels."""
    path = tmp_path_factory.mktemp("channels") / "in.mat"
    size = ["--drops", "2", "--users", "3", "--antennas", "16"]
    done = without([], "simulate", "-o", str(path), *size, folder=path.parent)
    assert done.returncode == 0, done.stderr
    return path
