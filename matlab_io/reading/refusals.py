"""Refuse arrays that are no channels, such as path coefficients of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matlab_io.containers.contents import find_arrays
from matlab_io.containers.not_channels import SCENARIO, not_channels
from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError

__all__ = ["refuse_not_channels"]

_NESTED = ("cell", "struct")


def refuse_not_channels(path: Path, variables: Sequence[Variable]) -> None:
    """Refuse a file without an array of a channel's name whose arrays are known as no channels.

    Parameters
    ----------
    path : pathlib.Path
        File.
    variables : sequence of Variable
        Variables of the file.

    Raises
    ------
    MatFileError
        If there is such an array; the message names the command line that makes channels of it.
    """
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
