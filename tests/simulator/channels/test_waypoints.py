"""Waypoints from CSV files, and what a flight puts into a channel file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from matlab_io.errors import NflaeError
from simulator.channels.scenario import scenario
from simulator.channels.trajectory import fly
from simulator.channels.waypoints import flight_seconds, flight_variables, read_waypoints

TIMED = "user,x_m,height_m,time_s\na,10,5,0\nb,50,20,1\na,30,5,2\nb,50,30,2.5\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "flight.csv"
    path.write_text(text)
    return path


def test_users_are_read_in_their_order_with_their_times(tmp_path: Path) -> None:
    first, second = read_waypoints(written(tmp_path, TIMED))
    assert first.time.tolist() == [0, 2]
    assert first.x.tolist() == [10, 30]
    assert second.time.tolist() == [1, 2.5]
    assert second.height.tolist() == [20, 30]
    assert flight_seconds([first, second]) == 2.5


def test_speeds_are_those_of_the_leg_that_begins(tmp_path: Path) -> None:
    text = "\ufeffuser, x_m, height_m, speed_mps, note\n1, 0, 10, 10, up\n1, 30, 50, 5, along\n1, 40, 50, 0, there\n"
    (path,) = read_waypoints(written(tmp_path, text))
    assert path.time.tolist() == [0, 5, 7]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"has the columns \(none\); expected a header with user, x_m"),
        ("user,x,height,time\n", "has the columns height, time, user, x; expected"),
        ("user,x_m,height_m,time_s\n", "has no waypoint"),
        (TIMED + "a,ten,5,4\n", "line 6: x_m is 'ten'; it has to be a number"),
        (TIMED + "a,10,5\n", "line 6: time_s is 'missing'"),
        (TIMED + "a,10,inf,9\n", "line 6: height_m is 'inf'"),
        (TIMED + "a,40,5,1\n", "user a: times have to rise"),
        ("user,x_m,height_m,speed_mps\na,1,1,0\na,2,1,1\n", "user a: speed_mps has to be positive"),
        ("user,x_m,height_m,speed_mps\na,1,1,3\na,1,1,1\n", "user a: times have to rise"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(NflaeError, match=says) as raised:
        read_waypoints(written(tmp_path, text))
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flight.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff\xfe")
    with pytest.raises(NflaeError, match=r"is no CSV file|has the columns"):
        read_waypoints(path)


def test_truth_goes_into_the_file_in_matlabs_order(tmp_path: Path) -> None:
    paths = read_waypoints(written(tmp_path, TIMED))
    flight = fly(paths, scenario("uav", antennas=8), 7, 0.5, torch.Generator().manual_seed(0))
    variables = flight_variables(flight)
    assert variables["near_field"].dtype == bool
    for name in ("x", "height", "angle_rad", "distance", "near_field", "doppler_hz"):
        assert variables[name].shape == (2, 7)
    assert variables["x"][0].tolist() == [10, 15, 20, 25, 30, 30, 30]
