"""Read the table of a scenario: its columns, rows, numbered columns and cells."""

from __future__ import annotations

import ast
import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError, reading

__all__ = ["Table", "read_table"]

_NUMBERED = re.compile(r"(.+)_(\d{1,3})")
_EMPTY = ("", "nan", "none", "null")


@dataclass(frozen=True)
class Table:
    """Hold the cells of a scenario's table, one row per sample.

    Parameters
    ----------
    path : pathlib.Path
        The CSV file.
    columns : dict of str to list of str
        Cells by column, one per sample; numbered columns ``NAME_1 ... NAME_n`` are one column with n samples per row.
    row : numpy.ndarray
        Row of each sample in the file, counted from 1 after the heading, int64 (samples,).
    steps : int
        Samples per row.
    """

    path: Path
    columns: dict[str, list[str]]
    row: npt.NDArray[np.int64]
    steps: int = 1

    def __len__(self) -> int:
        return len(self.row)

    def find(self, pattern: str) -> str | None:
        """Return the first column that a regular expression matches in full, ignoring case; None without one.

        Parameters
        ----------
        pattern : str
            Regular expression.

        Returns
        -------
        str or None
        """
        return next((name for name in self.columns if re.fullmatch(pattern, name, re.IGNORECASE)), None)

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Return the numbers of a column, NaN for empty cells, float64 (samples,).

        Parameters
        ----------
        name : str
            Column.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        MatFileError
            If a cell is not a number.
        """
        values = np.full(len(self), np.nan)
        for at, cell in enumerate(self.columns[name]):
            if not is_empty(cell):
                try:
                    values[at] = float(cell)
                except ValueError:
                    raise MatFileError(
                        f"{self.path}: row {self.row[at]}: {name}: expected a number, found {cell[:40]!r}"
                    ) from None
        return values


def is_empty(cell: str) -> bool:
    """Return whether a cell holds no value.

    Parameters
    ----------
    cell : str
        Content.

    Returns
    -------
    bool
        True for an empty cell, NaN and None.
    """
    return cell.strip().lower() in _EMPTY


def vector(cell: str) -> npt.NDArray[np.float64] | None:
    """Return the numbers of a cell that holds a list such as ``[0.1, 0.2]``.

    Parameters
    ----------
    cell : str
        Content.

    Returns
    -------
    numpy.ndarray or None
        float64 (numbers,); None for anything else.
    """
    try:
        value = ast.literal_eval(cell.strip())
        return np.asarray(value, dtype=np.float64) if isinstance(value, (list, tuple)) else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def read_table(folder: Path) -> Table:
    """Read the table of a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Folder with one ``scenario*.csv``, or one CSV file of another name.

    Returns
    -------
    Table

    Raises
    ------
    MatFileError
        If there is no such file or more than one, or if it holds no samples.
    """
    path = _csv_file(folder)
    with reading(path), path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise MatFileError(f"{path}: has no samples; expected a heading and one row per sample")
    heading = [name.strip() for name in lines[0]]
    if len(set(heading)) < len(heading):
        twice = next(name for name in heading if heading.count(name) > 1)
        raise MatFileError(f"{path}: two columns are named {twice!r}; rename or remove one")
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(heading):
            raise MatFileError(
                f"{path}: row {number} has {len(line)} cells, the heading {len(heading)}; copy the file again"
            )
    cells = dict(zip(heading, map(list, zip(*lines[1:], strict=True)), strict=True))
    return _unrolled(path, cells, len(lines) - 1)


def _csv_file(folder: Path) -> Path:
    with reading(folder):
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".csv")
    named = [file for file in files if file.name.lower().startswith("scenario")]
    chosen = named or files
    if len(chosen) != 1:
        names = ", ".join(file.name for file in chosen[:2]) + (", ..." if len(chosen) > 2 else "")
        found = f"{len(chosen)} CSV files ({names})" if chosen else "no CSV file"
        raise MatFileError(f"{folder}: {found}; expected one scenarioN.csv with a row per sample")
    return chosen[0]


def _unrolled(path: Path, cells: dict[str, list[str]], rows: int) -> Table:
    """Turn numbered columns into samples; a column without a number then belongs to each row's last sample."""
    numbered: dict[str, dict[int, list[str]]] = {}
    for name, column in cells.items():
        found = _NUMBERED.fullmatch(name)
        if found and int(found[2]) >= 1 and f"{found[1]}_1" in cells:
            numbered.setdefault(found[1], {})[int(found[2])] = column
    numbered = {name: columns for name, columns in numbered.items() if len(columns) > 1 and name not in cells}
    row = np.arange(1, rows + 1)
    if not numbered:
        return Table(path, cells, row)
    steps = max(max(columns) for columns in numbered.values())
    taken = {f"{name}_{step}" for name, columns in numbered.items() for step in columns}
    unrolled = {
        name: [cell for cell in column for _ in range(steps)] for name, column in cells.items() if name not in taken
    }
    for name in unrolled:
        if re.match(r"unit\d+_(pwr|beam)", name, re.IGNORECASE):
            unrolled[name] = [cell for last in cells[name] for cell in [*[""] * (steps - 1), last]]
    for name, columns in numbered.items():
        absent = [""] * rows
        by_step = [columns.get(step, absent) for step in range(1, steps + 1)]
        unrolled[name] = [cell for samples in zip(*by_step, strict=True) for cell in samples]
    return Table(path, unrolled, np.repeat(row, steps), steps)
