"""Channels from a ``.mat`` file, a block of drops at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import h5py
import numpy as np
import numpy.typing as npt

from matlab_io.containers import hdf5, level4, level5
from matlab_io.containers.contents import detect_version, list_variables
from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError, reading
from matlab_io.reading.layout import Layout, guess, parse, slabs
from matlab_io.reading.scalars import SCALAR_NAMES, is_scalar, link_budget
from matlab_io.reading.selection import choose

__all__ = ["CONVENTIONS", "ChannelFile", "open_channels"]

CONVENTIONS = ("hermitian", "direct")
_READ_AHEAD_BYTES = 64 << 20
_LAWS = {"hermitian": "y = H' x", "direct": "y = H x"}


class _Source(Protocol):
    """A numeric array in MATLAB axis order that is read piece by piece."""

    def take(self, index: tuple[slice, ...]) -> npt.NDArray[Any]: ...

    def close(self) -> None: ...


class _Loaded:
    """An array in memory, as its two parts: what is read from the versions up to 7.2 comes whole."""

    def __init__(self, parts: level5.Parts, shape: tuple[int, ...]) -> None:
        self._parts = [None if part is None else part.reshape(shape, order="F") for part in parts]

    def take(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        real, imaginary = self._parts
        assert real is not None
        piece = np.zeros(real[index].shape, np.complex64, order="F")
        piece.real[...] = real[index]
        if imaginary is not None:
            piece.imag[...] = imaginary[index]
        return piece

    def close(self) -> None:
        self._parts = []


class _OnDisk:
    """A v7.3 data set, read by hyperslabs. h5py shows its axes in reverse."""

    def __init__(self, file: h5py.File, dataset: h5py.Dataset, shape: tuple[int, ...]) -> None:
        self._file, self._dataset, self._shape = file, dataset, shape

    def take(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        bounds = [part.indices(size) for part, size in zip(index, self._shape, strict=True)]
        stored = tuple(slice(0, 1) for _ in range(self._dataset.ndim - len(index)))
        stored += tuple(reversed(index))
        raw = self._dataset[stored[len(stored) - self._dataset.ndim :]]
        return np.asarray(raw).T.reshape([stop - start for start, stop, _ in bounds], order="F")

    def close(self) -> None:
        self._file.close()


class ChannelFile:
    """Channels in a ``.mat`` file; a context manager, made by :func:`open_channels`.

    path         the file
    variable     the array's name, dotted for a struct field, e.g. ``"chan.H"``
    version      ``"4"``, ``"6"``, ``"7"`` or ``"7.3"``
    layout       one letter an axis in MATLAB order, e.g. ``"nks"``
    convention   ``"hermitian"`` (y = H' x) or ``"direct"`` (y = H x), as in the file
    antennas     number of antennas N
    users        number of users K
    drop_axes    sizes of the f and s axes in the file's order; ``()`` for one drop without such an axis
    drops        their product: every subcarrier of every drop is a drop of its own
    scalars      ``power`` and ``noise_power`` in watts, ``alpha_c``, ``min_rate`` in bit/s/Hz, those in the
                 file
    notes        lines to show the user: how the array was read, and why
    """

    def __init__(
        self,
        path: Path,
        variable: Variable,
        version: str,
        layout: Layout,
        convention: str,
        source: _Source,
        run: int,
        scalars: dict[str, float],
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
        self.scalars = scalars
        self.notes = notes
        self._layout = layout
        self._source: _Source | None = source
        self._run = run
        self._ahead_start = 0
        self._ahead = np.empty((0, self.users, self.antennas), np.complex64)

    def read(self, start: int, stop: int) -> npt.NDArray[np.complex64]:
        """Drops ``start`` to ``stop`` (exclusive) in MATLAB's linear order over the drop axes.

        Returns (stop - start, users, antennas) complex64, C-contiguous, a fresh array, in the hermitian
        convention: row k of a drop is h_k, with y_k = h_k^H x (conjugated here where the file is direct).
        Of a v7.3 file no more than the block is in memory, or, where the file's own order or chunks call for
        longer reads, a few times 64 MiB.

        Raises MatFileError where the file turns out damaged, IndexError for drops that do not exist,
        ValueError after :meth:`close`.
        """
        if not 0 <= start <= stop <= self.drops:
            raise IndexError(f"drops {start}:{stop} of {self.drops}")
        if self._source is None:
            raise ValueError(f"{self.path}: is closed")
        if start == stop:
            return np.empty((0, self.users, self.antennas), np.complex64)
        if stop - start >= self._run:
            return self._fetch(self._source, start, stop)
        if not self._ahead_start <= start <= stop <= self._ahead_start + len(self._ahead):
            first = start - start % self._run
            if first + self._run < stop:
                first = start
            self._ahead = self._ahead[:0]  # freed before the next is read
            self._ahead = self._fetch(self._source, first, min(first + self._run, self.drops))
            self._ahead_start = first
        offset = start - self._ahead_start
        return self._ahead[offset : offset + stop - start].copy()

    def _fetch(self, source: _Source, start: int, stop: int) -> npt.NDArray[np.complex64]:
        out = np.empty((stop - start, self.users, self.antennas), np.complex64)
        with reading(self.path, self.variable), np.errstate(over="ignore", invalid="ignore"):
            for offset, slab in slabs(start, stop, self.drop_axes):
                piece = _complex(self._layout.to_drops(source.take(self._layout.index(slab))))
                count = math.prod(piece.shape[:-2])
                if count == len(out):  # in one piece: no copy where numbers and their order are ours already
                    out = np.ascontiguousarray(piece, np.complex64).reshape(out.shape)
                else:
                    out[offset : offset + count].reshape(piece.shape)[...] = piece
        if self.convention == "direct":
            np.conjugate(out, out=out)
        return out

    def close(self) -> None:
        """Closes the file and frees what was loaded of it."""
        if self._source is not None:
            self._source.close()
            self._source = None
            self._ahead = self._ahead[:0]

    def __enter__(self) -> ChannelFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _complex(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers as they are, HDF5's compound of a real and an imaginary part as complex ones."""
    names = values.dtype.names
    if names is None:
        return values
    real, imaginary = ("real", "imag") if "real" in names else ("r", "i")
    for part, whole in ((np.float32, np.complex64), (np.float64, np.complex128)):
        if values.dtype == np.dtype([(real, part), (imaginary, part)]):
            return values.view(whole)
    joined = np.empty(values.shape, np.complex64)
    joined.real, joined.imag = values[real], values[imaginary]
    return joined


def open_channels(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    layout: str | None = None,
    convention: str | None = None,
    allow_real: bool = False,
) -> ChannelFile:
    """Opens the channels in a ``.mat`` file of any version.

    variable     name of the array, dotted for a struct field; else the only sensible candidate
    layout       axes in MATLAB order, e.g. ``"nks"``; else guessed where only one reading is possible
    convention   ``"hermitian"`` (y = H' x) or ``"direct"`` (y = H x); else by the layout, n before k is
                 hermitian
    allow_real   take an array without an imaginary part too

    Raises MatFileError, one line, for whatever is wrong with the file, the variable or the layout;
    ValueError for a convention that does not exist.
    """
    if convention is not None and convention not in CONVENTIONS:
        raise ValueError(f"convention {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    file = Path(path)
    version = detect_version(file)
    variables = list_variables(file, version)
    chosen = choose(file, variables, variable, allow_real)
    try:
        fitted = guess(chosen.shape) if layout is None else parse(layout, chosen.shape)
    except MatFileError as error:
        raise MatFileError(f"{file}: {chosen.name}: {error}") from None
    notes = _notes(chosen, fitted, layout is None, convention)
    beside = _scalar_variables(variables, chosen)
    numbers = _OnDiskValues(file) if version == "7.3" else _LoadedValues(file, version, chosen, beside)
    try:
        budget = link_budget(file, chosen, beside, numbers.scalar, notes)
        source, run = numbers.source(chosen, fitted)
    except BaseException:
        numbers.close()
        raise
    return ChannelFile(file, chosen, version, fitted, convention or fitted.convention, source, run, budget, notes)


def _notes(variable: Variable, layout: Layout, guessed: bool, convention: str | None) -> list[str]:
    origin = "from the shape" if guessed else "as asked"
    note = f"{variable.name} read as {layout.describe()} (layout {layout.axes}, {origin})"
    if guessed and len(layout.axes) == 3 and layout.shape[1] <= layout.shape[2]:
        note += "; if its first axis counts drops, pass --layout skn"
    rows = "columns" if layout.convention == "hermitian" else "rows"
    law = convention or layout.convention
    asked = ", as asked" if convention else ""
    return [note, f"users in {rows}: read as {_LAWS[law]} ({law}{asked})"]


def _scalar_variables(variables: Sequence[Variable], chosen: Variable) -> list[Variable]:
    """The variables named like a link-budget scalar, beside the channel and at the top level."""
    parent = chosen.name.rpartition(".")[0]
    places = {parent, ""}
    return [
        variable
        for variable in variables
        if variable.name.rpartition(".")[0] in places and variable.name.rpartition(".")[2].lower() in SCALAR_NAMES
    ]


class _LoadedValues:
    """The values of a file of version 4 to 7.2, each loaded whole, and only those needed."""

    def __init__(self, path: Path, version: str, chosen: Variable, beside: Sequence[Variable]) -> None:
        self._path = path
        names = [chosen.name] + [variable.name for variable in beside if is_scalar(variable)]
        read = level4.read_arrays if version == "4" else level5.read_arrays
        with reading(path):
            self._parts = read(path, names)

    def scalar(self, name: str) -> float:
        return float(self._parts[name][0].reshape(-1)[0])

    def source(self, variable: Variable, layout: Layout) -> tuple[_Source, int]:
        return _Loaded(self._parts[variable.name], layout.shape), 1

    def close(self) -> None:
        self._parts = {}


class _OnDiskValues:
    """The values of a v7.3 file, by h5py, which reads what is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path):
            self._file = hdf5.open_file(path)

    def scalar(self, name: str) -> float:
        with reading(self._path, name):
            return float(np.asarray(self._file[name.replace(".", "/")][()]).reshape(-1)[0])

    def source(self, variable: Variable, layout: Layout) -> tuple[_Source, int]:
        with reading(self._path, variable.name):
            dataset = self._file[variable.name.replace(".", "/")]
            return _OnDisk(self._file, dataset, layout.shape), _run(dataset, layout)

    def close(self) -> None:
        self._file.close()


def _run(dataset: h5py.Dataset, layout: Layout) -> int:
    """How many drops are best read at a time: whole chunks, or as many as fit if drops are scattered."""
    bytes_per_drop = max(1, dataset.dtype.itemsize * layout.antennas * layout.users)
    budget = max(1, _READ_AHEAD_BYTES // bytes_per_drop)
    if dataset.chunks is None:
        return 1 if layout.drops_are_slowest else min(budget, layout.drops)
    chunks = dict(zip(layout.axes, reversed(dataset.chunks), strict=False))
    extents = [min(chunks.get(letter, 1), layout.size(letter)) for letter in layout.drop_letters]
    wanted = math.prod(extents)
    if len(extents) == 2 and extents[1] > 1:  # a chunk spans rows of the linear order: read whole rows
        wanted = layout.drop_axes[0] * extents[1]
    return int(max(1, min(budget, wanted)))
