"""Write measured or simulated sequences as a folder in DeepSense 6G's layout."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError, writing
from matlab_io.sequences.recordings import write_recording
from matlab_io.sequences.samples import Sequences

__all__ = ["check_new_folder", "write_folder"]


def write_folder(
    folder: Path,
    sequences: Sequences,
    source: Path | None = None,
    recordings: Mapping[str, Sequence[npt.NDArray[Any]]] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Write a new folder that `read_folder` reads back with equal arrays.

    Parameters
    ----------
    folder : pathlib.Path
        Folder to make; the table is named ``scenario_NAME.csv`` by its name.
    sequences : Sequences
        The samples.
    source : pathlib.Path or None
        Folder of the further files, which are copied; None: they are left out.
    recordings : mapping of str to sequence of numpy.ndarray or None
        Further recordings by column, one array per sample, see `matlab_io.sequences.recordings.write_recording`.
    beside : callable or None
        Function that writes further files into the folder before it appears under its name.

    Raises
    ------
    MatFileError
        If the folder exists and is not empty, or cannot be written; nothing is left behind.
    """
    check_new_folder(folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with writing(folder):
            _write(part, folder.name, sequences, source, recordings or {})
            if beside is not None:
                beside(part)
            part.chmod(0o755)
            part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_new_folder(folder: Path) -> None:
    """Check that a folder can be made: that there is none, or an empty one.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.

    Raises
    ------
    MatFileError
        If there is something else.
    """
    with writing(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MatFileError(f"{folder}: exists; name a new folder")


def _write(
    folder: Path,
    name: str,
    sequences: Sequences,
    source: Path | None,
    recordings: Mapping[str, Sequence[npt.NDArray[Any]]],
) -> None:
    rows: list[dict[str, object]] = [{"index": int(step) + 1} for step in sequences.step]
    _add_powers(folder, rows, sequences)
    for column, positions in (("unit1_loc", sequences.mast), ("unit2_loc", sequences.user)):
        if positions is None:
            continue
        if sequences.mast is None:
            for row, values in zip(rows, positions, strict=True):
                row["unit2_pos"] = str([float(value) for value in values])
            continue
        unit = column.partition("_")[0]
        for at, values in enumerate(positions):
            path = f"{unit}/GPS_data/{column}_{at + 1}.txt"
            rows[at][column] = _text(folder, path, [repr(float(value)) for value in values[:2]])
            if len(values) > 2:
                rows[at][f"{unit}_height"] = repr(float(values[2]))
    for column, paths in ({} if source is None else sequences.files).items():
        for row, path in zip(rows, paths, strict=True):
            row[column] = path
            if path:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(source or folder) / path, folder / path)
    for column, arrays in recordings.items():
        for at, (row, values) in enumerate(zip(rows, arrays, strict=True), 1):
            row[column] = write_recording(folder, column, at, values)
    for at, row in enumerate(rows):
        row["seq_index"] = int(sequences.sequence[at])
        if sequences.seconds is not None:
            row["seconds"] = repr(float(sequences.seconds[at]))
    with (folder / f"scenario_{name}.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _add_powers(folder: Path, rows: list[dict[str, object]], sequences: Sequences) -> None:
    for at, row in enumerate(rows):
        if sequences.measured:
            values = [f"{np.float32(value):.9g}" for value in sequences.powers[at]]
            row["unit1_pwr_60ghz"] = _text(folder, f"unit1/mmWave_data/unit1_pwr_60ghz_{at + 1}.txt", values)
        row["unit1_beam"] = int(sequences.best[at]) + 1


def _text(folder: Path, name: str, lines: list[str]) -> str:
    """Write a text file with one value per line, and return its relative path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return f"./{name}"
