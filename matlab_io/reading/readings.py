"""List the possible readings of an array whose axes are not named: chosen only where two axes leave one reading.

References
----------
Axes of arrays that are known by their names: QuaDRiGa 2.8.1, ``qd_channel.fr``; NYUSIM 4.0, ``getLocalCIR``; MATLAB 5G
Toolbox, ``nrPerfectChannelEstimate``; MATLAB WLAN Toolbox, ``wlanHTLTFChannelEstimate``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from matlab_io.containers.variable import matlab_shape, shape_text
from matlab_io.errors import MatFileError
from matlab_io.reading.layout import AXES, Layout, parse

__all__ = ["AmbiguousLayout", "known_axes", "only_reading", "possible"]

_MAX_AXES = 6  # axes longer than one; with more the list would fill pages
_MAX_RECEIVE = 16  # receive antennas per user
_SHOWN = 13
# Own name, in lower case without underscores -> (axes, tool that names its output so).
_KNOWN = {
    "fr": ("rnfs", "QuaDRiGa's fr"),
    "freqresponse": ("rnfs", "QuaDRiGa's fr"),
    "hensemble": ("rn", "NYUSIM's H_ensemble"),
}
# Names that a tool's examples share with code of one's own: what they mean is not known.
_SHARED = {"chest": ("fnr", "the WLAN Toolbox's estimate"), "chanest": ("fnr", "the WLAN Toolbox's estimate")}


class AmbiguousLayout(MatFileError):
    """Report an array whose axes are not named by the file and must be named by an option.

    Parameters
    ----------
    message : str
        One line.
    readings : sequence of Layout
        Possible readings, the likely ones first.
    """

    def __init__(self, message: str, readings: Sequence[Layout] = ()) -> None:
        super().__init__(message)
        self.readings = tuple(readings)


def possible(shape: Sequence[int], row_major: bool = False) -> list[Layout]:
    """List the possible layouts of an array, the likely ones first.

    One axis is the transmit antennas, or two neighbouring ones are rows and columns of a panel; at most one counts
    users, at most one receive antennas (up to 16), neither more than the transmit antennas; the others count drops. Two
    axes are antennas and users.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array in its own order.
    row_major : bool
        Order of the array.

    Returns
    -------
    list of Layout
        None for more than six axes longer than one.
    """
    sizes = tuple(shape) if row_major else matlab_shape(shape)
    if len(sizes) == 2:
        candidates: Iterator[str] = iter(("nk", "kn"))
    else:
        longer = [size for size in sizes if size > 1]
        candidates = _assignments(sizes) if 0 < len(longer) <= _MAX_AXES else iter(())
    found = [_fitted(axes, sizes, row_major) for axes in candidates]
    kept = [each for each in found if max(each.users, each.receive_antennas) <= each.antennas]
    return sorted((each for each in kept if each.receive_antennas <= _MAX_RECEIVE), key=_unlikeliness)


def known_axes(name: str, shape: Sequence[int]) -> tuple[str, str] | None:
    """Return the axes of an array that a channel tool names so.

    Parameters
    ----------
    name : str
        Own name of the array, without struct or index.
    shape : sequence of int
        Shape in MATLAB order.

    Returns
    -------
    tuple of str, or None
        Layout and tool; None for other names, and for more axes than the tool's.

    Raises
    ------
    AmbiguousLayout
        If code of one's own has arrays of that name too.
    """
    own = name.lower().replace("_", "")
    sizes = matlab_shape(shape)
    if own in _SHARED and len(sizes) <= len(_SHARED[own][0]):
        axes, tool = _SHARED[own]
        given = parse(axes, sizes)
        others = "; ".join(f"--layout {each.text} = {each.meaning()}" for each in possible(sizes)[:_SHOWN])
        raise AmbiguousLayout(
            f"may be {tool}, --layout {axes} = {given.meaning()}, or another array of {shape_text(sizes)}: {others}",
            [given, *possible(sizes)],
        )
    axes, tool = _KNOWN.get(own, ("", ""))
    return (axes, tool) if len(sizes) <= len(axes) else None


def only_reading(shape: Sequence[int], row_major: bool = False) -> Layout:
    """Return the only possible layout of an array of two axes.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array in its own order.
    row_major : bool
        Order of the array.

    Returns
    -------
    Layout

    Raises
    ------
    AmbiguousLayout
        If several layouts are possible, which the message lists; always for three axes or more.
    """
    sizes = tuple(shape) if row_major else matlab_shape(shape)
    readings = possible(sizes, row_major)
    grid = len(sizes) == 2 and _is_grid(sizes)
    if len(sizes) == 2 and len(readings) == 1 and not grid:
        return readings[0]
    shown = shape_text(sizes)
    order = ", its axes in row-major order as numpy has them," if row_major else ""
    if grid:
        raise AmbiguousLayout(
            f"an array of {shown} is {readings[0].meaning()} (--layout {readings[0].text}), or an OFDM grid of"
            f" {sizes[0]} subcarriers x {sizes[1]} symbols of one antenna, for which there is nothing to precode; pass"
            f" --layout {readings[0].text} if it is the former",
            readings,
        )
    if not readings:
        raise AmbiguousLayout(f"an array of {shown}{order} needs --layout, one letter per axis: {AXES}")
    choices = "; ".join(f"--layout {each.text} = {each.meaning()}" for each in readings[:_SHOWN])
    more = len(readings) - _SHOWN
    rest = f"; and {more} more, which nflae inspect lists" if more > 0 else ""
    raise AmbiguousLayout(
        f"an array of {shown}{order} can be read in {len(readings)} ways; pass --layout: {choices}{rest}", readings
    )


def _assignments(sizes: tuple[int, ...]) -> Iterator[str]:
    """Yield the ways to name the axes: antennas, at most one of users and of receive antennas, the others drops.

    Antennas are one axis, or two neighbours, rows and columns of a panel.
    """
    longer = [at for at, size in enumerate(sizes) if size > 1]
    arrays = [(at,) for at in longer] + list(itertools.pairwise(longer))
    for array, user, receive in itertools.product(arrays, [*longer, None], [*longer, None]):
        named = [*array, *(at for at in (user, receive) if at is not None)]
        if len(set(named)) < len(named):
            continue
        letters: dict[int | None, str] = {**dict.fromkeys(array, "n"), user: "k", receive: "r"}
        axes = "".join(letters.get(at, "s") if at in longer else "1" for at in range(len(sizes)))
        yield axes.replace("ss", "fs", 1)


def _fitted(axes: str, sizes: tuple[int, ...], row_major: bool) -> Layout:
    return Layout(axes[::-1], sizes[::-1], True) if row_major else Layout(axes, sizes)


def _is_grid(sizes: Sequence[int]) -> bool:
    """Return whether the first axes are those of an OFDM grid: whole resource blocks x whole slots."""
    return sizes[0] % 12 == 0 and sizes[1] > 0 and (sizes[1] % 14 == 0 or sizes[1] == 12)


def _unlikeliness(reading: Layout) -> float:
    """Rate a reading by the habits of MATLAB and numpy code and of channel tools, for the order of the list alone."""
    letters = reading.text.replace("1", "")
    block = [letter for letter in letters if letter not in "sf"]
    drops = [at for at, letter in enumerate(letters) if letter in "sf"]
    sizes = reading.shape[::-1] if reading.row_major else reading.shape
    grid = letters.startswith("fs") and _is_grid(sizes)
    receive_first = letters.startswith("rn") and reading.receive_antennas <= 4  # [Rx, Tx, ...] of channel tools
    cost = (0.0 if reading.users > 1 else 2.0) + 3.0 * (letters.count("n") > 1)
    if "r" in letters:
        cost += 2.0 + (letters.index("r") > letters.index("n")) + (reading.receive_antennas > 4)
    if block[-1] == "n" and len(block) > 1 and "r" not in letters:
        cost += 0.5
    if drops and drops[0] < len(block) and drops[-1] >= len(drops):  # drop axes between the others
        cost += 2.0
    if drops and drops[0] == 0 and not reading.row_major:
        cost += 1.0
    cost += (reading.antennas < max(reading.shape)) + 1.5 * (reading.antennas & (reading.antennas - 1) != 0)
    cost -= 5.0 * grid + 4.0 * (grid and block == ["r", "n"])
    return cost - (5.0 if receive_first and reading.users == 1 else 2.5 * receive_first)
