"""Cut measured sequences into windows of past and future samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from matlab_io.sequences import Sequences

__all__ = ["Windows", "cut_windows"]

_SAME_MAST = 10.0  # m, up to which masts of different folders are one site
_SAME_SAMPLE = 1e-9  # degrees or relative units


@dataclass(frozen=True)
class Windows:
    """Hold windows of consecutive samples.

    Parameters
    ----------
    past
        Powers of the past samples, linear, float32 (windows, past, beams).
    future
        Powers of the samples to forecast, float32 (windows, ahead, beams).
    position
        User positions of the past samples, float64 (windows, past, 2), m from the mast, or relative; (windows, past, 3)
        if all folders have heights; None if a folder has none.
    folder
        Index of the folder, int64 (windows,).
    flight
        Number of the flight over all folders, int64 (windows,).
    site
        Number of the mast over all folders, int64 (windows,); folders without a mast's position are their own sites.
    measured
        Whether powers were measured; false where a folder has only the strongest beam.
    first
        Number of the first sample over all folders, int64 (windows,).
    recorded
        Values of further inputs by name, float32 (samples, ...) of all samples of all folders, NaN where absent.
    """

    past: npt.NDArray[np.float32]
    future: npt.NDArray[np.float32]
    position: npt.NDArray[np.float64] | None
    folder: npt.NDArray[np.int64]
    flight: npt.NDArray[np.int64]
    site: npt.NDArray[np.int64]
    measured: bool
    first: npt.NDArray[np.int64]
    recorded: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.past)

    @property
    def beams(self) -> int:
        """Number of beams."""
        return int(self.past.shape[-1])

    @property
    def ahead(self) -> int:
        """Number of samples to forecast."""
        return int(self.future.shape[1])

    def past_values(self, name: str) -> npt.NDArray[np.float32]:
        """Return the values of a further input in the past samples.

        Parameters
        ----------
        name
            Name of the input.

        Returns
        -------
        numpy.ndarray
            float32 (windows, past, ...).
        """
        samples = self.first[:, None] + np.arange(self.past.shape[1])
        return np.asarray(self.recorded[name][samples], np.float32)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Windows:
        """Return some of the windows.

        Parameters
        ----------
        chosen
            bool (windows,).

        Returns
        -------
        Windows
        """
        return replace(
            self,
            past=self.past[chosen],
            future=self.future[chosen],
            position=None if self.position is None else self.position[chosen],
            folder=self.folder[chosen],
            flight=self.flight[chosen],
            site=self.site[chosen],
            first=self.first[chosen],
        )


def cut_windows(
    folders: Sequence[Sequences],
    past: int,
    ahead: int,
    recorded: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Windows:
    """Cut every run of consecutive samples of one sequence into all its windows.

    Parameters
    ----------
    folders
        The sequences, at least one.
    past, ahead
        Samples before and after the forecast.
    recorded
        Values of further inputs by name, of all samples of all folders.

    Returns
    -------
    Windows

    Raises
    ------
    NflaeError
        If the folders have different numbers of beams, if one has no run that is long enough, or if two hold the same
        recording.
    """
    _check_beams(folders)
    _check_distinct(folders)
    sites = _sites(folders)
    positions = [each.positions() for each in folders]
    everywhere = all(position is not None for position in positions)
    axes = min((position.shape[1] for position in positions if position is not None), default=0)
    parts, flights, samples = [], 0, 0
    for number, (each, position) in enumerate(zip(folders, positions, strict=True)):
        index = _starts(each, past + ahead)[:, None] + np.arange(past + ahead)
        if not len(index):
            raise NflaeError(
                f"{each.path}: no sequence has {past + ahead} consecutive samples ({past} past, {ahead} ahead); record"
                " longer ones, or give a smaller --past or --ahead"
            )
        powers, constant = each.powers[index], np.full(len(index), number)
        flight = np.searchsorted(np.unique(each.flight), each.flight)
        whole = position[index[:, :past], :axes] if position is not None and everywhere else None
        numbers, site, first = flight[index[:, 0]] + flights, constant * 0 + sites[number], index[:, 0] + samples
        parts.append((powers[:, :past], powers[:, past:], whole, constant, numbers, site, first))
        samples += len(each.powers)
        flights += int(flight.max()) + 1
    pasts, futures, wholes, folder, numbered, masts, firsts = zip(*parts, strict=True)
    return Windows(
        np.concatenate(pasts),
        np.concatenate(futures),
        None if wholes[0] is None else np.concatenate(wholes),
        np.concatenate(folder),
        np.concatenate(numbered),
        np.concatenate(masts),
        all(each.measured for each in folders),
        np.concatenate(firsts),
        recorded or {},
    )


def _starts(samples: Sequences, length: int) -> npt.NDArray[np.int64]:
    """Return the first samples of all runs of ``length`` consecutive samples of one sequence."""
    count = max(len(samples.sequence) - length + 1, 0)
    last = slice(length - 1, length - 1 + count)
    same = samples.sequence[:count] == samples.sequence[last]
    return np.flatnonzero(same & (samples.step[last] - samples.step[:count] == length - 1))


def _sites(folders: Sequence[Sequences]) -> list[int]:
    """Return the number of each folder's site: that of the first folder with a mast within 10 m."""
    sites: list[int] = []
    for number, each in enumerate(folders):
        masts = [other for other in range(number) if same_mast(folders[other], each)]
        sites.append(sites[masts[0]] if masts else number)
    return sites


def same_mast(one: Sequences, other: Sequences) -> bool:
    """Return whether the masts of two folders are less than 10 m apart.

    Parameters
    ----------
    one, other
        Sequences; false for those without a mast's position.

    Returns
    -------
    bool
    """
    if one.mast is None or other.mast is None:
        return False
    first, second = one.mast[0, :2], other.mast[0, :2]
    scale = np.array([110_540.0, 111_320.0 * np.cos(np.radians(first[0]))])
    return bool(np.hypot(*((first - second) * scale)) < _SAME_MAST)


def flight_digests(samples: Sequences) -> dict[str, int]:
    """Return a digest of each flight's strongest beams and powers, with the number of its first sample.

    Parameters
    ----------
    samples
        The sequences.

    Returns
    -------
    dict of str to int
        Equal recordings have equal digests.
    """
    from hashlib import sha256

    found: dict[str, int] = {}
    for flight in np.unique(samples.flight):
        chosen = samples.flight == flight
        content = samples.powers[chosen].tobytes()
        if samples.user is not None and not samples.measured:
            content += np.round(samples.user[chosen] / _SAME_SAMPLE).tobytes()
        found.setdefault(sha256(content).hexdigest()[:32], int(flight))
    return found


def _check_beams(folders: Sequence[Sequences]) -> None:
    beams = folders[0].powers.shape[1]
    for each in folders:
        if each.powers.shape[1] != beams:
            raise NflaeError(
                f"{each.path}: has {each.powers.shape[1]} beams, {folders[0].path} has {beams}; give folders of one"
                " codebook"
            )


def _check_distinct(folders: Sequence[Sequences]) -> None:
    seen: dict[str, tuple[Sequences, int]] = {}
    for each in folders:
        for digest, flight in flight_digests(each).items():
            if digest in seen:
                other, same = seen[digest]
                raise NflaeError(
                    f"{each.path}: sequence {flight} is sequence {same} of {other.path}: the same recording would be on"
                    " both sides of the split; give it once"
                )
            seen[digest] = (each, flight)
