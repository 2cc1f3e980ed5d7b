"""Schemes side by side: bars of their mean sum rates below the picture of one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.patheffects
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.plots.users_map import DropPicture, draw_users

_NEAR, _CAPACITY = "#D55E00", "#000000"


@dataclass(frozen=True)
class SchemeBar:
    """A scheme's mean sum rate, bps/Hz, and what to write beside it."""

    name: str
    mean_sum_rate: float
    note: str


def schemes_figure(picture: DropPicture, bars: Sequence[SchemeBar], capacity: float, note: str) -> Figure:
    """`users_figure` above, below it the schemes' mean sum rates and the dirty-paper capacity, bps/Hz."""
    figure = Figure(figsize=(12, 5.2 + 1.0 + 0.36 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=[5.2, 1.0 + 0.36 * len(bars)]))
    draw_users(above, picture)
    axes = below.subplots()
    places = np.arange(len(bars))
    colours = [_NEAR if bar.name.startswith("nflae") else "#999999" for bar in bars]
    axes.barh(places, [bar.mean_sum_rate for bar in bars], color=colours, height=0.7)
    for place, bar in zip(places, bars, strict=True):
        axes.annotate(
            bar.note,
            (0, place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color="white",
            fontweight="bold",
            fontsize=9,
            path_effects=[matplotlib.patheffects.withStroke(linewidth=1.5, foreground="#444444")],
        )
    axes.axvline(capacity, color=_CAPACITY, linestyle="--", linewidth=1.5)
    axes.annotate(
        f"capacity {capacity:.2f} ",
        (capacity, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -4),
        textcoords="offset points",
        ha="right",
        va="bottom",
        annotation_clip=False,
    )
    axes.set_yticks(places, [bar.name for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.04 * max(capacity, *(bar.mean_sum_rate for bar in bars)))
    axes.set_xlabel(f"mean sum rate [bps/Hz]   ({note})")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
