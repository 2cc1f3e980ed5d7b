"""Label users of a planar array near-field or far-field from noisy channels, by a fitted spherical wave.

The wave of largest likelihood is sought in three stages instead of over a grid of exact waves (the exhaustive search is
`simulator.geometry.panel_localization`):

1. The panel is cut into at most 8 x 8 sub-arrays, over which a wave is nearly plane; their common best beam reduces the
   channel to one number per sub-array. For each curvature of a short grid the quadratic phase is removed and a
   zero-padded FFT evaluates all directions.
2. Gauss-Newton steps refine (u, v) and rho = 1 / r, with exact waves at the centres of the sub-arrays.
3. So do further ones on at most 16 x 16 sub-arrays, single elements of a small panel, steered to the direction found.

With rho < 0 the exact wave of (u, v, rho) is the conjugate of that of (-u, -v, -rho), so that channels of either sign
of phase are fitted alike. The label follows from the gain |a^H b| of the plane wave of the fitted direction; the score
is the probability that rho is beyond the border of the near field, for the normal distribution of the estimate that
the Fisher information gives.

References
----------
S. M. Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory", Prentice Hall, 1993, chapter 7: the
scoring method, and the asymptotic distribution of maximum-likelihood estimates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude
from simulator.geometry.near_field import DEFAULT_LOSS
from simulator.geometry.panels import UniformPlanarArray

_COARSE = 8  # sub-arrays per axis
_FINE = 16
_STRIP = 4  # rows or columns of a panel up to which all sub-arrays are the fine ones
_CURVATURE_STEP = 1.0  # cycles at the corners of the panel
_LARGEST_CURVATURE = 2.0  # cycles, unless users at the distance of the panel's diagonal have more
_COARSE_STEPS = 2
_FINE_STEPS = 2
_RIDGE = 1e-6  # of the normal equations, for axes without extent
_ELEMENTS_PER_PART = 1 << 16  # users x antennas whose intermediate results stay in a processor's cache
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class _Grid:
    """Hold the sub-arrays of a panel.

    Parameters
    ----------
    shape
        Sub-arrays along e_u and e_v.
    length
        Elements of a sub-array along e_u and e_v, the zero padding of the last ones included.
    centres
        Centres of the sub-arrays, float32 (2, sub-arrays), wavelengths.
    moments
        y, z, y^2, z^2 and y z of the centres less their means over the elements, float32 (sub-arrays, 5).
    covariance
        Mean over the elements of products of the moments, float32 (5, 5).
    largest_rho
        lambda / r of a user at the distance of the panel's diagonal; nearer ones are fitted there.
    """

    shape: tuple[int, int]
    length: tuple[int, int]
    centres: Tensor
    moments: Tensor
    covariance: Tensor
    largest_rho: float


@dataclass(frozen=True)
class _Search:
    """Hold the sub-arrays and curvatures of the search over a panel.

    Parameters
    ----------
    coarse, fine
        Sub-arrays.
    places
        Positions of the elements, float32 (2, elements), wavelengths.
    beams
        Conjugate plane waves over a coarse sub-array, complex64 (length, beams), directions in steps of half a beam.
    rho
        Curvatures lambda / r of the first stage.
    """

    coarse: _Grid
    fine: _Grid
    places: Tensor
    beams: Tensor
    rho: tuple[float, ...]


@dataclass(frozen=True)
class PanelFit:
    """Hold fitted spherical waves.

    Parameters
    ----------
    direction
        (u, v), float32 (users, 2).
    curvature
        lambda / r, float32 (users,); negative for waves of the opposite sign of phase, exp(+j k r).
    deviation
        Standard deviation of the curvature, float32 (users,).
    gain
        |a^H b| of the plane wave of the same direction, float32 (users,).
    """

    direction: Tensor
    curvature: Tensor
    deviation: Tensor
    gain: Tensor


def panel_near_field_score(array: UniformPlanarArray, channels: Tensor, loss: float = DEFAULT_LOSS) -> Tensor:
    """Compute near-field scores of users from their channels alone, each taken as one spherical wave in white noise.

    Parameters
    ----------
    array
        Array; its carrier has no influence.
    channels
        complex64 (..., antennas), non-zero, of any scale and phase.
    loss
        Delta, in (0, 1).

    Returns
    -------
    Tensor
        float64 (...), in [0, 1]; above 0.5 for near-field users, for which |a^H b| < 1 - Delta.

    Raises
    ------
    ValueError
        If the channels have another number of antennas than ``array``.
    """
    fit = fit_spherical_wave(array, channels)
    magnitude = fit.curvature.double().abs()
    lost = (1 - fit.gain.double()).clamp(min=1e-9)
    border = magnitude * torch.sqrt(loss / lost)  # the loss rises with the square of the curvature
    score: Tensor = torch.special.ndtr((magnitude - border) / fit.deviation.double().clamp(min=_TINY))
    return score


def fit_spherical_wave(array: UniformPlanarArray, channels: Tensor) -> PanelFit:
    """Fit one spherical wave to each channel.

    Parameters
    ----------
    array
        Array; its carrier has no influence.
    channels
        complex64 (..., antennas), non-zero, of any scale and phase.

    Returns
    -------
    PanelFit
        Waves, with the leading axes of ``channels``.

    Raises
    ------
    ValueError
        If the channels have another number of antennas than ``array``.
    """
    if channels.shape[-1] != array.antennas:
        raise ValueError(f"the array has {array.antennas} antennas, the channels {channels.shape[-1]}")
    users = channels.reshape(-1, array.polarisations, array.columns, array.rows)
    search = _search(array.rows, array.columns, users.device)
    size = max(1, _ELEMENTS_PER_PART // array.antennas)
    parts = [_fit(search, part) for part in torch.split(users, size) if len(part)]
    values = torch.cat([users.real.new_zeros(0, 5), *parts]).reshape(*channels.shape[:-1], 5)
    return PanelFit(values[..., :2], values[..., 2], values[..., 3], values[..., 4])


@lru_cache(maxsize=16)
def _search(rows: int, columns: int, device: torch.device) -> _Search:
    """Lay out the search over a panel."""
    fine = _grid(rows, columns, _FINE, device)
    coarse = fine if min(rows, columns) <= _STRIP else _grid(rows, columns, _COARSE, device)
    waves = []
    for length in coarse.length:
        turns = torch.outer(torch.arange(length), torch.arange(2 * length)).double() / (2 * length)
        waves.append(torch.polar(torch.ones_like(turns), -2 * math.pi * turns))
    diagonal = math.hypot(rows, columns) / 2  # wavelengths
    cycles, largest = [0.0], max(_LARGEST_CURVATURE, diagonal / 16)
    while cycles[-1] < largest:
        cycles.append(cycles[-1] + max(_CURVATURE_STEP, 0.3 * cycles[-1]))
    rho = tuple(8 * value / diagonal**2 for value in cycles + [-value for value in cycles[1:]])
    places = _grid(rows, columns, max(rows, columns), device).centres
    return _Search(coarse, fine, places, torch.kron(*waves).to(torch.complex64).to(device), rho)


def _grid(rows: int, columns: int, most: int, device: torch.device) -> _Grid:
    """Cut a panel into at most ``most`` sub-arrays per axis."""
    lengths, centres, counts = [], [], []
    for size in (columns, rows):
        lengths.append(-(-size // most))
        start = torch.arange(0, size, lengths[-1], dtype=torch.float64)
        stop = (start + lengths[-1]).clamp(max=size)
        centres.append(((start + stop) / 2 - size / 2) / 2)
        counts.append(stop - start)
    y, z = places = torch.cartesian_prod(*centres).T
    elements = torch.outer(*counts).flatten().unsqueeze(-1)
    moments = torch.stack([y, z, y.square(), z.square(), y * z], -1)
    moments = moments - (elements * moments).sum(0) / elements.sum()  # the phase of the channel is free
    covariance = moments.T @ (elements * moments) / elements.sum()
    return _Grid(
        shape=(len(counts[0]), len(counts[1])),
        length=(lengths[0], lengths[1]),
        centres=places.float().contiguous().to(device),
        moments=moments.float().to(device),
        covariance=covariance.float().to(device),
        largest_rho=2 / math.hypot(rows, columns),
    )


def _fit(search: _Search, users: Tensor) -> Tensor:
    """Fit waves to users (users, polarisations, columns, rows); float32 (users, 5), the fields of `PanelFit`."""
    unit = users / users.abs().amax((1, 2, 3), keepdim=True).clamp(min=_TINY)
    beam, outputs = _best_beam(search, unit)
    wave = _coarse_wave(search, outputs, beam)
    turns = 2 * (wave[:, :2] / 2).round()  # directions 2 apart are the same
    wave = torch.cat([wave[:, :2] - turns, wave[:, 2:]], -1)
    wave, *_ = _refined(search.coarse, outputs, beam - turns, wave, _COARSE_STEPS)
    beam = wave[:, :2]
    wave, power, variance = _refined(search.fine, _steered(search.fine, unit, beam), beam, wave, _FINE_STEPS)
    explained = power / search.places.shape[1]
    noise = (squared_magnitude(unit).sum((1, 2, 3)) - explained).clamp(min=0) / unit[0].numel()
    deviation = torch.sqrt(noise * variance / (2 * explained))
    gain = torch.polar(torch.ones(()), 2 * math.pi * _bend(wave, search.places)).mean(-1).abs()
    return torch.cat([wave, torch.stack([deviation, gain], -1)], -1)


def _subarrays_of(grid: _Grid, users: Tensor) -> Tensor:
    """Cut users (users, polarisations, columns, rows) into (users, polarisations x sub-arrays, length)."""
    (across, down), (wide, high) = grid.shape, grid.length
    count, _, columns, rows = users.shape
    padded = torch.nn.functional.pad(users, (0, down * high - rows, 0, across * wide - columns))
    return padded.reshape(count, -1, wide, down, high).transpose(2, 3).reshape(count, -1, wide * high)


def _best_beam(search: _Search, users: Tensor) -> tuple[Tensor, Tensor]:
    """Return the common best beam of the coarse sub-arrays.

    Parameters
    ----------
    search
        Sub-arrays and beams.
    users
        complex64 (users, polarisations, columns, rows).

    Returns
    -------
    beam : Tensor
        Its (u, v), float32 (users, 2).
    outputs : Tensor
        Inner products of the sub-arrays with its plane wave, complex64 (users, polarisations, sub-arrays).
    """
    (across, down), (wide, high) = search.coarse.shape, search.coarse.length
    spectra = _subarrays_of(search.coarse, users) @ search.beams
    best = squared_magnitude(spectra).sum(1).argmax(-1)
    outputs = spectra.gather(2, best.reshape(-1, 1, 1).expand(-1, spectra.shape[1], 1))
    beam = torch.stack([(best // (2 * high)) / wide, (best % (2 * high)) / high], -1)
    first = _outer_wave(beam * beam.new_tensor([wide, high]), across, down)  # from sub-array to sub-array
    return beam, outputs.reshape(*users.shape[:2], -1) * first.unsqueeze(1)


def _steered(grid: _Grid, users: Tensor, beam: Tensor) -> Tensor:
    """Return the inner products of sub-arrays with plane waves (u, v), complex64 (users, polarisations, sub-arrays)."""
    wave = _outer_wave(beam, *users.shape[2:]).reshape(-1, 1, *users.shape[2:])
    return _subarrays_of(grid, users * wave).sum(-1).reshape(*users.shape[:2], -1)


def _outer_wave(step: Tensor, columns: int, rows: int) -> Tensor:
    """Return conjugate plane waves of phase steps pi (u, v), complex64 (users, columns x rows)."""
    axes = [
        torch.polar(torch.ones(()), -math.pi * torch.outer(step[:, axis], torch.arange(size, device=step.device)))
        for axis, size in enumerate((columns, rows))
    ]
    return (axes[0].unsqueeze(2) * axes[1].unsqueeze(1)).flatten(1)


def _coarse_wave(search: _Search, outputs: Tensor, beam: Tensor) -> Tensor:
    """Return (u, v, rho) of the largest likelihood on the grid of curvatures and directions, float32 (users, 3)."""
    across, down = search.coarse.shape
    square = search.coarse.centres.square().sum(0)
    padded = outputs.new_zeros(*outputs.shape[:2], 2 * across, 2 * down)
    largest = torch.full((len(outputs),), -1.0, device=outputs.device)
    index = torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)
    curvature = torch.zeros_like(largest)
    for rho in search.rho:
        flat = outputs * torch.polar(torch.ones(()), math.pi * rho * square)
        padded[..., :across, :down] = flat.reshape(*flat.shape[:2], across, down)
        peak, at = squared_magnitude(torch.fft.fft2(padded)).sum(1).flatten(1).max(-1)
        better = peak > largest
        largest, index = torch.where(better, peak, largest), torch.where(better, at, index)
        curvature = torch.where(better, rho, curvature)
    bins = torch.stack([index // (2 * down) / (2 * across), index % (2 * down) / (2 * down)], -1)
    away = 2 * ((bins + 0.5) % 1 - 0.5) / beam.new_tensor(search.coarse.length)
    return torch.cat([beam + away, curvature.unsqueeze(-1)], -1)


def _refined(grid: _Grid, outputs: Tensor, beam: Tensor, wave: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Raise the likelihood of waves by Gauss-Newton steps.

    Parameters
    ----------
    grid
        Sub-arrays.
    outputs
        Their inner products with plane waves ``beam``, complex64 (users, polarisations, sub-arrays).
    beam
        (u, v), float32 (users, 2).
    wave
        (u, v, rho) to start from, float32 (users, 3).
    steps
        Number of steps.

    Returns
    -------
    wave : Tensor
        Refined waves, float32 (users, 3).
    power : Tensor
        |sum of the outputs in phase|^2 before the last step, polarisations together, float32 (users,).
    variance : Tensor
        Variance of rho per noise power of an antenna over twice the energy in the wave, float32 (users,).
    """
    slopes, inverse = _normal_equations(grid, wave)
    largest = wave.new_tensor([1.0, 1.0, grid.largest_rho])
    power = wave[:, 2]
    for _ in range(steps):
        cycles = _bend(wave, grid.centres) - (wave[:, :2] - beam) @ grid.centres
        level = outputs * torch.polar(torch.ones(()), 2 * math.pi * cycles).unsqueeze(1)
        amplitude = level.sum(-1, keepdim=True)
        power = squared_magnitude(amplitude).sum((1, 2)).clamp(min=_TINY)
        turned = (level * amplitude.conj()).imag.sum(1)
        move = (slopes @ (turned @ grid.moments).unsqueeze(-1)).mT @ inverse
        move = move.squeeze(1) / power.unsqueeze(-1)
        wave = torch.minimum(torch.maximum(wave + move, -largest), largest)
    return wave, power, inverse[:, 2, 2]


def _normal_equations(grid: _Grid, wave: Tensor) -> tuple[Tensor, Tensor]:
    """Return the derivatives of phases by (u, v, rho), (users, 3, moments), and their inverse information matrix."""
    u, v, _ = wave.unbind(-1)
    slopes = wave.new_zeros(len(wave), 3, 5)
    slopes[:, 0, 0] = slopes[:, 1, 1] = 1
    slopes[:, 2, 2:] = torch.stack([(u.square() - 1) / 2, (v.square() - 1) / 2, u * v], -1)
    slopes = 2 * math.pi * slopes
    information = slopes @ grid.covariance @ slopes.mT
    scale = information.diagonal(dim1=1, dim2=2).clamp(min=_RIDGE).rsqrt()
    scales = scale.unsqueeze(-1) * scale.unsqueeze(1)
    ridge = _RIDGE * torch.eye(3, device=wave.device)
    return slopes, torch.linalg.inv(information * scales + ridge) * scales


def _bend(wave: Tensor, places: Tensor) -> Tensor:
    """Compute (r_n - r + u y_n + v z_n) / lambda, the cycles by which waves (u, v, rho) lag behind plane ones.

    With a = u y + v z, s = y^2 + z^2 and S = r_n / r = sqrt(1 - 2 rho a + rho^2 s) this is
    (rho s + a (S^2 - 1) / (1 + S)) / (1 + S), a form without cancellation that holds for rho <= 0 too.
    """
    rho = wave[:, 2:]
    along, square = wave[:, :2] @ places, places.square().sum(0)
    excess = (rho * (rho * square - 2 * along)).clamp(min=-1)
    root = 1 + torch.sqrt(1 + excess)
    return (rho * square + along * excess / root) / root
