"""Fit a layout, one letter per axis, to an array, and permute its axes, only here.

Letters: ``n`` transmit antenna (twice or more for a panel: ``nn`` rows x columns), ``k`` user, ``r`` receive antenna of
a user, ``s`` drop (may recur), ``f`` subcarrier (each subcarrier is a drop of its own), ``c`` an axis of length two,
real and imaginary part, ``1`` an axis of length one. ``nks`` is N x K x S.

In Python channels are ``(drops, users, antennas)``, C-contiguous, which is byte for byte MATLAB's column-major
N x K x S. Drops are numbered in MATLAB's linear (column-major) order over the drop axes, and so are antennas over
several antenna axes. An array in row-major order (numpy, HDF5 without MATLAB's attributes) is, with its axes reversed,
the same memory in column-major order: its `Layout` holds the reversed axes, and shows them in the array's own order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import matlab_shape, shape_text
from matlab_io.conventions import SIGNAL_MODELS
from matlab_io.errors import MatFileError

__all__ = ["AXES", "Layout", "parse", "slabs"]

AXES = (
    "n (transmit antenna), k (user), r (receive antenna), s (drop), f (subcarrier),"
    " c (real and imaginary part) and 1 (length one)"
)
_DROP_NAMES = {"s": "drops", "f": "subcarriers"}
_ONCE = {"k": "user", "r": "receive antenna", "f": "subcarrier", "c": "real and imaginary part"}


@dataclass(frozen=True)
class Layout:
    """Hold a layout fitted to one array.

    Parameters
    ----------
    axes : str
        One letter per axis in MATLAB (column-major) order, e.g. ``"nks"``.
    shape : tuple of int
        Shape of the array in MATLAB order, padded with ones to as many axes as `axes` has letters.
    row_major : bool
        The array is row-major: its own axes are those of `axes` in reverse.
    """

    axes: str
    shape: tuple[int, ...]
    row_major: bool = False

    def size(self, letter: str) -> int:
        """Return the product of the lengths of the axes of a letter; 1 for a letter that the layout does not have."""
        return math.prod(size for axis, size in zip(self.axes, self.shape, strict=True) if axis == letter)

    @property
    def text(self) -> str:
        """Return the letters in the array's own order, as given with ``--layout``."""
        return self.axes[::-1] if self.row_major else self.axes

    @property
    def antennas(self) -> int:
        """Return the number of transmit antennas N."""
        return self.size("n")

    @property
    def antenna_axes(self) -> tuple[int, ...]:
        """Return the lengths of the antenna axes in MATLAB order: one for a line array, two for a panel."""
        return tuple(size for axis, size in zip(self.axes, self.shape, strict=True) if axis == "n")

    @property
    def users(self) -> int:
        """Return the number of users K."""
        return self.size("k")

    @property
    def receive_antennas(self) -> int:
        """Return the number of receive antennas per user."""
        return self.size("r")

    @property
    def drop_letters(self) -> str:
        """Return the drop axes in MATLAB order, e.g. ``""``, ``"s"``, ``"fs"`` or ``"sfs"``."""
        return "".join(letter for letter in self.axes if letter in "sf")

    @property
    def drop_axes(self) -> tuple[int, ...]:
        """Return the lengths of the drop axes in MATLAB order."""
        return tuple(size for axis, size in zip(self.axes, self.shape, strict=True) if axis in "sf")

    @property
    def drops(self) -> int:
        """Return the number of drops, the product of the drop axes."""
        return math.prod(self.drop_axes)

    @property
    def convention(self) -> str:
        """Return the convention that the order of the axes implies in MATLAB code.

        ``"direct"`` for users or receive antennas in rows (k or r before n), for a ``1`` before n, and without users
        for a leading drop axis; else ``"hermitian"``, users in columns.
        """
        before = self.text[: self.text.index("n")]
        rows = set(before) & set("kr1") or ("k" not in self.text and set(before) & set("sf"))
        return "direct" if rows else "hermitian"

    @property
    def drops_are_slowest(self) -> bool:
        """Return whether consecutive drops are one contiguous piece of the column-major array."""
        return self.axes.replace("1", "").endswith(self.drop_letters)

    def describe(self) -> str:
        """Describe the sizes, e.g. ``"256 antennas x 8 users x 100 drops"``; drop axes are in the array's own order."""
        antennas = _count(self.antennas, "antennas")
        if len(self.antenna_axes) > 1:
            order = reversed(self.antenna_axes) if self.row_major else self.antenna_axes
            antennas += f" ({shape_text(tuple(order))})"
        parts = [antennas, _count(self.users, "users")]
        if "r" in self.axes:
            parts[1] += f" with {_count(self.receive_antennas, 'receive antennas')}"
            parts[1] += " each" if self.users > 1 else ""
        drops = [_count(size, _DROP_NAMES[axis]) for axis, size in zip(self.drop_letters, self.drop_axes, strict=True)]
        parts += (drops[::-1] if self.row_major else drops) or ["1 drop"]
        return " x ".join(parts)

    def formula(self, convention: str, name: str = "H") -> str:
        """Write the signal model with the array's indices, as an expression of MATLAB, or of numpy if row-major.

        Parameters
        ----------
        convention : {"hermitian", "direct"}
            Convention of the array.
        name : str
            Name of the array.

        Returns
        -------
        str
            For example ``"y_k = H(:,k,s)' * x"``, ``"y_k = H(k,:) * x"`` or ``"y_k = H[s, k].conj() @ x"``.
        """
        letters = self.text
        left = "y" + "".join(f"_{letter}" for letter in "kr" if letter in letters)
        indices = _indices(letters, "0" if self.row_major else "1")
        if self.row_major:
            row = _parts(lambda each: f"{name}[{', '.join(each)}]", indices, ("0", "1"), "({} + 1j*{})")
            row += ".ravel()" if letters.count("n") > 1 else ""
            return f"{left} = {row}{'.conj()' if convention == 'hermitian' else ''} @ x"
        column = _parts(lambda each: f"{name}({','.join(each)})", indices, ("1", "2"), "complex({}, {})")
        if letters.count("n") > 1:
            column = f"reshape({column}, [], 1)"
        elif letters.index("n") > 1:
            column = f"squeeze({column})"
        elif letters.index("n") == 1:
            return f"{left} = " + (f"{column} * x" if convention == "direct" else f"conj({column}) * x")
        return f"{left} = {column}{chr(39) if convention == 'hermitian' else '.' + chr(39)} * x"

    def meaning(self, convention: str | None = None) -> str:
        """Describe the reading in words, e.g. ``"64 antennas x 4 users x 5 drops, users in columns, y = H' x"``.

        Parameters
        ----------
        convention : {"hermitian", "direct"}, optional
            Convention; by default the implied one.

        Returns
        -------
        str
        """
        side = "columns" if self.convention == "hermitian" else "rows"
        return f"{self.describe()}, users in {side}, {SIGNAL_MODELS[convention or self.convention]}"

    def index(self, slab: Sequence[slice]) -> tuple[slice, ...]:
        """Return the index of the MATLAB-order array that selects a box of drops.

        Parameters
        ----------
        slab : sequence of slice
            One slice per drop axis, in MATLAB order.

        Returns
        -------
        tuple of slice
            One slice per axis of the array.
        """
        if len(slab) != len(self.drop_letters):
            raise ValueError(f"{len(slab)} slices for layout {self.axes}: one per drop axis is needed")
        chosen = iter(slab)
        return tuple(next(chosen) if letter in "sf" else slice(None) for letter in self.axes)

    def to_drops(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Permute a MATLAB-order array to (*drop axes reversed, users, antennas), as a view where the order permits it.

        Flattening the leading axes in C order then numbers the drops as MATLAB's linear index does. A layout with
        receive antennas gives (*drop axes reversed, users, receive antennas, antennas).

        Parameters
        ----------
        array : numpy.ndarray
            Array with this layout's axes; its drop axes may be shorter than `drop_axes`.

        Returns
        -------
        numpy.ndarray
        """
        axes = self.axes
        if "c" in axes:
            real, imaginary = np.moveaxis(array.real, axes.index("c"), 0)
            array, axes = real + 1j * imaginary, axes.replace("c", "")
        wanted = [at for letter in ("n", "r", "k", "sf") for at, axis in enumerate(axes) if axis in letter]
        order = wanted[::-1]
        singletons = [at for at, axis in enumerate(axes) if axis == "1"]
        lengths = [array.shape[at] for at in order]
        drops, antenna_axes = len(self.drop_letters), axes.count("n")
        users = [array.shape[axes.index(letter)] if letter in axes else 1 for letter in ("k", "r")]
        shape = [*lengths[:drops], users[0], *(users[1:] if "r" in axes else ()), math.prod(lengths[-antenna_axes:])]
        return array.transpose(singletons + order).reshape(shape)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun[:-1] if number == 1 else noun}"


def _indices(letters: str, first: str) -> list[str]:
    """Return one index per axis: a colon for antennas, the first for an axis of length one, else its letter."""
    indices = []
    for at, letter in enumerate(letters):
        number = str(letters[: at + 1].count(letter)) if letters.count(letter) > 1 else ""
        indices.append({"n": ":", "1": first}.get(letter, letter + number))
    return indices


def _parts(write: Callable[[list[str]], str], indices: list[str], numbers: tuple[str, str], join: str) -> str:
    """Write an indexed array; with an axis of real and imaginary part, both parts and their sum."""
    if "c" not in indices:
        return write(indices)
    both = [write([number if each == "c" else each for each in indices]) for number in numbers]
    return join.format(*both)


def parse(axes: str, shape: Sequence[int], row_major: bool = False) -> Layout:
    """Fit a layout given by the user to an array's shape.

    MATLAB drops trailing axes of length one, so a layout may have more letters than the array has axes; the missing
    axes have length one. It may have fewer only if the trailing axes it does not name have length one. A row-major
    array has exactly as many axes as letters.

    Parameters
    ----------
    axes : str
        Layout, one letter per axis in the array's own order; letter case and surrounding spaces are ignored.
    shape : sequence of int
        Shape of the array in its own order.
    row_major : bool
        Order of the array: row-major (numpy) or column-major (MATLAB).

    Returns
    -------
    Layout

    Raises
    ------
    MatFileError
        If a letter is unknown or repeated, the antenna axis is missing, or an axis does not fit.
    """
    letters = axes.strip().lower()
    unknown = sorted(set(letters) - set("nkrsfc1"))
    if unknown:
        order = "in the array's order, e.g. skn" if row_major else "in MATLAB order, e.g. nks"
        raise MatFileError(f"layout {axes!r}: unknown axis {unknown[0]!r}; use {AXES}, {order}")
    repeated = [letter for letter in _ONCE if letters.count(letter) > 1]
    if repeated:
        raise MatFileError(
            f"layout {axes!r}: axis {repeated[0]!r} ({_ONCE[repeated[0]]}) is named twice; only n and s may recur"
        )
    if "n" not in letters:
        raise MatFileError(f"layout {axes!r}: no antenna axis; name it n, e.g. {'skn' if row_major else 'nks'}")
    sizes = list(shape) if row_major else list(matlab_shape(shape))
    shown = shape_text(tuple(sizes))
    if len(letters) == 1 and sizes[1:] == [1]:  # a column vector
        del sizes[1]
    if len(sizes) > len(letters) or (row_major and len(sizes) < len(letters)):
        raise MatFileError(
            f"layout {axes!r} names {len(letters)} axes but the array is {shown};"
            " name every axis, with 1 for one of length one"
        )
    sizes += [1] * (len(letters) - len(sizes))
    for position, (letter, size) in enumerate(zip(letters, sizes, strict=True), start=1):
        if letter in "1c" and size != (1 if letter == "1" else 2):
            raise MatFileError(
                f"layout {axes!r}: axis {position} is named {letter} but has length {size}"
                f" (the array is {shown}); name it n, k, r, s or f"
            )
    return Layout(letters[::-1], tuple(sizes[::-1]), True) if row_major else Layout(letters, tuple(sizes))


def slabs(start: int, stop: int, drop_axes: Sequence[int]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Split consecutive drops into boxes of the drop axes.

    No box holds more drops than the range, so that reading box by box needs no more memory than the range itself.

    Parameters
    ----------
    start, stop : int
        First drop in linear order, and the one after the last.
    drop_axes : sequence of int
        Lengths of the drop axes in MATLAB order.

    Yields
    ------
    tuple of int and tuple of slice
        Number of drops in the range before the box, and one slice per drop axis in MATLAB order.
    """
    if len(drop_axes) < 2:
        yield 0, tuple(slice(start, stop) for _ in drop_axes)
        return
    *inner, _ = drop_axes
    fast = math.prod(inner)
    position = start
    while position < stop:
        row, column = position % fast, position // fast
        whole = (stop - position) // fast
        if row == 0 and whole:
            yield position - start, (*(slice(0, size) for size in inner), slice(column, column + whole))
            position += whole * fast
        else:
            end = min(fast, row + stop - position)
            for offset, boxes in slabs(row, end, inner):
                yield position - start + offset, (*boxes, slice(column, column + 1))
            position += end - row
