"""Read the link budget that a ``.mat`` file may hold beside its channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError

__all__ = ["SCALAR_NAMES", "BudgetScalar", "is_scalar", "link_budget"]

# Name in the file, in lower case -> (quantity of the link budget, True for dBW).
SCALAR_NAMES = {
    "power": ("power", False),
    "power_dbw": ("power", True),
    "noise_power": ("noise_power", False),
    "noise_power_dbw": ("noise_power", True),
    "noise_dbw": ("noise_power", True),
    "alpha_c": ("alpha_c", False),
    "min_rate": ("min_rate", False),
}
_TOLERANCE = 2e-3  # a dBW figure rounded to two decimals is within 0.12 % of the linear one


@dataclass(frozen=True)
class BudgetScalar:
    """Hold one quantity of the link budget as found in a file.

    Parameters
    ----------
    variable : str
        Name of the variable, dotted for a struct field.
    value : float
        Finite value; W for powers (converted from dBW where the name ends so), a share, or bps/Hz. Its range is not
        checked here: the link budget has one validator, and it is not part of this package.
    """

    variable: str
    value: float


def is_scalar(variable: Variable) -> bool:
    """Return whether a variable is one real number.

    Parameters
    ----------
    variable : Variable
        Variable.

    Returns
    -------
    bool
    """
    return variable.is_numeric and not variable.is_complex and math.prod(variable.shape) == 1


def link_budget(
    path: Path,
    channel: Variable,
    variables: Sequence[Variable],
    read_value: Callable[[str], float],
    notes: list[str],
) -> dict[str, BudgetScalar]:
    """Collect the quantities of the link budget that a file states.

    Parameters
    ----------
    path : pathlib.Path
        File, for messages.
    channel : Variable
        Channels.
    variables : sequence of Variable
        Variables with a name of `SCALAR_NAMES`, in the channels' own struct or at the top level; the former take
        precedence.
    read_value : callable
        Function that reads the first element of a variable.
    notes : list of str
        Extended by a line per variable that is not a real scalar and so is ignored.

    Returns
    -------
    dict of str to BudgetScalar
        Those of ``power``, ``noise_power``, ``alpha_c`` and ``min_rate`` that the file states.

    Raises
    ------
    MatFileError
        If a number is not finite, or two numbers for one quantity at the same level contradict each other.
    """
    struct = channel.name.rpartition(".")[0]
    found: dict[str, BudgetScalar] = {}
    for level in ("", struct) if struct else ("",):
        at_level: dict[str, BudgetScalar] = {}
        for variable in variables:
            parent, _, name = variable.name.rpartition(".")
            if parent != level:
                continue
            if not is_scalar(variable):
                notes.append(f"{variable} is not a real scalar and is ignored")
                continue
            quantity, in_dbw = SCALAR_NAMES[name.lower()]
            value = _finite(path, variable.name, read_value(variable.name), in_dbw)
            other = at_level.get(quantity)
            if other is not None and not math.isclose(other.value, value, rel_tol=_TOLERANCE):
                raise MatFileError(
                    f"{path}: {other.variable} and {variable.name} contradict each other"
                    f" ({other.value:g} W and {value:g} W); keep one of them"
                )
            if other is None or not in_dbw:  # of two that agree, the linear one is exact
                at_level[quantity] = BudgetScalar(variable.name, value)
        found.update(at_level)
    return found


def _finite(path: Path, name: str, number: float, in_dbw: bool) -> float:
    """Return a finite number, converted from dBW to watts where it is in dBW."""
    try:
        value = 10.0 ** (number / 10.0) if in_dbw else number
    except OverflowError:
        value = math.inf
    if not math.isfinite(number) or not math.isfinite(value):
        unit = " of dBW" if in_dbw else ""
        raise MatFileError(f"{path}: {name} = {number:g}: expected a finite number{unit}; correct it in the file")
    return value
