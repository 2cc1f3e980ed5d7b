"""Locate users and label them near-field or far-field by maximum likelihood over spherical waves.

In white noise the likelihood of (theta, r) rises with |b(theta, r)^H y|. The search runs over sin(theta) and the
squared curvature beta^2 = N^2 d^2 cos^2(theta) / (2 lambda r) in two stages. Coarse stage (Fresnel approximation): for
each beta^2 of a grid, the quadratic phase is removed and a zero-padded FFT evaluates all angles. Fine stage: parabolas
through the gains of exact steering vectors, on successively finer grids of 3 x 3 around the coarse maximum.

The labels are the classical reference for a network's labels; in contrast to the network, the search requires the
geometry of the array.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import is_near_field
from simulator.geometry.steering import near_field_steering

_BLOCK = 500  # users at a time: 100 MB at N = 256
_ZERO_PADDING = 2  # of the angles' FFT
_HIGHEST_CURVATURE = 10**2.1  # beta^2, end of the coarse grid
_AMBIGUOUS = (0.2, 3.0)  # coarse beta^2 outside of which no refinement changes the label (0.973 is the border)
_SHRINKING = (1.0, 1.0, 0.5, 0.125)  # of the fine stage's grids, in steps of the coarse one
_SPECTRA = 1 << 19  # entries of the coarse stage at a time
_MAX_SINE = 0.9999
_LEAST_MISFIT = 1e-3  # of the energy
_CONCLUSIVE = 6.0  # nats per root of users: reflections alone reach 3.6 on simulated sites


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


def most_likely_positions(
    array: UniformLinearArray, channels: Tensor, conjugated: bool | None = None
) -> tuple[Tensor, Tensor, bool]:
    """Locate users by the strongest spherical wave in each channel.

    Distances below max(N d, 1 m) are left out of the coarse stage.

    Parameters
    ----------
    array
        Array that the channels belong to.
    channels
        complex64 (users, antennas), of any scale and phase.
    conjugated
        Sign of phase, where it is known; None: that of the likelier waves if it is conclusive, else the usual one, at
        twice the time.

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
    if not len(users):
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64), bool(conjugated)
    signs = (False, True) if conjugated is None else (conjugated,)
    found = {sign: _located(array, users.conj() if sign else users) for sign in signs}
    if conjugated is None:
        conjugated = bool(conclusive_sign(_evidence(array, found[False][2], found[True][2])))
    return *found[conjugated][:2], conjugated


def sign_evidence(array: UniformLinearArray, channels: Tensor) -> Tensor:
    """Compare the likelihoods of both signs of phase; nearly plane waves have none, but mirror their angle.

    Parameters
    ----------
    array
        Array that the channels belong to.
    channels
        complex64 (users, antennas), finite and not zero, of any scale and phase.

    Returns
    -------
    Tensor
        Log-likelihood ratio of exp(+j k r) to exp(-j k r) in white noise, nats, float64 (users,).
    """
    users = _as_users(array, channels)
    if not len(users):
        return torch.zeros(0, dtype=torch.float64)
    return _evidence(array, *(_located(array, waves)[2] for waves in (users, users.conj())))


def conclusive_sign(evidence: Tensor) -> bool | None:
    """Decide the sign of phase that the channels of an array have in common.

    Parameters
    ----------
    evidence
        `sign_evidence` of independent users, float64 (users,); of several snapshots the mean, as reflections last.

    Returns
    -------
    bool or None
        Whether it is exp(+j k r); None if reflections or noise explain the evidence.
    """
    total = float(evidence.sum()) / math.sqrt(max(1, len(evidence)))
    return total > 0 if abs(total) > _CONCLUSIVE else None


def _evidence(array: UniformLinearArray, plain: Tensor, conjugated: Tensor) -> Tensor:
    """Return the log-likelihood ratio of the second shares of the energy to the first."""
    misfit, other = ((1 - share).clamp(min=_LEAST_MISFIT) for share in (plain, conjugated))
    return array.antennas * torch.log(misfit / other)


def _located(array: UniformLinearArray, users: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return angle and distance of the most likely waves, and their share of the energy, float64 (users,)."""
    highest = array.aperture**2 / (2 * array.wavelength * max(array.aperture, 1.0))
    _, curvature, sine = _coarse(array, users, highest)
    blocks = zip(*(torch.split(values, _BLOCK) for values in (users, curvature, sine)), strict=True)
    refined = zip(*(_refined(array, *block) for block in blocks), strict=True)
    angle, distance = _angle_and_distance(array, *(torch.cat(values) for values in refined))
    gain = squared_magnitude((near_field_steering(array, angle, distance).conj() * users).sum(-1))
    return angle, distance, gain.double() / squared_magnitude(users).sum(-1).double()


def _as_users(array: UniformLinearArray, channels: Tensor) -> Tensor:
    if channels.shape[-1] != array.antennas:
        raise ValueError(f"the array has {array.antennas} antennas, the channels {channels.shape[-1]}")
    users = channels.reshape(-1, array.antennas)
    return users / users.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def _labels(array: UniformLinearArray, users: Tensor) -> Tensor:
    _, curvature, sine = _coarse(array, users, _HIGHEST_CURVATURE)
    ambiguous = (curvature > _AMBIGUOUS[0]) & (curvature < _AMBIGUOUS[1])
    curvature[ambiguous], sine[ambiguous] = _refined(array, users[ambiguous], curvature[ambiguous], sine[ambiguous])
    return is_near_field(array, *_angle_and_distance(array, curvature, sine))


def _grid_step(curvature: Tensor) -> Tensor:
    """Return the spacing of the coarse grid at beta^2; over half the aperture the phase is pi beta^2 / 2."""
    return (0.08 * curvature).clamp(0.6, 1.4)


@lru_cache(16)
def _curvature_grid(highest: float) -> Tensor:
    """Return the values of beta^2 of the coarse stage, from 0 to at least ``highest``, float64 (values,)."""
    grid = [torch.zeros((), dtype=torch.float64)]
    while float(grid[-1]) < highest:
        grid.append(grid[-1] + _grid_step(grid[-1]))
    return torch.stack(grid)


def _coarse(array: UniformLinearArray, users: Tensor, highest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest N |b^H y|^2 of the grid (float32), its beta^2 and sin(theta) (float64); (users,) each."""
    relative_offset = (array.element_offsets() / array.aperture).to(users.device)
    length = _ZERO_PADDING * array.antennas
    gain = torch.full((len(users),), -1.0, device=users.device)
    curvature = torch.zeros(len(users), dtype=torch.float64, device=users.device)
    sine = torch.zeros_like(curvature)
    grid = _curvature_grid(highest).to(users.device)
    blocks = torch.split(grid, max(1, _SPECTRA // (len(users) * length))) if len(users) else ()
    for values in blocks:
        phase = (2 * math.pi * values.unsqueeze(-1) * relative_offset**2).float()
        flat = users.unsqueeze(1) * torch.polar(torch.ones_like(phase), phase)
        spectrum = squared_magnitude(torch.fft.fft(flat, n=length)).flatten(1)
        peak, index = spectrum.max(-1)
        better = peak > gain
        gain = torch.where(better, peak, gain)
        curvature = torch.where(better, values[index // length], curvature)
        sine = torch.where(better, 2 * ((index % length / length + 0.5) % 1 - 0.5).double(), sine)
    return gain, curvature, sine


def _refined(array: UniformLinearArray, users: Tensor, curvature: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Climb to the best exact spherical wave by parabolas through 3 x 3 of them, on shrinking grids.

    Parameters
    ----------
    array
        Array.
    users
        complex64 (users, antennas).
    curvature, sine
        beta^2 and sin(theta) of the coarse stage, float64 (users,).

    Returns
    -------
    curvature, sine : Tensor
        float64 (users,).
    """
    shift = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64, device=users.device)] * 2)
    step = torch.stack([_grid_step(curvature), torch.full_like(sine, 2 / (_ZERO_PADDING * array.antennas))], -1)
    place = torch.stack([curvature, sine], -1)
    for shrink in _SHRINKING:
        place[:, 0] = torch.maximum(place[:, 0], shrink * step[:, 0])  # beyond a plane wave there is none
        places = place.unsqueeze(1) + shrink * step.unsqueeze(1) * shift
        waves = near_field_steering(array, *_angle_and_distance(array, *places.unbind(-1)))
        gain = squared_magnitude((waves.conj() @ users.unsqueeze(-1)).squeeze(-1)).double()
        place = place + shrink * step * _climb(gain, shift)
    return place[:, 0], place[:, 1]


def _climb(gain: Tensor, shift: Tensor) -> Tensor:
    """Return the way to the maximum of the parabola through 3 x 3 gains, (users, 9), in steps of their grid (users, 2).

    Where it has none within the grid, the curvature is that of the largest gain, and the sine the best one for it.
    """
    f, best = gain.reshape(-1, 3, 3), shift[gain.argmax(-1)]
    slope_c, slope_s = (f[:, 2, 1] - f[:, 0, 1]) / 2, (f[:, 1, 2] - f[:, 1, 0]) / 2
    bend_c = f[:, 2, 1] + f[:, 0, 1] - 2 * f[:, 1, 1]
    bend_s = f[:, 1, 2] + f[:, 1, 0] - 2 * f[:, 1, 1]
    twist = (f[:, 2, 2] - f[:, 2, 0] - f[:, 0, 2] + f[:, 0, 0]) / 4
    determinant = bend_c * bend_s - twist**2
    climb = (twist * slope_s - bend_s * slope_c) / determinant
    climb_c = torch.where((determinant > 0) & (bend_c < 0) & (climb.abs() <= 1), climb, best[:, 0])
    climb_s = -(slope_s + twist * climb_c) / bend_s
    climb_s = torch.where((bend_s < 0) & (climb_s.abs() <= 1), climb_s, best[:, 1])
    return torch.stack([climb_c, climb_s], -1)


def _angle_and_distance(array: UniformLinearArray, curvature: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Return (theta, r) of beta^2 = N^2 d^2 cos^2(theta) / (2 lambda r) and sin(theta)."""
    angle = torch.asin(sine.clamp(-_MAX_SINE, _MAX_SINE))
    scale = (array.aperture * torch.cos(angle)) ** 2 / (2 * array.wavelength)
    return angle, (scale / curvature.clamp(min=1e-6)).clamp(min=1e-3)
