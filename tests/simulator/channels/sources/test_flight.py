"""``nflae simulate --trajectory``: a flight as a channel file, a drop a slot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from simulator.channels.scenario import scenario
from simulator.channels.sources import channels
from simulator.channels.trajectory import fly
from simulator.channels.waypoints import read_waypoints
from tests.channel_files import Run

TEXT = "user,x_m,height_m,speed_mps\na,60,30,20\na,70,30,0\nb,90,5,10\nb,84,5,0\n"


@pytest.fixture
def waypoints(tmp_path: Path) -> Path:
    path = tmp_path / "flight.csv"
    path.write_text(TEXT)
    return path


def test_the_file_has_the_flight_and_its_truth(nflae: Run, waypoints: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mat"
    done = nflae("simulate", "-o", output, "--trajectory", waypoints, "--slot-ms", 2, "--antennas", 16, "--seed", 5)
    assert done.exit_code == 0, done.output
    assert "0.602 s in slots of 2 ms" in done.output
    found = scipy.io.loadmat(output)
    generator = torch.Generator().manual_seed(5)
    flight = fly(read_waypoints(waypoints), scenario("uav", antennas=16), 301, 2e-3, generator)
    np.testing.assert_array_equal(found["H"].T, flight.channels.numpy())
    for name, expected in (("x", flight.x), ("doppler_hz", flight.doppler_hz), ("near_field", flight.near_field)):
        np.testing.assert_array_equal(found[name], expected.numpy().T)
    assert float(found["slot_seconds"].item()) == 2e-3
    assert nflae("inspect", output).exit_code == 0


def test_slots_can_be_counted(waypoints: Path) -> None:
    assert channels("flight", file=waypoints, drops=7, antennas=8).shape == (7, 2, 8)


def test_wrong_usage(nflae: Run, waypoints: Path, tmp_path: Path) -> None:
    both = ("--trajectory", waypoints, "--scenario", "paper")
    assert nflae("simulate", "-o", tmp_path / "out.mat", *both).exit_code == 2
    for arguments, says in (
        (("--trajectory", tmp_path / "none.csv"), "none.csv: no such file"),
        (("--trajectory", waypoints, "--users", 3), "source flight takes no users"),
        (("--slot-ms", 1), "source uav takes no slot seconds"),
    ):
        done = nflae("simulate", "-o", tmp_path / "out.mat", *arguments)
        assert done.exit_code == 1
        assert says in done.stderr
