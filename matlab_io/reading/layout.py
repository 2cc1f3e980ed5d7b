"""Which axis of a MATLAB array is what, and the one place where axes are permuted.

A layout names the axes of an array in MATLAB order, one letter an axis: ``n`` antenna, ``k`` user, ``s``
drop, ``f`` subcarrier (each subcarrier is its own drop), ``1`` an axis of length one. ``nks`` is N x K x S.

Inside Python channels are ``(drops, users, antennas)``, C-contiguous, which is byte for byte MATLAB's
column-major N x K x S. Drops are numbered in MATLAB's linear (column-major) order over the drop axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import matlab_shape, shape_text
from matlab_io.errors import MatFileError

__all__ = ["Layout", "guess", "parse", "possible", "slabs"]

_AXIS_NAMES = {"n": "antennas", "k": "users", "s": "drops", "f": "subcarriers"}


@dataclass(frozen=True)
class Layout:
    """A layout fitted to one array.

    axes    one letter an axis, as the user wrote it or as it was guessed, e.g. ``"nks"``
    shape   the array's shape in MATLAB order, as many axes as ``axes`` has letters (padded with ones)
    """

    axes: str
    shape: tuple[int, ...]

    def size(self, axis: str) -> int:
        """Length of the axis named by a letter; 1 for an axis the layout does not have."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    @property
    def antennas(self) -> int:
        return self.size("n")

    @property
    def users(self) -> int:
        return self.size("k")

    @property
    def drop_letters(self) -> str:
        """The drop axes in the array's own order: ``""``, ``"s"``, ``"f"``, ``"fs"`` or ``"sf"``."""
        return "".join(letter for letter in self.axes if letter in "sf")

    @property
    def drop_axes(self) -> tuple[int, ...]:
        return tuple(self.size(letter) for letter in self.drop_letters)

    @property
    def drops(self) -> int:
        return math.prod(self.drop_axes)

    @property
    def convention(self) -> str:
        """``"hermitian"`` for users in columns (n before k), ``"direct"`` for users in rows.

        Without a user axis the antenna axis decides: first, a user's channel is a column; later, a row.
        """
        if "k" in self.axes:
            columns = self.axes.index("n") < self.axes.index("k")
        else:
            columns = self.axes.lstrip("1").startswith("n")
        return "hermitian" if columns else "direct"

    @property
    def drops_are_slowest(self) -> bool:
        """Whether a run of drops is one contiguous piece of the column-major array."""
        return self.axes.replace("1", "").endswith(self.drop_letters)

    def describe(self) -> str:
        """For example ``"256 antennas x 8 users x 100 drops"``, the axes always in the order n k f s."""
        parts = [_count(self.antennas, "antennas"), _count(self.users, "users")]
        parts += [_count(self.size(letter), _AXIS_NAMES[letter]) for letter in self.drop_letters]
        if not self.drop_letters:
            parts.append("1 drop")
        return " x ".join(parts)

    def index(self, slab: Sequence[slice]) -> tuple[slice, ...]:
        """Index into the MATLAB-order array that picks ``slab``: one slice a drop axis, in their order."""
        chosen = dict(zip(self.drop_letters, slab, strict=True))
        return tuple(chosen.get(letter, slice(None)) for letter in self.axes)

    def to_drops(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Views a MATLAB-order array with this layout's axes as ``(*drop axes reversed, users, antennas)``.

        Flattening the leading axes in C order then numbers the drops as MATLAB's linear index does.
        """
        wanted = [letter for letter in ("n", "k", *self.drop_letters) if letter in self.axes]
        order = [self.axes.index(letter) for letter in reversed(wanted)]
        singletons = [axis for axis, letter in enumerate(self.axes) if letter == "1"]
        moved = array.transpose(singletons + order).reshape([array.shape[axis] for axis in order])
        return moved if "k" in self.axes else moved[..., np.newaxis, :]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun[:-1] if number == 1 else noun}"


def parse(axes: str, shape: Sequence[int]) -> Layout:
    """Fits a layout the user wrote to an array's MATLAB-order shape.

    MATLAB drops trailing axes of length one, so a layout may have more letters than the array has axes; the
    missing axes have length one. It may have fewer only where the axes it does not name have length one.

    Raises MatFileError for an unknown letter, a repeated one, no antenna axis, or an axis that does not fit.
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
    while len(sizes) > len(letters) and sizes[-1] == 1:
        sizes.pop()
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
    """The readings of a MATLAB-order shape that a guess may choose between.

    The first two axes are antennas and users, in either order, with no more users than antennas; the axes
    after them count drops, as MATLAB code has it: none, drops, or subcarriers and drops.
    """
    sizes = matlab_shape(shape)
    if len(sizes) > 4:
        return []
    tail = {2: "", 3: "s", 4: "fs"}[len(sizes)]
    readings = [Layout("nk" + tail, sizes), Layout("kn" + tail, sizes)]
    return [reading for reading in readings if reading.users <= reading.antennas]


def guess(shape: Sequence[int]) -> Layout:
    """The only possible reading of a MATLAB-order shape.

    Raises MatFileError, listing what each reading would mean, where there are several or none.
    """
    readings = possible(shape)
    if len(readings) == 1:
        return readings[0]
    shown = shape_text(matlab_shape(shape))
    if not readings:
        raise MatFileError(
            f"an array of {shown} has more axes than can be guessed; pass --layout, one letter an axis:"
            " n (antenna), k (user), s (drop), f (subcarrier), 1 (length one)"
        )
    meanings = "; ".join(
        f"{reading.axes} = users in {'columns' if reading.convention == 'hermitian' else 'rows'},"
        f" {_law(reading.convention)}"
        for reading in readings
    )
    raise MatFileError(f"an array of {shown} can be read as {meanings}; pass --layout to say which")


def _law(convention: str) -> str:
    return "y = H' x" if convention == "hermitian" else "y = H x"


def slabs(start: int, stop: int, drop_axes: Sequence[int]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Splits the linear run of drops ``start:stop`` into boxes of the drop axes (at most two of these).

    Yields ``(offset, slices)``: where in the run the box begins, and one slice a drop axis in MATLAB order.
    No box holds more drops than the run, so reading box by box needs no more memory than the run itself.
    """
    if len(drop_axes) < 2:
        yield 0, tuple(slice(start, stop) for _ in drop_axes)
        return
    fast, _ = drop_axes
    position = start
    while position < stop:
        row, column = position % fast, position // fast
        whole = (stop - position) // fast
        if row == 0 and whole > 0:
            yield position - start, (slice(0, fast), slice(column, column + whole))
            position += whole * fast
        else:
            end = min(fast, row + stop - position)
            yield position - start, (slice(row, end), slice(column, column + 1))
            position += end - row
