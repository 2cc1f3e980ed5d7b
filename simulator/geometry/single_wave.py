"""Test whether a channel is a single spherical wave, the premise of near-field labels.

The share of the energy of a channel y that one wave explains is max over (theta, r) of |b(theta, r)^H y|^2 / ||y||^2.
Scattering lowers it, and so does any array but a uniform line. White noise at an SNR per antenna of s lowers it to
s / (1 + s); in contrast to a few scattered paths, noise fills every bin of the spectrum alike and is subtracted.

The curvature of the wave is found as the peak of the spectrum of y_(n + m) y_n^*, which is a tone for a quadratic phase
(second-order ambiguity function); the angle as the peak of the spectrum of y without that curvature. A table of slowly
varying phases, correlated with the bins around that peak, removes the errors of both grids and the cubic phase of
waves from a distance of a few apertures. Nearer than about two apertures a wave is not recognised.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from simulator.geometry.clear_waves import LEAST_CLEAR_ANTENNAS, ClearWaves, clear_waves, in_range, parts_in_cache

LEAST_SHARE = 0.6
"""Share of the energy, without that of noise, that one wave has in a channel taken as a single wave."""
LEAST_DETECTED = 0.3
"""Least such share with the noise; in noise alone, 10,000 channels of 64 antennas, all shares were below it."""
LEAST_ANTENNAS = 32
"""Antennas below which the test is not made: the wave that fits best explains too much of any channel."""

_BINS = 16
_LARGEST = (1.0, 1.5, 3.0)  # linear, quadratic and cubic phase of the table, cycles over t, t^2, t^3 with |t| <= 1/2
_STEPS = (7, 5, 3)
_LAGS = (2, 4)  # N / m; the second serves what the first does not find in noise, with few antennas
_FEW_ANTENNAS = 128
_TABULATED = 1024  # antennas up to which the chirps of all tones are tabulated, 8 MB


class Waves(NamedTuple):
    """Hold what is known of the strongest waves of channels.

    Attributes
    ----------
    single
        The channel is a single spherical or plane wave at a uniform linear array, noise excepted, bool (...).
    clear
        The clear waves; None below `LEAST_CLEAR_ANTENNAS` antennas and on a GPU.
    """

    single: Tensor
    clear: ClearWaves | None


def is_single_wave(channels: Tensor) -> Tensor:
    """Return whether each channel is a single spherical or plane wave at a uniform linear array, noise excepted.

    Parameters
    ----------
    channels
        complex64 (..., antennas), of any scale, phase and spacing of the antennas.

    Returns
    -------
    Tensor
        bool (...), on the device of ``channels``; true without a test below `LEAST_ANTENNAS` antennas.
    """
    return strongest_waves(channels).single


def strongest_waves(channels: Tensor) -> Waves:
    """Test channels as `is_single_wave` does, and estimate the curvatures of clear waves.

    Parameters
    ----------
    channels
        complex64 (..., antennas), of any scale, phase and spacing of the antennas.

    Returns
    -------
    Waves
        Without a test below `LEAST_ANTENNAS` antennas.
    """
    shape, antennas = channels.shape[:-1], channels.shape[-1]
    users = channels.reshape(-1, antennas)
    if antennas < LEAST_ANTENNAS or not channels.numel():
        return Waves(torch.ones(shape, dtype=torch.bool, device=channels.device), None)
    if users.device.type != "cpu" or antennas < LEAST_CLEAR_ANTENNAS:
        return Waves(_are_single(users).reshape(shape), None)
    clear = clear_waves(channels)
    single = torch.from_numpy(clear.share > 0)
    unclear = torch.nonzero(~single.reshape(-1)).squeeze(-1)
    if len(unclear):
        single.reshape(-1)[unclear] = _are_single(users[unclear])
    return Waves(single, clear)


def _are_single(users: Tensor) -> Tensor:
    """Return whether channels, complex64 (users, antennas), are single waves, bool (users,)."""
    return torch.cat([_tested(part) for part in parts_in_cache(users)])


def _tested(users: Tensor) -> Tensor:
    """Return `_are_single` of channels whose intermediate results stay in the cache."""
    (users, energy), antennas = in_range(users), users.shape[-1]
    single = _is_single(_peaks(users, antennas // _LAGS[0]), energy)
    if antennas <= _FEW_ANTENNAS and not bool(single.all()):
        rest = torch.nonzero(~single).squeeze(-1)
        single[rest] = _is_single(_peaks(users[rest], antennas // _LAGS[1]), energy[rest])
    return single


class _Peaks(NamedTuple):
    """Hold the spectrum of channels without the curvature, and its peak.

    Attributes
    ----------
    bins
        Spectrum of the channel without the curvature, complex64 (users, antennas).
    spectrum
        Its magnitude.
    strongest
        Its peak, int64 (users, 1).
    """

    bins: Tensor
    spectrum: Tensor
    strongest: Tensor


def _peaks(users: Tensor, lag: int) -> _Peaks:
    """Find curvature and angle of the strongest wave of channels, complex64 (users, antennas), as bins."""
    antennas = users.shape[-1]
    products = users[:, lag:] * users[:, : antennas - lag].conj()
    tone = _peak(_magnitude(torch.fft.fft(products, n=antennas)))
    if antennas <= _TABULATED:
        flattened = _rows(_all_chirps(antennas, lag, users.device), tone)
    else:
        flattened = _chirps(tone, antennas, lag)
    bins = torch.fft.fft(flattened.mul_(users))
    spectrum = _magnitude(bins)
    return _Peaks(bins, spectrum, _peak(spectrum).unsqueeze(-1))


def _is_single(peaks: _Peaks, energy: Tensor) -> Tensor:
    """Return whether one wave has `LEAST_SHARE` of the energy without that of noise.

    Parameters
    ----------
    peaks
        Result of `_peaks`.
    energy
        ||y||^2, float32 (users,).

    Returns
    -------
    Tensor
        bool (users,).
    """
    strongest = peaks.spectrum.gather(-1, peaks.strongest).squeeze(-1)
    single = strongest.square() >= LEAST_SHARE * peaks.spectrum.shape[-1] * energy
    weak = torch.nonzero(~single).squeeze(-1)
    if len(weak):
        detailed = _share_in_detail(peaks.bins[weak], peaks.spectrum[weak], peaks.strongest[weak], energy[weak])
        single[weak] = detailed >= LEAST_SHARE
    return single


def _share_in_detail(bins: Tensor, spectrum: Tensor, strongest: Tensor, energy: Tensor) -> Tensor:
    """Return the share of the energy in the strongest wave, between the grids of angles and curvatures, beside noise.

    Parameters
    ----------
    bins, spectrum
        Spectrum without the curvature, complex64 (users, antennas), and its magnitude.
    strongest
        Its peak, int64 (users, 1).
    energy
        As in `_is_single`.

    Returns
    -------
    Tensor
        float32 (users,); with the noise where less than `LEAST_DETECTED`.
    """
    antennas = bins.shape[-1]
    around = (strongest + torch.arange(-(_BINS // 2), _BINS // 2, device=bins.device)) % antennas
    waves = _magnitude(bins.gather(-1, around) @ _slow_waves(antennas, bins.device))
    share = waves.amax(-1).square() / (antennas * energy)
    unclear = torch.nonzero((share >= LEAST_DETECTED) & (share < LEAST_SHARE)).squeeze(-1)
    if len(unclear):
        # The median of an exponential distribution is log 2 of its mean.
        noise = spectrum[unclear].median(-1).values.square() / (math.log(2) * energy[unclear])
        wave = share[unclear]
        share[unclear] = wave / (wave + (1 - wave - noise).clamp(min=0))
    return share


def _magnitude(values: Tensor) -> Tensor:
    """Return |z|; on a CPU by NumPy, which takes a third of the time of the sum of squares for complex numbers."""
    return values.abs() if values.device.type != "cpu" else torch.from_numpy(np.abs(values.numpy()))


def _peak(values: Tensor) -> Tensor:
    """Return the index of the largest entry of each row; on a CPU by NumPy, whose search takes a tenth of the time."""
    return values.argmax(-1) if values.device.type != "cpu" else torch.from_numpy(values.numpy().argmax(-1))


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Return a copy of some rows of a table; on a CPU by NumPy, which takes a quarter of the time."""
    if table.device.type != "cpu":
        return table.index_select(0, index)
    return torch.from_numpy(table.numpy().take(index.numpy(), 0))


@lru_cache(8)
def _all_chirps(antennas: int, lag: int, device: torch.device) -> Tensor:
    """Tabulate `_chirps` of every tone on the CPU; the copy is complete before another stream can read the table."""
    return _chirps(torch.arange(antennas), antennas, lag).to(device)


def _chirps(tone: Tensor, antennas: int, lag: int) -> Tensor:
    """Return the conjugate waves of the curvatures that make tones of the products of entries at a lag.

    Parameters
    ----------
    tone
        Bins of the tones, int64 (users,).
    antennas, lag
        N and m.

    Returns
    -------
    Tensor
        complex64 (users, antennas).
    """
    curvature = ((tone.unsqueeze(-1) / antennas + 0.5) % 1 - 0.5) * (antennas * antennas / (2 * lag))  # cycles over t^2
    t = (torch.arange(antennas, device=tone.device) + 0.5) / antennas - 0.5
    cycles = curvature * t.square()
    phase = 2 * math.pi * (cycles - cycles.round())
    return torch.complex(torch.cos(phase), -torch.sin(phase))


@cache
def _slow_waves(antennas: int, device: torch.device) -> Tensor:
    """Tabulate the conjugate spectra of slowly varying waves around bin 0, complex64 (bins, waves)."""
    t = (torch.arange(antennas, dtype=torch.float64) + 0.5) / antennas - 0.5
    axes = [torch.linspace(-largest, largest, steps).double() for largest, steps in zip(_LARGEST, _STEPS, strict=True)]
    slope, bend, twist = (grid.reshape(-1, 1) for grid in torch.meshgrid(*axes, indexing="ij"))
    phase = 2 * math.pi * t * (slope + t * (bend + t * twist))
    spectra = torch.fft.fft(torch.polar(torch.ones_like(phase), phase)) / antennas
    around = (torch.arange(_BINS) - _BINS // 2) % antennas
    table: Tensor = spectra[:, around].conj().T.to(torch.complex64).contiguous().to(device)
    return table
