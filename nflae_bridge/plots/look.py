"""Turn figures into files: format, size and style sheet. Matplotlib is imported on the first figure."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from matlab_io.errors import NflaeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
STYLES = ("house", "paper", "slides")
_FOLDER = Path(__file__).parent / "styles"


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

        from nflae_bridge.plots.style import fit_to_size, has_room

        content = io.BytesIO()
        # No date and no random identifiers.
        metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
        with matplotlib.rc_context(self._settings()):
            figure = draw()
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "constrained_layout not applied")
                try:
                    if self.size is not None:
                        drawn = tuple(figure.get_size_inches())
                        fits = drawn == self.size or fit_to_size(figure, self.size)
                        if fits:
                            figure.draw_without_rendering()
                        if not fits or not has_room(figure):
                            raise self._no_room(figure)
                    figure.savefig(content, format=kind, metadata=metadata)
                except UserWarning:
                    raise self._no_room(figure) from None
        return content.getvalue()

    def _no_room(self, figure: Figure) -> NflaeError:
        width, height = figure.get_size_inches()
        remedy = "pass a larger --size" + (", or --style paper" if self.style != "paper" else "")
        return NflaeError(f"{width:g} x {height:g} inches have no room for this plot in style {self.style}: {remedy}")

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
