"""Write a comparison as CSV: measurements in full precision, with all that they depend on."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from nflae_bridge.files.problem import problem_info
from nflae_bridge.studies.benchmark.comparison import Settings, by_panel
from nflae_bridge.studies.benchmark.pareto import Measurement, objective_name, on_front, share_of_reference
from nflae_bridge.studies.benchmark.scaling import Scaled, series, slope
from simulator.problems.problem import PrecodingProblem

_BEFORE = (
    "device",
    "batch",
    "users",
    "antennas",
    "snr_db",
    "scheme",
    "iterations",
    "form",
    "median_s",
    "p99_s",
    "calls",
)
_AFTER = ("threads", "seed")


def bench_csv(rows: Sequence[Measurement], settings: Settings) -> str:
    """Return one row per competitor, batch size and device.

    Parameters
    ----------
    rows
        Measurements.
    settings
        The comparison.

    Returns
    -------
    str
        CSV; times in seconds per drop. Of other problems than the plain sum rate a last column states the problem.
    """
    problem, lines = settings.problem, []
    stated = () if problem.is_plain else (describe(problem),)
    for found in by_panel(rows).values():
        for row, front in zip(found, on_front(found), strict=True):
            share = share_of_reference(found, row, problem)
            lines.append([*_fields(row, settings), "" if share is None else f"{share:.6f}", int(front), *stated])
    compared, *last = ("share_of_wmmse_100",) if problem.is_plain else ("share_of_best_rival", "problem")
    return _csv((*_fields_of(settings), compared, "on_front", *last), lines)


def scaling_csv(scaled: Sequence[Scaled], settings: Settings) -> str:
    """Return one row per point, each with the slope of its series and the range of the fit.

    Parameters
    ----------
    scaled
        Points of a sweep.
    settings
        The comparison.

    Returns
    -------
    str
        CSV; times in seconds per drop.
    """
    lines = []
    for points in series(scaled).values():
        fitted = slope(points)
        for point in points:
            fit = [f"{fitted.exponent:.4f}", fitted.first, fitted.last]
            lines.append([point.axis, *_fields(point.row, settings), *fit])
    return _csv(("axis", *_fields_of(settings), "slope", "slope_first", "slope_last"), lines)


def describe(problem: PrecodingProblem) -> str:
    """Return the quantities of a problem beyond the plain one, as ``name=value`` with semicolons between them.

    Parameters
    ----------
    problem
        Problem.

    Returns
    -------
    str
        Names and units of `nflae_bridge.precode`.
    """

    def shown(value: object) -> str:
        return ",".join(f"{number:g}" for number in value) if isinstance(value, np.ndarray) else str(value)

    return "; ".join(f"{name}={shown(value)}" for name, value in problem_info(problem).items())


def _fields_of(settings: Settings) -> tuple[str, ...]:
    return (*_BEFORE, objective_name(settings.problem).replace(" ", "_"), *_AFTER)


def _fields(row: Measurement, settings: Settings) -> list[object]:
    return [
        *(row.device, row.batch, row.users, row.antennas, f"{settings.snr_db:g}", row.scheme),
        "" if row.iterations is None else row.iterations,
        *(row.implementation, f"{row.median:.6e}", f"{row.p99:.6e}", row.calls),
        "" if row.objective != row.objective else f"{row.objective:.6f}",
        *(settings.threads, settings.seed),
    ]


def _csv(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()
