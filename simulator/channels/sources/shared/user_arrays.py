"""Find the arrays of each user in a ``.mat`` file, for all common ways to save several users.

The channels of several users are saved as a struct array (``chan(2).coeff``), a cell (``chan{2}.coeff`` or
``coeff{2}``) or numbered variables (``channel_00002_Coeffs``), those of a single user in plain variables. In each case
the arrays of one user have the same location: their expression without their own name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from matlab_io import find_arrays, inspect_file
from matlab_io.containers.variable import field_of
from matlab_io.errors import NflaeError

Array = npt.NDArray[Any]
FoundArrays = dict[str, dict[str, Array]]  # field -> location -> array

Station = TypeVar("Station")

_INDEX = re.compile(r"[({](\d+)[)}]")


def load(path: Path, wanted: Callable[[str], bool]) -> dict[str, Array]:
    """Load the numeric arrays of given names with their axes in the order of the program that wrote them.

    Parameters
    ----------
    path
        ``.mat`` or ``.npz`` file, or HDF5 file of another program than MATLAB.
    wanted
        Predicate of an array's own name, see `matlab_io.find_arrays`.

    Returns
    -------
    dict
        Expression -> array. Of row-major files, arrays have the axes that numpy shows, those of length one included.

    Raises
    ------
    MatFileError
        If the file cannot be read.
    """
    arrays = find_arrays(path, wanted)
    for variable in inspect_file(path):
        if variable.row_major and variable.name in arrays:
            arrays[variable.name] = arrays[variable.name].T.reshape(variable.shape)
    return arrays


def find(path: Path, names: Mapping[str, str]) -> FoundArrays:
    """Find the arrays of a file by field and location.

    Parameters
    ----------
    path
        File, as in `load`.
    names
        Field -> regular expression for the whole own name of its arrays, case-insensitive. The match of a group
        ``location``, if there is one, is part of the location.

    Returns
    -------
    dict
        Field -> location -> array.

    Raises
    ------
    MatFileError
        If the file cannot be read.
    NflaeError
        If the path is a folder.
    """
    patterns = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in names.items()}
    arrays = load(path, lambda own: any(pattern.fullmatch(own) for pattern in patterns.values()))
    found: FoundArrays = {name: {} for name in names}
    for expression, array in arrays.items():
        own = field_of(expression)
        start = expression.rindex(own)
        for name, pattern in patterns.items():
            if match := pattern.fullmatch(own):
                kept = match.groupdict().get("location") or ""
                found[name][expression[:start] + kept + expression[start + len(own) :]] = array
    return found


def array_at(arrays: Mapping[str, Array], location: str) -> Array | None:
    """Return the array that belongs to a location: at that location, else with the same indices, else the only one.

    Parameters
    ----------
    arrays
        Location -> array, of one field.
    location
        Location of an array of another field.

    Returns
    -------
    ndarray or None
        The array; None if none or several match.
    """
    if location in arrays:
        return arrays[location]
    indices = _INDEX.findall(location)
    matching = [array for other, array in arrays.items() if indices and _INDEX.findall(other) == indices]
    if len(matching) == 1:
        return matching[0]
    return next(iter(arrays.values())) if len(arrays) == 1 else None


def is_element(location: str) -> bool:
    """Return whether a location is one element of an array or cell.

    Parameters
    ----------
    location
        Location in a file.

    Returns
    -------
    bool
        True for an indexed location.
    """
    return _INDEX.search(location) is not None


def one_base_station(
    path: Path, locations: list[str], base_station: int | None, columns: int | None = None
) -> list[str]:
    """Select the users of one base station from a grid with users as rows and base stations as columns.

    Parameters
    ----------
    path
        File.
    locations
        Locations of all users and base stations, column by column.
    base_station
        Number of the base station, counted from 1.
    columns
        Number of base stations, if given in the file; None for the number of columns of the array.

    Returns
    -------
    list of str
        Locations of the users.

    Raises
    ------
    NflaeError
        As `select_station`.
    """
    columns = columns or _columns(path, locations)
    rows = len(locations) // columns
    stations = [locations[start : start + rows] for start in range(0, rows * columns, rows)]
    return select_station(path, stations, base_station)


def select_station(path: Path, stations: Sequence[Station], number: int | None) -> Station:
    """Select the data of one base station.

    Parameters
    ----------
    path
        File, for the message.
    stations
        Data of all base stations.
    number
        Number of the base station, counted from 1; None for the only one.

    Returns
    -------
    Station
        Its data.

    Raises
    ------
    NflaeError
        If the base station does not exist, or if there are several and none is given.
    """
    if (number or 1) > len(stations) or (number is None and len(stations) > 1):
        several = "s; add --base-station with a number from 1 to " if len(stations) > 1 else ", base station "
        raise NflaeError(f"{path}: holds channels of {len(stations)} base station{several}{len(stations)}")
    return stations[(number or 1) - 1]


def _columns(path: Path, locations: list[str]) -> int:
    """Return the number of columns of the array that holds the locations, 1 unless it holds exactly these."""
    shapes = {variable.name: variable.shape for variable in inspect_file(path)}
    variables = {_INDEX.split(location, maxsplit=1)[0] for location in locations}
    shape = shapes.get(variables.pop(), (1, 1)) if len(variables) == 1 else (1, 1)
    is_grid = len(shape) == 2 and min(shape) > 1 and math.prod(shape) == len(locations)
    return shape[1] if is_grid else 1


def restore_axes(array: Array, axes: int, label: str) -> Array:
    """Restore the trailing axes of length one that MATLAB drops.

    Parameters
    ----------
    array
        Array as read.
    axes
        Number of axes.
    label
        File and name of the array, for the message.

    Returns
    -------
    ndarray
        The array with ``axes`` axes.

    Raises
    ------
    NflaeError
        If the array has more axes.
    """
    if array.ndim > axes:
        raise NflaeError(
            f"{label} has {array.ndim} axes, and {axes} were expected; see docs/how_to/sources.md for the layout"
        )
    return array.reshape(array.shape + (1,) * (axes - array.ndim))


def describe_contents(path: Path) -> str:
    """Describe the variables of a file for an error message.

    Parameters
    ----------
    path
        ``.mat`` file.

    Returns
    -------
    str
        The first eight variables and the number of others.
    """
    shown = [str(variable) for variable in inspect_file(path)]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return ", ".join(shown[:8]) + more if shown else "nothing"


def common_number(arrays: Mapping[str, Array]) -> float | None:
    """Return the number on which all arrays of a field agree.

    Parameters
    ----------
    arrays
        Location -> array.

    Returns
    -------
    float or None
        The number; None if there is none or the arrays differ.
    """
    values = {float(np.real(array).reshape(-1)[0]) for array in arrays.values()}
    return values.pop() if len(values) == 1 else None
