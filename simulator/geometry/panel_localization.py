"""Locate users of a planar array by the most likely spherical wave in their channels.

In white noise the likelihood of (u, v, r) rises with sum_p |b(u, v, r)^H h_p|^2, p the polarisations. The search runs
over u, v and the curvature kappa = r_min / r in two stages: directions around the peak of the spectrum, for each
curvature of a grid; then exact waves on finer and finer grids around the maximum. The counterpart for a line is
`simulator.geometry.localization`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.geometry.panel_near_field import is_panel_near_field, spectral_peak
from simulator.geometry.panels import UniformPlanarArray, spherical_wave

_USERS_TIMES_ELEMENTS = 1 << 16  # at a time
_CURVATURES = 24  # of the coarse stage, 0 first
_ZOOMS = 7
_FARTHEST = 1e-6  # curvature taken as that of a plane wave


def most_likely_place(array: UniformPlanarArray, channels: Tensor) -> tuple[Tensor, Tensor]:
    """Locate users by the strongest spherical wave in each channel, from one diagonal of the panel onwards.

    Parameters
    ----------
    array
        Array that the channels belong to.
    channels
        complex64 (..., antennas), of any scale and phase.

    Returns
    -------
    direction : Tensor
        (u, v), float64 (..., 2).
    distance : Tensor
        r, float64 (...), m; beyond a few Rayleigh distances the direction alone is meaningful.

    Raises
    ------
    ValueError
        If the channels have another number of antennas than ``array``.
    """
    if channels.shape[-1] != array.antennas:
        raise ValueError(f"the array has {array.antennas} antennas, the channels {channels.shape[-1]}")
    users = channels.reshape(-1, array.polarisations, array.elements)
    parts = [_search(array, part) for part in torch.split(users, max(1, _USERS_TIMES_ELEMENTS // array.antennas))]
    direction = torch.cat([part[0] for part in parts]).reshape(*channels.shape[:-1], 2)
    return direction, torch.cat([part[1] for part in parts]).reshape(channels.shape[:-1])


def most_likely_panel_labels(array: UniformPlanarArray, channels: Tensor) -> Tensor:
    """Label users near-field or far-field by their most likely direction and distance.

    Parameters
    ----------
    array
        Array that the channels belong to.
    channels
        complex64 (..., antennas), of any scale and phase.

    Returns
    -------
    Tensor
        bool (...); true for near-field users.

    Raises
    ------
    ValueError
        If the channels have another number of antennas than ``array``.
    """
    return is_panel_near_field(array, *most_likely_place(array, channels))


def _search(array: UniformPlanarArray, users: Tensor) -> tuple[Tensor, Tensor]:
    """Search waves for users (users, polarisations, elements)."""
    nearest = (array.apertures[0] ** 2 + array.apertures[1] ** 2) ** 0.5
    unit = users / users.abs().amax((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    centre, _ = spectral_peak(unit.reshape(*unit.shape[:2], array.columns, array.rows), array)
    # The phase at the corners grows with kappa; half a cycle from one curvature of the grid to the next.
    highest = min(1.0, _CURVATURES * 4 * array.wavelength * nearest / nearest**2)
    best = torch.full((len(users),), -1.0, dtype=torch.float32, device=users.device)
    place = torch.cat([centre, torch.zeros_like(centre[:, :1])], -1)
    step = torch.tensor([1 / array.columns, 1 / array.rows], dtype=torch.float64, device=users.device)
    grid = torch.cartesian_prod(*[torch.linspace(-2, 2, 9, dtype=torch.float64)] * 2).to(users.device) * step
    for kappa in torch.linspace(0, highest, _CURVATURES).tolist():
        curvature = torch.full((len(users), len(grid), 1), kappa, dtype=torch.float64, device=users.device)
        places = torch.cat([centre.unsqueeze(1) + grid, curvature], -1)
        best, place = _better(array, unit, places, nearest, best, place)
    shifts = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3).to(users.device)
    steps = torch.cat([step / 4, step.new_tensor([highest / _CURVATURES / 2])])
    for _ in range(_ZOOMS):
        best, place = _better(array, unit, place.unsqueeze(1) + shifts * steps, nearest, best, place)
        steps = steps / 2
    return place[:, :2], nearest / place[:, 2].clamp(min=_FARTHEST)


def _better(
    array: UniformPlanarArray, users: Tensor, places: Tensor, nearest: float, best: Tensor, place: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the larger of the gains known and those at places (u, v, kappa), float64 (users, places, 3)."""
    places = torch.cat([places[..., :2], places[..., 2:].clamp(_FARTHEST, 1.0)], -1)
    waves = spherical_wave(array, places[..., :2], nearest / places[..., 2])
    gain, index = (waves.conj() @ users.transpose(-1, -2)).abs().square().sum(-1).max(-1)
    found = places.gather(1, index.reshape(-1, 1, 1).expand(-1, 1, 3)).squeeze(1)
    return torch.maximum(best, gain), torch.where((gain > best).unsqueeze(-1), found, place)
