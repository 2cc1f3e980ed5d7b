"""Draw schemes side by side: bars of mean sum rates below the figure of one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.patheffects
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.plots.drop_picture import DropPicture
from nflae_bridge.plots.style import CAPACITY, OURS
from nflae_bridge.plots.users_map import draw_users


@dataclass(frozen=True)
class SchemeBar:
    """Bar of one scheme.

    Parameters
    ----------
    name
        The scheme's name.
    mean_sum_rate
        Length of the bar, bps/Hz.
    note
        Text on the bar.
    """

    name: str
    mean_sum_rate: float
    note: str


def schemes_figure(picture: DropPicture, bars: Sequence[SchemeBar], capacity: float, note: str) -> Figure:
    """Draw `users_figure` above, the schemes' mean sum rates and the dirty-paper capacity below.

    Parameters
    ----------
    picture
        Answer of one scheme on one drop.
    bars
        The schemes, from top to bottom.
    capacity
        Mean dirty-paper capacity, bps/Hz.
    note
        Remark at the axis of sum rates.

    Returns
    -------
    Figure
        The figure.
    """
    figure = Figure(figsize=(12, 5.2 + 1.0 + 0.36 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=[5.2, 1.0 + 0.36 * len(bars)]))
    draw_users(above, picture)
    _draw_bars(below.subplots(), bars, capacity, note)
    return figure


def _draw_bars(axes: Any, bars: Sequence[SchemeBar], capacity: float, note: str) -> None:
    rows = np.arange(len(bars))
    colours = [OURS if bar.name.startswith("nflae") else "#999999" for bar in bars]
    axes.barh(rows, [bar.mean_sum_rate for bar in bars], color=colours, height=0.7)
    for row, bar in zip(rows, bars, strict=True):
        axes.annotate(
            bar.note,
            (0, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color="white",
            fontweight="bold",
            fontsize="small",
            path_effects=[matplotlib.patheffects.withStroke(linewidth=1.5, foreground="#444444")],
        )
    axes.axvline(capacity, color=CAPACITY, linestyle="--", linewidth=1.5)
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
    axes.set_yticks(rows, [bar.name for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.04 * max(capacity, *(bar.mean_sum_rate for bar in bars)))
    axes.set_xlabel(f"mean sum rate [bps/Hz]   ({note})")
    axes.spines[["top", "right"]].set_visible(False)
