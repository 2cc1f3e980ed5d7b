"""The base install, without torch: a client under Debian's own Python, where GNU Radio lives, and its size."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zmq

from nflae_bridge import precode
from tests.channel_files import random_channels
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import free_address
from tests.nflae_bridge.live.live_server import LiveServer
from tests.sockets import bounded_context

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SYSTEM_PYTHON = Path("/usr/bin/python3")
MEGABYTE = 10**6
HEAVY = ("torch", "scipy", "h5py", "rich", "prometheus_client", "matplotlib", "onnxruntime", "pandas")

CLIENT = """
import asyncio, json, sys
import numpy as np
import zmq
from nflae_bridge import AsyncClient, Client

channels = np.load(sys.argv[2])

async def concurrently():
    async with AsyncClient(sys.argv[1], timeout=100) as client:
        return await asyncio.gather(*(client.precode(drop, scheme="rzf") for drop in channels))

with Client(sys.argv[1], timeout=100) as client:
    result = client.precode(channels, scheme="rzf", noise_power=0.02)
    status = client.status()
print(json.dumps({
    "rates": result.sum_rate.tolist(),
    "rates_asyncio": [float(each.sum_rate[0]) for each in asyncio.run(concurrently())],
    "model": status["model"],
    "modules": sorted(sys.modules),
    "versions": [np.__version__, zmq.__version__],
}))
"""


def run(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, env=environment)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def installed_bytes(environment: Path) -> int:
    """What the packages occupy on the disk, compiled modules included."""
    files = [path for path in (environment / "lib").rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(512 * path.stat().st_blocks for path in files)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this working copy; built from a copy, which keeps the build out of it."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for package in ("nflae_bridge", "matlab_io", "simulator"):
        shutil.copytree(ROOT / package, folder / "source" / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "source")
    run(sys.executable, *build)
    (built,) = folder.glob("*.whl")
    return built


def base_install(folder: Path, python: Path, wheel: Path, *options: str) -> Path:
    """Make an environment with the base install, or skip where its packages cannot be downloaded."""
    run(python, "-m", "venv", "--without-pip", *options, folder)
    install = ("-m", "pip", "--python", folder / "bin" / "python", "install", wheel)
    done = run(sys.executable, *install, check=False)
    if done.returncode and any(text in done.stderr for text in ("No matching distribution", "Connection", "resolve")):
        pytest.skip("the base dependencies cannot be downloaded")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def beside_gnuradio(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base install on top of the system's Python packages."""
    if not SYSTEM_PYTHON.exists():
        pytest.skip(f"{SYSTEM_PYTHON} does not exist")
    if run(SYSTEM_PYTHON, "-c", "import sys, numpy, zmq; assert sys.version_info >= (3, 11)", check=False).returncode:
        pytest.skip("the system's Python is older than 3.11, or without numpy and pyzmq")
    return base_install(tmp_path_factory.mktemp("system"), SYSTEM_PYTHON, wheel, "--system-site-packages")


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base install and all its dependencies."""
    return base_install(tmp_path_factory.mktemp("fresh"), Path(sys.executable), wheel)


@pytest.mark.parametrize("where", ["beside_gnuradio", "fresh"])
def test_clients_need_no_torch(where: str, request: pytest.FixtureRequest, server: LiveServer, tmp_path: Path) -> None:
    python = request.getfixturevalue(where) / "bin" / "python"
    channels = random_channels(3, 4, 32)
    np.save(tmp_path / "channels.npy", channels)
    (tmp_path / "client.py").write_text(CLIENT)
    found = json.loads(run(python, tmp_path / "client.py", server.address, tmp_path / "channels.npy").stdout)
    np.testing.assert_allclose(found["rates"], precode(channels, scheme="rzf", noise_power=0.02).sum_rate, rtol=1e-6)
    np.testing.assert_allclose(found["rates_asyncio"], precode(channels, scheme="rzf").sum_rate, rtol=1e-6)
    assert found["model"] == "tiny"
    assert not {*HEAVY, "nflae_bridge.api.precode", "nflae_bridge.engine"} & set(found["modules"])


def test_a_stream_is_computed_by_a_server(beside_gnuradio: Path, server: LiveServer) -> None:
    csi, precoders = free_address(), free_address()
    channels = random_channels(5, 4, 32)
    command = [beside_gnuradio / "bin" / "nflae", "stream", "--server", server.address, "--scheme", "rzf"]
    command += ["--users", 4, "--antennas", 32, "--csi", f"pull:{csi},bind", "--precoders", f"push:{precoders}"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (
        bounded_context() as context,
        context.socket(zmq.PUSH) as source,
        context.socket(zmq.PULL) as sink,
        subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, env=environment) as stream,
    ):
        source.connect(csi)
        sink.connect(precoders)
        source.send(channels.tobytes())
        assert sink.poll(60_000)
        rows = np.frombuffer(sink.recv(), np.complex64).reshape(channels.shape)
        stream.terminate()
        assert "event=stopped received=5 sent=5" in stream.communicate(timeout=60)[1]
    np.testing.assert_allclose(rows, precode(channels, scheme="rzf").precoder, atol=1e-5)


def test_commands_of_the_base_install(beside_gnuradio: Path, tmp_path: Path) -> None:
    nflae = beside_gnuradio / "bin" / "nflae"
    assert "stream" in run(nflae, "--help").stdout
    run(nflae, "keys", "lab", tmp_path)
    assert (tmp_path / "lab.key_secret").exists()
    toolbox = run(beside_gnuradio / "bin" / "python", "-c", "import matlab_io; print(matlab_io.__path__[0])").stdout
    assert (Path(toolbox.strip()) / "matlab" / "+nflae" / "Client.m").exists()
    page = "from nflae_bridge.live.view.handler import page; print(page()[0].decode())"
    assert "EventSource" in run(beside_gnuradio / "bin" / "python", "-c", page).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve",),
        ("serve", "--metrics-port", "9100"),
        ("precode", "in.mat", "-o", "out.mat"),
        ("stream", "--users", "2", "--antennas", "4", "--csi", "pull:tcp://127.0.0.1:1", "--labels", "push:tcp://*:*"),
    ],
)
def test_other_commands_name_the_extra_to_install(beside_gnuradio: Path, arguments: tuple[str, ...]) -> None:
    done = run(beside_gnuradio / "bin" / "nflae", *arguments, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("nflae: error: nflae ")
    assert done.stderr.count("\n") == 1
    assert "[engine]" in done.stderr or "[metrics]" in done.stderr


def test_the_base_install_is_small(fresh: Path, beside_gnuradio: Path) -> None:
    sizes = {path: installed_bytes(path) / MEGABYTE for path in (fresh, beside_gnuradio)}
    print({path.name: f"{size:.1f} MB" for path, size in sizes.items()})
    assert sizes[fresh] <= 130
    assert sizes[beside_gnuradio] <= 22
