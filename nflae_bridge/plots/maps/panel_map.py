"""Draw the beams of a planar array over azimuth and elevation, with the users in their directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nflae_bridge.files.positions import PanelScene
from nflae_bridge.plots.drop_picture import DropPicture, Room, mark_users
from simulator.downlink.gram import squared_magnitude
from simulator.geometry.panels import azimuth_and_depression, direction_cosines, plane_wave, spherical_wave

_DYNAMIC_RANGE_DB = 30.0
_MAX_PIXEL_ELEMENTS = 4_000_000_000  # pixels x elements x users: some seconds
_MARGIN = math.radians(8.0)


def angular_map(
    scene: PanelScene, precoder: Tensor, power: Tensor, azimuth: Tensor, depression: Tensor
) -> npt.NDArray[np.float64]:
    """Compute sum_k P_k |b_k(u, v)^H w_k|^2, with the wavefront of each beam bent as at its own user.

    b_k(u, v) is the plane wave of (u, v) times the ratio of the spherical and the plane wave at user k: exact in the
    user's direction, and elsewhere but for the slow change of the curvature over directions. A plane wave is a product
    of one factor per axis of the panel, so that a pixel takes matrix products instead of exact phases per element.

    Parameters
    ----------
    scene
        Array, and directions and distances of the users.
    precoder
        Complex (users, antennas), rows of unit norm.
    power
        (users,), W.
    azimuth, depression
        (columns,) and (rows,), rad.

    Returns
    -------
    ndarray
        Float64 (rows, columns), W; both polarisations together.
    """
    array = scene.array
    beams = (precoder.conj() if scene.conjugated else precoder).to(torch.complex64)
    beams = beams.reshape(len(beams), array.polarisations, array.elements)
    wave, plane = spherical_wave(array, scene.direction, scene.distance), plane_wave(array, scene.direction)
    flat = beams * (wave.conj() * plane * array.elements).unsqueeze(1)
    by_rows = flat.reshape(-1, array.columns, array.rows).permute(2, 1, 0).flatten(1)
    offsets = [torch.arange(size, dtype=torch.float64) - (size - 1) / 2 for size in (array.columns, array.rows)]
    weights = power.double().repeat_interleave(array.polarisations) / array.elements
    rows = []
    for level in depression:
        direction = direction_cosines(azimuth, level.expand_as(azimuth), array)
        across, down = (
            torch.polar(torch.ones(()), -math.pi * torch.outer(direction[:, axis], offset).float())
            for axis, offset in enumerate(offsets)
        )
        gains = torch.bmm(across.unsqueeze(1), (down @ by_rows).reshape(len(azimuth), array.columns, -1))
        rows.append(squared_magnitude(gains.squeeze(1)).double() @ weights)
    return torch.stack(rows).numpy()


def draw_panel_map(figure: Any, axes: Any, picture: DropPicture, scene: PanelScene, room: Room) -> None:
    """Draw the map of the beams over azimuth and elevation, and mark the users.

    Parameters
    ----------
    figure
        Matplotlib figure or subfigure.
    axes
        Axes of the map.
    picture
        The answer.
    scene
        Its array and users.
    room
        Room of the figure.
    """
    angles = azimuth_and_depression(scene.direction, scene.array)
    (left, right), (low, high) = (_range(angle) for angle in angles)
    pixels = max(2_000, _MAX_PIXEL_ELEMENTS // (scene.array.elements * len(scene.distance)))
    columns = min(240, int((pixels * (right - left) / (high - low)) ** 0.5) + 2)
    azimuth = torch.linspace(left, right, columns, dtype=torch.float64)
    depression = torch.linspace(high, low, min(160, max(24, pixels // columns)), dtype=torch.float64)
    intensity = angular_map(scene, picture.precoder, picture.power, azimuth, depression)
    extent = (math.degrees(left), math.degrees(right), -math.degrees(high), -math.degrees(low))
    image = axes.imshow(
        10 * np.log10(np.maximum(intensity / intensity.max(), 1e-12)),
        extent=extent,
        origin="lower",
        aspect="auto",
        cmap="cividis",
        vmin=-_DYNAMIC_RANGE_DB,
        vmax=0,
        interpolation="bilinear",
    )
    figure.colorbar(image, ax=axes, pad=0.01, label=room.fold_small("power at the users' distances [dB of its peak]"))
    across, up = np.degrees(angles[0].numpy()), -np.degrees(angles[1].numpy())
    places = {user: (float(across[user]), float(up[user])) for user in range(len(across))}
    mark_users(axes, picture, places, extent, room.map_points)
    axes.set_xlabel(room.fold("azimuth [degrees]\n(directions estimated from the wavefronts)"))
    axes.set_ylabel("elevation [degrees]")
    axes.set_title(room.fold(picture.title), loc="left", fontsize="medium")


def _range(angle: Tensor) -> tuple[float, float]:
    return float(angle.min()) - _MARGIN, float(angle.max()) + _MARGIN
