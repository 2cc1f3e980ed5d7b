"""Split windows into training and test parts without a recording on both sides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from simulator.beams.windows import Windows

__all__ = ["SPLITS", "folds", "leakage", "split"]

SPLITS = ("sequence", "site", "random")


def split(windows: Windows, kind: str, seed: int, test_share: float = 0.3) -> npt.NDArray[np.bool_]:
    """Choose the test part.

    Parameters
    ----------
    windows
        All windows.
    kind
        ``sequence``: whole flights, drawn in each folder; ``site``: all folders of whole masts; ``random``: windows,
        which share flights with the training part.
    seed
        Seed of the draw.
    test_share
        Largest share of the windows in the test part; it has one flight or site at least.

    Returns
    -------
    numpy.ndarray
        bool (windows,); true in the test part.

    Raises
    ------
    NflaeError
        If there is only one flight or site to split.
    """
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.random(len(windows)) < test_share
    if kind == "site":
        return np.isin(windows.site, _drawn(windows.site, rng, test_share, "site (mast)"))
    test = np.zeros(len(windows), np.bool_)
    for folder in np.unique(windows.folder):
        inside = windows.folder == folder
        flights = windows.flight[inside]
        if len(np.unique(flights)) > 1 or len(np.unique(windows.folder)) == 1:
            test |= np.isin(windows.flight, _drawn(flights, rng, test_share, "sequence"))
    if not test.any():
        raise NflaeError("every folder has only one sequence with windows; give folders with more, or --split site")
    return test


def _drawn(groups: npt.NDArray[np.int64], rng: np.random.Generator, share: float, what: str) -> npt.NDArray[np.int64]:
    distinct, sizes = np.unique(groups, return_counts=True)
    if len(distinct) < 2:
        raise NflaeError(f"only one {what} with windows: nothing remains for training; give more, or another --split")
    chosen: list[int] = []
    room = share * len(groups)
    for each in rng.permutation(len(distinct)):
        if sizes[each] <= room:
            chosen.append(int(each))
            room -= sizes[each]
    return distinct[chosen or [int(sizes.argmin())]]


def folds(windows: Windows, kind: str, seed: int, count: int) -> npt.NDArray[np.int64]:
    """Distribute whole flights, or whole sites, over folds of similar size for cross-validation.

    Parameters
    ----------
    windows
        All windows.
    kind
        ``site`` for sites, where there are at least two; anything else for flights.
    seed
        Seed of the draw.
    count
        Number of folds; with fewer groups there are as many as groups.

    Returns
    -------
    numpy.ndarray
        Fold of each window, from 0, int64 (windows,).

    Raises
    ------
    NflaeError
        If there is only one flight.
    """
    by_site = kind == "site" and len(np.unique(windows.site)) > 1
    distinct, group, sizes = np.unique(
        windows.site if by_site else windows.flight, return_inverse=True, return_counts=True
    )
    if len(distinct) < 2:
        raise NflaeError("only one sequence remains for training: nothing for validation; give folders with more")
    room = np.zeros(min(count, len(distinct)))
    fold = np.zeros(len(distinct), np.int64)
    for each in np.random.default_rng(seed).permutation(len(distinct)):
        fold[each] = room.argmin()
        room[fold[each]] += sizes[each]
    return fold[group]


def leakage(windows: Windows, test: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Count the flights and sites on both sides of a split.

    Parameters
    ----------
    windows
        All windows.
    test
        The test part, bool (windows,).

    Returns
    -------
    flights : int
        Flights with windows in both parts.
    sites : int
        Masts with windows in both parts.
    """
    return tuple(  # type: ignore[return-value]
        len(np.intersect1d(groups[test], groups[~test])) for groups in (windows.flight, windows.site)
    )
