"""Read the link budget that a file may state beside its channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from matlab_io.containers.variable import Variable
from matlab_io.reading.budget_names import Ambiguous, Meaning, meaning_of

__all__ = ["OPTIONS", "BudgetQuantity", "budget_variables", "is_scalar", "link_budget", "statement"]

# Options that state a quantity in place of the file.
OPTIONS = {
    "power": "--power-dbm or --power-dbw",
    "noise_power": "--noise-dbm, --noise-dbw or --snr-db",
    "snr_db": "--snr-db",
    "noise_figure_db": "--noise-figure-db",
    "bandwidth": "--bandwidth-mhz",
    "temperature": "--temperature",
    "alpha_c": "--alpha-c",
    "min_rate": "--min-rate",
}
_TOLERANCE = 2e-3  # a dBW figure rounded to two decimals is within 0.12 % of the linear one
_LINEAR = {"W": 1.0, "mW": 1e-3, "K": 1.0, "Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
_LARGEST_SURE_POWER = 10.0  # W; from here on a power without a unit may be in dBm
_SMALLEST_SURE_NOISE = 1e-16  # W; below it N0 may be a density: kT is 4e-21 W/Hz
_SMALLEST_SURE_TEMPERATURE = 100.0  # K; below it a temperature without a unit may be in degrees Celsius
_SMALLEST_SURE_BANDWIDTH = 1e5  # Hz; below it a bandwidth without a unit may be in MHz
_NOISE = ("noise_power", "snr_db", "noise_figure_db")  # quantities that state the noise power


@dataclass(frozen=True)
class BudgetQuantity:
    """Hold one quantity of the link budget as found in a file.

    Parameters
    ----------
    variable : str
        Name of the variable, dotted for a struct field.
    numbers : numpy.ndarray
        Float64, in the variable's shape, converted to W, dB, Hz or K; a share for ``alpha_c``, bps/Hz for ``min_rate``.
        One number, but for ``noise_power``, which may be one per user or drop. Ranges are not checked here: the link
        budget has one validator, and it is not part of this package.
    problem : str
        Reason, with the remedy, why the variable cannot be used; empty if it can.
    """

    variable: str
    numbers: npt.NDArray[np.float64]
    problem: str = ""

    @property
    def value(self) -> float:
        """Return the first number."""
        return float(self.numbers.flat[0])


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


def budget_variables(variables: Sequence[Variable], channel: Variable) -> list[Variable]:
    """Return the variables whose names state a quantity of the link budget.

    Parameters
    ----------
    variables : sequence of Variable
        Variables of the file.
    channel : Variable
        Channels.

    Returns
    -------
    list of Variable
        Those at the top level and in the structs that hold the channels; of other structs single numbers only.
    """
    levels, found = _levels(channel), []
    for variable in variables:
        meaning = meaning_of(variable.field)
        if meaning is None or variable.name == channel.name:
            continue
        if isinstance(meaning, Ambiguous) and not is_scalar(variable):
            continue
        if _level_of(variable) in levels or (
            is_scalar(variable) and isinstance(meaning, Meaning) and meaning.quantity in ("power", *_NOISE)
        ):
            found.append(variable)
    return found


def link_budget(
    channel: Variable,
    variables: Sequence[Variable],
    read: Callable[[Variable], npt.NDArray[np.float64]],
    notes: list[str],
) -> dict[str, BudgetQuantity]:
    """Collect the quantities of the link budget that a file states.

    Parameters
    ----------
    channel : Variable
        Channels.
    variables : sequence of Variable
        Variables from `budget_variables`. Those of the innermost struct that holds the channels take precedence.
    read : callable
        Function that reads a numeric variable whole, float64 in its shape.
    notes : list of str
        Extended by a line per variable that gives way to another.

    Returns
    -------
    dict of str to BudgetQuantity
        Those of `OPTIONS` that the file states, usable or not.
    """
    found: dict[str, BudgetQuantity] = {}
    for level in _levels(channel):
        at_level: dict[str, BudgetQuantity] = {}
        for variable in variables:
            meaning = meaning_of(variable.field)
            if _level_of(variable) != level or not isinstance(meaning, Meaning):
                continue
            stated = _stated(variable, meaning, read)
            other = at_level.get(meaning.quantity)
            at_level[meaning.quantity] = stated if other is None else _joined(meaning.quantity, other, stated, notes)
        for name in sorted(set(found) & set(at_level)):
            notes.append(_not_used(found[name].variable, at_level[name].variable))
        found.update(at_level)
    used = dict(found)
    for variable in variables:
        meaning = meaning_of(variable.field)
        if meaning is None or (isinstance(meaning, Meaning) and _level_of(variable) in _levels(channel)):
            continue
        stating = statement(meaning.quantity, used)
        if stating is not None:
            notes.append(_not_used(variable.name, stating.variable))
            continue
        number = float(read(variable).flat[0])
        if isinstance(meaning, Ambiguous):
            problem = f"{variable.name} = {number:g} may be {meaning.reason}; {_remedy(meaning, number)}"
        else:
            option = _literal_option(meaning.quantity, _stated(variable, meaning, read))
            problem = f"{variable.name} = {number:g} is in another struct than {channel.name}; pass {option} to use it"
        found[meaning.quantity] = BudgetQuantity(variable.name, np.full((1, 1), number), problem)
    return found


def statement(quantity: str, found: Mapping[str, BudgetQuantity]) -> BudgetQuantity | None:
    """Return what states a quantity; for the noise power an SNR or a noise figure too.

    Parameters
    ----------
    quantity : str
        One of `OPTIONS`.
    found : mapping of str to BudgetQuantity
        Quantities of a file, from `link_budget`.

    Returns
    -------
    BudgetQuantity or None
    """
    names = _NOISE if quantity in _NOISE else (quantity,)
    return next((found[name] for name in names if name in found), None)


def _level_of(variable: Variable) -> str:
    return variable.name.rpartition(".")[0]


def _levels(channel: Variable) -> list[str]:
    """Return the top level, ``""``, and the structs that hold the channels, the innermost last."""
    parts = channel.name.split(".")[:-1]
    return [".".join(parts[:length]) for length in range(len(parts) + 1)]


def _not_used(name: str, other: str) -> str:
    return f"{name} is not used: {other} states the same"


def _stated(
    variable: Variable, meaning: Meaning, read: Callable[[Variable], npt.NDArray[np.float64]]
) -> BudgetQuantity:
    """Read and convert one variable of a clear name."""
    option = OPTIONS[meaning.quantity]
    if not variable.is_numeric or variable.is_complex:
        problem = f"{variable} is not a real number; save a number, or pass {option}"
        return BudgetQuantity(variable.name, np.full((1, 1), np.nan), problem)
    if not is_scalar(variable) and meaning.quantity != "noise_power":
        problem = f"{variable} is not one number; save one, or pass {option}"
        return BudgetQuantity(variable.name, np.full((1, 1), np.nan), problem)
    given = read(variable)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        numbers = _converted(given, meaning.unit)
    problem = _problem(variable.name, meaning, given, numbers)
    return BudgetQuantity(variable.name, numbers, problem)


def _converted(given: npt.NDArray[np.float64], unit: str) -> npt.NDArray[np.float64]:
    if unit in ("dBW", "dBm"):
        return np.asarray(10.0 ** ((given - (30.0 if unit == "dBm" else 0.0)) / 10.0))
    if unit == "sqrt(W)":
        return np.square(given)
    if unit == "ratio":
        return np.asarray(10.0 * np.log10(given))
    return given * _LINEAR.get(unit, 1.0)


def _problem(name: str, meaning: Meaning, given: npt.NDArray[np.float64], numbers: npt.NDArray[np.float64]) -> str:
    """Return the reason why numbers cannot be used; empty if they can."""
    option = OPTIONS[meaning.quantity]
    wrong = given[~(np.isfinite(given) & np.isfinite(numbers))]
    if wrong.size:
        return f"{name} = {wrong[0]:g}: expected finite numbers; correct it in the file, or pass {option}"
    number, shown = float(given.flat[0]), f"{name} = {given.flat[0]:g}"
    if meaning.unit == "W" and given.min() < 0:
        kind = "power" if meaning.quantity == "power" else "noise"
        if name.rpartition(".")[2].lower().replace("_", "") in ("n0", "no") and number < -150:
            return f"{shown} is a density in dBm/Hz, not a power in W; pass {option}, for the whole bandwidth"
        return f"{shown}: a power in W cannot be negative; if it is in dBm, pass --{kind}-dbm {number:g}"
    if meaning.is_sure:
        return ""
    if meaning.quantity == "power" and number >= _LARGEST_SURE_POWER:
        watts = f"--power-dbw {10 * math.log10(number):.4g}"
        return f"{shown} may be in W or in dBm; pass --power-dbm {number:g} for dBm, or {watts} for W"
    if meaning.quantity == "noise_power" and 0 < numbers.min() < _SMALLEST_SURE_NOISE:
        return f"{shown} may be a density in W/Hz; pass {option}, for the whole bandwidth"
    if meaning.quantity == "bandwidth" and number < _SMALLEST_SURE_BANDWIDTH:
        return f"{shown} may be in Hz or in MHz; pass --bandwidth-mhz {number:g} for MHz"
    if meaning.quantity == "temperature" and number < _SMALLEST_SURE_TEMPERATURE:
        return f"{shown} may be in K or in degrees Celsius; pass --temperature {number + 273.15:g} for Celsius"
    return ""


def _joined(quantity: str, first: BudgetQuantity, second: BudgetQuantity, notes: list[str]) -> BudgetQuantity:
    """Return one of two statements of a quantity that agree, a contradiction, or the one that is usable."""
    if first.problem or second.problem:
        usable, other = (second, first) if first.problem else (first, second)
        notes.append(_not_used(other.variable, usable.variable))
        return usable
    same = first.numbers.shape == second.numbers.shape
    if same and np.allclose(first.numbers, second.numbers, rtol=_TOLERANCE, atol=0.0):
        in_db = meaning_of(first.variable.rpartition(".")[2])
        decibels = isinstance(in_db, Meaning) and in_db.unit in ("dBW", "dBm")
        return second if decibels else first  # of two that agree, the linear one is exact
    unit = " W" if quantity in ("power", "noise_power") else ""
    problem = (
        f"{first.variable} and {second.variable} contradict each other ({first.value:g}{unit} and"
        f" {second.value:g}{unit}); keep one of them, or pass {OPTIONS[quantity]}"
    )
    return BudgetQuantity(second.variable, second.numbers, problem)


def _literal_option(quantity: str, stated: BudgetQuantity) -> str:
    """Return the option that states the same number, as it is typed."""
    if stated.problem or (quantity in ("power", "noise_power") and stated.value <= 0):
        return OPTIONS[quantity]
    if quantity in ("power", "noise_power"):
        return f"--{quantity.removesuffix('_power')}-dbw {10 * math.log10(stated.value):.6g}"
    return f"{OPTIONS[quantity]} {stated.value:g}"


def _remedy(meaning: Ambiguous, number: float) -> str:
    """Return the options to pass, one per reading of the number."""
    forms = {"x": lambda: number, "10lgx": lambda: 10 * math.log10(number), "20lgx": lambda: 20 * math.log10(number)}
    readings = [
        f"{option} {forms[form]():.6g} if {words}"
        for option, form, words in meaning.readings
        if form == "x" or number > 0
    ]
    return "pass " + (" or ".join(readings) if readings else OPTIONS[meaning.quantity])
