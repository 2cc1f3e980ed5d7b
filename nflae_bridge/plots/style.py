"""Provide the style that all figures share: colours and markers of the schemes, axes, titles."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.plots.names import label

if TYPE_CHECKING:
    import pandas as pd

# The palette of Okabe and Ito, readable with colour vision deficiencies; markers keep schemes apart in grey.
OURS = NEAR_FIELD = "#D55E00"
FAR_FIELD = "#56B4E9"
UNDECIDED = "#999999"
CAPACITY = "#000000"

# The network stands out, bounds are black, classical schemes dashed. `tiny` often coincides with `small`, so it is thin
# and hollow.
_STYLES: dict[str, dict[str, Any]] = {
    "capacity": {"color": CAPACITY, "linestyle": "--", "marker": ""},
    "optimiser": {"color": "#000000", "linestyle": ":", "marker": "x"},
    "maximum likelihood": {"color": "#000000", "linestyle": "--", "marker": "x"},
    "nflae": {"color": OURS, "linestyle": "-", "marker": "o", "linewidth": 2.6},
    "small": {"color": OURS, "linestyle": "-", "marker": "o", "linewidth": 2.6},
    "tiny": {"color": "#F0B429", "linestyle": "-", "marker": "s", "linewidth": 1.2, "markerfacecolor": "none"},
    "paper": {"color": "#CC79A7", "linestyle": "-", "marker": "D"},
    "transformer": {"color": "#0072B2", "linestyle": "-", "marker": "^"},
    "cnn": {"color": "#56B4E9", "linestyle": "-", "marker": "v"},
    "wmmse": {"color": "#009E73", "linestyle": "--", "marker": "P"},
    "inversion-free": {"color": "#0072B2", "linestyle": "--", "marker": "^"},
    "ldma": {"color": "#8C6D1F", "linestyle": "--", "marker": "<"},
    "noma": {"color": "#7F7F7F", "linestyle": "--", "marker": ">"},
    "sdma": {"color": "#B0A000", "linestyle": "--", "marker": "h"},
    "rzf": {"color": "#4C4C9A", "linestyle": "--", "marker": "*"},
    "zf": {"color": "#56B4E9", "linestyle": "--", "marker": "v"},
    "mrt": {"color": "#999999", "linestyle": "--", "marker": "D"},
    "FFT test": {"color": "#009E73", "linestyle": "--", "marker": "P"},
    "floor": {"color": "#000000", "linestyle": ":", "marker": ""},
}
_SPARE = ("#CC79A7", "#E69F00", "#7A5195", "#B0A000", "#000000")


def style(scheme: str) -> dict[str, Any]:
    """Return the line style of a scheme, the same in every figure.

    Parameters
    ----------
    scheme
        The scheme's name.

    Returns
    -------
    dict
        Keyword arguments of `matplotlib.axes.Axes.plot`; a grey line for a scheme without a style of its own.
    """
    return _STYLES.get(scheme, {"color": "#999999", "linestyle": "-", "marker": "."})


def styles(schemes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the line styles of the schemes in one figure, unknown ones in different colours.

    Parameters
    ----------
    schemes
        Names or specifications.

    Returns
    -------
    dict
        Keyword arguments of `matplotlib.axes.Axes.plot` by name.
    """
    unknown = [scheme for scheme in schemes if scheme not in _STYLES]
    spare = {scheme: _SPARE[index % len(_SPARE)] for index, scheme in enumerate(unknown)}
    return {scheme: style(scheme) | ({"color": spare[scheme]} if scheme in spare else {}) for scheme in schemes}


def empty_figure(title: str, cuts: Sequence[str], width: float = 9.0, height: float = 5.6) -> Figure:
    """Return a figure with a title above and remarks in red below.

    Parameters
    ----------
    title
        Title of the figure.
    cuts
        Remarks on the reductions of a quick run, one paragraph each.
    width, height
        Size without the remarks, inches.

    Returns
    -------
    Figure
        A figure without axes.
    """
    figure = Figure(figsize=(width, height + 0.25 * len(cuts)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize="large", fontweight="bold")
    if cuts:
        lines = "\n".join(textwrap.fill(line, int(13 * width)) for line in cuts)
        figure.supxlabel(lines, fontsize="small", color="#A00000", ha="left", x=0.01)
    return figure


def grid_axes(axes: Any) -> None:
    """Draw a light grid behind the lines and remove the upper and right border.

    Parameters
    ----------
    axes
        Matplotlib axes.
    """
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_lines(axes: Any, rows: pd.DataFrame, x: str, y: str, heading: str = "", faint: bool = False) -> None:
    """Draw one line per scheme, in the rows' order.

    Parameters
    ----------
    axes
        Matplotlib axes.
    rows
        Table with a column ``scheme``.
    x, y
        Names of the columns of the abscissa and the ordinate.
    heading
        Heading of the lines in the legend.
    faint
        Draw the lines thin and pale.
    """
    pale = {"alpha": 0.5, "linewidth": 1.0} if faint else {}
    if heading:
        axes.plot([], [], linestyle="", label=heading)
    for name in rows["scheme"].unique():
        selected = rows[rows["scheme"] == name]
        axes.plot(selected[x], selected[y], label=label(name), markersize=6, **{**style(name), **pale})
    grid_axes(axes)


def legend_beside(axes: Any, title: str | None = None) -> None:
    """Place the legend to the right of the axes, where it covers no line.

    Parameters
    ----------
    axes
        Matplotlib axes.
    title
        Title of the legend.
    """
    axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title=title, alignment="left", fontsize="small"
    )
