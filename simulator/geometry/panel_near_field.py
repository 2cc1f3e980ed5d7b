"""Label users of a planar array near-field or far-field, by the loss of the best plane wave or in closed form.

A user is near-field if even the best plane wave loses at least the fraction ``loss`` (Delta) of the amplitude:
1 - max_(u, v) |a(u, v)^H b| >= Delta. In the Fresnel approximation, on the principal planes (u = 0 or v = 0), the
phase of a spherical wave is a sum of one parabola per axis, and the plane wave of the user's own direction has the gain

    |a^H b| = |G(beta_u)| |G(beta_v)|,   beta_u^2 = D_u^2 (1 - u^2) / (2 lambda r),   beta_v^2 alike,

with G of `simulator.geometry.near_field.beam_gain`. Off these planes the parabolas are coupled by -u v y z / r.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude
from simulator.geometry.near_field import DEFAULT_LOSS, beam_gain
from simulator.geometry.panels import UniformPlanarArray, plane_wave, spherical_wave

_Gain = Callable[[UniformPlanarArray, Tensor, Tensor], Tensor]

_UNCLEAR = 0.02  # distance of the gain in the user's own direction from the border within which others are searched
_ZOOMS = 5
_ZERO_PADDING = 2
_DIRECTIONS = 9
_USERS_TIMES_ELEMENTS = 1 << 20  # at a time: 8 MB per array of phases


def panel_curvatures(array: UniformPlanarArray, direction: Tensor, distance: Tensor) -> Tensor:
    """Compute the wavefront curvatures beta_u and beta_v along the axes of the panel.

    Parameters
    ----------
    array
        Array.
    direction
        (u, v), real (..., 2).
    distance
        r, real (...), m.

    Returns
    -------
    Tensor
        float64 (..., 2), dimensionless.
    """
    apertures = torch.tensor(array.apertures, dtype=torch.float64, device=direction.device)
    projected = apertures.square() * (1 - direction.double().square())
    return torch.sqrt(projected / (2 * array.wavelength * distance.double().unsqueeze(-1)))


def separable_gain(array: UniformPlanarArray, direction: Tensor, distance: Tensor) -> Tensor:
    """Compute the gain |G(beta_u)| |G(beta_v)| of the plane wave of the user's own direction.

    Parameters
    ----------
    array
        Array.
    direction
        (u, v), real (..., 2); the gain is that of the Fresnel approximation where u v = 0.
    distance
        r, real (...), m.

    Returns
    -------
    Tensor
        Amplitude, float64 (...), in [0, 1].
    """
    curvatures = panel_curvatures(array, direction, distance)
    return torch.as_tensor(beam_gain(curvatures.cpu().numpy())).prod(-1).to(direction.device)


def best_plane_wave_gain(array: UniformPlanarArray, direction: Tensor, distance: Tensor) -> Tensor:
    """Compute max_(u, v) |a(u, v)^H b| for exact spherical waves, by a search around the user's own direction.

    Parameters
    ----------
    array
        Array.
    direction
        (u, v), real (..., 2).
    distance
        r, real (...), m.

    Returns
    -------
    Tensor
        Amplitude, float64 (...), in [0, 1].
    """
    return _map_users(array, direction, distance, _searched_gain)


def is_panel_near_field(
    array: UniformPlanarArray, direction: Tensor, distance: Tensor, loss: float = DEFAULT_LOSS
) -> Tensor:
    """Label users near-field where the best plane wave loses at least ``loss`` of the amplitude.

    Parameters
    ----------
    array
        Array.
    direction
        (u, v), real (..., 2).
    distance
        r, real (...), m.
    loss
        Delta, in (0, 1).

    Returns
    -------
    Tensor
        bool (...), true for near-field users.
    """
    gain = _map_users(array, direction, distance, _own_gain)
    unclear = (gain - (1 - loss)).abs() < _UNCLEAR
    if bool(unclear.any()):
        gain[unclear] = best_plane_wave_gain(array, direction[unclear], distance[unclear])
    return gain <= 1 - loss


def spectral_peak(users: Tensor, array: UniformPlanarArray) -> tuple[Tensor, Tensor]:
    """Find the plane wave with the largest sum_p |a(u, v)^H h_p|^2, p the polarisations.

    Parameters
    ----------
    users
        complex64 (users, polarisations, columns, rows).
    array
        Array.

    Returns
    -------
    direction : Tensor
        (u, v), float64 (users, 2).
    gain : Tensor
        The sum, float32 (users,).
    """
    padded = (_ZERO_PADDING * array.columns, _ZERO_PADDING * array.rows)
    spectrum = squared_magnitude(torch.fft.fft2(users, s=padded)).sum(1)
    best = spectrum.flatten(1).argmax(-1)
    sizes = torch.tensor(padded, dtype=torch.float64, device=users.device)
    bins = torch.stack([best // padded[1], best % padded[1]], -1)
    centre = (2 * bins / sizes + 1) % 2 - 1
    return _zoom(array, users.flatten(2), centre, 1 / sizes)


def _zoom(array: UniformPlanarArray, waves: Tensor, centre: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Search 3 x 3 directions around the best one on shrinking grids.

    Parameters
    ----------
    array
        Array.
    waves
        complex64 (users, polarisations, elements).
    centre
        First direction, float64 (users, 2).
    step
        Spacing of the first grid, float64 (2,).

    Returns
    -------
    direction : Tensor
        Best direction, float64 (users, 2).
    gain : Tensor
        Its sum_p |a(u, v)^H h_p|^2, float32 (users,).
    """
    shifts = torch.cartesian_prod(*[torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)] * 2).to(waves.device)
    peak = torch.zeros(len(waves), device=waves.device)
    for _ in range(_ZOOMS):
        around = centre.unsqueeze(1) + shifts * step
        gains = squared_magnitude(waves @ plane_wave(array, around).conj().transpose(-1, -2)).sum(1)
        peak, index = gains.max(-1)
        centre = around.gather(1, index.reshape(-1, 1, 1).expand(-1, 1, 2)).squeeze(1)
        step = step / 2
    return centre, peak


def _map_users(array: UniformPlanarArray, direction: Tensor, distance: Tensor, gain: _Gain) -> Tensor:
    """Apply a function of array, directions and distances to blocks of users."""
    directions, distances = direction.double().reshape(-1, 2), distance.double().reshape(-1)
    size = max(1, _USERS_TIMES_ELEMENTS // array.elements)
    parts = zip(torch.split(directions, size), torch.split(distances, size), strict=True)
    gains = [gain(array, *part) for part in parts]
    return torch.cat(gains).reshape(distance.shape) if gains else distance.double()


def _own_gain(array: UniformPlanarArray, direction: Tensor, distance: Tensor) -> Tensor:
    inner = plane_wave(array, direction).conj() * spherical_wave(array, direction, distance)
    return inner.sum(-1).abs().double()


def _searched_gain(array: UniformPlanarArray, direction: Tensor, distance: Tensor) -> Tensor:
    """Search around the own direction of each user, from a grid spaced by a quarter of a beam."""
    step = torch.tensor([0.5 / array.columns, 0.5 / array.rows], dtype=torch.float64, device=direction.device)
    _, gain = _zoom(array, spherical_wave(array, direction, distance).unsqueeze(1), direction, step)
    return gain.double().sqrt()
