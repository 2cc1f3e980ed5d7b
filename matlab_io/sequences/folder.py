"""Read a folder of measured sequences in DeepSense 6G's layout.

The layout, https://www.deepsense6g.net/data-collection/: a table ``scenarioN.csv`` with one row per sample, whose cells
are numbers or relative paths of the files of one sample: ``unit1_pwr_60ghz`` received power per beam, ``unit1_loc`` and
``unit2_loc`` latitude and longitude of mast and user, ``unit1_height`` and ``unit2_height`` their heights in metres,
``unit1_rgb``, ``unit1_radar``, ``unit1_lidar``; ``seq_index`` numbers the sequences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.errors import MatFileError
from matlab_io.sequences.locations import check_locations, implausible, with_heights
from matlab_io.sequences.samples import Sequences, check_times, powers_of_beams
from matlab_io.sequences.table import Table, is_empty, read_table, vector

__all__ = ["read_folder"]

_POWERS, _BEAM = r"unit1_pwr\w*", r"unit1_beam(_index)?"
_MAST, _USER, _RELATIVE = "unit1_loc", "unit2_loc", "unit2_pos"
_TIMES = r"seconds|time_?stamp.*"
_OTHER = re.compile(r"unit\d+_(rgb|radar|lidar|csi|detections|bbox)\w*")
_MISSING_SHARE = 0.5  # of the samples, above which positions are left out instead of the samples


def read_folder(folder: Path, modalities: Iterable[str] = (), positions: bool = True) -> Sequences:
    """Read the beam powers, positions and times of a folder; unusable samples are left out and counted.

    Labels are those of the powers: recorded beam indices are compared with them only. A sample is unusable if a cell is
    empty or NaN, or if a file has another number of values than the others or a value that is not a number.

    Parameters
    ----------
    folder : pathlib.Path
        The folder.
    modalities : iterable of str
        Columns of further files that have to exist, e.g. ``unit1_rgb``.
    positions : bool
        Read the users' positions, if there are any; that of the mast is read in any case.

    Returns
    -------
    Sequences

    Raises
    ------
    MatFileError
        If a column or file is missing, a path leads out of the folder, user positions have no mast position, times are
        out of order, or no sample is usable.
    """
    table = read_table(folder)
    for name in modalities:
        if name not in table.columns:
            raise MatFileError(f"{table.path}: no column {name}; there are {', '.join(table.columns)}")
    unusable: dict[str, list[int]] = {}
    powers, measured, notes = _powers(folder, table, unusable)
    user, mast, more = _positions(folder, table, unusable, positions)
    sequence, flight = _sequences(table, unusable)
    files = _files(folder, table, set(modalities))
    keep = np.ones(len(table), np.bool_)
    for samples in unusable.values():
        keep[samples] = False
    if not keep.any():
        raise MatFileError(f"{table.path}: no usable sample; {_unusable_note(table, unusable)}")
    if not keep.all():
        notes = [_unusable_note(table, unusable), *notes]
    steps, seconds = _steps(table, sequence, keep), _seconds(table, sequence, keep)
    return Sequences(
        folder,
        powers[keep],
        measured,
        sequence[keep],
        steps[keep],
        flight[keep],
        None if user is None else user[keep],
        None if mast is None else mast[keep],
        None if seconds is None else seconds[keep],
        {name: tuple(cell for cell, kept in zip(cells, keep, strict=True) if kept) for name, cells in files.items()},
        tuple(f"{table.path.name}: {note}" for note in [*notes, *more]),
    )


def _powers(
    folder: Path, table: Table, unusable: dict[str, list[int]]
) -> tuple[npt.NDArray[np.float32], bool, list[str]]:
    """Return the powers, whether they were measured, and remarks."""
    column, beam = table.find(_POWERS), table.find(_BEAM)
    if column is None and beam is None:
        raise MatFileError(
            f"{table.path}: no column unit1_pwr_60ghz (paths of beam powers) and no unit1_beam (strongest beam);"
            f" there are {', '.join(table.columns)}"
        )
    recorded = None if beam is None else _beam_numbers(table, beam)
    if column is None:
        assert beam is not None
        assert recorded is not None
        known = np.isfinite(recorded)
        unusable[f"empty {beam}"] = np.flatnonzero(~known).tolist()
        first = int(np.nanmin(recorded, initial=1))  # counted from 0 or from 1
        best = np.where(known, recorded, first).astype(np.int64) - first
        beams = 2 ** int(best.max()).bit_length()
        note = f"{beam}: no powers; taken as the strongest of {beams} beams, counted from {first}"
        return powers_of_beams(best, beams), False, [note]
    powers = _vectors(folder, table, column, unusable, None)
    if (powers < 0).any():
        at = int(np.flatnonzero((powers < 0).any(-1))[0])
        raise MatFileError(f"{table.path}: row {table.row[at]}: {column}: negative; expected linear powers, not dB")
    silent = np.flatnonzero((powers == 0).all(-1) & np.isfinite(powers).all(-1)).tolist()
    unusable[f"only zeros in {column}"] = silent
    notes = []
    if recorded is not None:
        usable = np.isfinite(powers).all(-1) & (powers > 0).any(-1) & np.isfinite(recorded)
        best = np.where(usable, np.nan_to_num(powers).argmax(-1), -1)
        differing = min(int((best + first != recorded)[usable].sum()) for first in (0, 1))
        if differing:
            notes.append(
                f"{beam} is not the strongest beam of {differing} of {usable.sum()} samples; labels are of powers"
            )
    return np.nan_to_num(powers, posinf=0, neginf=0).astype(np.float32), True, notes


def _beam_numbers(table: Table, column: str) -> npt.NDArray[np.float64]:
    numbers = table.numbers(column)
    wrong = np.flatnonzero(np.isfinite(numbers) & ((numbers < 0) | (numbers % 1 != 0) | (numbers > 4096)))
    if len(wrong):
        raise MatFileError(
            f"{table.path}: row {table.row[wrong[0]]}: {column}: expected the number of a beam,"
            f" found {numbers[wrong[0]]:g}"
        )
    return numbers


def _positions(
    folder: Path, table: Table, unusable: dict[str, list[int]], users: bool
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.float64] | None, list[str]]:
    """Return the positions of users, if they are to be read, and of the mast, and remarks."""
    found: dict[str, list[int]] = {}
    notes: list[str] = []
    user: npt.NDArray[np.float64] | None = None
    mast: npt.NDArray[np.float64] | None = None
    if not users:
        mast = _vectors(folder, table, _MAST, found, 2) if _MAST in table.columns else None
    elif _RELATIVE in table.columns:
        user = _vectors(folder, table, _RELATIVE, found, 2)
    elif _USER in table.columns:
        if _MAST not in table.columns:
            raise MatFileError(
                f"{table.path}: positions {_USER} without a column {_MAST}, the mast's position; add it, or leave the"
                " positions out (--no-positions)"
            )
        user, mast = _vectors(folder, table, _USER, found, 2), _vectors(folder, table, _MAST, found, 2)
        notes = check_locations(table.path, user, mast, table.row)
        found[f"{_USER} over 100 km from the mast"] = np.flatnonzero(implausible(user, mast)).tolist()
        user, mast, more = with_heights(table, user, mast)
        notes += more
    else:
        return None, None, []
    missing = len({sample for samples in found.values() for sample in samples})
    if missing > _MISSING_SHARE * len(table):
        return None, None, [f"{missing} of {len(table)} samples have no position: positions are not used"]
    for reason, samples in found.items():
        unusable.setdefault(reason, []).extend(samples)
    return user, mast, notes


def _vectors(
    folder: Path, table: Table, column: str, unusable: dict[str, list[int]], size: int | None
) -> npt.NDArray[np.float64]:
    """Return the vectors of a column, NaN where unusable; ``size`` None: the size that most of them have."""
    known: dict[str, npt.NDArray[np.float64] | None] = {}
    for at, cell in enumerate(table.columns[column]):
        if cell not in known and not is_empty(cell):
            inline = vector(cell)
            known[cell] = _numbers(_inside(folder, table, at, column)) if inline is None else inline
    read = [known.get(cell) for cell in table.columns[column]]
    if size is None:
        sizes = Counter(len(values) for values in read if values is not None)
        size = max(sizes, key=lambda each: (sizes[each], each)) if sizes else 1
    out = np.full((len(table), size), np.nan)
    for at, values in enumerate(read):
        if values is None:
            empty = is_empty(table.columns[column][at])
            unusable.setdefault(f"empty {column}" if empty else f"damaged file of {column}", []).append(at)
        elif len(values) != size:
            reason = "truncated" if len(values) < size else "too long a"
            unusable.setdefault(f"{reason} file of {column} (expected {size} values)", []).append(at)
        elif not np.isfinite(values).all():
            unusable.setdefault(f"NaN or Inf in {column}", []).append(at)
        else:
            out[at] = values
    return out


def _numbers(path: Path) -> npt.NDArray[np.float64] | None:
    """Return the numbers of a text file; None if something else stands in it."""
    try:
        return np.array(path.read_text().replace(",", " ").split(), dtype=np.float64)
    except (ValueError, UnicodeDecodeError):
        return None


def _inside(folder: Path, table: Table, at: int, column: str) -> Path:
    """Return the file that a cell names."""
    cell = table.columns[column][at].strip().replace("\\", "/")
    where = f"{table.path}: row {table.row[at]}: {column}: {cell[:120]}"
    relative = Path(cell)
    if relative.is_absolute() or ".." in relative.parts:
        raise MatFileError(f"{where}: leads out of the folder; expected a path relative to it")
    if not (folder / relative).is_file():
        raise MatFileError(f"{where}: no such file; copy the files of {column} too, or remove the row")
    return folder / relative


def _sequences(table: Table, unusable: dict[str, list[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the numbers of the sequences and of the flights."""
    if table.steps > 1:
        return table.row.astype(np.int64), _shared_files(table)
    if "seq_index" not in table.columns:
        raise MatFileError(
            f"{table.path}: no column seq_index, the number of each row's sequence;"
            f" there are {', '.join(table.columns)}"
        )
    numbers = table.numbers("seq_index")
    unusable["empty seq_index"] = np.flatnonzero(~np.isfinite(numbers)).tolist()
    sequence = np.nan_to_num(numbers, nan=-1, posinf=-1, neginf=-1).astype(np.int64)
    return sequence, sequence


def _shared_files(table: Table) -> npt.NDArray[np.int64]:
    """Return the first row of each set of rows that are linked by common files."""
    first = {int(row): int(row) for row in table.row}

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = row = first[first[row]]
        return row

    owner: dict[str, int] = {}
    for name, cells in table.columns.items():
        if name == _MAST or not re.match(r"unit\d", name):
            continue
        for cell, row in zip(cells, table.row, strict=True):
            if "/" in cell:
                one, other = root(int(row)), root(owner.setdefault(cell, int(row)))
                first[max(one, other)] = min(one, other)
    return np.array([root(int(row)) for row in table.row], dtype=np.int64)


def _steps(table: Table, sequence: npt.NDArray[np.int64], keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the numbers of the samples: those of ``index`` where it counts upwards, else those of the rows."""
    steps = np.arange(len(table))
    if table.steps > 1 or "index" not in table.columns:
        return steps
    index = table.numbers("index")
    known = np.flatnonzero(keep & np.isfinite(index))
    check_times(table.path, "index", index[known], sequence[known], table.row[known], distinct=True)
    counts = np.isfinite(index).all() and (np.diff(index) > 0).all()
    return index.astype(np.int64) - 1 if counts else steps


def _seconds(
    table: Table, sequence: npt.NDArray[np.int64], keep: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64] | None:
    """Return the times of the samples after a check of their order; None without times."""
    if table.steps > 1:
        return None
    rows = np.flatnonzero(keep)
    column = table.find(_TIMES)
    if column is None:
        return None
    seconds = _clock(table.columns[column])
    known = rows[np.isfinite(seconds[rows])]
    check_times(table.path, column, seconds[known], sequence[known], table.row[known])
    return seconds


def _clock(cells: list[str]) -> npt.NDArray[np.float64]:
    """Return seconds, of numbers or of times of the day such as ``['11-46-31-109902']``; NaN for anything else."""
    parts = [re.findall(r"\d+", cell) for cell in cells]
    digits = 6 if any(len(part) == 4 and len(part[3]) > 3 for part in parts) else 3
    out = np.full(len(cells), np.nan)
    for at, (cell, part) in enumerate(zip(cells, parts, strict=True)):
        if len(part) in (3, 4) and re.fullmatch(r"\D*\d+[-:]\d+[-:]\d+([-.:]\d+)?\D*", cell):
            hours, minutes, whole, *fraction = map(int, part)
            out[at] = 3600 * hours + 60 * minutes + whole + (fraction[0] / 10**digits if fraction else 0)
        elif not is_empty(cell):
            try:
                out[at] = float(cell)
            except ValueError:
                continue
    return out


def _files(folder: Path, table: Table, required: set[str]) -> dict[str, list[str]]:
    """Return the cells of the further modalities; the files of required ones have to exist."""
    names = [name for name in table.columns if _OTHER.fullmatch(name) or name in required]
    for name in required:
        for at, cell in enumerate(table.columns[name]):
            if not is_empty(cell):
                _inside(folder, table, at, name)
    return {name: table.columns[name] for name in names}


def _unusable_note(table: Table, unusable: dict[str, list[int]]) -> str:
    """Count the samples left out, by reason, with the first row of each."""
    reasons = {reason: samples for reason, samples in unusable.items() if samples}
    total = len({sample for samples in reasons.values() for sample in samples})
    parts = [
        f"{len(samples)} with {reason} (first in row {table.row[samples[0]]})" for reason, samples in reasons.items()
    ]
    return f"{total} of {len(table)} samples left out: {'; '.join(parts)}"
