"""The folder that results go to: what is refused there, and what ``--overwrite`` clears away."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nflae_bridge.errors import NflaeError

# The rows as they come, then what is made of them.
LEDGER, RESULTS = ".jsonl", (".csv", ".png", ".md")


def prepare(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """Make the folder ready for these experiments.

    overwrite: what it holds of them goes. Otherwise rows of an interrupted run are gone on with, and results without
    rows, which are somebody else's, are refused.

    Raises NflaeError if it is a file, can't be written to or holds such results.
    """
    if folder.exists() and not folder.is_dir():
        raise NflaeError(f"{folder}: is a file; name a folder for the results")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NflaeError(f"{folder}: can't be written to; name another folder, or change its permissions")
    for name in names:
        results = [folder / (name + ending) for ending in RESULTS]
        ledger = folder / (name + LEDGER)
        if overwrite:
            for path in (*results, ledger):
                path.unlink(missing_ok=True)
        strays = [path.name for path in results if path.exists() and not ledger.exists()]
        if strays:
            raise NflaeError(
                f"{folder}: holds results that no run here left ({', '.join(strays)}); "
                "name another folder, or give --overwrite to replace them"
            )
