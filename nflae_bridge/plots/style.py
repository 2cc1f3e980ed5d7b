"""The look that all experiments' pictures share: who has which colour, and what was cut told below."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from matlab_io.errors import NflaeError
from nflae_bridge.plots.names import label

FORMATS = ("png", "pdf", "svg")

# Okabe and Ito's palette; ours stand out, bounds are black, the classical schemes dashed. `tiny` is often where `small`
# is, so it is thin and hollow and lets it be seen.
_STYLES: dict[str, dict[str, Any]] = {
    "capacity": {"color": "#000000", "linestyle": "--", "marker": ""},
    "optimiser": {"color": "#000000", "linestyle": ":", "marker": "x"},
    "maximum likelihood": {"color": "#000000", "linestyle": "--", "marker": "x"},
    "small": {"color": "#D55E00", "linestyle": "-", "marker": "o", "linewidth": 2.6},
    "tiny": {"color": "#F0B429", "linestyle": "-", "marker": "s", "linewidth": 1.2, "markerfacecolor": "none"},
    "paper": {"color": "#CC79A7", "linestyle": "-", "marker": "D"},
    "transformer": {"color": "#0072B2", "linestyle": "-", "marker": "^"},
    "cnn": {"color": "#56B4E9", "linestyle": "-", "marker": "v"},
    "wmmse": {"color": "#009E73", "linestyle": "--", "marker": "P"},
    "ldma": {"color": "#8C6D1F", "linestyle": "--", "marker": "<"},
    "noma": {"color": "#7F7F7F", "linestyle": "--", "marker": ">"},
    "sdma": {"color": "#B0A000", "linestyle": "--", "marker": "h"},
    "rzf": {"color": "#4C4C9A", "linestyle": "--", "marker": "*"},
    "FFT test": {"color": "#009E73", "linestyle": "--", "marker": "P"},
}


def style(scheme: str) -> dict[str, Any]:
    """How a scheme's line is drawn in every picture."""
    return _STYLES.get(scheme, {"color": "#999999", "linestyle": "-", "marker": "."})


def empty_figure(title: str, cuts: Sequence[str], width: float = 9.0, height: float = 5.6) -> Figure:
    """A figure with a title above, and below what was cut for a quick run."""
    figure = Figure(figsize=(width, height + 0.25 * len(cuts)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    if cuts:
        lines = "\n".join(textwrap.fill(line, int(13 * width)) for line in cuts)
        figure.supxlabel(lines, fontsize=8.5, color="#A00000", ha="left", x=0.01)
    return figure


def draw_lines(axes: Any, rows: pd.DataFrame, x: str, y: str, series: str = "scheme") -> None:
    """A line a scheme, in the rows' order, its value ``y`` over ``x``."""
    for name in rows[series].unique():
        of = rows[rows[series] == name]
        axes.plot(of[x], of[y], label=label(name), markersize=6, **style(name))
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_beside(axes: Any) -> None:
    """The legend to the right of the axes, where it covers no line."""
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9.5)


def plot_format(path: Path) -> str:
    """The picture's format by the file's extension. Raises NflaeError for one that can't be drawn."""
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise NflaeError(f"{path}: no picture can be drawn as {path.suffix or 'that'}; name it .png, .pdf or .svg")
    return suffix


def render(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a file of this format."""
    content = io.BytesIO()
    # No date and no random names: the same numbers give the same file.
    metadata = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with matplotlib.rc_context({"svg.hashsalt": "nflae"}):
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()
