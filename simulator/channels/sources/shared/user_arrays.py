"""Arrays found in a ``.mat`` file, put together user by user, however the users were saved.

MATLAB users keep their users' channels in a struct array (``chan(2).coeff``), a cell (``chan{2}.coeff`` or
``coeff{2}``), numbered variables (``channel_00002_Coeffs``) or, a single one, in plain variables. In each case the
arrays of one user have the same place, what is left of their expression without their own name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from matlab_io import find_arrays, inspect_file
from matlab_io.containers.variable import field_of
from matlab_io.errors import NflaeError

Array = npt.NDArray[Any]
Found = dict[str, dict[str, Array]]  # field -> place -> array

Station = TypeVar("Station")

_INDEX = re.compile(r"[({](\d+)[)}]")


def find(path: Path, names: Mapping[str, str]) -> Found:
    """The arrays of a file by field and place.

    names: field -> regular expression that the whole own name of its arrays matches, in any case; of a group
    ``place``, if it has one, the match belongs to the place.

    Raises MatFileError where the file can't be read, NflaeError for a folder in its place.
    """
    patterns = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in names.items()}
    arrays = find_arrays(path, lambda own: any(pattern.fullmatch(own) for pattern in patterns.values()))
    found: Found = {name: {} for name in names}
    for expression, array in arrays.items():
        own = field_of(expression)
        start = expression.rindex(own)
        for name, pattern in patterns.items():
            if match := pattern.fullmatch(own):
                kept = match.groupdict().get("place") or ""
                found[name][expression[:start] + kept + expression[start + len(own) :]] = array
    return found


def beside(arrays: Mapping[str, Array], place: str) -> Array | None:
    """The array at a place: that in the same place, else the one with the same indices, else the only one."""
    if place in arrays:
        return arrays[place]
    indices = _INDEX.findall(place)
    alike = [array for other, array in arrays.items() if indices and _INDEX.findall(other) == indices]
    if len(alike) == 1:
        return alike[0]
    return next(iter(arrays.values())) if len(arrays) == 1 else None


def is_element(place: str) -> bool:
    """Whether a place is that of one element of an array or cell."""
    return _INDEX.search(place) is not None


def one_base_station(path: Path, places: list[str], base_station: int | None, columns: int | None = None) -> list[str]:
    """The users' places of one base station, where the file has a grid of them: rows are users, columns base stations.

    columns: how many base stations there are, if the file says so; None: the shape of the array the places are in
    tells. Raises as `chosen` does.
    """
    columns = columns or _columns(path, places)
    rows = len(places) // columns
    return chosen(path, [places[start : start + rows] for start in range(0, rows * columns, rows)], base_station)


def chosen(path: Path, stations: Sequence[Station], wanted: int | None) -> Station:
    """What belongs to the base station that is ``wanted``, counted from 1; the only one, if there is one.

    Raises NflaeError, saying how many there are, where it isn't there or one of several has to be chosen.
    """
    if (wanted or 1) > len(stations) or (wanted is None and len(stations) > 1):
        several = "s; choose one, base station 1 to " if len(stations) > 1 else ", base station "
        raise NflaeError(f"{path}: holds channels of {len(stations)} base station{several}{len(stations)}")
    return stations[(wanted or 1) - 1]


def _columns(path: Path, places: list[str]) -> int:
    grids = {variable.name: variable.shape for variable in inspect_file(path)}
    tops = {_INDEX.split(place, maxsplit=1)[0] for place in places}
    shape = grids.get(tops.pop(), (1, 1)) if len(tops) == 1 else (1, 1)
    whole = len(shape) == 2 and min(shape) > 1 and math.prod(shape) == len(places)
    return shape[1] if whole else 1


def padded(array: Array, axes: int, what: str) -> Array:
    """An array with the trailing axes of length one that MATLAB dropped. Raises NflaeError for one with more axes."""
    if array.ndim > axes:
        raise NflaeError(
            f"{what} has {array.ndim} axes, and {axes} were expected; see docs/how_to/sources.md for the layout"
        )
    return array.reshape(array.shape + (1,) * (axes - array.ndim))


def contents(path: Path) -> str:
    """What a file holds, for a message that says what it lacks."""
    shown = [str(variable) for variable in inspect_file(path)]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return ", ".join(shown[:8]) + more if shown else "nothing"


def number(arrays: Mapping[str, Array]) -> float | None:
    """The number that a field's arrays agree on; None where there is none or they differ."""
    values = {float(np.real(array).reshape(-1)[0]) for array in arrays.values()}
    return values.pop() if len(values) == 1 else None
