"""Open the channels of a ``.mat`` file and read them in blocks of drops."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from matlab_io.containers.contents import detect_version, list_variables
from matlab_io.containers.variable import Variable
from matlab_io.conventions import SIGNAL_MODELS, check_convention
from matlab_io.errors import MatFileError, reading
from matlab_io.reading.layout import Layout, guess, parse, slabs
from matlab_io.reading.scalars import BudgetQuantity, budget_variables, link_budget
from matlab_io.reading.selection import choose_variable
from matlab_io.reading.storage import LoadedStorage, OnDiskStorage, StoredArray

__all__ = ["ChannelFile", "open_channels"]


class ChannelFile:
    """Read channels from a ``.mat`` file; a context manager, made by `open_channels`.

    Parameters
    ----------
    path : pathlib.Path
        File.
    variable : Variable
        Array that holds the channels.
    version : {"4", "6", "7", "7.3"}
        Version of the file.
    layout : Layout
        Axes of the array.
    convention : {"hermitian", "direct"}
        Convention of the array.
    storage : tuple of StoredArray and int
        Access to the numbers, and the number of drops best read at a time.
    budget : mapping of str to BudgetQuantity
        Link budget in the file.
    notes : list of str
        Lines to be shown to the user.

    Attributes
    ----------
    path : pathlib.Path
        File.
    variable : str
        Name of the array, dotted for a struct field, e.g. ``"chan.H"``.
    version : str
        ``"4"``, ``"6"``, ``"7"`` or ``"7.3"``.
    layout : str
        One letter per axis in MATLAB order, e.g. ``"nks"``.
    convention : str
        ``"hermitian"`` (y = H' x) or ``"direct"`` (y = H x), as in the file.
    antennas, users : int
        Numbers N of antennas and K of users.
    drop_axes : tuple of int
        Sizes of the subcarrier and drop axes in the file's order; empty for one drop without such an axis.
    drops : int
        Their product: every subcarrier of every drop is a drop of its own.
    budget : dict of str to BudgetQuantity
        Link budget in the file: the variables named like ``power``, ``noise_power``, ``alpha_c`` or ``min_rate``, with
        the reason for each one that cannot be used.
    scalars : dict of str to float
        Those of one usable number: ``power`` and ``noise_power`` in watts, ``alpha_c``, ``min_rate`` in bps/Hz.
    notes : list of str
        Lines to be shown to the user: the layout and convention that were used, and the reasons.
    """

    def __init__(
        self,
        path: Path,
        variable: Variable,
        version: str,
        layout: Layout,
        convention: str,
        storage: tuple[StoredArray, int],
        budget: dict[str, BudgetQuantity],
        notes: list[str],
    ) -> None:
        self.path = path
        self.variable = variable.name
        self.version = version
        self.layout = layout.axes
        self.convention = convention
        self.antennas = layout.antennas
        self.users = layout.users
        self.drop_axes = layout.drop_axes
        self.drops = layout.drops
        self.budget = budget
        self.scalars = {
            name: found.value for name, found in budget.items() if not found.problem and found.numbers.size == 1
        }
        self.notes = notes
        self._layout = layout
        self._array: StoredArray | None = storage[0]
        self._drops_per_read = storage[1]
        self._ahead_start = 0
        self._ahead = np.empty((0, self.users, self.antennas), np.complex64)

    def read(self, start: int, stop: int) -> npt.NDArray[np.complex64]:
        """Read consecutive drops, in MATLAB's linear order over the drop axes.

        Of a v7.3 file no more than the block is in memory, or, where the file's own order or chunks require longer
        reads, a few times 64 MiB.

        Parameters
        ----------
        start, stop : int
            First drop, and the one after the last, counted from 0.

        Returns
        -------
        numpy.ndarray
            Channels, complex64, (stop - start, users, antennas), C-contiguous, a new array, in the hermitian
            convention: row k of a drop is h_k, with y_k = h_k^H x. Channels of a direct file are conjugated here.

        Raises
        ------
        MatFileError
            If the file is damaged.
        IndexError
            If the file has no such drops.
        ValueError
            If the file was closed.
        """
        if not 0 <= start <= stop <= self.drops:
            raise IndexError(f"drops {start}:{stop} of {self.drops}")
        if self._array is None:
            raise ValueError(f"{self.path}: is closed")
        if start == stop:
            return np.empty((0, self.users, self.antennas), np.complex64)
        if stop - start >= self._drops_per_read:
            return self._fetch(self._array, start, stop)
        if not self._ahead_start <= start <= stop <= self._ahead_start + len(self._ahead):
            first = start - start % self._drops_per_read
            if first + self._drops_per_read < stop:
                first = start
            self._ahead = self._ahead[:0]  # freed before the next is read
            self._ahead = self._fetch(self._array, first, min(first + self._drops_per_read, self.drops))
            self._ahead_start = first
        offset = start - self._ahead_start
        return self._ahead[offset : offset + stop - start].copy()

    def _fetch(self, array: StoredArray, start: int, stop: int) -> npt.NDArray[np.complex64]:
        out = np.empty((stop - start, self.users, self.antennas), np.complex64)
        with reading(self.path, self.variable), np.errstate(over="ignore", invalid="ignore"):
            for offset, slab in slabs(start, stop, self.drop_axes):
                piece = self._layout.to_drops(array.read(self._layout.index(slab)))
                count = math.prod(piece.shape[:-2])
                if count == len(out):  # one piece: no copy where dtype and order are right already
                    out = np.ascontiguousarray(piece, np.complex64).reshape(out.shape)
                else:
                    out[offset : offset + count].reshape(piece.shape)[...] = piece
        if self.convention == "direct":
            np.conjugate(out, out=out)
        return out

    def close(self) -> None:
        """Close the file and free what was loaded."""
        if self._array is not None:
            self._array.close()
            self._array = None
            self._ahead = self._ahead[:0]

    def __enter__(self) -> ChannelFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_channels(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    layout: str | None = None,
    convention: str | None = None,
    allow_real: bool = False,
) -> ChannelFile:
    """Open the channels in a ``.mat`` file of any version.

    Parameters
    ----------
    path : str or os.PathLike
        File.
    variable : str, optional
        Name of the array, dotted for a struct field; by default the only sensible candidate.
    layout : str, optional
        Axes in MATLAB order, e.g. ``"nks"``; by default guessed, where only one reading is possible.
    convention : {"hermitian", "direct"}, optional
        Signal model y = H' x or y = H x; by default hermitian for users in columns (n before k), else direct.
    allow_real : bool
        Accept an array without an imaginary part too.

    Returns
    -------
    ChannelFile

    Raises
    ------
    MatFileError
        If the file, the variable, the layout or a scalar beside it is wrong; the message is one line.
    ValueError
        If there is no such convention.
    """
    if convention is not None:
        check_convention(convention)
    file = Path(path)
    version = detect_version(file)
    variables = list_variables(file, version)
    chosen = choose_variable(file, variables, variable, allow_real)
    try:
        fitted = guess(chosen.shape) if layout is None else parse(layout, chosen.shape)
    except MatFileError as error:
        raise MatFileError(f"{file}: {chosen.name}: {error}") from None
    notes = _notes(chosen, fitted, layout is None, convention)
    beside = budget_variables(variables, chosen)
    storage = OnDiskStorage(file) if version == "7.3" else LoadedStorage(file, version, chosen, beside)
    try:
        budget = link_budget(chosen, beside, storage.numbers)
        stored = storage.array(chosen, fitted)
    except BaseException:
        storage.close()
        raise
    return ChannelFile(file, chosen, version, fitted, convention or fitted.convention, stored, budget, notes)


def _notes(variable: Variable, layout: Layout, guessed: bool, convention: str | None) -> list[str]:
    origin = "from the shape" if guessed else "as given"
    note = f"{variable.name} read as {layout.describe()} (layout {layout.axes}, {origin})"
    if guessed and len(layout.axes) == 3 and layout.shape[1] <= layout.shape[2]:
        note += "; if its first axis counts drops, pass --layout skn"
    side = "columns" if layout.convention == "hermitian" else "rows"
    used = convention or layout.convention
    given = ", as given" if convention else ""
    return [note, f"users in {side}: read as {SIGNAL_MODELS[used]} ({used}{given})"]
