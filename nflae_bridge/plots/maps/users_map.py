"""Draw one drop's answer: the users on the array's beam-focusing map, their powers and rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from nflae_bridge.files.positions import PanelScene, Scene
from nflae_bridge.plots.drop_picture import FAR, NEAR, UNDECIDED, DropPicture, Room, appearance, mark_users
from nflae_bridge.plots.maps.panel_map import draw_panel_map
from simulator.geometry.arrays import angle_and_distance
from simulator.geometry.near_field import effective_rayleigh_distance, focusing_gain
from simulator.geometry.steering import near_field_steering

_LISTED = 8  # users listed by number in the legend
_OFF_PERCENT = 0.1  # a bar of a smaller share would not be visible
_DYNAMIC_RANGE_DB = 30.0
_MAX_PIXELS = 120_000
_MAX_PIXEL_ANTENNAS = 30_000_000  # pixels x antennas: one to two seconds


def users_figure(picture: DropPicture, size: tuple[float, float] | None = None) -> Figure:
    """Draw the map of a drop with its users, and each user's share of the power and rate.

    Parameters
    ----------
    picture
        The answer.
    size
        Width and height, inches; by default 12 x 5.2.

    Returns
    -------
    Figure
        The map on the left, bars on the right; in a narrow, upright figure the bars below the map.
    """
    figure = Figure(figsize=size or (12, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    draw_users(figure, picture)
    return figure


def intensity_map(scene: Scene, precoder: Tensor, power: Tensor, x: Tensor, height: Tensor) -> npt.NDArray[np.float64]:
    """Compute the focused power sum_k P_k |b(theta, r)^H w_k|^2 on a grid, path loss excluded.

    Parameters
    ----------
    scene
        Array, and the sign of the phase.
    precoder
        Complex (users, antennas), rows of unit norm.
    power
        (users,), W.
    x, height
        (columns,) and (rows,), m.

    Returns
    -------
    ndarray
        Float64 (rows, columns), W.
    """
    beams = precoder.conj() if scene.conjugated else precoder
    rows = []
    for level in height:
        angle, distance = angle_and_distance(x, level.expand_as(x), scene.array)
        waves = near_field_steering(scene.array, angle, distance.clamp(min=1e-3))
        rows.append((focusing_gain(beams.to(torch.complex64), waves).double() * power.double()[:, None]).sum(0))
    return torch.stack(rows).numpy()


def draw_users(figure: Any, picture: DropPicture) -> None:
    """Draw the map on the left and bars of power and rate on the right, or, in a narrow figure, below.

    Parameters
    ----------
    figure
        Matplotlib figure or subfigure.
    picture
        The answer.
    """
    room = Room.of(figure)
    the_map, powers, rates = _panels(figure, room)
    if isinstance(picture.scene, PanelScene):
        draw_panel_map(figure, the_map, picture, picture.scene, room)
    else:
        _draw_map(figure, the_map, picture, picture.scene, room)
    entries = _legend(picture)
    longest = max(len(str(entry.get_label())) for entry in entries)
    columns = min(5, max(1, int(room.width / (0.45 * longest + 4))))
    figure.legend(handles=entries, loc="outside lower left", ncols=columns, fontsize="small", frameon=False)
    _draw_bars(powers, rates, picture, room)


def _panels(figure: Any, room: Room) -> tuple[Any, Any, Any]:
    if room.layout == "stacked":
        grid = figure.add_gridspec(2, 2, height_ratios=[1.6, 1])
        places = grid[0, :], grid[1, 0], grid[1, 1]
    else:
        grid = figure.add_gridspec(1, 3, width_ratios=[3.6 if room.layout == "wide" else 1.9, 1, 1])
        places = grid[0], grid[1], grid[2]
    the_map, powers, rates = (figure.add_subplot(place) for place in places)
    return the_map, powers, rates


def _draw_bars(powers: Any, rates: Any, picture: DropPicture, room: Room) -> None:
    """Draw each user's share of the power and rate."""
    count = len(picture.near_field)
    users = np.arange(1, count + 1)
    colours = [appearance(picture, user)[1] for user in range(count)]
    total = picture.total_power or float(picture.power.sum())
    share = 100 * picture.power.double().numpy() / (total or 1.0)
    for axes, values, label in ((powers, share, "share of\npower [%]"), (rates, picture.rate, "rate\n[bps/Hz]")):
        axes.barh(users, np.asarray(values), color=colours, height=0.75)
        axes.set_xlabel(label)
        axes.set_ylim(max(count, 4) + 0.6, 0.4)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    number_all = count <= min(32, room.listed_users)
    powers.set_yticks(users if number_all else [1, count])
    powers.set_title("user", x=-0.03 if room.layout == "wide" else -0.12, ha="right", fontsize="medium")
    rates.set_yticks(users if number_all else [1, count], [])
    for user in users[share < _OFF_PERCENT] if number_all else ():
        text = "off" if share[user - 1] == 0 else f"< {_OFF_PERCENT:g} %"
        powers.annotate(text, (0, user), xytext=(4, 0), textcoords="offset points", va="center", color="#666666")
    _draw_constraints(powers, rates, picture, share, room)


def _draw_constraints(
    powers: Any, rates: Any, picture: DropPicture, share: npt.NDArray[np.float64], room: Room
) -> None:
    """Write the near-field users' share of the power and its limit, and draw the minimum rate."""
    if picture.alpha_c < 1:
        near = float(share[picture.near_field.numpy()].sum())
        text = f"near field: {near:.1f} %\n(at most {100 * picture.alpha_c:g} %)"
        powers.set_title(room.fold_small(text, room.bar_characters), fontsize="small", loc="left")
    if picture.min_rate > 0:
        rates.axvline(picture.min_rate, color="black", linestyle="--", linewidth=1.2)
        text = f"dashed: at least\n{picture.min_rate:g} bps/Hz"
        rates.set_title(room.fold_small(text, room.bar_characters), fontsize="small", loc="left")


def _draw_map(figure: Any, axes: Any, picture: DropPicture, scene: Scene, room: Room) -> None:
    """Draw the focused power, the array, the border of the near field and the users."""
    left, right, bottom, top = _extent(scene)
    pixels = min(_MAX_PIXELS, max(6_000, _MAX_PIXEL_ANTENNAS // scene.array.antennas))
    columns = int((pixels * 1.7) ** 0.5)
    x = torch.linspace(left, right, columns, dtype=torch.float64)
    height = torch.linspace(bottom, top, pixels // columns, dtype=torch.float64)
    intensity = intensity_map(scene, picture.precoder, picture.power, x, height)
    level = 10 * np.log10(np.maximum(intensity / intensity.max(), 1e-12))
    image = axes.imshow(
        level,
        extent=(left, right, bottom, top),
        origin="lower",
        aspect="auto",
        cmap="cividis",
        vmin=-_DYNAMIC_RANGE_DB,
        vmax=0,
        interpolation="bilinear",
    )
    figure.colorbar(image, ax=axes, pad=0.01, label=room.fold_small("focused power [dB of its peak]"))
    axes.plot(0, scene.array.height, marker=">", markersize=11, color="white", markeredgecolor="black", clip_on=False)
    _draw_positions(axes, picture, scene, (left, right, bottom, top), room)
    axes.plot(*_near_field_border(scene), color="white", linestyle="--", linewidth=1.4)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    estimated = room.fold("along boresight [m]\n(places estimated from the wavefronts)")
    axes.set_xlabel("x [m]" if scene.from_file else estimated)
    axes.set_ylabel("height [m]" if scene.from_file else "across [m]")
    axes.set_title(room.fold(picture.title), loc="left", fontsize="medium")


def _draw_positions(
    axes: Any, picture: DropPicture, scene: Scene, extent: tuple[float, float, float, float], room: Room
) -> None:
    """Mark every located user with its number; hollow where only the direction is known."""
    x_shown, height_shown = _drawn_positions(scene, extent)
    located = torch.nonzero(scene.located).flatten().tolist()
    mark_users(axes, picture, {user: (x_shown[user], height_shown[user]) for user in located}, extent, room.map_points)


def _extent(scene: Scene) -> tuple[float, float, float, float]:
    """Return left, right, bottom, top of the map, m: the array and users at known distance, with a margin."""
    x, height = scene.x[scene.resolved].numpy(), scene.height[scene.resolved].numpy()
    base = scene.array.height
    if scene.from_file:
        high = max(float(height.max()), base)
        return 0.0, 1.08 * float(x.max()), min(0.0, float(height.min())), 1.12 * high + 1
    reach = 1.15 * float(np.hypot(x, height).max(initial=0.0))
    if reach == 0.0:
        reach = max(10.0, float(effective_rayleigh_distance(scene.array, torch.zeros(1))))
    directions = (scene.height / torch.hypot(scene.x, scene.height))[scene.located & ~scene.resolved]
    across = np.concatenate([height, reach * directions.numpy(), [-0.12 * reach, 0.12 * reach]])
    return 0.0, reach, 1.15 * float(across.min()), 1.15 * float(across.max())


def _near_field_border(scene: Scene) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the border of the near field, the effective Rayleigh distance in every direction: x and height, m."""
    angle = torch.linspace(-1.5, 1.5, 721, dtype=torch.float64)
    distance = effective_rayleigh_distance(scene.array, angle)
    below = angle + scene.array.tilt
    return (distance * torch.cos(below)).numpy(), (scene.array.height - distance * torch.sin(below)).numpy()


def _drawn_positions(
    scene: Scene, extent: tuple[float, float, float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return each user's position on the map; one at unknown distance lies on the edge, in its direction."""
    left, right, bottom, top = extent
    x, rise = scene.x.numpy(), scene.height.numpy() - scene.array.height
    room = np.where(rise > 0, top - scene.array.height, scene.array.height - bottom)
    shrink = np.minimum((right - left) / np.maximum(x, 1e-9), room / np.maximum(np.abs(rise), 1e-9))
    shrink = np.where(scene.resolved.numpy(), 1.0, shrink)
    return x * shrink, scene.array.height + rise * shrink


def _legend(picture: DropPicture) -> list[Line2D]:
    def entry(marker: str, colour: str, label: str, filled: bool = True) -> Line2D:
        face, edge = (colour, "black") if filled else ("none", colour)
        return Line2D([], [], linestyle="", marker=marker, markersize=8, mfc=face, mec=edge, label=label)

    name = f"array, {picture.scene.array.antennas} antennas"
    if isinstance(picture.scene, PanelScene):
        entries = [
            Line2D([], [], linestyle="", label=f"{picture.scene.array}, {picture.scene.array.antennas} antennas")
        ]
    else:
        border = Line2D([], [], linestyle="--", color="#666666", label="border of the near field")
        entries = [entry(">", "white", name), border]
    looks = [appearance(picture, user) for user in range(len(picture.near_field))]
    names = {NEAR: "near-field user", FAR: "far-field user", UNDECIDED: "undecided user"}
    entries += [entry(*look, f"{name} ({looks.count(look)})") for look, name in names.items() if look in looks]
    if not picture.scene.resolved[picture.scene.located].all():
        entries.append(entry("s", "black", "hollow: direction only", filled=False))
    missing = (torch.nonzero(~picture.scene.located).flatten() + 1).tolist()
    if missing:
        listed = ", ".join(map(str, missing[:_LISTED])) + (", ..." if len(missing) > _LISTED else "")
        entries.append(Line2D([], [], linestyle="", label=f"not a single wave, not on the map: {listed}"))
    return entries
