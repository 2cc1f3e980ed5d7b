"""Write a comparison as CSV: measurements in full precision, with all that they depend on."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from nflae_bridge.studies.benchmark.comparison import Settings, by_panel
from nflae_bridge.studies.benchmark.pareto import Measurement, on_front, share_of_wmmse
from nflae_bridge.studies.benchmark.scaling import Scaled, series, slope

_FIELDS = (
    *("device", "batch", "users", "antennas", "snr_db", "scheme", "iterations", "form", "median_s", "p99_s", "calls"),
    *("sum_rate", "threads", "seed"),
)


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
        CSV; times in seconds per drop.
    """
    lines = []
    for found in by_panel(rows).values():
        for row, front in zip(found, on_front(found), strict=True):
            share = share_of_wmmse(found, row)
            lines.append([*_fields(row, settings), "" if share is None else f"{share:.6f}", int(front)])
    return _csv((*_FIELDS, "share_of_wmmse_100", "on_front"), lines)


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
    return _csv(("axis", *_FIELDS, "slope", "slope_first", "slope_last"), lines)


def _fields(row: Measurement, settings: Settings) -> list[object]:
    return [
        *(row.device, row.batch, row.users, row.antennas, f"{settings.snr_db:g}", row.scheme),
        "" if row.iterations is None else row.iterations,
        *(row.implementation, f"{row.median:.6e}", f"{row.p99:.6e}", row.calls),
        "" if row.sum_rate != row.sum_rate else f"{row.sum_rate:.6f}",
        *(settings.threads, settings.seed),
    ]


def _csv(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()
