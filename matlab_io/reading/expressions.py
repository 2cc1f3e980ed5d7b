"""Read channels spread over several variables, cells or struct elements, or over real and imaginary parts.

H{:}            all cells, each a user (or, if a cell holds several users, a drop)
user(:).h       a field of all elements of a struct array
h1,h2,h3        several variables
H_total{3}      one cell
re:Hr,im:Hi     real and imaginary part; abs:A,angle:P amplitude and phase (rad), abs:A,angle_deg:P (degrees)
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.contents import find_arrays
from matlab_io.containers.variable import Variable, field_of, matlab_shape, shape_text
from matlab_io.errors import MatFileError

__all__ = ["AMPLITUDE_AND_PHASE", "REAL_AND_IMAGINARY", "Gathered", "gather", "is_expression", "part_names"]

_PARTS = ("re", "im", "abs", "angle", "angle_deg")
_PAIRS = ({"re", "im"}, {"abs", "angle"}, {"abs", "angle_deg"})
_ALL = re.compile(r"\{:\}|\(:\)")
_INDEX = re.compile(r"[({](\d+)[)}]")
REAL_AND_IMAGINARY = (("real", "imag"), ("re", "im"), ("r", "i"))
AMPLITUDE_AND_PHASE = tuple(
    (amplitude, phase)
    for amplitude in ("amplitude", "magnitude", "ampl", "amp", "mag", "abs", "a")
    for phase in ("phase", "angle", "phas", "phi", "arg", "ang", "p")
)


@dataclass(frozen=True)
class Gathered:
    """Hold channels read from several places of a file.

    Parameters
    ----------
    array : numpy.ndarray
        Elements in MATLAB order, stacked along a further last axis where `stacked`.
    name : str
        Name of one element in the signal model, e.g. ``"H{k}"``.
    elements : int
        Number of elements.
    stacked : bool
        Whether the last axis counts the elements.
    row_major : bool
        The file is row-major: the elements' own axes are those of the array in reverse.
    joined : bool
        Whether two real arrays were joined to the array; `name` then is its definition.
    notes : tuple of str
        Lines to be shown to the user.
    """

    array: npt.NDArray[Any]
    name: str
    elements: int
    stacked: bool
    row_major: bool = False
    joined: bool = False
    notes: tuple[str, ...] = ()

    @property
    def element_shape(self) -> tuple[int, ...]:
        """Return the shape of one element in its own order."""
        shape = self.array.shape[:-1] if self.stacked else self.array.shape
        return shape[::-1] if self.row_major else shape


def is_expression(name: str) -> bool:
    """Return whether a name given with ``--var`` is more than a plain or dotted name.

    Parameters
    ----------
    name : str
        Name or expression.

    Returns
    -------
    bool
    """
    return any(mark in name for mark in ",:{(")


def gather(path: Path, expression: str, variables: Sequence[Variable]) -> Gathered:
    """Read the arrays of an expression and stack them.

    Parameters
    ----------
    path : pathlib.Path
        File.
    expression : str
        Expression, see the module's description.
    variables : sequence of Variable
        Variables of the file.

    Returns
    -------
    Gathered

    Raises
    ------
    MatFileError
        If an array is missing or empty, shapes differ, or the expression is not understood.
    """
    terms = [_linear(path, term.strip(), variables) for term in re.split(r",(?![^{(]*[)}])", expression)]
    row_major = any(variable.row_major for variable in variables)
    prefixes = [term.partition(":")[0] if re.match(r"\w+:(?![)}])", term) else "" for term in terms]
    if any(prefixes):
        names = [term.partition(":")[2] for term in terms]
        if set(prefixes) not in _PAIRS or len(terms) != 2:
            raise MatFileError(
                f"{path}: --var {expression}: expected re:NAME,im:NAME, abs:NAME,angle:NAME (rad) or"
                " abs:NAME,angle_deg:NAME"
            )
        return _joined(path, dict(zip(prefixes, names, strict=True)), variables, row_major)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for term in terms:
        _check_one_axis(path, term, variables)
        arrays |= _matches(path, term, variables)
    stacked = len(terms) > 1 or _ALL.search(expression) is not None
    first, *others = arrays
    for other in others:
        if arrays[other].shape != arrays[first].shape:
            raise MatFileError(
                f"{path}: --var {expression}: {other} is {shape_text(arrays[other].shape)} and {first}"
                f" {shape_text(arrays[first].shape)}; elements of one size are needed"
            )
    array = np.stack(list(arrays.values()), axis=-1) if stacked else arrays[first]
    one = _ALL.sub(lambda match: match.group().replace(":", "k"), terms[0]) if len(terms) == 1 else "h_k"
    return Gathered(array, one, len(arrays), stacked, row_major)


def _linear(path: Path, term: str, variables: Sequence[Variable]) -> str:
    """Write an index of a row and a column, as in ``H{2,3}``, as the linear index of the file's names."""
    match = re.search(r"^([^{(]*)([{(])(\d+),(\d+)([)}])", term)
    top = next((variable for variable in variables if match and variable.name == match.group(1)), None)
    if match is None or top is None:
        if re.search(r"[{(][^)}]*,", term):
            raise MatFileError(f"{path}: --var {term}: expected one index of an element, a number or a colon")
        return term
    row, column = int(match.group(3)), int(match.group(4))
    return f"{match.group(1)}{match.group(2)}{row + top.shape[0] * (column - 1)}{match.group(5)}{term[match.end() :]}"


def _check_one_axis(path: Path, term: str, variables: Sequence[Variable]) -> None:
    """Refuse to stack elements of several axes, whose meanings nothing states."""
    if len(_ALL.findall(term)) > 1:
        example = _ALL.sub(lambda match: match.group().replace(":", "1"), term, count=1)
        raise MatFileError(
            f"{path}: --var {term}: elements of one axis are stacked, this names several; pass e.g. --var '{example}',"
            " or save the elements as one array"
        )
    top = next((variable for variable in variables if variable.name == _ALL.split(term, maxsplit=1)[0]), None)
    if _ALL.search(term) and top is not None and sum(size > 1 for size in top.shape) > 1:
        raise MatFileError(
            f"{path}: --var {term}: {top.name} is {shape_text(top.shape)}, and elements of one axis are stacked; save"
            " one row or column of it, or the elements as one array"
        )


def _joined(path: Path, parts: dict[str, str], variables: Sequence[Variable], row_major: bool) -> Gathered:
    arrays = {part: next(iter(_matches(path, name, variables).values())) for part, name in parts.items()}
    first, second = arrays.values()
    if first.shape != second.shape or np.iscomplexobj(first) or np.iscomplexobj(second):
        kinds = " and ".join(
            f"{parts[part]} ({shape_text(array.shape)} {array.dtype})" for part, array in arrays.items()
        )
        raise MatFileError(f"{path}: {kinds} are not two real arrays of one shape")
    if "re" in arrays:
        joined = arrays["re"] + 1j * arrays["im"]
    else:
        angle = np.deg2rad(arrays["angle_deg"]) if "angle_deg" in arrays else arrays["angle"]
        joined = arrays["abs"] * np.exp(1j * angle.astype(np.float64))
    names = list(parts.values())
    text = f"complex({','.join(names)})" if "re" in parts else f"({names[0]} at angle {names[1]})"
    notes = _beyond_a_turn(arrays["angle"], parts) if "angle" in arrays else ()
    return Gathered(joined, text, 1, stacked=False, row_major=row_major, joined=True, notes=notes)


def _beyond_a_turn(angle: npt.NDArray[Any], parts: dict[str, str]) -> tuple[str, ...]:
    """Return a line about angles that may be degrees."""
    largest = float(np.abs(angle[np.isfinite(angle)]).max(initial=0))
    if largest <= 2 * math.pi:
        return ()
    option = f"--var abs:{parts['abs']},angle_deg:{parts['angle']}"
    return (f"{parts['angle']} reaches {largest:.4g}, taken as rad; if it is in degrees, pass {option}",)


def _matches(path: Path, term: str, variables: Sequence[Variable]) -> dict[str, npt.NDArray[Any]]:
    """Load the arrays of one term by their MATLAB expressions, in their order, checked to be complete."""
    own = field_of(_ALL.sub(lambda match: match.group().replace(":", "1"), term))
    # The only element of a struct has no index in the file.
    pattern = (
        re.escape(term)
        .replace(r"\{:\}", r"\{\d+\}")
        .replace(r"\(:\)", r"(?:\(\d+\))?")
        .replace(r"\(1\)", r"(?:\(1\))?")
    )
    found = find_arrays(path, lambda name: name == own)
    matching = {name: array for name, array in found.items() if re.fullmatch(pattern, name)}
    if not matching:
        near = ", ".join(list(found)[:6]) or ", ".join(str(variable) for variable in variables[:12])
        raise MatFileError(f"{path}: no numeric array {term}; the file holds {near or 'nothing'}")
    if _ALL.search(term):
        top = _ALL.split(term, maxsplit=1)[0]
        total = next((math.prod(variable.shape) for variable in variables if variable.name == top), len(matching))
        indices = [tuple(int(index) for index in _INDEX.findall(name)) for name in matching]
        counted = {index[0] for index in indices if index}
        lost = sorted(set(range(1, total + 1)) - counted) if len(_ALL.findall(term)) == 1 and counted else []
        if lost and not _INDEX.search(top):
            raise MatFileError(
                f"{path}: {_ALL.sub(lambda m: m.group().replace(':', str(lost[0])), term, count=1)} is"
                " empty or not numeric; every element must hold an array of one size"
            )
    return matching


def part_names(
    variables: Sequence[Variable], parts: Sequence[tuple[str, str]] = REAL_AND_IMAGINARY
) -> tuple[str, str] | None:
    """Return the names of two real arrays of one shape that are named as the two parts of a complex one.

    Parameters
    ----------
    variables : sequence of Variable
        Variables of a file.
    parts : sequence of tuple of str
        Words for the two parts.

    Returns
    -------
    tuple of str, or None
    """
    real = {
        variable.name: variable
        for variable in variables
        if variable.is_numeric and not variable.is_complex and math.prod(variable.shape) > 1
    }
    lowered = {name.lower(): name for name in reversed(real)}
    for name, variable in real.items():
        for first, second in parts:
            for pattern, replacement in (
                (rf"(?i)(.+?)(_?){first}$", rf"\1\2{second}"),
                (rf"(?i)^{first}(_?)(.+)$", rf"{second}\1\2"),
                (rf"(?i)^((?:.*\.)?){first}$", rf"\1{second}"),
            ):
                if not re.match(pattern, name):
                    continue
                other = re.sub(pattern, replacement, name)
                match = lowered.get(other.lower())
                if match is not None and matlab_shape(real[match].shape) == matlab_shape(variable.shape):
                    return name, match
    return None
