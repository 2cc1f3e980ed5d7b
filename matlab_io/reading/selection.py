"""Select the variable of a ``.mat`` file that holds the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matlab_io.containers.variable import Variable, shape_text
from matlab_io.errors import MatFileError
from matlab_io.reading.refusals import refuse_not_channels

__all__ = ["choose_variable"]


def _listing(variables: Sequence[Variable], limit: int = 12) -> str:
    shown = ", ".join(str(variable) for variable in variables[:limit])
    return shown + (f" and {len(variables) - limit} more" if len(variables) > limit else "")


def choose_variable(path: Path, variables: Sequence[Variable], wanted: str | None, allow_real: bool) -> Variable:
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

    Returns
    -------
    Variable

    Raises
    ------
    MatFileError
        If there is no candidate or more than one, which the message lists, or the one named cannot be used.
    """
    if wanted is not None:
        return _named(path, variables, wanted, allow_real)
    real = [variable for variable in variables if variable.is_real_channel]
    candidates = [variable for variable in variables if variable.is_candidate] + (real if allow_real else [])
    named = [variable for variable in candidates if variable.has_channel_name]
    if len(named) == 1:
        return named[0]
    refuse_not_channels(path, variables)
    # Beside a real array with a channel's name, a single complex one is hardly the channel.
    if len(candidates) == 1 and not real:
        return candidates[0]
    if len(candidates) > 1:
        raise MatFileError(
            f"{path}: several arrays could be the channel: {_listing(named or candidates)};"
            " pass --var with the name of one"
        )
    if real:
        raise MatFileError(
            f"{path}: {_listing(real)} is real, and channels are complex;"
            " save the complex array, or pass --allow-real if that is intended"
        )
    if not variables:
        raise MatFileError(f"{path}: holds no variables; save a complex array H (antennas x users x drops) in it")
    cells = [variable for variable in variables if variable.matlab_class == "cell"]
    cell = next((variable for variable in cells if variable.has_channel_name), cells[0] if cells else None)
    advice = f"; {_cell_remedy(cell.name)}" if cell is not None else ""
    raise MatFileError(
        f"{path}: no complex numeric array to take as the channel; it holds {_listing(variables)}{advice}"
    )


def _cell_remedy(name: str) -> str:
    return f"save the content of the cell array as one array, e.g. H = cat(3, {name}{{:}})"


def _named(path: Path, variables: Sequence[Variable], wanted: str, allow_real: bool) -> Variable:
    found = next((variable for variable in variables if variable.name == wanted), None)
    if found is None:
        candidates = [variable for variable in variables if variable.is_candidate]
        holds = f"candidates: {_listing(candidates)}" if candidates else f"it holds {_listing(variables) or 'nothing'}"
        parent = wanted.rpartition(".")[0]
        above = next((variable for variable in variables if variable.name == parent), None)
        if above is not None and above.matlab_class == "struct" and math.prod(above.shape) > 1:
            field = wanted.rpartition(".")[2]
            raise MatFileError(
                f"{path}: {parent} is a struct array ({shape_text(above.shape)}), which has no single field"
                f" {field}; save the one array, e.g. H = {parent}(1).{field}"
            )
        raise MatFileError(f"{path}: no variable {wanted}; {holds}")
    if math.prod(found.shape) == 0:
        raise MatFileError(f"{path}: {found} is empty; channels need at least one antenna, user and drop")
    if found.matlab_class == "sparse":
        raise MatFileError(f"{path}: {found} is sparse; save full({wanted}) instead")
    if found.matlab_class == "cell":
        raise MatFileError(f"{path}: {found} is not a numeric array; {_cell_remedy(wanted)}")
    if not found.is_numeric:
        fields = [
            variable for variable in variables if variable.name.startswith(wanted + ".") and variable.is_candidate
        ]
        advice = f"; its complex arrays: {_listing(fields)}" if fields else "; channels are a complex numeric array"
        raise MatFileError(f"{path}: {found} is not a numeric array{advice}")
    if not found.is_complex and not allow_real:
        raise MatFileError(
            f"{path}: {found} is real, and channels are complex;"
            " save the complex array, or pass --allow-real if that is intended"
        )
    return found
