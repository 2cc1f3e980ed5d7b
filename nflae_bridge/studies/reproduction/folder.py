"""The folder that results go to: what is refused there, and what ``--overwrite`` clears away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from matlab_io.errors import NflaeError

# The rows as they come, then what is made of them.
LEDGER, RESULTS = ".jsonl", (".csv", ".png", ".md")


def prepare(folder: Path) -> None:
    """Make the folder if it is missing. Raises NflaeError if it is a file, or can't be made or written to."""
    if folder.exists() and not folder.is_dir():
        raise NflaeError(f"{folder}: is a file; name a folder for the results")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):  # permissions don't tell all: not for root, not on every file system
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NflaeError(
            f"{folder}: can't be written to ({reason}); name another folder, or change its permissions"
        ) from error


def clear(folder: Path, names: Sequence[str]) -> None:
    """Remove what the folder holds of these experiments; networks trained stay, each is that of its recipe."""
    for name in names:
        for ending in (*RESULTS, LEDGER):
            (folder / (name + ending)).unlink(missing_ok=True)


def require_no_strays(folder: Path, names: Sequence[str]) -> None:
    """Raises NflaeError if the folder holds results of these experiments without rows: somebody else's."""
    for name in names:
        ledger = folder / (name + LEDGER)
        strays = [name + ending for ending in RESULTS if (folder / (name + ending)).exists()]
        if strays and not ledger.exists():
            raise NflaeError(
                f"{folder}: holds results that no run here left ({', '.join(strays)}); "
                "name another folder, or give --overwrite to replace them"
            )
