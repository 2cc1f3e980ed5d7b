"""Positions of the users of a drop for plots: from the channel file if it holds them, else by maximum likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from matlab_io import Variable, inspect_file, open_channels
from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.localization import most_likely_positions
from simulator.geometry.near_field import effective_rayleigh_distance
from simulator.geometry.panel_labels import fit_spherical_wave
from simulator.geometry.panel_near_field import separable_gain
from simulator.geometry.panels import UniformPlanarArray
from simulator.geometry.single_wave import is_single_wave
from simulator.geometry.steering import near_field_steering

# Variables that `nflae simulate` writes beside H: per user and drop, and of the array.
_POSITIONS = ("x", "height")
_MOUNTING = ("array_height", "array_tilt_rad", "carrier_hz")
_PLANE = 0.99  # gain of the best plane wave from which a channel holds the direction only
_CERTAIN = 10.0  # standard deviations of a curvature beyond which its sign is certain
_FLAT = 1e-9  # curvature lambda / r of a plane wave
_TINY = torch.finfo(torch.float32).tiny
_RESOLVABLE = 4  # in effective Rayleigh distances: beyond it a channel holds the direction only


@dataclass(frozen=True)
class Scene:
    """Hold an array and the positions of the users of a drop.

    Parameters
    ----------
    array
        The base station's array.
    x, height
        float64 (users,), m, in the plane of `simulator.geometry.arrays`; NaN where not located. For estimated positions
        the array's centre is the origin and x its boresight.
    resolved
        bool (users,); false where only the direction is known because the wavefront is nearly plane.
    located
        bool (users,); false where no position is known: the channel is not a single spherical wave.
    conjugated
        Whether the channels have the opposite sign of phase, exp(+j k r): conj(h) is then a steering vector.
    from_file
        Whether the positions were read from the file.
    """

    array: UniformLinearArray
    x: Tensor
    height: Tensor
    resolved: Tensor
    located: Tensor
    conjugated: bool
    from_file: bool


@dataclass(frozen=True)
class PanelScene:
    """Hold a planar array and the directions and distances of the users of a drop.

    Parameters
    ----------
    array
        The base station's array.
    direction
        (u, v), float64 (users, 2), see `simulator.geometry.panels`.
    distance
        float64 (users,), m.
    resolved
        bool (users,); false where only the direction is known because the wavefront is nearly plane.
    located
        bool (users,); true.
    conjugated
        Whether the channels have the opposite sign of phase, exp(+j k r).
    """

    array: UniformPlanarArray
    direction: Tensor
    distance: Tensor
    resolved: Tensor
    located: Tensor
    conjugated: bool


def panel_scene(array: UniformPlanarArray, channels: Tensor) -> PanelScene:
    """Locate the users of a planar array by the most likely spherical waves.

    Parameters
    ----------
    array
        Array.
    channels
        Channels of the drop, complex64 (users, antennas).

    Returns
    -------
    PanelScene
        Array and users.
    """
    fit = fit_spherical_wave(array, channels)
    conjugated = bool((fit.curvature / fit.deviation.clamp(min=_TINY)).clamp(-_CERTAIN, _CERTAIN).sum() < 0)
    sign = -1 if conjugated else 1
    curvature = (sign * fit.curvature.double()).clamp(min=_FLAT)
    direction, distance = sign * fit.direction.double(), array.wavelength / curvature
    resolved = separable_gain(array, direction, distance) < _PLANE
    return PanelScene(array, direction, distance, resolved, torch.ones_like(resolved), conjugated)


def scene_of(path: Path | None, drop: int, drops: int, channels: Tensor, carrier: float | None) -> Scene:
    """Return the scene of one drop of a file, with the file's positions or, without them, estimated ones.

    Parameters
    ----------
    path
        Channel file; None for one that holds nothing but channels.
    drop, drops
        Index of the drop, counted from 0, and number of drops in the file.
    channels
        Channels of the drop, complex64 (users, antennas).
    carrier
        Carrier frequency, Hz; None for the file's, else 30 GHz.

    Returns
    -------
    Scene
        Array and user positions.

    Raises
    ------
    MatFileError
        If the file cannot be read.
    """
    users, antennas = channels.shape
    variables = {} if path is None else {variable.name: variable for variable in inspect_file(path)}
    if carrier is None:
        carrier = (path and _scalar(path, variables, "carrier_hz")) or 30e9
    shapes = {(users, drops), (users, 1)} if drops == 1 else {(users, drops)}
    has_positions = all(name in variables and variables[name].shape in shapes for name in _POSITIONS)
    if path and has_positions and all(name in variables for name in _MOUNTING):
        height, tilt = _scalar(path, variables, "array_height"), _scalar(path, variables, "array_tilt_rad")
        if height is not None and tilt is not None:
            x, z = (_column(path, name, drop) for name in _POSITIONS)
            array = UniformLinearArray(antennas, carrier, height, tilt)
            location = angle_and_distance(x, z, array)
            match = [_correlation(array, sign, *location) for sign in (channels, channels.conj())]
            known = torch.ones(users, dtype=torch.bool)
            return Scene(array, x, z, known, known, conjugated=match[1] > match[0], from_file=True)
    array = UniformLinearArray(antennas, carrier, height=0.0, tilt=0.0)
    located = is_single_wave(channels)
    places = torch.full((2, users), torch.nan, dtype=torch.float64)
    resolved, conjugated = torch.zeros(users, dtype=torch.bool), False
    if bool(located.any()):
        angle, distance, conjugated = most_likely_positions(array, channels[located])
        places[:, located] = torch.stack([distance * torch.cos(angle), -distance * torch.sin(angle)])
        resolved[located] = distance < _RESOLVABLE * effective_rayleigh_distance(array, angle)
    return Scene(array, places[0], places[1], resolved, located, conjugated, from_file=False)


def _correlation(array: UniformLinearArray, channels: Tensor, angle: Tensor, distance: Tensor) -> float:
    """Return the sum over users of |b^H h| / ||h||."""
    waves = near_field_steering(array, angle, distance)
    return float(((waves.conj() * channels).sum(-1).abs() / torch.linalg.vector_norm(channels, dim=-1)).sum())


def _scalar(path: Path, variables: dict[str, Variable], name: str) -> float | None:
    """Return a real scalar of the file; None without a real scalar of that name."""
    variable = variables.get(name)
    if variable is None or not variable.is_numeric or variable.is_complex or variable.shape != (1, 1):
        return None
    return float(_column(path, name, 0)[0])


def _column(path: Path, name: str, drop: int) -> Tensor:
    """Read column ``drop`` of a real matrix; float64 (rows,), of single precision, which suffices for a plot."""
    with open_channels(path, variable=name, layout="ns", allow_real=True) as file:
        return torch.from_numpy(file.read(drop, drop + 1)[0, 0].real.copy()).double()
