"""examples/cosimulation.py: a world of its own that asks a real server, and the picture it draws."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from nflae_bridge import Result, precode
from nflae_bridge.live.errors import ConnectionLost
from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import effective_rayleigh_distance
from tests.nflae_bridge.live.live_server import LiveServer

EXAMPLE = Path(__file__).parents[3] / "examples" / "cosimulation.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("cosimulation", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_its_waves_are_those_of_the_simulators_geometry(example: ModuleType) -> None:
    """Labels, which go by the wavefront, are near within the border that the picture shows and far beyond it."""
    world = example.World()
    channels = world.channels()
    assert channels.shape == (len(world.position), example.ANTENNAS)
    assert not precode(channels[[1, 4]], noise_power=example.NOISE_POWER).near_field.any()
    assert precode(channels[[0, 5]], noise_power=example.NOISE_POWER).near_field.all()
    array = UniformLinearArray(example.ANTENNAS, 299_792_458.0 / example.WAVELENGTH, example.MAST, tilt=0.0)
    x, height = example.near_field_border()
    angle, distance = angle_and_distance(torch.from_numpy(x), torch.from_numpy(height), array)
    np.testing.assert_allclose(distance, effective_rayleigh_distance(array, angle), rtol=1e-4)


def test_rates_are_those_the_answer_promises_while_it_is_fresh(example: ModuleType) -> None:
    channels = example.World().channels()
    answer = precode(channels, noise_power=example.NOISE_POWER)
    np.testing.assert_allclose(example.received_rates(channels, answer), answer.rate[0], rtol=1e-4)


@pytest.mark.slow
def test_it_flies_and_draws(server: LiveServer, tmp_path: Path) -> None:
    output = tmp_path / "timeline.png"
    command = [sys.executable, str(EXAMPLE), "--server", server.address, "--slots", "12", "--refresh", "1", "6"]
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    every, rarely = (float(line.split(":")[1].split()[0]) for line in done.stdout.splitlines()[:2])
    assert every > rarely > 0
    assert output.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["cosimulation", "testbed_loop"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "/nonexistent/plot.png"], "/nonexistent/plot.png: the folder /nonexistent does not exist"),
        (["-o", "plot.pxx"], "plot.pxx: not a format of plots: name it .png"),
        (["--server", "127.0.0.1:5555"], "127.0.0.1:5555: not an address"),
    ],
)
def test_wrong_arguments_end_it_in_one_line_before_the_run(
    monkeypatch: pytest.MonkeyPatch, name: str, arguments: list[str], said: str
) -> None:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main()
    assert str(ended.value.code).startswith(f"{name}: {said}")


@pytest.mark.slow
def test_it_says_in_one_line_that_nobody_answers(free_port: int) -> None:
    code = "import sys, cosimulation; cosimulation.TIMEOUT = 0.2; cosimulation.main()"
    command = [sys.executable, "-c", code, "--server", f"tcp://127.0.0.1:{free_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=EXAMPLE.parent, check=False)
    assert done.returncode == 1
    assert "is `nflae serve` running there" in done.stderr
    assert len(done.stderr.splitlines()) == 1


class FailingClient:
    """In place of `Client`: answers two calls, then raises what is set."""

    error: type[BaseException] = ConnectionLost

    def __init__(self, address: str, timeout: float) -> None:
        self.calls = 0

    def __enter__(self) -> FailingClient:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def precode(self, channels: Any, **options: Any) -> Result:
        self.calls += 1
        if self.calls > 2:
            raise self.error("gone")
        return precode(channels, noise_power=options["noise_power"], scheme="zf")


def test_the_last_precoders_stay_in_use_while_the_server_is_away(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "Client", FailingClient)
    positions, sums, _ = example.fly("tcp://127.0.0.1:1", 6, 5e-3, [1, 3])
    assert "4 requests without an answer" in capsys.readouterr().out
    assert len(positions) == len(sums[1]) == 6
    world = example.World()
    world.move(5e-3)
    kept = precode(world.channels(), noise_power=example.NOISE_POWER, scheme="zf")
    world.move(4 * 5e-3)
    assert sums[1][5] == pytest.approx(example.received_rates(world.channels(), kept).sum())


def test_ctrl_c_keeps_the_slots_so_far(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "Client", FailingClient)
    monkeypatch.setattr(FailingClient, "error", KeyboardInterrupt)
    positions, sums, labels = example.fly("tcp://127.0.0.1:1", 9, 5e-3, [1])
    assert len(positions) == len(sums[1]) == len(labels) == 2
    assert "interrupted after 2 of 9 slots" in capsys.readouterr().out


def test_the_clock_starts_no_slot_early(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(example, "Client", FailingClient)
    monkeypatch.setattr(example.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(example.time, "sleep", waits.append)
    example.fly("tcp://127.0.0.1:1", 2, 0.25, [1], by_clock=True)
    assert waits == [0.0, 0.25]


@pytest.mark.slow
def test_the_loop_of_a_testbed_runs_by_the_clock(server: LiveServer, tmp_path: Path) -> None:
    output = tmp_path / "loop.png"
    command = [sys.executable, str(EXAMPLE.parent / "testbed_loop.py"), "--server", server.address]
    options = ["--slots", "12", "--slot-ms", "250", "--deadline-ms", "30000", "-o", str(output)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    answered = int(done.stdout.split()[0])
    assert 1 <= answered <= 12
    assert "mean sum rate" in done.stdout
    assert output.read_bytes().startswith(b"\x89PNG")
