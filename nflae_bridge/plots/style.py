"""Provide the style that all figures share: colours and markers of the schemes, axes, titles."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

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
    "repeat": {"color": "#CC79A7", "linestyle": "--", "marker": "s"},
    "velocity-centroid": {"color": "#56B4E9", "linestyle": "--", "marker": "s"},
    "position-map": {"color": "#8C6D1F", "linestyle": "--", "marker": "s"},
    "knn": {"color": "#000000", "linestyle": "--", "marker": "s"},
    "ridge": {"color": "#999999", "linestyle": "--", "marker": "s"},
    "floor": {"color": "#000000", "linestyle": ":", "marker": ""},
}
_SYMBOLS = {"alpha_c": r"$\alpha_c$", "gamma_2": r"$\gamma_2$", "R_min": r"$R_\mathrm{min}$"}
HELD, FREE = "with alpha_c and R_min:", "power limit alone:"  # headings of schemes in a legend
PALE = {"alpha": 0.5, "linewidth": 1.0}
_LABEL_EMS, _HANDLE_EMS = 5.0, 4.5  # widths of the labels of an axis, and of the handle of an entry of a legend
_SMALL = 0.83  # size of small type
_ASPECT = 1.5  # of a panel
_LEGEND_SHARE = 0.28  # largest share of the width for a legend beside a panel
_CENTER_LEFT = 6  # Matplotlib's code
_LINE_EMS = 1.3  # height of a line
_LEAST_WIDTH_EMS, _LEAST_HEIGHT_EMS = 3.0, 3.5  # of a panel that can be read
_LEAST_SCALE = 0.6  # of lines and markers
_SLANT = 30.0  # of tick labels without room side by side, degrees
_SOFT_BREAK = " \n"  # within a paragraph
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


def symbols(text: str) -> str:
    """Typeset the symbols of the papers in a text of a figure.

    Parameters
    ----------
    text
        Text with ``alpha_c``, ``gamma_2`` or ``R_min``.

    Returns
    -------
    str
        The text with mathematical symbols in Matplotlib's markup.
    """
    for name, symbol in _SYMBOLS.items():
        text = text.replace(name, symbol)
    return text


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
        lines = "\n".join(_SOFT_BREAK.join(textwrap.wrap(line, int(13 * width))) for line in cuts)
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
    pale = PALE if faint else {}
    if heading:
        axes.plot([], [], linestyle="", label=heading)
    for name in rows["scheme"].unique():
        selected = rows[rows["scheme"] == name]
        axes.plot(selected[x], selected[y], label=label(name), markersize=6, **{**style(name), **pale})
    grid_axes(axes)


def draw_by_constraints(axes: Any, rows: pd.DataFrame, x: str, constrained: pd.Series[bool]) -> None:
    """Draw the sum rate of schemes that keep C3 and C4, and, pale, of those with the power limit alone.

    Parameters
    ----------
    axes
        Matplotlib axes.
    rows
        Table with columns ``scheme`` and ``sum_rate``.
    x
        Name of the column of the abscissa.
    constrained
        True in the rows of schemes that keep C3 and C4.
    """
    draw_lines(axes, rows[constrained], x, "sum_rate", heading=symbols(HELD))
    draw_lines(axes, rows[~constrained], x, "sum_rate", heading=FREE, faint=True)


def legend_beside(axes: Any, title: str | None = None) -> None:
    """Place the legend to the right of the axes, where it covers no line.

    Parameters
    ----------
    axes
        Matplotlib axes.
    title
        Title of the legend.
    """
    if axes.get_legend_handles_labels()[0]:
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "alignment": "left"}
        axes.legend(title=title, frameon=False, fontsize="small", **place)


def fit_to_size(figure: Any, size: tuple[float, float]) -> bool:
    """Lay out a figure, drawn for its own size, for another one.

    Panels of a row stand one above the other where they are larger then, a legend below where there is little width;
    titles, labels and remarks are broken into lines, tick labels turned, lines and markers scaled.

    Parameters
    ----------
    figure
        Matplotlib figure.
    size
        Width and height, inches.

    Returns
    -------
    bool
        Titles, labels and legends leave room for the panels.
    """
    panels = _panels(figure)
    _scale_lines(panels, max(_LEAST_SCALE, min(1.0, size[0] / figure.get_size_inches()[0]) ** 0.5))
    figure.set_size_inches(*size)
    em = float(matplotlib.rcParams["font.size"]) / 72
    width, height = size[0] / em, size[1] / em
    for text, character, across in ((figure._suptitle, 0.62, width), (figure._supxlabel, 0.42, width)):
        if text is not None:
            text.set_text(_broken(text.get_text(), character, across))
            height -= _LINE_EMS * (1 + text.get_text().count("\n"))
    height -= _legend_below(figure, panels, width)
    rows, columns = _restack(figure, panels, width, height)
    across, up = width / columns - _LABEL_EMS, height / rows - 2 * _LINE_EMS
    if min(across, up) <= 0:
        return False
    for axes in panels:
        axes.set_title(_broken(axes.get_title("left"), 0.55, across), loc="left", fontsize="medium")
        axes.set_title(_broken(axes.get_title(), 0.55, across), fontsize="medium")
        axes.set_xlabel(_broken(axes.get_xlabel(), 0.55, across))
        axes.set_ylabel(_broken(axes.get_ylabel(), 0.55, up))
    figure.draw_without_rendering()
    for axes in panels:
        _turn_tick_labels(axes)
    return True


def has_room(figure: Any) -> bool:
    """Check that the panels of a figure are large enough and that no two of its labels overlap.

    Parameters
    ----------
    figure
        Matplotlib figure, drawn before.

    Returns
    -------
    bool
        The labels of axes and ticks, titles and legends are apart and inside the figure.
    """
    em = figure.dpi * float(matplotlib.rcParams["font.size"]) / 72
    panels = _panels(figure)
    sizes = np.array([axes.get_window_extent().size for axes in panels]) / em
    if (sizes < (_LEAST_WIDTH_EMS, _LEAST_HEIGHT_EMS)).any():
        return False
    parts: list[Any] = [figure._suptitle, figure._supxlabel, *figure.findobj(Legend)]
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        parts += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        parts += [text for axis in (axes.xaxis, axes.yaxis) for text in _tick_labels(axis) if text.get_rotation() == 0]
    boxes = [part.get_window_extent() for part in parts if part is not None and part.get_visible()]
    boxes = [box.padded(-0.1 * em) for box in boxes if min(box.size) > 0]
    page = figure.bbox
    inside = all(page.contains(*box.min) and page.contains(*box.max) for box in boxes)
    return inside and not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def _panels(figure: Any) -> list[Any]:
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_subplotspec() is not None]


def _scale_lines(panels: Sequence[Any], scale: float) -> None:
    for line in (line for axes in panels for line in axes.get_lines()):
        line.set_linewidth(scale * line.get_linewidth())
        line.set_markersize(scale * line.get_markersize())


def _tick_labels(axis: Any) -> list[Any]:
    """Return the labels of the ticks between the ends of an axis."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_major_ticks(), axis.get_majorticklocs(), strict=False)
    labels = [tick.label1 for tick, place in ticks if low <= place <= high]
    return [text for text in labels if text.get_text() and text.get_visible()]


def _turn_tick_labels(axes: Any) -> None:
    """Turn the labels of the abscissa where they overlap: slanted, or upright where lines would overlap, too."""
    labels = _tick_labels(axes.xaxis)
    boxes = [text.get_window_extent() for text in labels]
    turned = any(text.get_rotation() for text in labels)
    if len(boxes) < 2 or not (turned or any(one.overlaps(other) for one, other in pairwise(boxes))):
        return
    places = axes.transData.transform([(place, axes.get_ylim()[0]) for place in axes.get_xticks()])[:, 0]
    line = _LINE_EMS * axes.figure.dpi * labels[0].get_fontsize() / 72
    upright = np.abs(np.diff(places)).min() < line / np.sin(np.radians(_SLANT))
    for text in labels:
        text.set(rotation=90 if upright else _SLANT, ha="right", rotation_mode="anchor")
        text.set_va("center" if upright else "top")


def _broken(text: str, character: float, width: float) -> str:
    """Break the lines of a text that are longer than a width, all in ems; lines broken before are joined."""
    lines = re.sub(r"\b(Figs?\.|Table) ", "\\1\N{NO-BREAK SPACE}", text.replace(_SOFT_BREAK, " ")).split("\n")
    return "\n".join(
        _SOFT_BREAK.join(textwrap.wrap(line, max(8, int(width / character)), break_long_words=False)) for line in lines
    )


def _restack(figure: Any, panels: Sequence[Any], width: float, height: float) -> tuple[int, int]:
    """Place the panels of a single row in the rows in which they are largest; return numbers of rows and columns."""
    grids = [axes.get_subplotspec().get_gridspec() for axes in panels]
    rows, columns = max(grid.nrows for grid in grids), max(grid.ncols for grid in grids)
    if rows > 1 or columns == 1:
        return rows, columns
    shapes = [(rows, -(-len(panels) // rows)) for rows in range(1, len(panels) + 1)]
    rows, columns = max(shapes, key=lambda shape: min(width / shape[1] / _ASPECT, height / shape[0]))
    if rows > 1:
        grid = figure.add_gridspec(rows, columns)
        for index, axes in enumerate(panels):
            axes.set_subplotspec(grid[index // columns, index % columns])
            if index % columns == 0:  # with a common ordinate only the first panel has a label
                axes.tick_params(labelleft=True)
                axes.set_ylabel(axes.get_ylabel() or panels[0].get_ylabel())
    return rows, columns


def _legend_below(figure: Any, panels: Sequence[Any], width: float) -> float:
    """Place a legend of all panels below them where it takes too much of the width; return the height taken, ems."""
    beside = [axes.get_legend() for axes in panels if axes.get_legend() is not None]
    legends = [*figure.legends, *(legend for legend in beside if legend._loc == _CENTER_LEFT)]
    if len(legends) != 1:
        return 0.0
    (legend,) = legends
    names, title = [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()
    drawn: dict[str, Any] = {}  # those of error bars lose their markers in a legend's own handles
    for axes in panels:
        drawn |= dict(reversed([pair[::-1] for pair in zip(*axes.get_legend_handles_labels(), strict=True)]))
    handles = [drawn.get(name, handle) for name, handle in zip(names, legend.legend_handles, strict=True)]
    entry = _SMALL * (0.5 * max(len(re.sub(r"\$[^$]*\$", "xx", name)) for name in names) + _HANDLE_EMS)
    if entry < _LEGEND_SHARE * width:
        return 0.0
    columns = max(1, min(len(names), int(width / entry)))
    legend.remove()
    look: dict[str, Any] = {"ncols": columns, "frameon": False, "fontsize": "small", "title_fontsize": "small"}
    below = figure.legend(handles, names, title=title or None, loc="lower center", **look)
    em = figure.dpi * float(matplotlib.rcParams["font.size"]) / 72
    remarks = 0.0 if figure._supxlabel is None else figure._supxlabel.get_window_extent().height / em + _SMALL
    page: float = figure.bbox.height / em
    taken: float = below.get_window_extent().height / em + _SMALL
    below.set_bbox_to_anchor((0.5, remarks / page), figure.transFigure)
    figure.get_layout_engine().set(rect=(0, taken / page, 1, 1 - taken / page))
    return taken
