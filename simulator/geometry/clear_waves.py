"""Find channels that are one wave of constant magnitude at a uniform linear array, and the curvatures of the waves.

The products y_(n + N / 2) y_n^* of a wave of quadratic phase are a tone. Its sums over short groups of antennas, some
32 numbers, place the curvature within half a cycle; without that curvature the channel is a tone too, in one of the
bins of its spectrum. A table of waves between both grids is correlated with the bins around it. The share of the energy
that the best of them explains proves the wave, however it was found.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Channels = npt.NDArray[np.complex64]
Single = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

LEAST_CLEAR_ANTENNAS = 128
"""Antennas below which no wave is clear: a few scattered paths then pass for the phase of a wave."""

_PART = 1 << 17  # users x antennas
_LEAST_NORM = 1e-9  # of a channel whose products are in the range of single precision
_TINY = torch.finfo(torch.float32).tiny
_CLEAR_SHARE = 0.97
_LEAST_TONE = 0.94  # of the magnitude of a wave's tone, for which few other channels pass
_GROUPS = 32
_BINS = 16
_SLOPES, _BENDS = (0.5, 7), (0.55, 5)  # largest linear and quadratic phase of the table, cycles over t and t^2; steps


class ClearWaves(NamedTuple):
    """Hold clear waves: those of constant magnitude over the aperture with more than 0.97 of the energy of a channel.

    Other waves, noise, dark antennas and a taper of the gains lower that share.

    Attributes
    ----------
    curvature
        Magnitude of the curvature, cycles over t^2 with |t| <= 1/2 over the aperture, float32 (...): in the far field
        0, at a distance r broadside of an array of aperture D, D^2 / (2 lambda r). NaN where no wave is clear.
    share
        Share of the energy that the wave explains, float32 (...); NaN there too.
    """

    curvature: Single
    share: Single


def clear_waves(channels: Tensor) -> ClearWaves:
    """Find the clear waves among channels.

    Parameters
    ----------
    channels
        complex64 (..., antennas), on a CPU, of any scale, phase and spacing of the antennas, which are at least
        `LEAST_CLEAR_ANTENNAS`.

    Returns
    -------
    ClearWaves
        Curvatures up to some 30 cycles.
    """
    users, antennas = channels.reshape(-1, channels.shape[-1]), channels.shape[-1]
    grid, first, likely = _grid(antennas), 0, []
    for part in parts_in_cache(users):
        scaled, energies = in_range(part)
        places, *values = _likely(scaled.numpy(), energies.numpy(), grid)
        likely.append((first + places, *values))
        first += len(part)
    place, tone, energy, bins = (np.concatenate(each) for each in zip(*likely, strict=True))
    bend, share = _best_wave(bins, antennas)
    share /= antennas * energy
    curvature = np.abs(grid.curvature.take(tone) + bend)
    found = np.full((2, len(users)), np.nan, np.float32)
    found[:, place] = np.where(share > _CLEAR_SHARE, (curvature, share), np.nan)
    return ClearWaves(*found.reshape(2, *channels.shape[:-1]))


def parts_in_cache(users: Tensor) -> tuple[Tensor, ...]:
    """Split channels into parts whose intermediate results stay in a processor's cache; on a GPU there is one.

    Parameters
    ----------
    users
        complex64 (users, antennas).

    Returns
    -------
    tuple of Tensor
    """
    return torch.split(users, max(1, _PART // users.shape[1])) if users.device.type == "cpu" else (users,)


def in_range(users: Tensor) -> tuple[Tensor, Tensor]:
    """Scale channels so that their products are in the range of single precision, and compute their energies.

    Parameters
    ----------
    users
        complex64 (users, antennas).

    Returns
    -------
    users
        The same, or multiples of them.
    energy
        ||y||^2, float32 (users,).
    """
    users = users.resolve_conj()
    parts = torch.view_as_real(users).flatten(-2)
    if users.device.type == "cpu":
        with np.errstate(over="ignore"):  # an infinite energy is out of range
            energy = np.vecdot(parts.numpy(), parts.numpy())
        least, largest = np.minimum.reduce(energy, initial=1), np.maximum.reduce(energy, initial=1)
        if least > _LEAST_NORM**2 and largest < _LEAST_NORM**-2:
            return users, torch.from_numpy(energy)
    parts = parts / parts.abs().amax(-1, keepdim=True).clamp(min=_TINY)
    energy = parts.square().sum(-1).clamp(min=_TINY)
    return torch.view_as_complex(parts.reshape(*users.shape, 2)), energy


class _Grid(NamedTuple):
    """Hold what depends on the number of antennas alone.

    Attributes
    ----------
    length, groups
        Antennas per group, and number of groups.
    curvature
        Curvature of each tone, cycles over t^2, float32 (tones,).
    least
        Least magnitude of the tone of a clear wave, over the energy of the channel, float32 (tones,).
    chirps
        Conjugate waves of these curvatures, complex64 (tones, antennas).
    """

    length: int
    groups: int
    curvature: Single
    least: Single
    chirps: Channels


@lru_cache(8)
def _grid(antennas: int) -> _Grid:
    products = antennas - antennas // 2
    length = products // _GROUPS
    count = products // length
    tones = 2 * _GROUPS if count == _GROUPS else 4 * _GROUPS
    turns = np.fft.fftfreq(tones)  # of the phase from one group to the next
    curvature = turns / length * antennas**2 / (2 * (antennas // 2))
    least = _LEAST_TONE * np.sinc(turns) * (count * length / antennas)
    t = (np.arange(antennas) + 0.5) / antennas - 0.5
    chirps = np.exp(-2j * math.pi * curvature[:, None] * t**2).astype(np.complex64)
    return _Grid(length, count, curvature.astype(np.float32), least.astype(np.float32), chirps)


def _likely(users: Channels, energy: Single, grid: _Grid) -> tuple[Indices, Indices, Single, Channels]:
    """Return the channels that may be clear waves: their places, tones, energies and strongest bins."""
    tone, magnitude = _tones(users, grid)
    place = np.flatnonzero(magnitude > grid.least.take(tone) * energy)
    if len(place) < len(users):
        users, energy, tone = users.take(place, 0), energy.take(place), tone.take(place)
    return place, tone, energy, _strongest_bins(users, grid.chirps.take(tone, 0))


def _tones(users: Channels, grid: _Grid) -> tuple[Indices, Single]:
    """Return the strongest tone of the products of entries half an array apart, and its magnitude between the tones."""
    lag, used = users.shape[1] // 2, grid.groups * grid.length
    products = np.conjugate(users[:, :used])
    products *= users[:, lag : lag + used]
    groups = (products.reshape(-1, grid.length) @ _ones(grid.length)).reshape(-1, grid.groups)
    tones = np.abs(_spectrum(groups, len(grid.curvature)))
    tone = tones.argmax(-1)
    start, last, values = np.arange(0, tones.size, tones.shape[1]), tones.shape[1] - 1, tones.reshape(-1)
    peak = values.take(start + tone)
    _, gained = _vertex(values.take(start + (tone - 1 & last)), peak, values.take(start + (tone + 1 & last)))
    return tone, peak + gained


def _strongest_bins(users: Channels, chirps: Channels) -> Channels:
    """Return the bins around the peak of the spectrum of channels times chirps, complex64 (users, bins)."""
    if not len(users):
        return np.empty((0, _BINS), np.complex64)
    spectrum = _spectrum(np.multiply(chirps, users, out=chirps), users.shape[1])
    around = _around(users.shape[1]).take(np.abs(spectrum).argmax(-1), 0)
    around += np.arange(0, spectrum.size, spectrum.shape[1])[:, None]
    bins: Channels = spectrum.reshape(-1).take(around)
    return bins


def _best_wave(bins: Channels, antennas: int) -> tuple[Single, Single]:
    """Return the quadratic phase of the best wave and its energy times the antennas, between the steps of the table."""
    power = np.square(np.abs(bins @ _table(antennas)))
    best = power.argmax(-1)
    (_, slopes), (largest, bends) = _SLOPES, _BENDS
    slope, bend = best // bends, best % bends
    slope, bend = np.clip(slope, 1, slopes - 2), np.clip(bend, 1, bends - 2)
    centre = np.arange(0, power.size, power.shape[1]) + slope * bends + bend
    values = power.reshape(-1)
    peak = values.take(centre)
    _, gained = _vertex(values.take(centre - bends), peak, values.take(centre + bends))
    offset, more = _vertex(values.take(centre - 1), peak, values.take(centre + 1))
    step = 2 * largest / (bends - 1)
    return (bend - bends // 2 + offset) * step, peak + gained + more


def _vertex(before: Single, peak: Single, after: Single) -> tuple[Single, Single]:
    """Return the place of the vertex of the parabola through three values, in steps up to 1, and its height above."""
    bent = np.minimum(before - 2 * peak + after, -np.finfo(np.float32).tiny)
    place = np.minimum(np.maximum((before - after) / (2 * bent), -1), 1)
    return place, place * ((after - before) / 2 + place * bent / 2)


def _spectrum(values: Channels, length: int) -> Channels:
    """Return the spectrum of rows, by PyTorch's FFT, which takes a third of the time of NumPy's."""
    found: Channels = torch.fft.fft(torch.from_numpy(values), n=length).numpy()
    return found


@lru_cache(8)
def _around(antennas: int) -> Indices:
    """Tabulate the bins around each bin, (antennas, bins)."""
    return (np.arange(antennas)[:, None] + np.arange(-(_BINS // 2), _BINS // 2)) % antennas


@lru_cache(8)
def _table(antennas: int) -> Channels:
    """Tabulate the conjugate spectra of waves between the grids, of gain 1, complex64 (bins, slopes * bends)."""
    t = (np.arange(antennas) + 0.5) / antennas - 0.5
    slope, bend = (np.linspace(-largest, largest, steps) for largest, steps in (_SLOPES, _BENDS))
    phase = 2 * math.pi * t * (slope[:, None, None] + t * bend[:, None])
    around = np.arange(-(_BINS // 2), _BINS // 2) % antennas
    spectra = np.fft.fft(np.exp(1j * phase.reshape(-1, antennas)))[:, around] / antennas
    spectra /= np.square(np.abs(spectra)).sum(-1, keepdims=True)
    return np.ascontiguousarray(spectra.conj().T.astype(np.complex64))


@lru_cache(8)
def _ones(count: int) -> npt.NDArray[Any]:
    return np.ones(count, np.complex64)
