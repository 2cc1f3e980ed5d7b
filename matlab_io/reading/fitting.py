"""Decide how an array is read: its layout, its convention and the treatment of receive antennas, each with its origin.

An option takes precedence over what the file states (text variables ``layout`` and ``convention``, the struct
``nflae_info``, or attributes in HDF5), and that over the shape, which decides for two axes only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from matlab_io.containers.variable import field_of, shape_text
from matlab_io.conventions import SIGNAL_MODELS
from matlab_io.errors import MatFileError
from matlab_io.reading.expressions import Gathered
from matlab_io.reading.layout import Layout, parse
from matlab_io.reading.readings import AmbiguousLayout, known_axes, only_reading, possible
from matlab_io.reading.receive_antennas import JOINT, MODES

__all__ = ["Choices", "Reading", "fit"]

_MEANINGS = {
    "each": "every antenna as a user",
    "strongest": "the strongest antenna",
    "eigen": "combined by the dominant left singular vector",
    "joint": "combined together with the precoder",
}


@dataclass(frozen=True)
class Choices:
    """Hold the choices of the user; None where the file or the shape decides.

    Parameters
    ----------
    layout : str, optional
        Axes in the array's own order.
    convention : {"hermitian", "direct"}, optional
        Signal model.
    receive_antennas : {"each", "strongest", "eigen"}, optional
        Treatment of receive antennas.
    """

    layout: str | None = None
    convention: str | None = None
    receive_antennas: str | None = None


@dataclass(frozen=True)
class Reading:
    """Hold the decided reading of an array.

    Parameters
    ----------
    layout : Layout
        Axes.
    convention : {"hermitian", "direct"}
        Signal model.
    receive_mode : str
        Treatment of receive antennas; ``""`` where users have one.
    notes : list of str
        Lines to be shown to the user: what was decided, and the reasons.
    """

    layout: Layout
    convention: str
    receive_mode: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def users(self) -> int:
        """Return the number of users after the treatment of receive antennas."""
        return self.layout.users * (self.layout.receive_antennas if self.receive_mode == "each" else 1)


def fit(
    name: str,
    shape: tuple[int, ...],
    row_major: bool,
    gathered: Gathered | None,
    choices: Choices,
    stated: Callable[[str], str],
) -> Reading:
    """Decide the reading of an array.

    Parameters
    ----------
    name : str
        Name of the array.
    shape : tuple of int
        Shape in the array's own order; of one element for stacked ones.
    row_major : bool
        Order of the array.
    gathered : Gathered or None
        Channels from several places of the file.
    choices : Choices
        Choices of the user.
    stated : callable
        Function of ``"layout"`` or ``"convention"`` that returns the file's text, ``""`` for none.

    Returns
    -------
    Reading

    Raises
    ------
    AmbiguousLayout
        If the axes can be read in several ways.
    MatFileError
        If a choice does not fit, or several receive antennas come without a treatment.
    """
    given, origin = choices.layout, "as given"
    if given is None and not (gathered and gathered.stacked):
        given, origin = stated("layout") or None, "as the file states"
    convention, convention_origin = _convention(choices, stated)
    if row_major and (given is None or convention is None):
        raise _row_major_needs(shape, given, convention)
    if gathered is not None and gathered.stacked:
        layout = _fit_stack(gathered, shape, given)
        origin = "from the shape" if given is None else origin
    elif given is None and (known := known_axes(field_of(name), shape)):
        layout, origin = parse(known[0], shape), f"as {known[1]} has them"
    elif given is None:
        layout, origin = only_reading(shape), "from the shape"
    else:
        layout = _parse(given, origin, shape, row_major)
    used = convention or layout.convention
    notes = [
        f"{name} read as {layout.describe()} (layout {layout.text}, {origin})",
        f"users in {'columns' if layout.convention == 'hermitian' else 'rows'}: read as {SIGNAL_MODELS[used]}"
        f" ({used}{convention_origin}): {_formula(layout, used, name, gathered)}",
    ]
    if layout.users > layout.antennas:
        notes.append(f"more users ({layout.users}) than antennas ({layout.antennas}): check the layout")
    return Reading(layout, used, _receive_mode(layout, choices.receive_antennas, notes), notes)


def _parse(given: str, origin: str, shape: tuple[int, ...], row_major: bool) -> Layout:
    try:
        return parse(given, shape, row_major)
    except MatFileError as error:
        stated = "" if origin == "as given" else "the file states a layout that does not fit, pass --layout: "
        raise MatFileError(f"{stated}{error}") from None


def _convention(choices: Choices, stated: Callable[[str], str]) -> tuple[str | None, str]:
    """Return the convention that is given or stated, and its origin; None if the layout decides."""
    if choices.convention is not None:
        return choices.convention, ", as given"
    text = stated("convention").lower()
    if text and text not in SIGNAL_MODELS:
        raise MatFileError(f"the file states convention {text!r}; pass --convention {' or '.join(SIGNAL_MODELS)}")
    return (text, ", as the file states") if text else (None, "")


def _formula(layout: Layout, convention: str, name: str, gathered: Gathered | None) -> str:
    """Write the signal model in terms of the file's own variables."""
    if gathered is None:
        return layout.formula(convention, name)
    if not gathered.stacked:
        if not gathered.joined:
            return layout.formula(convention, gathered.name)
        return f"{layout.formula(convention)} with H = {gathered.name}"
    stack = layout.axes[-1]
    element = replace(layout, axes=layout.axes[:-1], shape=layout.shape[:-1])
    name = gathered.name.replace("{k}", f"{{{stack}}}").replace("(k)", f"({stack})")
    return element.formula(convention, name).replace("y =", f"y_{stack} =", 1)


def _row_major_needs(shape: tuple[int, ...], layout: str | None, convention: str | None) -> MatFileError:
    """Return the error for a file in row-major order that lacks a layout or a convention."""
    readings = possible(shape, row_major=True)
    needs = []
    if layout is None:
        likely = f", likely {readings[0].text} = {readings[0].describe()}" if readings else ""
        needs.append(f"--layout, its axes in that order{likely}")
    if convention is None:
        needs.append("--convention hermitian (y = H' x, rows h with y = h^H x) or direct (y = H x)")
    return AmbiguousLayout(
        f"is stored in row-major order ({shape_text(shape)}, as numpy has it and not MATLAB), and the file states no"
        f" {'layout' if layout is None else 'convention'}; pass {' and '.join(needs)}",
        readings if layout is None else (),
    )


def _fit_stack(gathered: Gathered, shape: tuple[int, ...], given: str | None) -> Layout:
    """Fit the layout of stacked elements: elements are users, or drops where an element holds users."""
    if gathered.row_major:
        raise MatFileError("several arrays of a row-major file are not stacked; save them as one array")
    whole = gathered.array.shape
    if given is not None:
        letters = given.strip().lower()
        if len(letters) == len(whole) and letters[-1] in "ks":
            return parse(letters, whole)
        element = parse(letters, shape)
        axis = "s" if "k" in letters else "k"
        return Layout(element.axes + axis, (*element.shape, gathered.elements))
    if len(shape) == 2 and 1 in shape:
        axes = "n1k" if shape[1] == 1 else "1nk"
        return Layout(axes, (*shape, gathered.elements))
    readings = [each for each in possible((*shape, max(gathered.elements, 2))) if each.text[-1] in "ks"]
    fixed = [replace(each, shape=(*shape, gathered.elements)) for each in readings]
    choices = "; ".join(f"--layout {each.text} = {each.meaning()}" for each in fixed[:6])
    raise AmbiguousLayout(
        f"{gathered.elements} elements of {shape_text(shape)} can be read in {len(fixed)} ways; pass --layout, the"
        f" axes of one element and then the letter of the elements: {choices}",
        fixed,
    )


def _receive_mode(layout: Layout, mode: str | None, notes: list[str]) -> str:
    receive = layout.receive_antennas
    if "r" not in layout.axes:
        if mode is not None:
            raise MatFileError(
                f"--receive-antennas {mode}: layout {layout.text} has no receive antennas; name their axis r"
            )
        return ""
    if mode is None:
        if receive > 1:
            choices = ", ".join(f"{each} ({_MEANINGS[each]})" for each in MODES)
            raise MatFileError(
                f"has {receive} receive antennas per user (layout {layout.text}), and a precoder of one stream per user"
                f" needs one; pass --receive-antennas {choices}; by nflae precode and evaluate also {JOINT}"
                f" ({_MEANINGS[JOINT]})"
            )
        return "each"
    if receive > 1:
        notes.append(f"receive antennas: {receive} per user, {_MEANINGS[mode]} ({mode})")
    return mode
