"""Read variables beside the channels of a file: values per user, such as weights, and power limits of the antennas."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import NUMERIC_CLASSES, Variable, matlab_shape, shape_text
from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    from matlab_io import ChannelFile

__all__ = ["read_antenna_limits", "read_per_user", "read_weights", "users_by_drops", "variable_shape"]

Axes = list[tuple[str, int]]


def read_weights(file: ChannelFile, name: str) -> npt.NDArray[np.float64]:
    """Read the weights of the users' rates from a variable of a channel file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    name : str
        Name of the variable.

    Returns
    -------
    numpy.ndarray
        Float64, (users,) or (drops, users).

    Raises
    ------
    NflaeError
        If there is no such variable, or it does not hold real numbers, one per user or per user and drop.
    """
    remedy = "pass --weights with such an array, or as numbers with commas between them"
    variable = _real_variable(file, name, "weights", remedy)
    if math.prod(variable.shape) == file.users:
        return _numbers(file, variable).astype(np.float64).reshape(-1)
    order, numbers = read_per_user(file, variable, "weight", remedy)
    return users_by_drops(file, numbers.astype(np.float64), order)


def read_antenna_limits(file: ChannelFile, name: str) -> npt.NDArray[np.float64]:
    """Read the power limits of the antennas from a variable of a channel file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    name : str
        Name of the variable.

    Returns
    -------
    numpy.ndarray
        W, float64 (antennas,), in the order of the channels; (1,) where one holds for every antenna.

    Raises
    ------
    NflaeError
        If there is no such variable, or it does not hold real numbers, one or as many as the antennas.
    """
    remedy = "pass --power-per-antenna with such an array, or as numbers with commas between them"
    variable = _real_variable(file, name, "power limits", remedy)
    if math.prod(variable.shape) not in (1, file.antennas):
        sizes = " or ".join(
            dict.fromkeys(shape_text(matlab_shape(each)) for each in ([file.antennas], [*file.antenna_axes]))
        )
        where = f"{file.path}: {variable.name}"
        raise NflaeError(
            f"{where} is {shape_text(variable_shape(variable))}; expected a limit per antenna, {sizes}; {remedy}"
        )
    return _numbers(file, variable).astype(np.float64).reshape(-1, order="F")


def read_per_user(
    file: ChannelFile, variable: Variable, noun: str, remedy: str
) -> tuple[Axes, npt.NDArray[np.float64]]:
    """Read a variable of one value per user, or per user and drop.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    variable : Variable
        Variable.
    noun, remedy : str
        Noun of a value and end of the error.

    Returns
    -------
    axes : list of tuple
        Letter and size of each axis, in MATLAB order.
    numbers : numpy.ndarray
        Values, with the axes in MATLAB order.

    Raises
    ------
    NflaeError
        If the variable has another size.
    """
    orders, shape = _orders(file, variable.row_major), variable_shape(variable)
    order = next((order for order in orders if _sizes(order) == shape), None)
    if order is None:
        expected = " or ".join(dict.fromkeys(shape_text(_sizes(order)) for order in orders))
        where = f"{file.path}: {variable.name}"
        raise NflaeError(f"{where} is {shape_text(shape)}; expected a {noun} per user, {expected}; {remedy}")
    return order, _numbers(file, variable)


def users_by_drops(file: ChannelFile, numbers: npt.NDArray[Any], order: Axes) -> npt.NDArray[Any]:
    """Bring values per user and drop to (drops, users).

    Parameters
    ----------
    file : ChannelFile
        Open file.
    numbers, order : numpy.ndarray, list
        As `read_per_user` returns them.

    Returns
    -------
    numpy.ndarray
        (drops, users).
    """
    values = numbers.reshape([size for _, size in order], order="F")
    users = [name for name, _ in order].index("k")
    values = np.moveaxis(values, users, 0).reshape((file.users, file.drops), order="F")
    return np.ascontiguousarray(values.T)


def _real_variable(file: ChannelFile, name: str, nouns: str, remedy: str) -> Variable:
    """Return the variable of a name, of real numbers."""
    from matlab_io.containers.contents import list_variables

    listed = [] if file.version == "raw" else list_variables(file.path, file.version)
    variable = next((each for each in listed if each.name == name), None)
    if variable is None:
        raise NflaeError(f"{file.path}: no variable {name}; {remedy}")
    if variable.matlab_class not in NUMERIC_CLASSES or variable.is_complex:
        raise NflaeError(f"{file.path}: {name} ({variable.matlab_class}) holds no {nouns}; {remedy}")
    return variable


def _orders(file: ChannelFile, row_major: bool) -> list[Axes]:
    """Return the possible axes in MATLAB order: as in the channels, users before drops, users by all drops."""
    drops = list(zip(file.drop_letters, file.drop_axes, strict=True))
    users = [("k", file.users)]
    letters = file.layout[::-1] if row_major else file.layout
    before = sum(letter in file.drop_letters for letter in letters.partition("k")[0]) if "k" in letters else 0
    return [drops[:before] + users + drops[before:], users + drops, [*users, ("s", file.drops)]]


def _sizes(order: Axes) -> tuple[int, ...]:
    return matlab_shape([size for _, size in order])


def variable_shape(variable: Variable) -> tuple[int, ...]:
    """Return the shape that MATLAB shows.

    Parameters
    ----------
    variable : Variable
        Variable.

    Returns
    -------
    tuple of int
        Sizes in MATLAB order.
    """
    return matlab_shape(variable.shape[::-1] if variable.row_major else variable.shape)


def _numbers(file: ChannelFile, variable: Variable) -> npt.NDArray[np.float64]:
    """Return the array in MATLAB's order of axes."""
    from matlab_io.reading.storage import open_storage

    with closing(open_storage(file.path, file.version, variable, [])) as storage:
        numbers = storage.numbers(variable)
    return numbers.T if variable.row_major else numbers
