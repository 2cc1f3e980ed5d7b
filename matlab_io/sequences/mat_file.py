"""Read and write measured sequences as ``.mat`` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io.containers.contents import find_arrays
from matlab_io.errors import MatFileError
from matlab_io.sequences.locations import check_locations
from matlab_io.sequences.samples import Sequences, check_times, powers_of_beams
from matlab_io.writing.mat_writer import Value
from matlab_io.writing.output import MatOutput, written_version

__all__ = ["read_mat", "write_mat"]

_POWERS = "unit1_pwr_60ghz"
_LOCATIONS = ("unit1_loc", "unit2_loc", "unit2_pos")
_NAMES = ("unit1_pwr_60ghz", "unit1_beam", "seq_index", "step", "unit1_loc", "unit2_loc", "unit2_pos", "seconds")


def write_mat(path: Path, sequences: Sequences, version: str = "7") -> None:
    """Write sequences as arrays with one column per sample, named as the columns of a folder.

    Parameters
    ----------
    path : pathlib.Path
        File to write: ``unit1_pwr_60ghz`` B x S single (without powers ``unit1_beam``, from 1, and ``beams``),
        ``seq_index``, ``step`` and ``seconds`` 1 x S, ``unit1_loc`` and ``unit2_loc`` (without a mast ``unit2_pos``)
        2 x S, or 3 x S with heights.
    sequences : Sequences
        The samples.
    version : {"7", "4", "6", "7.3"}
        Version of the file.

    Raises
    ------
    MatFileError
        If the file cannot be written.
    """
    values: dict[str, Value] = {"seq_index": sequences.sequence.astype(np.float64), "step": sequences.step + 1.0}
    if sequences.measured:
        values["unit1_pwr_60ghz"] = sequences.powers.T
    else:
        values |= {"unit1_beam": sequences.best + 1.0, "beams": sequences.powers.shape[1]}
    if sequences.user is not None:
        values["unit2_pos" if sequences.mast is None else "unit2_loc"] = sequences.user.T
    if sequences.mast is not None:
        values["unit1_loc"] = sequences.mast.T
    if sequences.seconds is not None:
        values["seconds"] = sequences.seconds
    output = MatOutput(path, written_version(version), [], values, ())
    output.begin()
    output.commit()


def read_mat(path: Path, positions: bool = True) -> Sequences:
    """Read the sequences of a file as `write_mat` writes them.

    Parameters
    ----------
    path : pathlib.Path
        The file; samples with NaN, Inf or zero power are left out and counted. ``step`` may be missing.
    positions : bool
        Read the users' positions, if there are any; that of the mast is read in any case.

    Returns
    -------
    Sequences

    Raises
    ------
    MatFileError
        If a variable is missing or has another size than one column per sample, user positions have no mast position,
        times are out of order, or no sample is usable.
    """
    found = find_arrays(path, lambda name: name in (*_NAMES, "beams"))
    if "seq_index" not in found or not {"unit1_pwr_60ghz", "unit1_beam"} & set(found):
        lacking = "seq_index" if "seq_index" not in found else "unit1_pwr_60ghz (powers) and no unit1_beam"
        raise MatFileError(
            f"{path}: no variable {lacking}; expected a file of sequences or a folder with scenarioN.csv"
        )
    if positions and "unit2_loc" in found and "unit1_loc" not in found:
        raise MatFileError(
            f"{path}: positions unit2_loc without unit1_loc, the mast's position; add it, or leave the positions out"
            " (--no-positions)"
        )
    samples = found["seq_index"].size
    columns = {name: _columns(path, name, found[name], samples) for name in _NAMES if name in found}
    measured = "unit1_pwr_60ghz" in columns
    powers = columns["unit1_pwr_60ghz"].astype(np.float32) if measured else _beams(path, columns, found)
    used = [name for name in _LOCATIONS if name in columns and (positions or name == "unit1_loc")]
    keep = np.isfinite(powers).all(-1) & (powers >= 0).all(-1) & (powers > 0).any(-1)
    keep &= np.logical_and.reduce([np.isfinite(columns[name]).all(-1) for name in ("seq_index", *used)])
    if not keep.any():
        raise MatFileError(f"{path}: no usable sample; powers have to be finite and linear, and not all zero")
    sequence = columns["seq_index"][keep, 0].astype(np.int64)
    step = columns["step"][keep, 0].astype(np.int64) - 1 if "step" in columns else np.flatnonzero(keep)
    row = np.flatnonzero(keep) + 1
    check_times(path, "step", step.astype(np.float64), sequence, row, distinct=True)
    seconds = columns["seconds"][keep, 0] if "seconds" in columns else None
    if seconds is not None:
        check_times(path, "seconds", seconds, sequence, row)
    notes = (
        [] if keep.all() else [f"{path.name}: {np.sum(~keep)} of {samples} samples left out: NaN, Inf or zero power"]
    )
    user = next((columns[name][keep] for name in ("unit2_pos", "unit2_loc") if name in used), None)
    mast = columns["unit1_loc"][keep] if "unit1_loc" in used and "unit2_pos" not in used else None
    if user is not None and mast is not None and user.shape != mast.shape:
        raise MatFileError(f"{path}: only one of unit1_loc and unit2_loc has heights; expected both or neither")
    if user is not None and mast is not None:
        notes += [f"{path.name}: {note}" for note in check_locations(path, user, mast, row)]
    return Sequences(path, powers[keep], measured, sequence, step, sequence, user, mast, seconds, {}, tuple(notes))


def _columns(path: Path, name: str, array: npt.NDArray[np.generic], samples: int) -> npt.NDArray[np.float64]:
    """Return an array with one column per sample as (samples, rows), vectors in either orientation."""
    if array.dtype.kind == "c":
        raise MatFileError(f"{path}: {name}: complex; expected real numbers")
    values = array.reshape(1, -1) if 1 in array.shape and array.size == samples else array
    rows = (2, 3) if name in _LOCATIONS else (1,)
    if values.ndim != 2 or values.shape[1] != samples or (name != _POWERS and len(values) not in rows):
        size = " x ".join(map(str, array.shape))
        expected = "beams" if name == _POWERS else " or ".join(map(str, rows))
        raise MatFileError(f"{path}: {name}: {size}; expected {expected} x {samples}, as seq_index has {samples}")
    return np.ascontiguousarray(values.T, np.float64)


def _beams(
    path: Path, columns: dict[str, npt.NDArray[np.float64]], found: dict[str, npt.NDArray[np.generic]]
) -> npt.NDArray[np.float32]:
    best = columns["unit1_beam"][:, 0]
    if not (np.isfinite(best).all() and (best >= 1).all() and (best % 1 == 0).all() and best.max() <= 4096):
        raise MatFileError(f"{path}: unit1_beam: expected the number of the strongest beam, from 1")
    beams = int(np.real(found["beams"]).flat[0]) if "beams" in found else 0
    return powers_of_beams(best.astype(np.int64) - 1, max(beams, int(best.max())))
