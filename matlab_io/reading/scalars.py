"""The link budget that a ``.mat`` file may carry beside its channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError

__all__ = ["SCALAR_NAMES", "is_scalar", "link_budget"]

# Name in the file, in lower case -> (what it is, whether it is in dBW).
SCALAR_NAMES = {
    "power": ("power", False),
    "power_dbw": ("power", True),
    "noise_power": ("noise_power", False),
    "noise_power_dbw": ("noise_power", True),
    "noise_dbw": ("noise_power", True),
    "alpha_c": ("alpha_c", False),
    "min_rate": ("min_rate", False),
}
_TOLERANCE = 2e-3  # a dBW figure rounded to two decimals is within 0.12 % of its linear twin


def is_scalar(variable: Variable) -> bool:
    """Whether a variable is one real number."""
    return variable.is_numeric and not variable.is_complex and math.prod(variable.shape) == 1


def link_budget(
    path: Path,
    channel: Variable,
    variables: Sequence[Variable],
    value: Callable[[str], float],
    notes: list[str],
) -> dict[str, float]:
    """``power`` and ``noise_power`` (W), ``alpha_c`` and ``min_rate`` (bit/s/Hz), those that the file gives.

    variables   those named like one of them, in the channel's own struct or at the top level; the former
                count more
    value       reads a variable's first element
    notes       gets a line for one that is there but is no real scalar, and so is not used

    Raises MatFileError where one is not finite, or where two in the same place contradict each other.
    """
    home = channel.name.rpartition(".")[0]
    found: dict[str, tuple[str, float]] = {}
    for place in ("", home) if home else ("",):
        here: dict[str, tuple[str, float]] = {}
        for variable in variables:
            parent, _, name = variable.name.rpartition(".")
            if parent != place:
                continue
            if not is_scalar(variable):
                notes.append(f"{variable} is no real scalar: not used")
                continue
            quantity, in_dbw = SCALAR_NAMES[name.lower()]
            number = value(variable.name)
            if not math.isfinite(number) or (in_dbw and abs(number) > 3000):
                raise MatFileError(f"{path}: {variable.name} = {number:g}; it has to be a finite number")
            number = 10.0 ** (number / 10.0) if in_dbw else number
            if quantity in here and not math.isclose(here[quantity][1], number, rel_tol=_TOLERANCE):
                raise MatFileError(
                    f"{path}: {here[quantity][0]} and {variable.name} contradict each other"
                    f" ({here[quantity][1]:g} W and {number:g} W); keep one of them"
                )
            if quantity not in here or not in_dbw:  # of two that agree, the linear one is exact
                here[quantity] = (variable.name, number)
        found.update(here)
    return {quantity: number for quantity, (_, number) in found.items()}
