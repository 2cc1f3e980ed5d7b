"""Draw tracks of users, as a figure or an animation: true, satellite and tracked positions, beams, and errors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nflae_bridge.plots.look import FigureLook
from nflae_bridge.plots.style import CAPACITY, FAR_FIELD, OURS, UNDECIDED, grid_axes

__all__ = ["FlightPicture", "flight_animation", "flight_figure"]

Array = npt.NDArray[np.float64]

_LEGEND_USERS = 6  # users up to which each has its own label on the map
_FRAMES = 60  # of an animation, at most
_FRAME_MS = 120
_RAY = 1.05  # of the farthest user


@dataclass(frozen=True)
class FlightPicture:
    """Hold what a figure of tracks shows.

    Parameters
    ----------
    title
        Title.
    times
        float64 (steps,), s.
    position, deviation
        Tracked positions x and height, float64 (steps, users, 2), and their standard deviations (steps, users), m.
    in_sight
        Bool (steps, users).
    beam_angle
        Angle of the strongest beam from the array's normal, float64 (steps, users), rad.
    origin
        x and height of the array's centre, m.
    tilt
        Down-tilt of the array, rad.
    gps, true
        Satellite and true positions, float64 (steps, users, 2), m; None where unknown.
    """

    title: str
    times: Array
    position: Array
    deviation: Array
    in_sight: npt.NDArray[np.bool_]
    beam_angle: Array
    origin: tuple[float, float]
    tilt: float
    gps: Array | None = None
    true: Array | None = None


def flight_figure(picture: FlightPicture, size: tuple[float, float] | None = None, step: int | None = None) -> Figure:
    """Draw the flights above, and below the errors over time, or the standard deviations where the truth is unknown.

    Parameters
    ----------
    picture
        The tracks.
    size
        Width and height, inches.
    step
        Last step that is drawn, with the beams of this step; None: all, with the beams of the last.

    Returns
    -------
    Figure
    """
    last = len(picture.times) - 1 if step is None else step
    figure = Figure(figsize=size or (8, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(picture.title, x=0.01, ha="left", fontsize="large", fontweight="bold")
    above, below = figure.subplots(2, 1, height_ratios=(2.6, 1))
    _draw_map(above, picture, last)
    _draw_errors(below, picture, last)
    return figure


def flight_animation(picture: FlightPicture, look: FigureLook) -> bytes:
    """Draw the tracks step by step.

    Parameters
    ----------
    picture
        The tracks.
    look
        Size and style.

    Returns
    -------
    bytes
        GIF of at most 60 frames.

    Raises
    ------
    NflaeError
        As `FigureLook.render`.
    """
    from PIL import Image

    steps = np.unique(np.linspace(0, len(picture.times) - 1, _FRAMES).round().astype(int)).tolist()
    frames = []
    for step in steps:
        drawn = look.render(lambda step=step: flight_figure(picture, look.size, step))  # type: ignore[misc]
        frames.append(Image.open(io.BytesIO(drawn)).convert("P", palette=Image.Palette.ADAPTIVE, colors=64))
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:], duration=_FRAME_MS, loop=0, optimize=True)
    return content.getvalue()


def _draw_map(axes: Any, picture: FlightPicture, last: int) -> None:
    shown = slice(0, last + 1)
    farthest = _RAY * max(1.0, float(np.nanmax(np.abs(picture.position - picture.origin))))
    for user in range(picture.position.shape[1]):
        angle = picture.beam_angle[last, user] + picture.tilt
        ends = np.array(picture.origin) + farthest * np.array([[0.0, 0.0], [np.cos(angle), -np.sin(angle)]])
        axes.plot(*ends.T, color=FAR_FIELD, linewidth=1.2, zorder=1, label="beam now" if user == 0 else None)
        if picture.gps is not None:
            places = picture.gps[shown, user].T
            axes.plot(*places, ".", color=UNDECIDED, markersize=4, zorder=2, label="satellites" if user == 0 else None)
        if picture.true is not None:
            places = picture.true[shown, user].T
            axes.plot(*places, "--", color=CAPACITY, linewidth=1.2, zorder=4, label="true" if user == 0 else None)
        places = picture.position[shown, user].T
        axes.plot(*places, "-", color=OURS, linewidth=1.8, zorder=3, label="tracked" if user == 0 else None)
        axes.plot(*places[:, -1], "o", color=OURS, markersize=6, zorder=5)
        blocked = ~picture.in_sight[shown, user]
        hidden = np.where(blocked, places, np.nan)
        axes.plot(*hidden, "x", color=OURS, markersize=5, zorder=5)
        if picture.position.shape[1] <= _LEGEND_USERS:
            axes.annotate(str(user + 1), places[:, -1], xytext=(6, 4), textcoords="offset points", fontsize="small")
    if not picture.in_sight.all():
        axes.plot([], [], "x", color=OURS, markersize=5, label="out of sight")
    axes.plot(*picture.origin, "^", color=CAPACITY, markersize=9, zorder=6, label="array")
    everything = [each.reshape(-1, 2) for each in (picture.position, picture.gps, picture.true) if each is not None]
    points = np.concatenate([*everything, np.array([picture.origin])])
    for set_limits, values in ((axes.set_xlim, points[:, 0]), (axes.set_ylim, points[:, 1])):
        low, high = np.nanmin(values), np.nanmax(values)
        set_limits(low - 0.05 * (high - low) - 1, high + 0.05 * (high - low) + 1)
    axes.set_xlabel("distance along the ground [m]")
    axes.set_ylabel("height [m]")
    grid_axes(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")


def _draw_errors(axes: Any, picture: FlightPicture, last: int) -> None:
    times, shown = picture.times - picture.times[0], slice(0, last + 1)
    lines = [("tracked", picture.position, OURS), ("satellites", picture.gps, UNDECIDED)]
    if picture.true is None:
        spread = np.median(picture.deviation, 1)
        axes.plot(times[shown], spread[shown], color=OURS)
        axes.set_ylabel("median standard\ndeviation [m]")
        highest = float(spread.max())
    else:
        highest = 0.0
        for name, places, colour in lines:
            if places is not None:
                error = np.nanmedian(np.hypot(*np.moveaxis(places - picture.true, -1, 0)), 1)
                highest = max(highest, float(np.nanmax(error)))
                axes.plot(times[shown], error[shown], color=colour, label=name)
        axes.set_ylabel("median error [m]")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    axes.set_xlim(0, max(float(times[-1]), 1e-3))
    axes.set_ylim(0, 1.1 * highest + 1e-3)
    axes.set_xlabel("time [s]")
    grid_axes(axes)
