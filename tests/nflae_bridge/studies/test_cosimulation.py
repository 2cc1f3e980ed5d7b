"""examples/cosimulation.py: a world of its own that asks a real server, and the picture it draws."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from nflae_bridge import precode
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


@pytest.mark.slow
def test_it_says_in_one_line_that_nobody_answers(free_port: int) -> None:
    code = "import sys, cosimulation; cosimulation.TIMEOUT = 0.2; cosimulation.main()"
    command = [sys.executable, "-c", code, "--server", f"tcp://127.0.0.1:{free_port}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=EXAMPLE.parent, check=False)
    assert done.returncode == 1
    assert "is `nflae serve` running there" in done.stderr
    assert len(done.stderr.splitlines()) == 1
