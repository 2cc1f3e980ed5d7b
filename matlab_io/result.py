"""Define the result of precoding: the names, axes, dtypes and units of its arrays, once for every interface.

`Result` is what Python users get. Its fields carry the schema, `RESULT_ARRAYS`, from which the file writer, the wire
format, GNU Radio streams and the reference table in the documentation are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["RESULT_ARRAYS", "RESULT_NAMES", "Result", "ResultArray"]


@dataclass(frozen=True)
class ResultArray:
    """Describe one array of a result.

    Parameters
    ----------
    name : str
        Name in files, on the wire and in MATLAB.
    field : str
        Name as an attribute in Python; differs from `name` where that is a Python keyword.
    axes : str
        Axes of one drop's block in MATLAB order: ``n`` transmit antenna, ``k`` user, ``""`` for one value per drop.
    dtype : numpy.dtype
        Element type in files, on the wire and in Python.
    unit : str
        Unit, or ``""`` for a dimensionless quantity.
    description : str
        One sentence for the reference.
    """

    name: str
    field: str
    axes: str
    dtype: np.dtype[Any]
    unit: str
    description: str

    def shape(self, drops: int, users: int, antennas: int) -> tuple[int, ...]:
        """Return the shape in Python's axis order, drops first."""
        return (drops, *(_size(axis, users, antennas) for axis in reversed(self.axes)))

    def matlab_shape(self, drops: int, users: int, antennas: int) -> tuple[int, ...]:
        """Return the shape in MATLAB order, drops last; one value per drop is a row vector."""
        return (*(_size(axis, users, antennas) for axis in self.axes or "1"), drops)


def _size(axis: str, users: int, antennas: int) -> int:
    return {"n": antennas, "k": users, "1": 1}[axis]


def _entry(axes: str, dtype: type[np.generic], unit: str, description: str, name: str = "") -> dict[str, Any]:
    return {"axes": axes, "dtype": np.dtype(dtype), "unit": unit, "text": description, "name": name}


@dataclass(frozen=True)
class Result:
    """Hold the result of precoding as numpy arrays, drops first.

    The table of arrays is `RESULT_ARRAYS`: shapes start with (drops, users); ``precoder`` is (drops, users, antennas)
    with unit-norm rows w_k, so that x = sum_k w_k sqrt(P_k) s_k.
    """

    precoder: npt.NDArray[np.complex64] = field(
        metadata=_entry("nk", np.complex64, "", "unit-norm precoding vectors w_k")
    )
    power: npt.NDArray[np.float64] = field(metadata=_entry("k", np.float64, "W", "transmit powers P_k"))
    uplink_power: npt.NDArray[np.float64] = field(
        metadata=_entry(
            "k",
            np.float64,
            "W",
            "dual uplink powers lambda_k of the optimal structure; NaN where a scheme has none",
            "lambda",
        )
    )
    near_field_score: npt.NDArray[np.float64] = field(
        metadata=_entry("k", np.float64, "", "near-field score in [0, 1]")
    )
    near_field: npt.NDArray[np.bool_] = field(
        metadata=_entry("k", np.bool_, "", "near-field labels, by which C3 is counted")
    )
    sinr: npt.NDArray[np.float64] = field(metadata=_entry("k", np.float64, "", "SINR, linear"))
    rate: npt.NDArray[np.float64] = field(metadata=_entry("k", np.float64, "bps/Hz", "rates log2(1 + SINR)"))
    sum_rate: npt.NDArray[np.float64] = field(
        metadata=_entry("", np.float64, "bps/Hz", "sum of the rates of all users")
    )
    feasible: npt.NDArray[np.bool_] = field(
        metadata=_entry("", np.bool_, "", "every user reaches the minimum rate (C4)")
    )
    fallback: npt.NDArray[np.bool_] = field(
        metadata=_entry("", np.bool_, "", "a classical scheme's result, better than the network's, is returned")
    )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Result:
        """Make a result of arrays keyed by their names in files and on the wire.

        Raises
        ------
        KeyError
            If an array is missing.
        """
        return cls(**{entry.field: arrays[entry.name] for entry in RESULT_ARRAYS})


RESULT_ARRAYS = tuple(
    ResultArray(
        entry.metadata["name"] or entry.name,
        entry.name,
        entry.metadata["axes"],
        entry.metadata["dtype"],
        entry.metadata["unit"],
        entry.metadata["text"],
    )
    for entry in fields(Result)
)
RESULT_NAMES = tuple(entry.name for entry in RESULT_ARRAYS)
