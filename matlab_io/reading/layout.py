"""Decide the layout of a MATLAB array: parse or guess the meaning of its axes, and permute them, only here.

A layout names the axes of an array in MATLAB order, one letter per axis: ``n`` antenna, ``k`` user, ``s`` drop, ``f``
subcarrier (each subcarrier is its own drop), ``1`` an axis of length one. ``nks`` is N x K x S.

In Python channels are ``(drops, users, antennas)``, C-contiguous, which is byte for byte MATLAB's column-major
N x K x S. Drops are numbered in MATLAB's linear (column-major) order over the drop axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import matlab_shape, shape_text
from matlab_io.conventions import SIGNAL_MODELS
from matlab_io.errors import MatFileError

__all__ = ["Layout", "guess", "parse", "possible", "slabs"]

_AXIS_NAMES = {"n": "antennas", "k": "users", "s": "drops", "f": "subcarriers"}


@dataclass(frozen=True)
class Layout:
    """Hold a layout fitted to one array.

    Parameters
    ----------
    axes : str
        One letter per axis, given by the user or guessed, e.g. ``"nks"``.
    shape : tuple of int
        Shape of the array in MATLAB order, padded with ones to as many axes as `axes` has letters.
    """

    axes: str
    shape: tuple[int, ...]

    def size(self, axis: str) -> int:
        """Return the length of the axis of a letter; 1 for an axis that the layout does not have."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def antennas(self) -> int:
        """Return the number of antennas N."""
        return self.size("n")

    @property
    def users(self) -> int:
        """Return the number of users K."""
        return self.size("k")

    @property
    def drop_letters(self) -> str:
        """Return the drop axes in the array's order: ``""``, ``"s"``, ``"f"``, ``"fs"`` or ``"sf"``."""
        return "".join(letter for letter in self.axes if letter in "sf")

    @property
    def drop_axes(self) -> tuple[int, ...]:
        """Return the lengths of the drop axes in the array's order."""
        return tuple(self.size(letter) for letter in self.drop_letters)

    @property
    def drops(self) -> int:
        """Return the number of drops, the product of the drop axes."""
        return math.prod(self.drop_axes)

    @property
    def convention(self) -> str:
        """Return ``"hermitian"`` for users in columns (n before k), ``"direct"`` for users in rows.

        Without a user axis the antenna axis decides: if it is the first, the user's channel is a column, else a row.
        """
        if "k" in self.axes:
            columns = self.axes.index("n") < self.axes.index("k")
        else:
            columns = self.axes.lstrip("1").startswith("n")
        return "hermitian" if columns else "direct"

    @property
    def drops_are_slowest(self) -> bool:
        """Return whether consecutive drops are one contiguous piece of the column-major array."""
        return self.axes.replace("1", "").endswith(self.drop_letters)

    def describe(self) -> str:
        """Describe the sizes, e.g. ``"256 antennas x 8 users x 100 drops"``; drop axes are in the array's order."""
        parts = [_count(self.antennas, "antennas"), _count(self.users, "users")]
        parts += [_count(self.size(letter), _AXIS_NAMES[letter]) for letter in self.drop_letters]
        if not self.drop_letters:
            parts.append("1 drop")
        return " x ".join(parts)

    def index(self, slab: Sequence[slice]) -> tuple[slice, ...]:
        """Return the index of the MATLAB-order array that selects a box of drops.

        Parameters
        ----------
        slab : sequence of slice
            One slice per drop axis, in the array's order.

        Returns
        -------
        tuple of slice
            One slice per axis of the array.
        """
        chosen = dict(zip(self.drop_letters, slab, strict=True))
        return tuple(chosen.get(letter, slice(None)) for letter in self.axes)

    def to_drops(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Permute a MATLAB-order array to (*drop axes reversed, users, antennas), as a view.

        Flattening the leading axes in C order then numbers the drops as MATLAB's linear index does.

        Parameters
        ----------
        array : numpy.ndarray
            Array with this layout's axes; its drop axes may be shorter than `drop_axes`.

        Returns
        -------
        numpy.ndarray
        """
        wanted = [letter for letter in ("n", "k", *self.drop_letters) if letter in self.axes]
        order = [self.axes.index(letter) for letter in reversed(wanted)]
        singletons = [axis for axis, letter in enumerate(self.axes) if letter == "1"]
        moved = array.transpose(singletons + order).reshape([array.shape[axis] for axis in order])
        return moved if "k" in self.axes else moved[..., np.newaxis, :]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun[:-1] if number == 1 else noun}"


def parse(axes: str, shape: Sequence[int]) -> Layout:
    """Fit a layout given by the user to an array's shape.

    MATLAB drops trailing axes of length one, so a layout may have more letters than the array has axes; the missing
    axes have length one. It may have fewer only if the trailing axes it does not name have length one.

    Parameters
    ----------
    axes : str
        Layout, one letter per axis in MATLAB order; letter case and surrounding spaces are ignored.
    shape : sequence of int
        Shape of the array in MATLAB order.

    Returns
    -------
    Layout

    Raises
    ------
    MatFileError
        If a letter is unknown or repeated, the antenna axis is missing, or an axis does not fit.
    """
    letters = axes.strip().lower()
    unknown = sorted(set(letters) - set("nksf1"))
    if unknown:
        raise MatFileError(
            f"layout {axes!r}: unknown axis {unknown[0]!r}; use n (antenna), k (user), s (drop),"
            " f (subcarrier) and 1 (length one), in MATLAB order, e.g. nks"
        )
    repeated = [letter for letter in "nksf" if letters.count(letter) > 1]
    if repeated:
        raise MatFileError(f"layout {axes!r}: axis {repeated[0]!r} is named twice; name each axis once, e.g. nks")
    if "n" not in letters:
        raise MatFileError(f"layout {axes!r}: no antenna axis; name it n, e.g. nks")
    sizes = list(matlab_shape(shape))
    if len(letters) == 1 and sizes[1:] == [1]:  # a column vector
        del sizes[1]
    if len(sizes) > len(letters):
        raise MatFileError(
            f"layout {axes!r} names {len(letters)} axes but the array is {shape_text(matlab_shape(shape))};"
            " name every axis, with 1 for one of length one"
        )
    sizes += [1] * (len(letters) - len(sizes))
    for position, (letter, size) in enumerate(zip(letters, sizes, strict=True), start=1):
        if letter == "1" and size != 1:
            raise MatFileError(
                f"layout {axes!r}: axis {position} is named 1 but has length {size}"
                f" (the array is {shape_text(matlab_shape(shape))}); name it n, k, s or f"
            )
    return Layout(letters, tuple(sizes))


def possible(shape: Sequence[int]) -> list[Layout]:
    """List the layouts from which `guess` chooses.

    The first two axes are antennas and users, in either order, with no more users than antennas; the axes after them
    count drops, as MATLAB code has it: none, drops, or subcarriers and drops.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array in MATLAB order.

    Returns
    -------
    list of Layout
        None, one or two layouts.
    """
    sizes = matlab_shape(shape)
    if len(sizes) > 4:
        return []
    tail = {2: "", 3: "s", 4: "fs"}[len(sizes)]
    readings = [Layout("nk" + tail, sizes), Layout("kn" + tail, sizes)]
    return [reading for reading in readings if reading.users <= reading.antennas]


def guess(shape: Sequence[int]) -> Layout:
    """Return the only possible layout of an array without a given one.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array in MATLAB order.

    Returns
    -------
    Layout

    Raises
    ------
    MatFileError
        If several layouts are possible, whose meanings the message lists, or none.
    """
    readings = possible(shape)
    if len(readings) == 1:
        return readings[0]
    shown = shape_text(matlab_shape(shape))
    if not readings:
        raise MatFileError(
            f"an array of {shown} has more axes than can be guessed; pass --layout, one letter per axis:"
            " n (antenna), k (user), s (drop), f (subcarrier), 1 (length one)"
        )
    meanings = "; ".join(
        f"{reading.axes} = users in {'columns' if reading.convention == 'hermitian' else 'rows'},"
        f" {SIGNAL_MODELS[reading.convention]}"
        for reading in readings
    )
    raise MatFileError(f"an array of {shown} can be read as {meanings}; pass --layout with one of them")


def slabs(start: int, stop: int, drop_axes: Sequence[int]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Split consecutive drops into boxes of the drop axes.

    No box holds more drops than the range, so that reading box by box needs no more memory than the range itself.

    Parameters
    ----------
    start, stop : int
        First drop in linear order, and the one after the last.
    drop_axes : sequence of int
        Lengths of the drop axes in MATLAB order, at most two.

    Yields
    ------
    tuple of int and tuple of slice
        Number of drops in the range before the box, and one slice per drop axis in MATLAB order.
    """
    if len(drop_axes) < 2:
        yield 0, tuple(slice(start, stop) for _ in drop_axes)
        return
    fast, _ = drop_axes
    position = start
    while position < stop:
        row, column = position % fast, position // fast
        whole = (stop - position) // fast
        if row == 0 and whole:
            yield position - start, (slice(0, fast), slice(column, column + whole))
            position += whole * fast
        else:
            end = min(fast, row + stop - position)
            yield position - start, (slice(row, end), slice(column, column + 1))
            position += end - row
