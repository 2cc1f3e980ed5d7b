"""Write the rows as a Markdown table and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from reach_table.measuring import (
    Row,
)


def markdown(rows: Iterable[Row], heading: str) -> str:
    """Format the rows as a Markdown table under a line on the conditions.

    Parameters
    ----------
    rows
        The rows.
    heading
        Model, sizes, device, versions and seeds.

    Returns
    -------
    str
        Markdown.
    """
    verdict = {True: "yes", False: "**no**", None: "-"}
    lines = [heading, "", "| what | at least | measured | met | beside |", "|---|---|---|---|---|"]
    lines += [f"| {r.what} | {r.target} | {r.measured} | {verdict[r.met]} | {r.beside} |" for r in rows]
    return "\n".join(lines) + "\n"


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """Write all rows, with a column for every figure of any of them.

    Parameters
    ----------
    rows
        The rows.
    path
        Path of the CSV file.
    """
    listed = list(rows)
    figures = list(dict.fromkeys(name for row in listed for name in row.figures))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["line", "what", "target", "measured", "met", *figures])
        for row in listed:
            met = "" if row.met is None else int(row.met)
            cells = [row.figures.get(name, "") for name in figures]
            writer.writerow([row.line, row.what, row.target, row.measured, met, *cells])
