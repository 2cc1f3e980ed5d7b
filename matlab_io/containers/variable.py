"""Describe one variable of a ``.mat`` file: its name, shape and class, and whether it may be a channel."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from matlab_io.containers.not_channels import not_channels
from matlab_io.errors import printable

__all__ = ["CHANNEL_NAMES", "NUMERIC_CLASSES", "Variable", "field_of", "matlab_shape", "shape_text"]

NUMERIC_CLASSES = frozenset(
    ["double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)

# Usual names of channels, compared in lower case without underscores; of a struct field, its last part.
CHANNEL_NAMES = frozenset(
    [
        "h",
        "hest",
        "hhat",
        "hfull",
        "hmat",
        "htrue",
        "hfreq",
        "hdl",
        "hul",
        "hk",
        "hall",
        "channel",
        "channels",
        "chan",
        "chans",
        "csi",
        "csiest",
        "csihat",
        "cfr",
        "channelest",
        "channelmatrix",
        "channelmatrices",
        "hchannel",
        "channelestimate",
    ]
)

_LONGEST_SHOWN = 130  # characters; names of two levels in MATLAB have 127 at most
_INDEX = re.compile(r"[({]\d+[)}]$")


def field_of(name: str) -> str:
    """Return an array's own name: ``"coeff"`` for ``"chan(2).coeff"`` and for ``"coeff{3}"``.

    Parameters
    ----------
    name : str
        MATLAB expression of the array.

    Returns
    -------
    str
        Its last part without an index.
    """
    return _INDEX.sub("", name.rpartition(".")[2])


@dataclass(frozen=True)
class Variable:
    """Describe one variable of a ``.mat`` file, or one field of a struct in it.

    Parameters
    ----------
    name : str
        Name, dotted for a struct field, e.g. ``"chan.H"``.
    shape : tuple of int
        Shape in MATLAB order, as ``size`` shows it, or in the array's own order if `row_major`.
    matlab_class : str
        ``"double"``, ``"single"``, ``"int16"``, ``"logical"``, ``"char"``, ``"struct"``, ``"cell"``, ``"sparse"``,
        ``"function_handle"``, ...
    is_complex : bool
        True if it has an imaginary part.
    row_major : bool
        True if `shape` is in row-major order, as numpy has it: numpy files, and HDF5 data without MATLAB's attributes.
    """

    name: str
    shape: tuple[int, ...]
    matlab_class: str
    is_complex: bool
    row_major: bool = False

    @property
    def field(self) -> str:
        """Return the last part of a dotted name, without an index."""
        return field_of(self.name)

    @property
    def is_numeric(self) -> bool:
        """Return whether it is a full, non-empty numeric array."""
        return self.matlab_class in NUMERIC_CLASSES and math.prod(self.shape) > 0

    @property
    def is_struct_array(self) -> bool:
        """Return whether it is a struct array of several elements, whose fields have no single value."""
        return self.matlab_class == "struct" and math.prod(self.shape) > 1

    @property
    def is_candidate(self) -> bool:
        """Return whether it may be the channels unless another is named: complex, and more than one number."""
        return (
            self.is_complex
            and self.is_numeric
            and (math.prod(self.shape) > 1 or self.has_channel_name)
            and not_channels(self.name) is None
        )

    @property
    def has_channel_name(self) -> bool:
        """Return whether it has one of the usual names of channels."""
        return self.field.lower().replace("_", "") in CHANNEL_NAMES

    @property
    def is_real_channel(self) -> bool:
        """Return whether it has a channel's name but no imaginary part; a scalar h may be a height."""
        return self.is_numeric and not self.is_complex and math.prod(self.shape) > 1 and self.has_channel_name

    def __str__(self) -> str:
        kind = f"complex {self.matlab_class}" if self.is_complex else self.matlab_class
        name = printable(self.name)
        if len(name) > _LONGEST_SHOWN:
            name = f"{name[:_LONGEST_SHOWN]}..."
        return f"{name} ({shape_text(self.shape)} {kind})"


def matlab_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that MATLAB's ``size`` shows: two axes or more, and no trailing axes of length one after these.

    Parameters
    ----------
    shape : sequence of int
        Shape in MATLAB order, of any length.

    Returns
    -------
    tuple of int
    """
    sizes = [int(size) for size in shape]
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    while len(sizes) < 2:
        sizes.append(1)
    return tuple(sizes)


def shape_text(shape: Sequence[int]) -> str:
    """Format a shape as MATLAB does, for example ``"256 x 8 x 100"``.

    Parameters
    ----------
    shape : sequence of int
        Shape in MATLAB order.

    Returns
    -------
    str
    """
    return " x ".join(str(size) for size in shape)
