"""Hold the answer for one drop as plots show it, and mark its users."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.patheffects
from torch import Tensor

from nflae_bridge.files.positions import PanelScene, Scene
from nflae_bridge.plots.style import FAR_FIELD, NEAR_FIELD
from nflae_bridge.plots.style import UNDECIDED as UNDECIDED_COLOUR

NEAR, FAR, UNDECIDED = ("o", NEAR_FIELD), ("s", FAR_FIELD), ("D", UNDECIDED_COLOUR)  # marker and colour
_MAP_POINTS = (450.0, 300.0)  # about the size of the map of a wide figure
_WIDE, _UPRIGHT = 60.0, 0.9  # width in ems, height over width
_CHARACTER = 0.55  # mean width of a character, ems
_SMALL_MAP = 250.0  # points
_SAME_PLACE = 3.0  # points
_DIGIT_POINTS = 7.0  # width of a digit of a label
_OFFSETS = (
    *((7, 11), (7, -11), (-7, 11), (-7, -11), (9, 0), (-9, 0)),  # points, across and up
    *((7, 22), (7, -22), (-7, 22), (-7, -22)),
)
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
    alpha_c
        Largest fraction of the power for the near-field users, in (0, 1].
    min_rate
        Minimum rate of every user, bps/Hz.
    total_power
        P, W, of which the shares are taken; by default all that is used.
    """

    title: str
    scene: Scene | PanelScene
    precoder: Tensor
    power: Tensor
    rate: Tensor
    near_field: Tensor
    undecided: Tensor
    alpha_c: float = 1.0
    min_rate: float = 0.0
    total_power: float | None = None


@dataclass(frozen=True)
class Room:
    """Room of a figure for the map and the bars of one drop.

    Parameters
    ----------
    width, height
        Size in ems, multiples of the size of type.
    points
        Size of the type, points.
    """

    width: float
    height: float
    points: float

    @classmethod
    def of(cls, figure: Any) -> Room:
        """Measure a figure.

        Parameters
        ----------
        figure
            Matplotlib figure or subfigure.

        Returns
        -------
        Room
            Its room, in the present size of type.
        """
        points = float(matplotlib.rcParams["font.size"])
        em = figure.dpi * points / 72
        return cls(figure.bbox.width / em, figure.bbox.height / em, points)

    @property
    def layout(self) -> Literal["wide", "columns", "stacked"]:
        """Map beside bars; the same in little room; or, in little width, map above bars."""
        if self.width >= _WIDE:
            return "wide"
        return "stacked" if self.height > _UPRIGHT * self.width else "columns"

    @property
    def map_points(self) -> tuple[float, float]:
        """Width and height of the map, points, about."""
        width, height = {
            "wide": (0.525 * self.width, self.height - 7),
            "columns": (0.28 * self.width, self.height - 10),
            "stacked": (self.width - 9, 0.5 * self.height - 8),
        }[self.layout]
        return max(width, 4.0) * self.points, max(height, 4.0) * self.points

    @property
    def listed_users(self) -> int:
        """Largest number of users whose bars have room for their numbers."""
        if self.layout == "stacked":
            return int((0.38 * self.height - 8.8) / 1.05)
        return int(self.height - 13) if self.layout == "wide" else int((self.height - 15) / 1.2)

    @property
    def bar_characters(self) -> int:
        """Length of a line above the bars."""
        return 12 if self.layout == "columns" else 16

    def fold(self, text: str) -> str:
        """Break a text of the map into lines of its width.

        Parameters
        ----------
        text
            Lines of text.

        Returns
        -------
        str
            The text with further line ends.
        """
        width = {"wide": 0.6 * self.width, "columns": 0.48 * self.width, "stacked": self.width - 8}[self.layout]
        characters = max(int(width / _CHARACTER), 12)
        return "\n".join(textwrap.fill(line, characters) for line in text.splitlines())

    def fold_small(self, text: str, characters: int = 16) -> str:
        """Break a text of a bar chart or a colour bar where the room is little.

        Parameters
        ----------
        text
            Lines of text.
        characters
            Length of a line.

        Returns
        -------
        str
            In a wide figure the text as it is.
        """
        return text if self.layout == "wide" else textwrap.fill(text, characters)


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


def mark_users(
    axes: Any,
    picture: DropPicture,
    places: Mapping[int, tuple[float, float]],
    extent: tuple[float, float, float, float],
    size: tuple[float, float] = _MAP_POINTS,
) -> None:
    """Mark users with their numbers; hollow where only the direction is known, grey where no power is allotted.

    Parameters
    ----------
    axes
        Axes of the map.
    picture
        The answer.
    places
        Position on the axes by the index of the user; users at the same position share one label.
    extent
        Left, right, bottom, top of the axes.
    size
        Width and height of the axes, points.
    """
    left, right, bottom, top = extent
    scale = (size[0] / (right - left), size[1] / (top - bottom))
    marker_size = 9 if size[0] > _SMALL_MAP else 6
    for user, place in places.items():
        (marker, colour), resolved = appearance(picture, user), bool(picture.scene.resolved[user])
        axes.plot(
            *place,
            marker=marker,
            markersize=marker_size,
            markerfacecolor=colour if resolved else "none",
            markeredgecolor="white" if resolved else colour,
            markeredgewidth=(1.3 if resolved else 2.2) * marker_size / 9,
            clip_on=False,
        )
    in_points = {user: ((x - left) * scale[0], (y - bottom) * scale[1]) for user, (x, y) in places.items()}
    for users, (right_of, above) in _label_offsets(in_points, size, marker_size / 9).items():
        axes.annotate(
            ", ".join(str(user + 1) for user in users),
            places[users[0]],
            xytext=(right_of, above),
            ha="left" if right_of > 0 else "right",
            va="center",
            textcoords="offset points",
            color="white",
            fontsize="medium",
            fontweight="bold",
            path_effects=_OUTLINE,
        )


def _label_offsets(
    places: Mapping[int, tuple[float, float]], size: tuple[float, float], scale: float = 1.0
) -> dict[tuple[int, ...], tuple[float, float]]:
    """Return the offset of each label from its marker, points, where it covers the fewest markers and labels.

    Users within `_SAME_PLACE` points of each other share a label.
    """
    groups: list[list[int]] = []
    for user, (x, y) in places.items():
        near = (group for group in groups if _within(places[group[0]], x, y, _SAME_PLACE, _SAME_PLACE))
        if (group := next(near, None)) is None:
            groups.append([user])
        else:
            group.append(user)
    labels: list[tuple[float, float, float]] = []  # centre and half the width of each label placed so far
    offsets: dict[tuple[int, ...], tuple[float, float]] = {}
    for group in groups:
        x, y = places[group[0]]
        half = scale * _DIGIT_POINTS / 2 * len(", ".join(str(user + 1) for user in group))

        def crossings(offset: tuple[float, float], x: float = x, y: float = y, half: float = half) -> int:
            centre = (x + offset[0] + (half if offset[0] > 0 else -half), y + offset[1])
            outside = not (half <= centre[0] <= size[0] - half and 6 * scale <= centre[1] <= size[1] - 6 * scale)
            markers = sum(_within(centre, *place, half + 5 * scale, 11 * scale) for place in places.values())
            return (
                outside
                + markers
                + sum(_within(centre, across, up, half + other + 4 * scale, 11 * scale) for across, up, other in labels)
            )

        best = min(((scale * across, scale * up) for across, up in _OFFSETS), key=crossings)
        labels.append((x + best[0] + (half if best[0] > 0 else -half), y + best[1], half))
        offsets[tuple(group)] = best
    return offsets


def _within(centre: tuple[float, float], x: float, y: float, across: float, up: float) -> bool:
    return abs(centre[0] - x) < across and abs(centre[1] - y) < up
