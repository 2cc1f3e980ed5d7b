"""How a drop's time grows with users, antennas and batch size: one of them varied at a time, slopes on log axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nflae_bridge.studies.benchmark.comparison import Advance, Settings, draw, panel
from nflae_bridge.studies.benchmark.pareto import Measurement

AXES: dict[str, tuple[int, ...]] = {
    "users": (1, 2, 4, 8, 16),
    "antennas": (32, 64, 128, 256, 512, 1024, 2048, 4096),
    "batch": (1, 4, 16, 64, 256, 1024, 4096, 16384),
}
BATCH = 256  # where the batch isn't what varies; also how many different drops there are
ITERATIONS = 20


@dataclass(frozen=True)
class Scaled:
    """A measurement of the sweep along ``axis``, whose value is the row's field of that name."""

    axis: str
    row: Measurement

    @property
    def value(self) -> int:
        """Users, antennas or drops a call."""
        return int(getattr(self.row, self.axis))


@dataclass(frozen=True)
class Slope:
    """t ~ x^exponent, fitted by least squares on log axes over ``first`` <= x <= ``last``; t: median s a drop."""

    device: str
    axis: str
    name: str
    exponent: float
    first: int
    last: int


def scale_rounds(settings: Settings, axes: Mapping[str, Sequence[int]]) -> int:
    """How many rounds of calls `scale` takes."""
    calls = [settings.calls(value if axis == "batch" else BATCH) for axis, values in axes.items() for value in values]
    return len(settings.devices) * sum(calls)


def scale(settings: Settings, axes: Mapping[str, Sequence[int]], advance: Advance) -> list[Scaled]:
    """The competitors along every axis: iterative ones with 20 iterations, the network with the first refinement only.

    What isn't varied is as in ``settings``, the batch `BATCH`. advance: as in `contest.compare`.
    """
    settings = replace(settings, refinements=settings.refinements[:1])
    found: list[Scaled] = []
    done = 0

    def count(note: str) -> None:
        nonlocal done
        done += 1
        advance(done, note)

    for axis, values in axes.items():
        for value in values:
            users, antennas, batch = (
                value if axis == name else usual
                for name, usual in (("users", settings.users), ("antennas", settings.antennas), ("batch", BATCH))
            )
            channels = draw(users, antennas, BATCH, settings.seed)
            for device in settings.devices:
                note = f"{device}, {axis} {value}"
                rows = panel(
                    settings, device, channels, batch, count, lambda text: advance(done, text), note, (ITERATIONS,)
                )
                found += [Scaled(axis, row) for row in rows]
    return found


def series(scaled: Sequence[Scaled]) -> dict[tuple[str, str, str], list[Scaled]]:
    """Points of one device, axis and competitor together, by rising value."""
    lines: dict[tuple[str, str, str], list[Scaled]] = {}
    for point in sorted(scaled, key=lambda point: point.value):
        lines.setdefault((point.row.device, point.axis, point.row.name), []).append(point)
    return {key: lines[key] for key in dict.fromkeys((p.row.device, p.axis, p.row.name) for p in scaled)}


def slope(points: Sequence[Scaled]) -> Slope:
    """The slope of one series over the upper half of its axis, as seen on the log axis; NaN if that is one point."""
    middle = math.sqrt(points[0].value * points[-1].value)
    upper = [point for point in points if point.value >= middle]
    exponent = float("nan")
    if len(upper) > 1:
        logs = np.log([[point.value, point.row.median] for point in upper])
        exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    row = points[0].row
    return Slope(row.device, points[0].axis, row.name, exponent, upper[0].value, upper[-1].value)
