"""Read measured sequences from a folder or a ``.mat`` file."""

from __future__ import annotations

from pathlib import Path

from matlab_io.errors import MatFileError
from matlab_io.sequences.folder import read_folder
from matlab_io.sequences.mat_file import read_mat
from matlab_io.sequences.samples import Sequences

__all__ = ["read_sequences"]


def read_sequences(path: Path, positions: bool = True) -> Sequences:
    """Read sequences.

    Parameters
    ----------
    path : pathlib.Path
        Folder in DeepSense 6G's layout, or ``.mat`` file.
    positions : bool
        Read the users' positions, if there are any; that of the mast is read in any case.

    Returns
    -------
    Sequences

    Raises
    ------
    MatFileError
        If it cannot be read, see `read_folder` and `read_mat`.
    """
    if not path.exists():
        raise MatFileError(f"{path}: no such folder or file")
    return read_folder(path, positions=positions) if path.is_dir() else read_mat(path, positions)
