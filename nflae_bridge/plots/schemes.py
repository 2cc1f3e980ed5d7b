"""Draw schemes side by side: bars of mean sum rates below the figure of one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.patheffects
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.plots.drop_picture import DropPicture, Room
from nflae_bridge.plots.maps.users_map import draw_users
from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import CAPACITY, OURS

_AXIS_EMS, _BAR_EMS = 5.5, 1.5  # height of the axis and of a bar
_LARGEST_SHARE = 0.45  # of the height
_NOTE_EMS, _NAME_EMS = 0.55, 7.0  # widths of a character of a note and of a scheme's name


@dataclass(frozen=True)
class SchemeBar:
    """Bar of one scheme.

    Parameters
    ----------
    name
        The scheme's name.
    mean_sum_rate
        Length of the bar, bps/Hz.
    notes
        Parts of the text on the bar, the most important first; those without room are left out.
    """

    name: str
    mean_sum_rate: float
    notes: Sequence[str]


def schemes_figure(
    picture: DropPicture,
    bars: Sequence[SchemeBar],
    capacity: float,
    note: str,
    size: tuple[float, float] | None = None,
) -> Figure:
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
    size
        Width and height, inches; by default 12 wide, and as high as the bars need.

    Returns
    -------
    Figure
        The figure.
    """
    shares = 5.2, 1.0 + 0.36 * len(bars)
    figure = Figure(figsize=size or (12, sum(shares)), layout="constrained")
    FigureCanvasAgg(figure)
    if size is not None:
        height = Room.of(figure).height
        needed = min(_AXIS_EMS + _BAR_EMS * len(bars), _LARGEST_SHARE * height)
        shares = height - needed, needed
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=shares))
    draw_users(above, picture)
    _draw_bars(below.subplots(), bars, capacity, note, Room.of(figure))
    return figure


def _text(notes: Sequence[str], room: Room) -> str:
    """Return as many of the notes as there is room for beside the names of the schemes."""
    texts = (
        f"{notes[0]}  ({', '.join(notes[1:count])})" if count > 1 else notes[0] for count in range(len(notes), 0, -1)
    )
    return next((text for text in texts if _NOTE_EMS * len(text) < room.width - _NAME_EMS), notes[0])


def _draw_bars(axes: Any, bars: Sequence[SchemeBar], capacity: float, note: str, room: Room) -> None:
    rows = np.arange(len(bars))
    colours = [OURS if bar.name.startswith("nflae") else "#999999" for bar in bars]
    axes.barh(rows, [bar.mean_sum_rate for bar in bars], color=colours, height=0.7)
    for row, bar in zip(rows, bars, strict=True):
        axes.annotate(
            _text(bar.notes, room),
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
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        va="bottom",
        annotation_clip=False,
    )
    axes.set_yticks(rows, [label(bar.name) for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.04 * max(capacity, *(bar.mean_sum_rate for bar in bars)))
    axes.set_xlabel(f"mean sum rate [bps/Hz]   ({note})")
    axes.spines[["top", "right"]].set_visible(False)
