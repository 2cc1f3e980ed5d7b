"""Define the result of precoding: the names, axes, dtypes and units of its arrays, once for every interface.

`Result` is what Python users get. Its fields carry the schema, `RESULT_ARRAYS`, from which the file writer, the wire
format, GNU Radio streams and the reference table in the documentation are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.labelled import ArrayResult, LabelledArray, LabelledSet

__all__ = [
    "ANALOG",
    "DIGITAL",
    "ESTIMATION_ARRAYS",
    "OPTIONAL_ARRAYS",
    "PATH_ARRAYS",
    "PREDICTION_ARRAYS",
    "RECEIVE_COMBINER",
    "RESULT_ARRAYS",
    "RESULT_NAMES",
    "Result",
    "ResultArray",
    "label_arrays",
    "markdown_table",
]

_AXIS_NAMES = {"n": "antenna", "k": "user", "r": "receive_antenna", "l": "path", "m": "stream", "c": "rf_chain"}
_MATLAB_CLASSES = {"complex64": "complex single", "float64": "double", "bool": "logical"}


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
        Axes of one drop's block in MATLAB order: ``n`` transmit antenna, ``k`` user, ``r`` receive antenna, ``l`` path,
        ``m`` stream of a user, ``c`` RF chain, ``""`` for one value per drop.
    dtype : numpy.dtype
        Element type in files, on the wire and in Python.
    unit : str
        Unit, or ``""`` for a dimensionless quantity.
    description : str
        One sentence for the reference.
    per_stream : bool
        The array has an axis of streams where users have several.
    """

    name: str
    field: str
    axes: str
    dtype: np.dtype[Any]
    unit: str
    description: str
    per_stream: bool = False

    def with_streams(self) -> ResultArray:
        """Return the array as it is with several streams per user: an axis ``m`` before that of users."""
        return replace(self, axes=self.axes.replace("k", "mk")) if self.per_stream else self

    def shape(
        self, drops: int, users: int, antennas: int, receive: int = 1, streams: int = 1, chains: int = 1
    ) -> tuple[int, ...]:
        """Return the shape in Python's axis order, drops first.

        Parameters
        ----------
        drops, users, antennas, receive, streams, chains : int
            Sizes of the batch; receive antennas and streams are those of each user, chains are RF chains.

        Returns
        -------
        tuple of int
        """
        sizes = _sizes(users, antennas, receive, streams, chains)
        return (drops, *(sizes[axis] for axis in reversed(self.axes)))

    def matlab_shape(
        self, drops: int, users: int, antennas: int, receive: int = 1, streams: int = 1, chains: int = 1
    ) -> tuple[int, ...]:
        """Return the shape in MATLAB order, drops last; one value per drop is a row vector.

        Parameters
        ----------
        drops, users, antennas, receive, streams, chains : int
            Sizes of the batch; receive antennas and streams are those of each user, chains are RF chains.

        Returns
        -------
        tuple of int
        """
        sizes = _sizes(users, antennas, receive, streams, chains)
        return (*(sizes[axis] for axis in self.axes or "1"), drops)

    def label(self, values: npt.NDArray[Any], *leading: str) -> LabelledArray:
        """Name the axes of an array in Python's order.

        Parameters
        ----------
        values : numpy.ndarray
            The array, with an axis of streams where its dimensions show one.
        *leading : str
            Names of the axes before those of a drop's block.

        Returns
        -------
        LabelledArray
        """
        axes = self.axes if values.ndim == len(leading) + len(self.axes) else self.with_streams().axes
        named = (*leading, *(_AXIS_NAMES[axis] for axis in reversed(axes)))
        return LabelledArray(self.field, named, values, self.unit, self.description)

    @property
    def matlab_class(self) -> str:
        """Return the MATLAB class, with ``complex`` before it where it applies."""
        return _MATLAB_CLASSES[self.dtype.name]


def _sizes(users: int, antennas: int, receive: int, streams: int, chains: int) -> dict[str, int]:
    return {"n": antennas, "k": users, "r": receive, "m": streams, "c": chains, "1": 1}


def _entry(
    axes: str, dtype: type[np.generic], unit: str, description: str, name: str = "", per_stream: bool = False
) -> dict[str, Any]:
    return {
        "axes": axes,
        "dtype": np.dtype(dtype),
        "unit": unit,
        "text": description,
        "name": name,
        "per_stream": per_stream,
    }


@dataclass(frozen=True, eq=False, repr=False)
class Result(ArrayResult):
    """Hold the result of precoding as numpy arrays, drops first; two results are equal only if they are one object.

    Dtypes, units and meanings are in `RESULT_ARRAYS`.

    Attributes
    ----------
    precoder : numpy.ndarray
        (drops, users, antennas), with unit-norm rows w_k, so that x = sum_k w_k sqrt(P_k) s_k.
    power, uplink_power, near_field_score, near_field, sinr, rate : numpy.ndarray
        (drops, users).
    sum_rate, feasible, fallback : numpy.ndarray
        (drops,).
    receive_combiner : numpy.ndarray or None
        (drops, users, receive antennas), where users with several receive antennas were combined, else None.
    analog, digital : numpy.ndarray or None
        (drops, RF chains, antennas) and (drops, users, RF chains), of a hybrid array, else None.

    Notes
    -----
    With several streams per user, `precoder`, `power`, `uplink_power`, `sinr`, `rate`, `receive_combiner` and `digital`
    have an axis of streams after that of users.
    """

    precoder: npt.NDArray[np.complex64] = field(
        metadata=_entry("nk", np.complex64, "", "unit-norm precoding vectors w_k", per_stream=True)
    )
    power: npt.NDArray[np.float64] = field(
        metadata=_entry("k", np.float64, "W", "transmit powers P_k", per_stream=True)
    )
    uplink_power: npt.NDArray[np.float64] = field(
        metadata=_entry(
            "k",
            np.float64,
            "W",
            "dual uplink powers lambda_k (optimal structure); NaN where unused",
            "lambda",
            per_stream=True,
        )
    )
    near_field_score: npt.NDArray[np.float64] = field(
        metadata=_entry(
            "k",
            np.float64,
            "",
            "near-field score in [0, 1]; 0.5 in files: undecided, not a single spherical wave",
        )
    )
    near_field: npt.NDArray[np.bool_] = field(
        metadata=_entry("k", np.bool_, "", "near-field labels, by which C3 is counted")
    )
    sinr: npt.NDArray[np.float64] = field(metadata=_entry("k", np.float64, "", "SINR, linear", per_stream=True))
    rate: npt.NDArray[np.float64] = field(
        metadata=_entry("k", np.float64, "bps/Hz", "rates log2(1 + SINR)", per_stream=True)
    )
    sum_rate: npt.NDArray[np.float64] = field(
        metadata=_entry("", np.float64, "bps/Hz", "sum of the rates of all users")
    )
    feasible: npt.NDArray[np.bool_] = field(
        metadata=_entry("", np.bool_, "", "every user reaches the minimum rate (C4)")
    )
    fallback: npt.NDArray[np.bool_] = field(
        metadata=_entry("", np.bool_, "", "a classical scheme's result, better than the network's, is returned")
    )

    receive_combiner: npt.NDArray[np.complex64] | None = field(
        default=None,
        metadata=_entry(
            "rk",
            np.complex64,
            "",
            "unit-norm receive combiners u_k, z_k = u_k^H y_k; only where receive antennas were combined",
            per_stream=True,
        ),
    )
    analog: npt.NDArray[np.complex64] | None = field(
        default=None,
        metadata=_entry(
            "nc",
            np.complex64,
            "",
            "phase shifters F, of modulus 1 / sqrt(N), or 0 without connection; only hybrid arrays",
        ),
    )
    digital: npt.NDArray[np.complex64] | None = field(
        default=None,
        metadata=_entry(
            "ck",
            np.complex64,
            "",
            "baseband precoder D, whose columns F D are the precoding vectors; only hybrid arrays",
            per_stream=True,
        ),
    )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Result:
        """Make a result of arrays keyed by their names in files and on the wire.

        Parameters
        ----------
        arrays : mapping of str to numpy.ndarray
            Every array of `RESULT_ARRAYS`, drops first, and those of `OPTIONAL_ARRAYS` that there are.

        Returns
        -------
        Result

        Raises
        ------
        KeyError
            If an array is missing.
        """
        optional: dict[str, Any] = {entry.field: arrays.get(entry.name) for entry in OPTIONAL_ARRAYS}
        return cls(**{entry.field: arrays[entry.name] for entry in RESULT_ARRAYS}, **optional)

    def labelled(self) -> LabelledSet:
        """Return the arrays that the result holds, with the names of their axes and their units."""
        return label_arrays(vars(self))


_ENTRIES = tuple(
    ResultArray(
        entry.metadata["name"] or entry.name,
        entry.name,
        entry.metadata["axes"],
        entry.metadata["dtype"],
        entry.metadata["unit"],
        entry.metadata["text"],
        entry.metadata["per_stream"],
    )
    for entry in fields(Result)
)
OPTIONAL_ARRAYS = _ENTRIES[-3:]
RESULT_ARRAYS, (RECEIVE_COMBINER, ANALOG, DIGITAL) = _ENTRIES[:-3], OPTIONAL_ARRAYS
RESULT_NAMES = tuple(entry.name for entry in RESULT_ARRAYS)


def label_arrays(arrays: Mapping[str, npt.NDArray[Any] | None]) -> LabelledSet:
    """Name the axes of arrays of precoding.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray or None
        Arrays by their fields of `Result`, drops first.

    Returns
    -------
    LabelledSet
        Those that are not None.
    """
    held = ((entry, arrays.get(entry.field)) for entry in _ENTRIES)
    return LabelledSet(tuple(entry.label(np.asarray(values), "drop") for entry, values in held if values is not None))


PREDICTION_ARRAYS = (
    ResultArray(
        "H", "channels", "nk", np.dtype(np.complex64), "", "predicted channels, in the convention of the input"
    ),
    ResultArray(
        "csi_error_db",
        "csi_error_db",
        "k",
        np.dtype(np.float64),
        "dB",
        "estimated error of the CSI, energy of the error over that of the channel; NaN if unknown",
    ),
    ResultArray(
        "method",
        "method",
        "k",
        np.dtype(np.float64),
        "",
        "method used, index into the list `nflae_info.methods` from 1; names in Python",
    ),
)

PATH_ARRAYS = tuple(
    ResultArray(name, name, "lk", np.dtype(np.float64), unit, description)
    for name, unit, description in (
        (
            "doppler_hz",
            "Hz",
            "Doppler shifts of the paths, within half the snapshot rate; where the time between snapshots is known",
        ),
        (
            "doppler_cycles",
            "cycles per snapshot",
            "the same, from -0.5 to 0.5; where the time between snapshots is unknown",
        ),
        (
            "delay_s",
            "s",
            "delays of the paths, from 0 to the inverse subcarrier spacing; where that is known",
        ),
        ("path_gain", "", "mean power per antenna of the paths, in the square of the unit of `H`, falling"),
    )
)

ESTIMATION_ARRAYS = (
    replace(PREDICTION_ARRAYS[0], description="estimated channels, in the layout and convention of the input"),
    *PREDICTION_ARRAYS[1:],
)


def markdown_table(entries: Sequence[ResultArray] = (*RESULT_ARRAYS, *OPTIONAL_ARRAYS), drops: str = "S") -> str:
    """Return the reference table of result arrays in Markdown.

    Parameters
    ----------
    entries : sequence of ResultArray
        The arrays; by default those of precoding.
    drops : str
        Drop axes, as in the sizes; ``""`` for none.

    Returns
    -------
    str
        One row per array: name, size in MATLAB order (N antennas, K users, R receive antennas, C RF chains, L paths, S
        drops),
        dtype, MATLAB class, unit and meaning.
    """
    rows = ["| array | size | type | in MATLAB | unit | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for entry in entries:
        size = " × ".join((*(entry.axes.upper() or "1"), *drops))
        meaning = entry.description + (f"; `{entry.field}` in Python" if entry.field != entry.name else "")
        cells = (f"`{entry.name}`", size, entry.dtype.name, entry.matlab_class, entry.unit, meaning)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
