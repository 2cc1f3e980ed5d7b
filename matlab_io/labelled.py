"""Convert results to data frames of pandas and datasets of xarray, with named axes, coordinates and units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from matlab_io.errors import NflaeError
from matlab_io.extras import require

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["ArrayResult", "LabelledArray", "LabelledSet", "describe"]

_DROP = "drop"
# Arrays without these axes make the rows of a data frame unless others are named.
_INNER = ("antenna", "receive_antenna", "rf_chain", "path", "byte")


@dataclass(frozen=True)
class LabelledArray:
    """Hold one array of a result with the names of its axes.

    Parameters
    ----------
    name : str
        Name of the array.
    axes : tuple of str
        Names of the axes, in the array's order.
    values : numpy.ndarray
        The array.
    unit : str
        Unit, or ``""`` for a dimensionless quantity.
    description : str
        Meaning in a few words.
    """

    name: str
    axes: tuple[str, ...]
    values: npt.NDArray[Any]
    unit: str = ""
    description: str = ""


@dataclass(frozen=True)
class LabelledSet:
    """Hold the arrays of a result with coordinates and attributes.

    Parameters
    ----------
    arrays : tuple of LabelledArray
        Arrays; axes of one name have one size.
    coordinates : mapping of str to sequence
        Coordinates by the name of the axis; of any other axis they are 0, 1, 2, ...
    attributes : mapping of str to object
        Numbers and texts that belong to the whole result.
    """

    arrays: tuple[LabelledArray, ...]
    coordinates: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Return the sizes of all axes by name, in the order of their first use."""
        return {name: size for each in self.arrays for name, size in zip(each.axes, each.values.shape, strict=True)}

    def coordinate(self, axis: str) -> Sequence[Any] | npt.NDArray[np.int64]:
        """Return the coordinates of an axis."""
        return self.coordinates.get(axis, np.arange(self.sizes[axis]))


class ArrayResult:
    """Give a result of arrays a short representation and its forms for pandas and xarray.

    A class of results inherits from this one and implements `labelled`.
    """

    def labelled(self) -> LabelledSet:
        """Return the arrays with the names of their axes, their units and coordinates."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return describe(type(self).__name__, self.labelled())

    def to_xarray(self, *, drop_axes: Mapping[str, int] | None = None) -> xr.Dataset:
        """Return all arrays as a dataset of xarray.

        Parameters
        ----------
        drop_axes : mapping of str to int, optional
            Axes that the drops were made of and their sizes, the slowest first, by default one axis ``drop``; e.g.
            ``{"drop": 50, "subcarrier": 12}``.

        Returns
        -------
        xarray.Dataset
            One variable per array, with coordinates for every axis, counted from 0 unless the result has others, and
            with the attributes ``units`` and ``long_name``.

        Raises
        ------
        NflaeError
            If xarray is not installed, or `drop_axes` does not fit the drops.
        """
        require("xarray", f"{type(self).__name__}.to_xarray")
        import xarray

        held = _with_drop_axes(self.labelled(), drop_axes)
        return xarray.Dataset(
            {each.name: (each.axes, each.values, _attributes(each)) for each in held.arrays},
            {axis: held.coordinate(axis) for axis in held.sizes},
            dict(held.attributes),
        )

    def to_dataframe(self, *names: str, drop_axes: Mapping[str, int] | None = None) -> pd.DataFrame:
        """Return arrays as a data frame of pandas, one row per user and drop.

        Parameters
        ----------
        *names : str
            Arrays, e.g. ``"precoder"``; the index then has all of their axes. By default all arrays without an axis of
            antennas, chains, paths or bytes.
        drop_axes : mapping of str to int, optional
            As for `to_xarray`.

        Returns
        -------
        pandas.DataFrame
            One column per array, indexed by the coordinates of the axes; values of an array with fewer axes are
            repeated. ``attrs["units"]`` holds the units by column.

        Raises
        ------
        NflaeError
            If pandas is not installed, there is no such array, or `drop_axes` does not fit the drops.
        """
        require("pandas", f"{type(self).__name__}.to_dataframe")
        import pandas

        held = _with_drop_axes(self.labelled(), drop_axes)
        held = replace(held, arrays=_chosen(held.arrays, names, type(self).__name__))
        index = pandas.MultiIndex.from_product([held.coordinate(axis) for axis in held.sizes], names=list(held.sizes))
        columns = {each.name: _spread(each, held.sizes) for each in held.arrays}
        table = pandas.DataFrame(columns, index if len(held.sizes) > 1 else index.get_level_values(0))
        table.attrs["units"] = {each.name: each.unit for each in held.arrays}
        table.attrs.update(held.attributes)
        return table


def describe(name: str, held: LabelledSet) -> str:
    """Describe a result in one line: the sizes of its axes and the names of its arrays.

    Parameters
    ----------
    name : str
        Name of the class.
    held : LabelledSet
        Arrays.

    Returns
    -------
    str
        E.g. ``Result(drop 50, user 4, antenna 64: precoder, power)``.
    """
    sizes = ", ".join(f"{axis} {size}" for axis, size in held.sizes.items())
    return f"{name}({sizes}: {', '.join(each.name for each in held.arrays)})"


def _attributes(array: LabelledArray) -> dict[str, str]:
    pairs = {"units": array.unit, "long_name": array.description}
    return {name: text for name, text in pairs.items() if text}


def _chosen(arrays: tuple[LabelledArray, ...], names: tuple[str, ...], result: str) -> tuple[LabelledArray, ...]:
    """Return the arrays of some names, by default those without inner axes where there are any."""
    if not names:
        return tuple(each for each in arrays if not set(each.axes) & set(_INNER)) or arrays
    known = {each.name: each for each in arrays}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise NflaeError(f"{result} has no array {unknown[0]!r}; give names of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _spread(array: LabelledArray, sizes: Mapping[str, int]) -> npt.NDArray[Any]:
    """Return the values on a grid of all axes, flattened in C order."""
    order = sorted(range(len(array.axes)), key=lambda place: list(sizes).index(array.axes[place]))
    values = array.values.transpose(order)
    shape = [size if axis in array.axes else 1 for axis, size in sizes.items()]
    return np.broadcast_to(values.reshape(shape), tuple(sizes.values())).reshape(-1)


def _with_drop_axes(held: LabelledSet, drop_axes: Mapping[str, int] | None) -> LabelledSet:
    """Return the set with the axis of drops divided into those it was made of."""
    if drop_axes is None:
        return held
    sizes = held.sizes
    if _DROP not in sizes:
        raise NflaeError(f"drop_axes: the axes are {', '.join(sizes)}, without drops; leave drop_axes out")
    names, shape = tuple(drop_axes), tuple(drop_axes.values())
    taken = [name for name in names if name in sizes and name != _DROP]
    if taken:
        raise NflaeError(f"drop_axes names {taken[0]!r}, which is another axis of the result; choose another name")
    if math.prod(shape) != sizes[_DROP] or min(shape, default=1) < 0:
        product = " x ".join(map(str, shape))
        raise NflaeError(
            f"drop_axes has {product or 'no'} drops, the result {sizes[_DROP]}; give the sizes of all axes"
        )

    def divided(each: LabelledArray) -> LabelledArray:
        if _DROP not in each.axes:
            return each
        assert each.axes[0] == _DROP
        return replace(each, axes=(*names, *each.axes[1:]), values=each.values.reshape(*shape, *each.values.shape[1:]))

    return replace(held, arrays=tuple(map(divided, held.arrays)))
