"""Turn figures into files: format, size and style sheet. Matplotlib is imported on the first figure."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
UNITS = {"in": 1.0, "cm": 2.54}
"""Units of sizes, in an inch."""
STYLES = ("house", "paper", "slides")
_LARGER = (1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.0)  # factors of a size without room
_FOLDER = Path(__file__).parent / "styles"


class StatedSize(tuple[float, float]):
    """Width and height of a figure, inches, with the unit in which they are stated, ``in`` or ``cm``."""

    unit: str

    def __new__(cls, width: float, height: float, unit: str) -> Self:
        """Convert a size in a unit to inches."""
        self = super().__new__(cls, (width / UNITS[unit], height / UNITS[unit]))
        self.unit = unit
        return self


@dataclass(frozen=True)
class FigureLook:
    """Size and style of the figures of a command.

    Parameters
    ----------
    style
        One of `STYLES`, or the path of a Matplotlib style sheet, whose settings are added to those of ``house``.
    size
        Width and height, inches; by default that of each figure.
    """

    style: str = "house"
    size: tuple[float, float] | None = None

    def check(self) -> None:
        """Check, before the work starts, that the style sheet can be read.

        Raises
        ------
        NflaeError
            If there is no such style, or if Matplotlib refuses the sheet.
        """
        self._settings()

    def render(self, draw: Callable[[], Figure], kind: str = "png") -> bytes:
        """Draw a figure and return the content of its file; the same figure always gives the same bytes.

        Parameters
        ----------
        draw
            Function that draws the figure.
        kind
            One of `FORMATS`.

        Returns
        -------
        bytes
            Content of the file.

        Raises
        ------
        NflaeError
            As `check`, or if the size has no room for the figure.
        """
        import matplotlib

        content = io.BytesIO()
        # No date and no random identifiers.
        metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
        with matplotlib.rc_context(self._settings()):
            figure = _laid_out(draw, self.size)
            if figure is None:
                raise self._no_room([draw])
            figure.savefig(content, format=kind, metadata=metadata)
        return content.getvalue()

    def check_room(self, draws: Sequence[Callable[[], Figure]]) -> None:
        """Check that the size has room for figures.

        Parameters
        ----------
        draws
            Functions that draw them.

        Raises
        ------
        NflaeError
            As `check`, or if there is no room; with a size that has room for all of them, where one is found.
        """
        import matplotlib

        with matplotlib.rc_context(self._settings()):
            if any(_laid_out(draw, self.size) is None for draw in draws):
                raise self._no_room(draws)

    def _no_room(self, draws: Sequence[Callable[[], Figure]]) -> NflaeError:
        """Return the error, within the settings of the style."""
        size = self.size or tuple(draws[0]().get_size_inches())
        unit = size.unit if isinstance(size, StatedSize) else "in"
        width, height = (UNITS[unit] * length for length in size)
        tried = [(math.ceil(10 * factor * width) / 10, math.ceil(10 * factor * height) / 10) for factor in _LARGER]
        found = next((each for each in tried if _have_room(draws, size, StatedSize(*each, unit))), None)
        example = "" if found is None else f", e.g. {found[0]:g}x{found[1]:g}{unit}"
        remedy = f"pass a larger --size{example}" + (", or --style paper" if self.style != "paper" else "")
        stated = f"{width:g} x {height:g} {'inches' if unit == 'in' else unit}"
        return NflaeError(f"{stated} have no room for this plot in style {self.style}: {remedy}")

    def _settings(self) -> dict[str, object]:
        import matplotlib

        sheet = _FOLDER / f"{self.style}.mplstyle" if self.style in STYLES else Path(self.style)
        if not sheet.is_file():
            known = ", ".join(STYLES)
            raise NflaeError(f"{self.style}: no such style; pass {known} or the path of a Matplotlib style sheet")
        try:
            return {
                name: value
                for path in (_FOLDER / "house.mplstyle", sheet)
                for name, value in matplotlib.rc_params_from_file(path, use_default_template=False).items()
            }
        except (OSError, ValueError) as error:
            raise NflaeError(f"{sheet}: Matplotlib cannot read this style sheet: {error}") from error


def _laid_out(draw: Callable[[], Figure], size: tuple[float, float] | None) -> Figure | None:
    """Draw a figure of a size, or of its own; None without room."""
    from nflae_bridge.plots.style import fit_to_size, has_room

    figure = draw()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied")
        try:
            if size is not None and tuple(figure.get_size_inches()) != size and not fit_to_size(figure, size):
                return None
            figure.draw_without_rendering()
        except UserWarning:
            return None
    return figure if size is None or has_room(figure) else None


def _have_room(draws: Sequence[Callable[[], Figure]], size: tuple[float, float], larger: tuple[float, float]) -> bool:
    """Return whether a larger size has room for figures; unknown, and False, of those that are drawn for their size."""
    return all(tuple(draw().get_size_inches()) != size and _laid_out(draw, larger) is not None for draw in draws)


def plot_format(path: Path) -> str:
    """Return the figure's file format by the file's extension.

    Parameters
    ----------
    path
        Path of the figure.

    Returns
    -------
    str
        One of `FORMATS`.

    Raises
    ------
    NflaeError
        For any other extension.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        kind = f"{path.suffix} files" if path.suffix else "files without an extension"
        raise NflaeError(f"{path}: plots cannot be written as {kind}; name it .png, .pdf or .svg")
    return suffix
