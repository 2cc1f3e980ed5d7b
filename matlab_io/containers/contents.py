"""Which kind of ``.mat`` file a file is, and what is in it."""

from __future__ import annotations

from pathlib import Path

from matlab_io.containers import hdf5, level4, level5
from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError, reading

__all__ = ["detect_version", "list_variables"]


def detect_version(path: Path) -> str:
    """``"4"``, ``"6"``, ``"7"`` (level 5, plain or compressed) or ``"7.3"``, from the file's first bytes.

    Raises MatFileError where it is none of these.
    """
    with reading(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise MatFileError(f"{path}: is not a regular file; a .mat file is read at random, save it to disk")
        with path.open("rb") as file:
            start = file.read(2048 + len(hdf5.HDF5_SIGNATURE))
        if not start:
            raise MatFileError(f"{path}: is empty; save it again")
        # An HDF5 file begins at byte 0 or after a user block of 512 (MATLAB's), 1024, 2048 bytes.
        if any(start[at:].startswith(hdf5.HDF5_SIGNATURE) for at in (0, 512, 1024, 2048)):
            return "7.3"
        if start[:19] == b"MATLAB 7.3 MAT-file":
            raise MatFileError(f"{path}: damaged or cut short in its -v7.3 header; save or copy the file again")
        if level5.is_level5(start):
            return "7" if level5.is_compressed(path) else "6"
        if start[:19] == b"MATLAB 5.0 MAT-file":
            raise MatFileError(f"{path}: damaged or cut short in its header; save or copy the file again")
        if level4.is_level4(start):
            return "4"
    raise MatFileError(f"{path}: not a .mat file; save the channels with MATLAB's or Octave's save -v7")


def list_variables(path: Path, version: str) -> list[Variable]:
    """What the file holds. Raises MatFileError where it is damaged."""
    with reading(path):
        if version == "7.3":
            found = hdf5.list_variables(path)
        else:
            found = level4.list_variables(path) if version == "4" else level5.list_variables(path)
    return list({variable.name: variable for variable in found}.values())  # of one name, the last counts
