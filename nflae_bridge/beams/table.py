"""Write the measures of beam forecasters as CSV, and as cells of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import numpy as np

from simulator.beams.measures import Measured

__all__ = ["COLUMNS", "table_cells", "table_csv"]

COLUMNS = ("method", "step", "top1", "top3", "loss_db")
_ENDS = tuple(f"{name}_{end}" for name in COLUMNS[2:] for end in ("low", "high"))
_SHOWN = 4  # samples ahead in a table


def table_csv(measured: Mapping[str, Measured]) -> bytes:
    """Return the table: top1 and top3 in percent, loss_db in dB, and the ends of their 95 % intervals.

    Parameters
    ----------
    measured
        Measures by forecaster.

    Returns
    -------
    bytes
        CSV with one line per forecaster and sample ahead; loss_db is empty without measured powers, ends of intervals
        where there are too few flights for one.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *_ENDS])
    scale = np.array([100, 100, 1.0])[:, None]
    for name, each in measured.items():
        values, low, high = (scale * part for part in (each.values, each.low, each.high))
        for step in range(values.shape[1]):
            ends = [end for pair in zip(low[:, step], high[:, step], strict=True) for end in pair]
            writer.writerow([name, step + 1, *(_number(value) for value in (*values[:, step], *ends))])
    return text.getvalue().encode()


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}"


def table_cells(name: str, each: Measured) -> tuple[str, ...]:
    """Return one row for a terminal, of the first samples ahead.

    Parameters
    ----------
    name
        Name of the forecaster.
    each
        Its measures.

    Returns
    -------
    tuple of str
        Name, top1, half of the last one's 95 % interval, top3, loss.
    """
    shown = slice(0, min(_SHOWN, each.values.shape[1]))
    top1, top3 = (" / ".join(f"{100 * value:.1f}" for value in row[shown]) for row in each.values[:2])
    loss = "-" if np.isnan(each.values[2]).any() else " / ".join(f"{value:.2f}" for value in each.values[2, shown])
    last = min(_SHOWN, each.values.shape[1]) - 1
    half = 50 * (each.high[0, last] - each.low[0, last])
    return name, top1, "n too small" if np.isnan(half) else f"{half:.1f}", top3, loss
