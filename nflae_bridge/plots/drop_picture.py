"""Hold the answer for one drop as plots show it, and mark its users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib.patheffects
from torch import Tensor

from nflae_bridge.files.positions import PanelScene, Scene
from nflae_bridge.plots.style import FAR_FIELD, NEAR_FIELD
from nflae_bridge.plots.style import UNDECIDED as UNDECIDED_COLOUR

NEAR, FAR, UNDECIDED = ("o", NEAR_FIELD), ("s", FAR_FIELD), ("D", UNDECIDED_COLOUR)  # marker and colour
_OUTLINE = [matplotlib.patheffects.withStroke(linewidth=2.2, foreground="black")]


@dataclass(frozen=True)
class DropPicture:
    """Answer for one drop, as drawn.

    Parameters
    ----------
    title
        Title above the map.
    scene
        Positions of the array and the users.
    precoder
        Complex64 (users, antennas), rows of unit norm.
    power
        (users,), W.
    rate
        (users,), bps/Hz.
    near_field
        Bool (users,).
    undecided
        Bool (users,), users whose label is not reliable.
    """

    title: str
    scene: Scene | PanelScene
    precoder: Tensor
    power: Tensor
    rate: Tensor
    near_field: Tensor
    undecided: Tensor


def appearance(picture: DropPicture, user: int) -> tuple[str, str]:
    """Return the marker and the colour of a user.

    Parameters
    ----------
    picture
        The answer.
    user
        Index of the user.

    Returns
    -------
    tuple of str
        Marker and colour.
    """
    if picture.undecided[user]:
        return UNDECIDED
    return NEAR if picture.near_field[user] else FAR


def mark_user(axes: Any, picture: DropPicture, user: int, place: tuple[float, float], at_right: bool) -> None:
    """Mark a user with its number; hollow where only the direction is known.

    Parameters
    ----------
    axes
        Axes of the map.
    picture
        The answer.
    user
        Index of the user.
    place
        Position on the axes.
    at_right
        The number stands to the left of the marker, which is at the right edge.
    """
    (marker, colour), resolved = appearance(picture, user), bool(picture.scene.resolved[user])
    axes.plot(
        *place,
        marker=marker,
        markersize=9,
        markerfacecolor=colour if resolved else "none",
        markeredgecolor="white" if resolved else colour,
        markeredgewidth=1.3 if resolved else 2.2,
        clip_on=False,
    )
    axes.annotate(
        str(user + 1),
        place,
        xytext=(-9, 6) if at_right else (7, 5),
        ha="right" if at_right else "left",
        textcoords="offset points",
        color="white",
        fontsize=10,
        fontweight="bold",
        path_effects=_OUTLINE,
    )
