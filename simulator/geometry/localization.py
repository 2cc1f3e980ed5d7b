"""Locate users and label them near-field or far-field by maximum likelihood over spherical waves.

In white noise the likelihood of (theta, r) rises with |b(theta, r)^H y|. The search runs over sin(theta) and the
squared curvature beta^2 = N^2 d^2 cos^2(theta) / (2 lambda r) in two stages. Coarse stage (Fresnel approximation): for
each beta^2 of a grid, the quadratic phase is removed and a zero-padded FFT evaluates all angles. Fine stage: exact
steering vectors on successively finer grids around the coarse maximum.

The labels are the classical reference for a network's labels; in contrast to the network, the search requires the
geometry of the array.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import is_near_field
from simulator.geometry.steering import near_field_steering

_BLOCK = 500  # users at a time: 100 MB at N = 256
_ZERO_PADDING = 4  # of the angles' FFT
_HIGHEST_CURVATURE = 10**2.1  # beta^2, end of the coarse grid
_AMBIGUOUS = (0.2, 3.0)  # coarse beta^2 outside of which no refinement changes the label (0.973 is the border)
_ZOOMS = 6
_MAX_SINE = 0.9999
_SIGN_MARGIN = 1e-6


def most_likely_labels(array: UniformLinearArray, channels: Tensor) -> Tensor:
    """Label users near-field or far-field by their most likely angle and distance.

    The fine stage is left out for users whose coarse curvature decides the label.

    Parameters
    ----------
    array
        Array that the channels belong to.
    channels
        complex64 (..., antennas), of any scale and phase.

    Returns
    -------
    Tensor
        bool (...), on the device of ``channels``; true for near-field users.

    Raises
    ------
    ValueError
        If the channels have another number of antennas than ``array``.
    """
    users = _as_users(array, channels)
    labels = [_labels(array, block) for block in torch.split(users, _BLOCK)]
    return torch.cat(labels).reshape(channels.shape[:-1])


def most_likely_positions(array: UniformLinearArray, channels: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Locate users by the strongest spherical wave in each channel.

    Distances below max(N d, 1 m) are left out of the coarse stage.

    Parameters
    ----------
    array
        Array that the channels belong to.
    channels
        complex64 (users, antennas), of any scale and phase.

    Returns
    -------
    angle : Tensor
        float64 (users,), rad from the array's normal.
    distance : Tensor
        float64 (users,), m from the array's centre.
    conjugated : bool
        Whether the channels have the opposite sign of phase, exp(+j k r): conj(h) is then a steering vector.

    Raises
    ------
    ValueError
        If the channels have another number of antennas than ``array``.
    """
    users = _as_users(array, channels)
    highest = array.aperture**2 / (2 * array.wavelength * max(array.aperture, 1.0))
    both = [_coarse(array, sign, highest) for sign in (users, users.conj())]
    energies = [float(gain.double().square().sum()) for gain, _, _ in both]
    conjugated = energies[1] > energies[0] * (1 + _SIGN_MARGIN)
    _, curvature, sine = both[conjugated]
    waves = users.conj() if conjugated else users
    blocks = zip(*(torch.split(values, _BLOCK) for values in (waves, curvature, sine)), strict=True)
    refined = zip(*(_refined(array, *block) for block in blocks), strict=True)
    angle, distance = _angle_and_distance(array, *(torch.cat(values) for values in refined))
    return angle, distance, conjugated


def _as_users(array: UniformLinearArray, channels: Tensor) -> Tensor:
    if channels.shape[-1] != array.antennas:
        raise ValueError(f"the array has {array.antennas} antennas, the channels {channels.shape[-1]}")
    return channels.reshape(-1, array.antennas)


def _labels(array: UniformLinearArray, users: Tensor) -> Tensor:
    _, curvature, sine = _coarse(array, users, _HIGHEST_CURVATURE)
    ambiguous = (curvature > _AMBIGUOUS[0]) & (curvature < _AMBIGUOUS[1])
    curvature[ambiguous], sine[ambiguous] = _refined(array, users[ambiguous], curvature[ambiguous], sine[ambiguous])
    return is_near_field(array, *_angle_and_distance(array, curvature, sine))


def _grid_step(curvature: Tensor) -> Tensor:
    """Return the spacing of the coarse grid at beta^2; over half the aperture the phase is pi beta^2 / 2."""
    return (0.06 * curvature).clamp(0.125, 2.0)


def _curvature_grid(highest: float) -> list[float]:
    """Return the values of beta^2 of the coarse stage, from 0 to ``highest``."""
    grid = [torch.zeros((), dtype=torch.float64)]
    while float(grid[-1]) < highest:
        grid.append(grid[-1] + _grid_step(grid[-1]))
    return [float(value) for value in grid]


def _coarse(array: UniformLinearArray, users: Tensor, highest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest sqrt(N) |b^H y| of the grid (float32), its beta^2 and sin(theta) (float64); (users,) each."""
    relative_offset = (array.element_offsets() / array.aperture).to(users.device)
    length = _ZERO_PADDING * array.antennas
    gain = torch.full((len(users),), -1.0, device=users.device)
    curvature = torch.zeros(len(users), dtype=torch.float64, device=users.device)
    sine = torch.zeros_like(curvature)
    for value in _curvature_grid(highest):
        phase = (2 * math.pi * value * relative_offset**2).float()
        spectrum = torch.fft.fft(users * torch.polar(torch.ones_like(phase), phase), n=length).abs()
        peak, index = spectrum.max(-1)
        better = peak > gain
        gain = torch.where(better, peak, gain)
        curvature = torch.where(better, value, curvature)
        sine = torch.where(better, 2 * ((index / length + 0.5) % 1 - 0.5).double(), sine)
    return gain, curvature, sine


def _refined(array: UniformLinearArray, users: Tensor, curvature: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best of 5 x 5 exact spherical waves around each (beta^2, sin theta), on six shrinking grids."""
    shift = torch.linspace(-1, 1, 5, dtype=torch.float64, device=users.device)
    curvature_step = _grid_step(curvature).reshape(-1, 1, 1)
    sine_step = 2 / (_ZERO_PADDING * array.antennas)
    for zoom in range(_ZOOMS):
        curvatures = curvature.reshape(-1, 1, 1) + shift.reshape(1, -1, 1) * curvature_step / 2**zoom
        sines = sine.reshape(-1, 1, 1) + shift.reshape(1, 1, -1) * sine_step / 2**zoom
        curvatures, sines = (grid.expand(-1, 5, 5).flatten(1) for grid in (curvatures, sines))
        waves = near_field_steering(array, *_angle_and_distance(array, curvatures, sines))
        best = (waves.conj() @ users.unsqueeze(-1)).squeeze(-1).abs().argmax(-1, keepdim=True)
        curvature = curvatures.gather(1, best).squeeze(1)
        sine = sines.gather(1, best).squeeze(1)
    return curvature, sine


def _angle_and_distance(array: UniformLinearArray, curvature: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Return (theta, r) of beta^2 = N^2 d^2 cos^2(theta) / (2 lambda r) and sin(theta)."""
    angle = torch.asin(sine.clamp(-_MAX_SINE, _MAX_SINE))
    scale = (array.aperture * torch.cos(angle)) ** 2 / (2 * array.wavelength)
    return angle, (scale / curvature.clamp(min=1e-6)).clamp(min=1e-3)
