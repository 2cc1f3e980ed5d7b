"""The look that all experiments' pictures share: who has which colour, and what was cut told below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.studies.reproduction.effort import NETWORK_NAMES

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
_NAMES = {
    **NETWORK_NAMES,
    "small": "ours, small",
    "tiny": "ours, tiny",
    "capacity": "capacity (dirty paper)",
    "optimiser": "per-drop optimiser",
    "wmmse": "WMMSE",
    "ldma": "LDMA",
    "noma": "NOMA",
    "sdma": "SDMA",
    "rzf": "RZF",
}


def label(scheme: str) -> str:
    """A scheme's name as a reader knows it."""
    return _NAMES.get(scheme, scheme)


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
