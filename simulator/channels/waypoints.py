"""Read waypoints from CSV files, and describe flights by the variables of a channel file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matlab_io.errors import NflaeError
from simulator.channels.trajectory import Flight, Waypoints

_COLUMNS = "a header with user, x_m, height_m and either time_s or speed_mps"


def read_waypoints(path: Path) -> list[Waypoints]:
    """Read the paths of users from a CSV file.

    A line is a point of a user's path: ``user`` (any name), ``x_m``, ``height_m``, and either ``time_s``, the time at
    the point, or ``speed_mps``, the speed on the leg that starts there; with speeds a user starts at time 0, and the
    speed of its last point is ignored. Further columns are ignored.

    Parameters
    ----------
    path
        CSV file.

    Returns
    -------
    list of Waypoints
        Paths, in the order in which users first appear.

    Raises
    ------
    NflaeError
        For a file of another form; the message names the line.
    OSError
        If the file does not exist.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        try:
            columns = set(reader.fieldnames or ())
            lines = [(reader.line_num, row) for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise NflaeError(f"{path}: is no CSV file of waypoints ({error}); expected {_COLUMNS}") from None
    pace = "time_s" if "time_s" in columns else "speed_mps"
    if not {"user", "x_m", "height_m", pace} <= columns:
        raise NflaeError(f"{path}: has the columns {', '.join(sorted(columns)) or '(none)'}; expected {_COLUMNS}")
    points: dict[str, list[list[float]]] = {}
    for line, row in lines:
        point = [_number(path, line, row, name) for name in ("x_m", "height_m", pace)]
        points.setdefault(row["user"], []).append(point)
    if not points:
        raise NflaeError(f"{path}: has no waypoint; expected, below the header, a line for each point of a user's path")
    paths = []
    for user, rows in points.items():
        try:
            x, height, third = torch.tensor(rows, dtype=torch.float64).T.contiguous()
            paths.append(Waypoints(third if pace == "time_s" else _times(x, height, third), x, height))
        except ValueError as error:
            raise NflaeError(f"{path}: user {user}: {error}") from None
    return paths


def flight_seconds(paths: Sequence[Waypoints]) -> float:
    """Return the time of the last waypoint.

    Parameters
    ----------
    paths
        Paths, one per user.

    Returns
    -------
    float
        Time, s.
    """
    return max(float(path.time[-1]) for path in paths)


def flight_variables(flight: Flight) -> dict[str, Any]:
    """Return the variables of a channel file that describe a flight.

    Parameters
    ----------
    flight
        Flight of K users over S slots.

    Returns
    -------
    dict
        Name -> positions, angles, distances, labels and Doppler shifts in MATLAB order K x S.
    """
    columns = {
        "x": flight.x,
        "height": flight.height,
        "angle_rad": flight.angle,
        "distance": flight.distance,
        "near_field": flight.near_field,
        "doppler_hz": flight.doppler_hz,
    }
    return {name: np.asarray(values).T for name, values in columns.items()}


def _times(x: torch.Tensor, height: torch.Tensor, speed: torch.Tensor) -> torch.Tensor:
    """Return the times, s, at which a user reaches its points with given speeds on the legs, from time 0."""
    if bool((speed[:-1] <= 0).any()):
        raise ValueError("speed_mps has to be positive, but for the last point")
    legs = torch.hypot(x.diff(), height.diff()) / speed[:-1]
    return torch.cat([torch.zeros(1, dtype=torch.float64), legs.cumsum(0)])


def _number(path: Path, line: int, row: Mapping[str, str | None], name: str) -> float:
    text = row[name]
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise NflaeError(f"{path}: line {line}: {name} is {text or 'missing'!r}; it has to be a number")
    return number
