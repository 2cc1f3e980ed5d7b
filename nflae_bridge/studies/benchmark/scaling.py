"""Measure how the time per drop grows with users, antennas and batch size: one of them varied at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nflae_bridge.studies.benchmark.comparison import Advance, Progress, Settings, draw, measure_panel
from nflae_bridge.studies.benchmark.pareto import Measurement

AXES: dict[str, tuple[int, ...]] = {
    "users": (1, 2, 4, 8, 16),
    "antennas": (32, 64, 128, 256, 512, 1024, 2048, 4096),
    "batch": (1, 4, 16, 64, 256, 1024, 4096, 16384),
}
BATCH = 256  # drops per call where they are not varied, and number of different drops
ITERATIONS = 20


@dataclass(frozen=True)
class Scaled:
    """Measurement at one point of the sweep along an axis.

    Parameters
    ----------
    axis
        ``users``, ``antennas`` or ``batch``, a field of the measurement.
    row
        The measurement.
    """

    axis: str
    row: Measurement

    @property
    def value(self) -> int:
        """Users, antennas or drops per call."""
        return int(getattr(self.row, self.axis))


@dataclass(frozen=True)
class Slope:
    """Power law t ~ x^exponent of the median time per drop, fitted by least squares on log axes.

    Parameters
    ----------
    device, axis, name
        Device, axis and competitor of the series.
    exponent
        The slope.
    first, last
        Range of x of the fit.
    """

    device: str
    axis: str
    name: str
    exponent: float
    first: int
    last: int


def scale_rounds(settings: Settings, axes: Mapping[str, Sequence[int]]) -> int:
    """Return the number of rounds of calls in `scale`.

    Parameters
    ----------
    settings
        The comparison.
    axes
        Values by axis.

    Returns
    -------
    int
        Rounds, over all devices and points.
    """
    calls = [settings.calls(value if axis == "batch" else BATCH) for axis, values in axes.items() for value in values]
    return len(settings.devices) * sum(calls)


def scale(settings: Settings, axes: Mapping[str, Sequence[int]], advance: Advance) -> list[Scaled]:
    """Measure the competitors along every axis.

    Iterative schemes run 20 iterations, the network the first number of refinement steps only.

    Parameters
    ----------
    settings
        The comparison; users and antennas are its own where they are not varied, the batch is `BATCH`.
    axes
        Values by axis.
    advance
        As in `comparison.compare`.

    Returns
    -------
    list of Scaled
        Axis by axis, value by value, device by device.
    """
    settings = replace(settings, refinements=settings.refinements[:1])
    found: list[Scaled] = []
    progress = Progress(advance)
    for axis, values in axes.items():
        for value in values:
            users, antennas, batch = (
                value if axis == name else usual
                for name, usual in (("users", settings.users), ("antennas", settings.antennas), ("batch", BATCH))
            )
            channels = draw(users, antennas, BATCH, settings.seed)
            for device in settings.devices:
                note = f"{device}, {axis} {value}"
                rows = measure_panel(settings, device, channels, batch, progress, note, (ITERATIONS,))
                found += [Scaled(axis, row) for row in rows]
    return found


def series(scaled: Sequence[Scaled]) -> dict[tuple[str, str, str], list[Scaled]]:
    """Group points by device, axis and competitor.

    Parameters
    ----------
    scaled
        Points of a sweep.

    Returns
    -------
    dict
        Points by rising value, by (device, axis, name of the competitor).
    """
    lines: dict[tuple[str, str, str], list[Scaled]] = {}
    for point in sorted(scaled, key=lambda point: point.value):
        lines.setdefault((point.row.device, point.axis, point.row.name), []).append(point)
    return {key: lines[key] for key in dict.fromkeys((p.row.device, p.axis, p.row.name) for p in scaled)}


def slope(points: Sequence[Scaled]) -> Slope:
    """Fit the slope of one series over the upper half of its axis, on the log scale.

    Parameters
    ----------
    points
        One series of `series`.

    Returns
    -------
    Slope
        Its exponent is NaN if the upper half is one point.
    """
    middle = math.sqrt(points[0].value * points[-1].value)
    upper = [point for point in points if point.value >= middle]
    exponent = float("nan")
    if len(upper) > 1:
        logs = np.log([[point.value, point.row.median] for point in upper])
        exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    row = points[0].row
    return Slope(row.device, points[0].axis, row.name, exponent, upper[0].value, upper[-1].value)
