"""Where a drop's users are, for a picture of them: from the file if it says, else from the wavefronts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from matlab_io import Variable, inspect_file, open_channels
from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import effective_rayleigh_distance
from simulator.geometry.steering import near_field_steering

# What `nflae simulate` writes beside H: per user and drop, and of the array.
_PLACES = ("x", "height")
_MOUNTING = ("array_height", "array_tilt_rad", "carrier_hz")
_FINEST = 512


@dataclass(frozen=True)
class Scene:
    """An array and the users before it.

    x, height: float64 (users,), m, in the plane of `simulator.geometry.arrays`. For estimated places the array's centre is
    the origin and x its boresight.
    resolved: bool (users,); false where only the direction is known, the wavefront being as good as plane.
    conjugated: the channels have the opposite sign of phase, exp(+j k r): conj(h) is a steering vector here.
    from_file: the places are the file's.
    """

    array: UniformLinearArray
    x: Tensor
    height: Tensor
    resolved: Tensor
    conjugated: bool
    from_file: bool


def scene_of(path: Path, drop: int, drops: int, channels: Tensor, carrier: float | None) -> Scene:
    """The scene of one drop of a file: the places in the file where it has them, else estimated ones.

    drop: counted from 0, of ``drops``. channels: complex64 (users, antennas). carrier: Hz; None: the file's, else
    30 GHz.
    """
    users, antennas = channels.shape
    here = {variable.name: variable for variable in inspect_file(path)}
    if carrier is None:
        carrier = _real(path, here, "carrier_hz") or 30e9
    shapes = {(users, drops), (users, 1)} if drops == 1 else {(users, drops)}
    if all(name in here and here[name].shape in shapes for name in _PLACES) and all(m in here for m in _MOUNTING):
        height, tilt = _real(path, here, "array_height"), _real(path, here, "array_tilt_rad")
        if height is not None and tilt is not None:
            x, z = (_column(path, name, drop) for name in _PLACES)
            array = UniformLinearArray(antennas, carrier, height, tilt)
            match = [_explained(array, sign, *angle_and_distance(x, z, array)) for sign in (channels, channels.conj())]
            known = torch.ones(users, dtype=torch.bool)
            return Scene(array, x, z, known, bool(match[1] > match[0]), from_file=True)
    array = UniformLinearArray(antennas, carrier, height=0.0, tilt=0.0)
    angle, distance, conjugated = locate(channels, array)
    resolved = distance < 4 * effective_rayleigh_distance(array, angle)
    return Scene(array, distance * torch.cos(angle), -distance * torch.sin(angle), resolved, conjugated, False)


def locate(channels: Tensor, array: UniformLinearArray) -> tuple[Tensor, Tensor, bool]:
    """(angle, distance) of the strongest spherical wave in each channel, by maximum likelihood.

    A coarse search in the Fresnel approximation: for every curvature cos^2(theta) / r on a grid the quadratic phase
    is taken off, and an FFT finds the angle. Then the exact wave, on ever finer grids about the best point.

    channels: complex64 (users, antennas). Returns float64 (users,) rad and m, and whether all channels had to be
    conjugated to be waves of this sign.
    """
    both = [_coarse(sign, array) for sign in (channels, channels.conj())]
    conjugated = bool(both[1][0].sum() > both[0][0].sum() * (1 + 1e-6))
    _, sine, curvature = both[conjugated]
    angle, distance = _refine(channels.conj() if conjugated else channels, array, sine, curvature)
    return angle, distance, conjugated


def _coarse(channels: Tensor, array: UniformLinearArray) -> tuple[Tensor, Tensor, Tensor]:
    """Each user's best matched energy, sin(theta) and curvature in 1/m on the grid; float64 (users,)."""
    offset = array.element_offsets()
    step = 4 * array.wavelength / (math.pi * array.aperture**2)  # one radian at the array's ends
    count = min(_FINEST, int(1 / max(array.aperture, 1.0) / step) + 2)
    length = 4 * array.antennas
    best = torch.full(channels.shape[:1], -1.0, dtype=torch.float64)
    sine, curvature = torch.zeros_like(best), torch.zeros_like(best)
    for index in range(count):
        flattening = math.pi * offset**2 * step * index / array.wavelength
        flat = channels * torch.polar(torch.ones_like(offset), flattening).to(torch.complex64)
        energy, at = torch.fft.fft(flat, n=length).abs().square().double().max(-1)
        better = energy > best
        best = torch.where(better, energy, best)
        sine = torch.where(better, ((2 * at / length + 1) % 2 - 1).double(), sine)
        curvature = torch.where(better, step * index, curvature)
    return best, sine, curvature


def _refine(channels: Tensor, array: UniformLinearArray, sine: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor]:
    cosine = torch.sqrt((1 - sine**2).clamp(min=1e-3))
    inverse = curvature / cosine**2
    wide, deep = 1.0 / array.antennas, 4 * array.wavelength / (math.pi * array.aperture**2 * cosine**2)
    ticks = torch.linspace(-1, 1, 9, dtype=torch.float64)
    for level in range(5):
        zoom = 0.35**level
        u = (sine[:, None, None] + zoom * wide * ticks[:, None]).clamp(-0.9999, 0.9999)
        q = (inverse[:, None, None] + zoom * deep[:, None, None] * ticks).clamp(1e-7, 2.0)
        u, q = (u + torch.zeros_like(q)).flatten(1), (q + torch.zeros_like(u)).flatten(1)
        waves = near_field_steering(array, torch.asin(u), 1 / q)
        at = (waves.conj() @ channels.unsqueeze(-1)).squeeze(-1).abs().argmax(-1, keepdim=True)
        sine, inverse = u.gather(1, at).squeeze(1), q.gather(1, at).squeeze(1)
    return torch.asin(sine), 1 / inverse


def _explained(array: UniformLinearArray, channels: Tensor, angle: Tensor, distance: Tensor) -> float:
    waves = near_field_steering(array, angle, distance)
    return float(((waves.conj() * channels).sum(-1).abs() / torch.linalg.vector_norm(channels, dim=-1)).sum())


def _real(path: Path, here: dict[str, Variable], name: str) -> float | None:
    """A real number of the file, if it has one of that name."""
    if name not in here or not here[name].is_numeric or here[name].is_complex or here[name].shape != (1, 1):
        return None
    return float(_column(path, name, 0)[0])


def _column(path: Path, name: str, drop: int) -> Tensor:
    """Column ``drop`` of a real matrix in the file; float64 (rows,), in single precision, enough for a picture."""
    with open_channels(path, variable=name, layout="ns", allow_real=True) as file:
        return torch.from_numpy(file.read(drop, drop + 1)[0, 0].real.copy()).double()
