"""Open the channels of a ``.mat`` file and read them in blocks of drops."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from matlab_io.containers.contents import detect_version, list_variables, read_text, stated_text
from matlab_io.containers.other_formats.numpy_files import load_raw
from matlab_io.containers.other_formats.sigmf import link_budget_of, open_recording
from matlab_io.containers.unchanged import CheckedArray, Unchanged
from matlab_io.containers.variable import Variable, matlab_shape
from matlab_io.conventions import check_convention
from matlab_io.errors import MatFileError, reading
from matlab_io.reading.expressions import Gathered, gather, is_expression
from matlab_io.reading.fitting import Choices, Reading, fit
from matlab_io.reading.layout import slabs
from matlab_io.reading.readings import AmbiguousLayout
from matlab_io.reading.receive_antennas import JOINT, MODES, combine
from matlab_io.reading.scalars import OPTIONS, BudgetQuantity, budget_variables, link_budget, statement
from matlab_io.reading.selection import choose_variable
from matlab_io.reading.storage import StoredArray, hold, open_storage

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
    reading : Reading
        Axes and convention of the array, and the treatment of receive antennas.
    storage : tuple of StoredArray and int
        Access to the numbers, and the number of drops best read at a time.
    budget : mapping of str to BudgetQuantity
        Link budget in the file.

    Attributes
    ----------
    path : pathlib.Path
        File.
    variable : str
        Name of the array, dotted for a struct field, e.g. ``"chan.H"``, or the expression of several arrays.
    version : str
        ``"4"``, ``"6"``, ``"7"``, ``"7.3"``, ``"npy"``, ``"npz"``, ``"sigmf"`` or ``"raw"``.
    layout : str
        One letter per axis in the array's own order, e.g. ``"nks"``.
    row_major : bool
        The file stores arrays in row-major order (numpy, HDF5 without MATLAB's attributes).
    convention : str
        ``"hermitian"`` (y = H' x) or ``"direct"`` (y = H x), as in the file.
    antennas, users : int
        Numbers N of antennas and K of users, after the treatment of receive antennas.
    antenna_axes : tuple of int
        Sizes of the antenna axes in MATLAB order; their product is `antennas`.
    receive_antennas : int
        Number of receive antennas per user in the file.
    receive_mode : str
        ``"each"``, ``"strongest"`` or ``"eigen"``; ``""`` for a layout without receive antennas.
    drop_letters : str
        ``s`` or ``f`` per drop axis, in MATLAB order.
    drop_axes : tuple of int
        Sizes of the subcarrier and drop axes in MATLAB order; empty for one drop without such an axis.
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
        reading: Reading,
        storage: tuple[StoredArray, int],
        budget: dict[str, BudgetQuantity],
    ) -> None:
        layout = reading.layout
        self.path = path
        self.variable = variable.name
        self.version = version
        self.layout = layout.text
        self.row_major = layout.row_major
        self.convention = reading.convention
        self.antennas = layout.antennas
        self.antenna_axes = layout.antenna_axes
        self.users = reading.users
        self.receive_antennas = layout.receive_antennas
        self.receive_mode = reading.receive_mode
        self.drop_letters = layout.drop_letters
        self.drop_axes = layout.drop_axes
        self.drops = layout.drops
        self.budget = budget
        self.scalars = {
            name: found.value for name, found in budget.items() if not found.problem and found.numbers.size == 1
        }
        self.notes = reading.notes
        self._layout = layout
        self._array: StoredArray | None = storage[0]
        self._drops_per_read = storage[1]
        self._block = (layout.users, *((layout.receive_antennas,) if "r" in layout.axes else ()), layout.antennas)
        self._ahead_start = 0
        self._ahead = np.empty((0, *self._block), np.complex64)

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
        return self.read_combined(start, stop)[0]

    def read_combined(
        self, start: int, stop: int
    ) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.complex64] | None]:
        """Read consecutive drops, with the vectors that combine the receive antennas of each user.

        Parameters
        ----------
        start, stop : int
            First drop, and the one after the last, counted from 0.

        Returns
        -------
        channels : numpy.ndarray
            As from `read`.
        receive_combiner : numpy.ndarray or None
            Complex64, (stop - start, users, receive antennas), u_k with z_k = u_k^H y_k; None where every antenna is a
            user.

        Raises
        ------
        MatFileError, IndexError, ValueError
            As `read`.
        """
        channels = self._read(start, stop)
        return combine(channels, self.receive_mode) if channels.ndim == 4 else (channels, None)

    def _read(self, start: int, stop: int) -> npt.NDArray[np.complex64]:
        if not 0 <= start <= stop <= self.drops:
            raise IndexError(f"drops {start}:{stop} of {self.drops}")
        if self._array is None:
            raise ValueError(f"{self.path}: is closed")
        if start == stop:
            return np.empty((0, *self._block), np.complex64)
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
        out = np.empty((stop - start, *self._block), np.complex64)
        with reading(self.path, self.variable), np.errstate(over="ignore", invalid="ignore"):
            for offset, slab in slabs(start, stop, self.drop_axes):
                piece = self._layout.to_drops(array.read(self._layout.index(slab)))
                count = math.prod(piece.shape[: -len(self._block)])
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
    receive_antennas: str | None = None,
    shape: Sequence[int] | None = None,
) -> ChannelFile:
    """Open the channels in a ``.mat`` file of any version, a numpy file, a SigMF recording, or raw complex64 numbers.

    Parameters
    ----------
    path : str or os.PathLike
        File.
    variable : str, optional
        Name of the array, or an expression (see `matlab_io.reading.expressions`); by default the only candidate.
    layout : str, optional
        Axes in the array's own order, e.g. ``"nks"``; by default as the file states, or for two axes the only reading.
    convention : {"hermitian", "direct"}, optional
        Signal model y = H' x or y = H x; by default as the file states, else by the layout (not for row-major files).
    allow_real : bool
        Accept an array without an imaginary part too.
    receive_antennas : {"each", "strongest", "eigen", "joint"}, optional
        Treatment of several receive antennas per user, see `matlab_io.reading.receive_antennas.combine`.
    shape : sequence of int, optional
        Shape in MATLAB order of a file of raw complex64 numbers.

    Returns
    -------
    ChannelFile

    Raises
    ------
    AmbiguousLayout
        If the axes of the array can be read in several ways; the message lists them.
    MatFileError
        If the file, the variable, the layout or a scalar beside it is wrong; the message is one line.
    ValueError
        If there is no such convention, or treatment of receive antennas.
    """
    if convention is not None:
        check_convention(convention)
    if receive_antennas not in (None, *MODES, JOINT):
        raise ValueError(f"receive_antennas {receive_antennas!r}: expected one of {', '.join(MODES)}")
    file = Path(path)
    version = "raw" if shape is not None else detect_version(file)
    choices = Choices(layout, convention, receive_antennas)
    if version == "sigmf":  # a recording may grow while it is read
        return _open(file, version, variable, allow_real, shape, choices, None)
    with reading(file):
        unchanged = Unchanged(file)
    try:
        with unchanged.checked(by_name=True):
            return _open(file, version, variable, allow_real, shape, choices, unchanged)
    except BaseException:
        unchanged.close()
        raise


def _open(
    file: Path,
    version: str,
    variable: str | None,
    allow_real: bool,
    shape: Sequence[int] | None,
    choices: Choices,
    unchanged: Unchanged | None,
) -> ChannelFile:
    """Open a file of known version; what is read of it in blocks is checked for changes at each read."""
    variables = [] if shape is not None else list_variables(file, version)
    with reading(file):
        gathered = _gather(file, variables, variable, shape)
    if gathered is not None:
        chosen = _described(gathered, variable or "H")
    else:
        real = allow_real or _has_parts(file, version, variables, variable, choices.layout)
        chosen = choose_variable(file, variables, variable, real, choices.layout)
    decided = _decide(file, version, variables, chosen, gathered, choices)
    (array, drops_per_read), budget = _load(file, version, variables, chosen, gathered, decided)
    if unchanged is not None:
        in_blocks = version in ("npy", "raw") or (version == "7.3" and gathered is None)
        array = CheckedArray(array, unchanged) if in_blocks else array
    return ChannelFile(file, chosen, version, decided, (array, drops_per_read), budget)


def _has_parts(file: Path, version: str, variables: Sequence[Variable], wanted: str | None, layout: str | None) -> bool:
    """Return whether the layout that is given, or that the file states of a real array, has an axis of both parts."""
    if layout is not None:
        return "c" in layout.lower()
    possible = [each for each in variables if (each.is_real_channel if wanted is None else each.name == wanted)]
    return any("c" in stated_text(file, version, each.name, variables, "layout").lower() for each in possible)


def _differing_requests(file: Path, version: str, variables: Sequence[Variable], notes: list[str]) -> dict[str, str]:
    """Return what the requests of a recording, in either format, state differently; note what of it is missing."""
    classes, requests = {each.name: each.matlab_class for each in variables}, []
    with reading(file):
        if version == "sigmf":
            recording = open_recording(file)
            notes.extend(recording.notes)
            requests = [message.request for message in recording.messages]
        elif classes.get("requests") == "char" and {"message", "seconds"} <= classes.keys():
            requests = read_text(file, version, "requests").split("\n")
        return link_budget_of(requests)[1]


def _load(
    file: Path,
    version: str,
    variables: Sequence[Variable],
    chosen: Variable,
    gathered: Gathered | None,
    decided: Reading,
) -> tuple[tuple[StoredArray, int], dict[str, BudgetQuantity]]:
    """Return access to the channels, and the link budget beside them."""
    different = _differing_requests(file, version, variables, decided.notes)
    beside = budget_variables(variables, chosen)
    storage = open_storage(file, version, chosen if gathered is None else None, beside)
    try:
        budget = link_budget(chosen, beside, storage.numbers, decided.notes)
        decided.notes.extend(
            f"{name} is not taken from the requests, which do not all state the same number ({text});"
            f" pass {OPTIONS[name]}"
            for name, text in different.items()
            if statement(name, budget) is None
        )
        if gathered is None:
            return storage.array(chosen, decided.layout), budget
    except BaseException:
        storage.close()
        raise
    storage.close()
    decided.notes.extend(gathered.notes)
    return hold(gathered.array, decided.layout), budget


def _gather(
    file: Path, variables: Sequence[Variable], name: str | None, shape: Sequence[int] | None
) -> Gathered | None:
    """Return the channels of a raw file or of an expression; None for those of one variable."""
    if shape is not None:
        return Gathered(load_raw(file, shape), "H", 1, stacked=False)
    return gather(file, name, variables) if name and is_expression(name) else None


def _decide(
    file: Path,
    version: str,
    variables: Sequence[Variable],
    chosen: Variable,
    gathered: Gathered | None,
    choices: Choices,
) -> Reading:
    """Decide the reading; errors name the file and the variable."""
    shape = chosen.shape if gathered is None else matlab_shape(gathered.element_shape)

    def stated(name: str) -> str:
        return "" if version == "raw" else stated_text(file, version, chosen.name, variables, name)

    try:
        return fit(chosen.name, shape, chosen.row_major, gathered, choices, stated)
    except AmbiguousLayout as error:
        raise AmbiguousLayout(f"{file}: {chosen.name}: {error}", error.readings) from None
    except MatFileError as error:
        raise error if str(error).startswith(f"{file}: ") else MatFileError(f"{file}: {chosen.name}: {error}") from None


def _described(gathered: Gathered, name: str) -> Variable:
    """Describe gathered channels as a variable."""
    kind = "single" if gathered.array.dtype.itemsize <= 8 else "double"
    return Variable(name, gathered.element_shape, kind, np.iscomplexobj(gathered.array), gathered.row_major)
