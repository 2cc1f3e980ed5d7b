"""Select the variable of a ``.mat`` file that holds the channels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from matlab_io.containers.contents import find_arrays
from matlab_io.containers.not_channels import SCENARIO, not_channels
from matlab_io.containers.variable import CHANNEL_NAMES, Variable, shape_text
from matlab_io.errors import MatFileError
from matlab_io.reading.expressions import AMPLITUDE_AND_PHASE, part_names

__all__ = ["choose_variable"]

_NESTED = ("cell", "struct")
_MAX_LOADED = 16
_INDEX = re.compile(r"[({]\d+[)}]")


def _listing(variables: Sequence[Variable], limit: int = 12) -> str:
    shown = ", ".join(str(variable) for variable in variables[:limit])
    return shown + (f" and {len(variables) - limit} more" if len(variables) > limit else "")


def choose_variable(
    path: Path, variables: Sequence[Variable], wanted: str | None, allow_real: bool, layout: str | None = None
) -> Variable:
    """Choose the variable that holds the channels: the one named, else the only sensible candidate.

    Parameters
    ----------
    path : pathlib.Path
        File, for messages.
    variables : sequence of Variable
        Variables of the file.
    wanted : str or None
        Name given by the user.
    allow_real : bool
        Accept an array without an imaginary part too.
    layout : str, optional
        Layout given by the user, for the advice on an axis of real and imaginary part.

    Returns
    -------
    Variable

    Raises
    ------
    MatFileError
        If there is no candidate or more than one, which the message lists, or the one named cannot be used.
    """
    if wanted is not None:
        return _named(path, variables, wanted, allow_real, layout)
    real = [variable for variable in variables if variable.is_real_channel]
    candidates = [variable for variable in variables if variable.is_candidate] + (real if allow_real else [])
    named = [variable for variable in candidates if variable.has_channel_name]
    if len(named) == 1:
        return named[0]
    _refuse_not_channels(path, variables)
    # Beside a real array with a channel's name, a single complex one is hardly the channel.
    if len(candidates) == 1 and not real:
        return candidates[0]
    if len(candidates) > 1:
        raise MatFileError(
            f"{path}: several arrays could be the channel: {_listing(named or candidates)};"
            f" pass --var with the name of one{_numbered(named or candidates)}"
        )
    if pair := part_names(variables):
        raise MatFileError(
            f"{path}: {pair[0]} and {pair[1]} have the names of a real and an imaginary part;"
            f" pass --var re:{pair[0]},im:{pair[1]}"
        )
    if real:
        raise MatFileError(_is_real(path, _listing(real), real[0], layout))
    if not variables:
        raise MatFileError(f"{path}: holds no variables; save a complex array H (antennas x users x drops) in it")
    raise _none_found(path, variables)


def _none_found(path: Path, variables: Sequence[Variable]) -> MatFileError:
    """Return the error for a file without a full complex array, with the remedy for what is nearest to one."""
    if unusable := [why for variable in variables if (why := _unusable(variable)) and _may_be_meant(variable)]:
        return MatFileError(f"{path}: {unusable[0]}")
    if pair := part_names(variables, AMPLITUDE_AND_PHASE):
        return MatFileError(
            f"{path}: {pair[0]} and {pair[1]} have the names of an amplitude and a phase;"
            f" pass --var abs:{pair[0]},angle:{pair[1]}, or in degrees --var abs:{pair[0]},angle_deg:{pair[1]}"
        )
    nested = any(variable.matlab_class == "cell" or variable.is_struct_array for variable in variables)
    within = _within(path, variables) if nested else ""
    advice = f"; {within}" if within else "; save the channels as a complex array H (antennas x users x drops)"
    return MatFileError(
        f"{path}: no complex numeric array to take as the channel; it holds {_listing(variables)}{advice}"
    )


def _may_be_meant(variable: Variable) -> bool:
    return not_channels(variable.name) is None and (variable.has_channel_name or variable.is_complex)


def _unusable(variable: Variable) -> str:
    """Return why an array cannot be the channels as it is saved, with the remedy; ``""`` for any other reason."""
    if variable.matlab_class in _NESTED or variable.matlab_class == "char":
        return ""
    if math.prod(variable.shape) == 0:
        return f"{variable} is empty; channels need at least one antenna, user and drop"
    if variable.matlab_class == "sparse":
        return f"{variable} is sparse; save full({variable.name}) instead"
    if variable.matlab_class == "logical":
        return (
            f"{variable} is not complex; save the complex array, or double({variable.name}) and pass --allow-real if"
            " that is intended"
        )
    if variable.matlab_class == "object":
        return f"{variable} holds Python objects, not numbers; save a complex array, e.g. np.stack(list(H))"
    return ""


def _numbered(candidates: Sequence[Variable]) -> str:
    """Return the option that takes arrays of one shape with numbered names as users; ``""`` for others."""
    stems = {candidate.name.rstrip("0123456789") for candidate in candidates}
    one_shape = len({candidate.shape for candidate in candidates}) == 1
    if not one_shape or len(stems) > 1 or stems & {candidate.name for candidate in candidates}:
        return ""
    return f", or --var {','.join(candidate.name for candidate in candidates)} to take each as a user"


def _within(path: Path, variables: Sequence[Variable], top: str = "") -> str:
    """Return how to take the complex arrays within cells or struct arrays; ``""`` for none."""
    found = _first_arrays(path, lambda own: top == own or own.lower().replace("_", "") in CHANNEL_NAMES)
    if not found and not top:
        found = _first_arrays(path, lambda own: not_channels(own) is None)
    for name, array in found.items():
        if np.iscomplexobj(array) and name.startswith(top) and _INDEX.search(name):
            last = list(_INDEX.finditer(name))[-1]
            container = name[: last.start()]
            every = f"{container}{name[last.start()]}:{name[last.end() - 1]}{name[last.end() :]}"
            if any(each.name == container and sum(size > 1 for size in each.shape) > 1 for each in variables):
                return f"save its elements as one array, H = cat({array.ndim + 1}, {every}), or pass --var '{name}'"
            return f"pass --var '{every}' to take every element as a user (or one of them, --var '{name}')"
    return ""


def _first_arrays(path: Path, wanted: Callable[[str], bool]) -> dict[str, npt.NDArray[Any]]:
    """Load the first few arrays of given names: an error message needs no more, and files may be large."""
    left = _MAX_LOADED

    def few(own: str) -> bool:
        nonlocal left
        left -= wanted(own)
        return left >= 0 and wanted(own)

    return find_arrays(path, few)


def _is_real(path: Path, shown: str, variable: Variable, layout: str | None) -> str:
    """Return the message for a real array, with the remedy for an axis of real and imaginary part."""
    advice = "pass --allow-real if that is intended"
    if 2 in (variable.shape[0], variable.shape[-1]) and len(variable.shape) > 2:
        at = len(variable.shape) - 1 if variable.shape[-1] == 2 else 0
        colons = [":"] * len(variable.shape)
        parts = [",".join([*colons[:at], part, *colons[at + 1 :]]) for part in "12"]
        axis = "last" if at else "first"
        usual = {3: "nk", 4: "nks", 5: "nkfs"}.get(len(variable.shape), "nk")
        usual = usual[::-1] if variable.row_major else usual
        letters = layout if layout and len(layout) == len(variable.shape) - 1 else usual
        letters = letters + "c" if at else "c" + letters
        joined = f"complex({', '.join(f'{variable.name}({part})' for part in parts)})"
        if variable.row_major:
            joined = " + 1j*".join(f"{variable.name}[{'..., ' if at else ''}{part}]" for part in "01")
        advice = (
            f"if its {axis} axis is real and imaginary part, name that axis c, e.g. --layout {letters}, or save"
            f" {joined}; else {advice}"
        )
    else:
        advice = f"save the complex array, or {advice}"
    return f"{path}: {shown} is real, and channels are complex; {advice}"


def _named(path: Path, variables: Sequence[Variable], wanted: str, allow_real: bool, layout: str | None) -> Variable:
    found = next((variable for variable in variables if variable.name == wanted), None)
    if found is None:
        candidates = [variable for variable in variables if variable.is_candidate]
        holds = f"candidates: {_listing(candidates)}" if candidates else f"it holds {_listing(variables) or 'nothing'}"
        parent = wanted.rpartition(".")[0]
        above = next((variable for variable in variables if variable.name == parent), None)
        if above is not None and above.is_struct_array:
            field = wanted.rpartition(".")[2]
            raise MatFileError(
                f"{path}: {parent} is a struct array ({shape_text(above.shape)}), which has no single field"
                f" {field}; pass --var '{parent}(:).{field}' to take every element as a user,"
                f" or --var '{parent}(1).{field}'"
            )
        raise MatFileError(f"{path}: no variable {wanted}; {holds}")
    if unusable := _unusable(found):
        raise MatFileError(f"{path}: {unusable}")
    if found.matlab_class == "cell":
        advice = _within(path, variables, found.name) or "it holds no complex arrays"
        raise MatFileError(f"{path}: {found} is not a numeric array; {advice}")
    if not found.is_numeric:
        fields = [
            variable for variable in variables if variable.name.startswith(wanted + ".") and variable.is_candidate
        ]
        advice = f"; its complex arrays: {_listing(fields)}" if fields else "; channels are a complex numeric array"
        raise MatFileError(f"{path}: {found} is not a numeric array{advice}")
    if not found.is_complex and not allow_real:
        raise MatFileError(_is_real(path, str(found), found, layout))
    return found


def _refuse_not_channels(path: Path, variables: Sequence[Variable]) -> None:
    """Refuse a file whose arrays are known as no channels, with the command line that makes channels of them."""
    names = {variable.name for variable in variables}
    for variable in variables:
        is_container = variable.matlab_class in _NESTED
        found = not_channels(variable.name, names) if is_container or variable.is_complex else None
        if found is not None:
            itself = "" if is_container else f" (pass --var {variable.name} to take it)"
            shape = () if is_container else variable.shape
            raise MatFileError(f"{path}: {variable} is not taken as a channel: {found.remedy(path, shape)}{itself}")
    if any(variable.is_candidate or variable.is_real_channel for variable in variables):
        return
    if any(SCENARIO.matches(name) for name in names):
        raise MatFileError(f"{path}: holds no channels: {SCENARIO.remedy(path)}")
    for variable in variables:
        if variable.matlab_class in _NESTED and (own := _nested_name(path)) is not None:
            nested = not_channels(own)
            assert nested is not None
            raise MatFileError(f"{path}: {own} in {variable} is not taken as a channel: {nested.remedy(path)}")


def _nested_name(path: Path) -> str | None:
    """Return the own name of the first array in a cell or struct of the file that is known as no channel."""
    names: list[str] = []

    def note(own: str) -> bool:
        if not_channels(own) is not None:
            names.append(own)
        return False  # nothing is loaded

    find_arrays(path, note)
    return names[0] if names else None
