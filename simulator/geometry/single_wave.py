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
import numpy.typing as npt
import torch
from torch import Tensor

LEAST_SHARE = 0.6
"""Share of the energy, without that of noise, that one wave has in a channel taken as a single wave."""
LEAST_DETECTED = 0.3
"""Least such share with the noise; in noise alone, 10,000 channels of 64 antennas, all shares were below it."""
LEAST_ANTENNAS = 32
"""Antennas below which the test is not made: the wave that fits best explains too much of any channel."""

LEAST_CLEAR_ANTENNAS = 128
"""Antennas below which no curvature is given: a few scattered paths then pass for the phase of a wave."""

_CLEAR_SHARE = 0.97
_BINS = 16
_LARGEST = (1.0, 1.5, 3.0)  # linear, quadratic and cubic phase of the table, cycles over t, t^2, t^3 with |t| <= 1/2
_STEPS = (7, 5, 3)
_FINE = (0.5, 13), (0.55, 9)  # linear and quadratic phase of the table of clear waves, and its steps
_WITHIN_BINS = 0.97  # least share of a wave's energy in the bins of a table
_LAGS = (2, 4)  # N / m; the second serves what the first does not find in noise, with few antennas
_FEW_ANTENNAS = 128
_PART = 1 << 17  # users x antennas whose intermediate results stay in a processor's cache
_TABULATED = 1024  # antennas up to which the chirps of all tones are tabulated, 8 MB
_LEAST_NORM = 1e-9  # of a channel whose products are in the range of single precision
_TINY = torch.finfo(torch.float32).tiny


class Waves(NamedTuple):
    """Hold what is known of the strongest wave of channels.

    Attributes
    ----------
    single
        The channel is a single spherical or plane wave at a uniform linear array, noise excepted, bool (...).
    curvature
        Magnitude of the curvature, cycles over t^2 with |t| <= 1/2 over the aperture, float32 (...); in the far field
        0, at a distance r broadside of an array of aperture D, D^2 / (2 lambda r). NaN where the wave is not clear.
    """

    single: Tensor
    curvature: Tensor


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

    A wave is clear if one wave of constant magnitude over the whole aperture explains more than 0.97 of the energy.
    Other waves, noise, dark antennas and a taper of the gains lower that share; what is left moves the curvature of the
    best wave by a quarter of a cycle or so at most.

    Parameters
    ----------
    channels
        complex64 (..., antennas), of any scale, phase and spacing of the antennas.

    Returns
    -------
    Waves
        Without a test below `LEAST_ANTENNAS` antennas, without a curvature below `LEAST_CLEAR_ANTENNAS`.
    """
    antennas = channels.shape[-1]
    if antennas < LEAST_ANTENNAS or not channels.numel():
        single = torch.ones(channels.shape[:-1], dtype=torch.bool, device=channels.device)
        return Waves(single, torch.full(single.shape, torch.nan, device=channels.device))
    users = channels.reshape(-1, antennas)
    parts = torch.split(users, max(1, _PART // antennas)) if users.device.type == "cpu" else [users]
    found = [_strongest_waves(part) for part in parts]
    return Waves(*(torch.cat(values).reshape(channels.shape[:-1]) for values in zip(*found, strict=True)))


def _strongest_waves(users: Tensor) -> Waves:
    (users, energy), antennas = _in_range(users), users.shape[-1]
    peaks = _peaks(users, antennas // _LAGS[0])
    curvature = _clear_curvature(peaks, energy)
    single = _is_single(peaks, energy, ~curvature.isnan())
    if antennas <= _FEW_ANTENNAS and not bool(single.all()):
        rest = torch.nonzero(~single).squeeze(-1)
        again = _peaks(users[rest], antennas // _LAGS[1])
        single[rest] = _is_single(again, energy[rest], torch.zeros_like(rest, dtype=torch.bool))
    return Waves(single, curvature)


def _in_range(users: Tensor) -> tuple[Tensor, Tensor]:
    """Return channels whose products are in the range of single precision, and their energies, float32 (users,)."""
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


class _Peaks(NamedTuple):
    """Hold the peaks of the two spectra of channels.

    Attributes
    ----------
    lag
        m, in antennas.
    tones
        Magnitude of the spectrum of y_(n + m) y_n^*, float32 (users, antennas).
    tone
        Its peak, int64 (users,).
    bins
        Spectrum of the channel without the curvature, complex64 (users, antennas).
    spectrum
        Its magnitude.
    strongest
        Its peak, int64 (users, 1).
    """

    lag: int
    tones: Tensor
    tone: Tensor
    bins: Tensor
    spectrum: Tensor
    strongest: Tensor


def _peaks(users: Tensor, lag: int) -> _Peaks:
    """Find curvature and angle of the strongest wave of channels, complex64 (users, antennas), as bins."""
    antennas = users.shape[-1]
    products = users[:, lag:] * users[:, : antennas - lag].conj()
    tones = _magnitude(torch.fft.fft(products, n=antennas))
    tone = _peak(tones)
    if antennas <= _TABULATED:
        flattened = _rows(_all_chirps(antennas, lag, users.device), tone)
    else:
        flattened = _chirps(tone, antennas, lag)
    bins = torch.fft.fft(flattened.mul_(users))
    spectrum = _magnitude(bins)
    return _Peaks(lag, tones, tone, bins, spectrum, _peak(spectrum).unsqueeze(-1))


def _clear_curvature(peaks: _Peaks, energy: Tensor) -> Tensor:
    """Return the curvatures of `Waves`, those of the best wave of a table around the peaks of both spectra."""
    curvature = torch.full_like(energy, torch.nan)
    antennas = peaks.bins.shape[-1]
    if energy.device.type != "cpu" or antennas < LEAST_CLEAR_ANTENNAS:
        return curvature
    around = (peaks.strongest.numpy() + np.arange(-(_BINS // 2), _BINS // 2)) % antennas
    bins = np.take_along_axis(peaks.bins.numpy(), around, -1)
    parts, least = bins.view(np.float32), _CLEAR_SHARE * antennas * energy.numpy()
    compact = np.flatnonzero(np.vecdot(parts, parts) > _WITHIN_BINS * least)
    table, bends = _fine_waves(antennas)
    waves = np.abs(bins[compact] @ table)
    best = waves.argmax(-1)
    is_clear = np.square(waves[np.arange(len(best)), best]) > least[compact]
    clear = compact[is_clear]
    tone = (peaks.tone.numpy()[clear] + antennas // 2) % antennas - antennas // 2
    curvature.numpy()[clear] = np.abs(tone * (antennas / (2 * peaks.lag)) + bends[best[is_clear]])
    return curvature


@lru_cache(8)
def _fine_waves(antennas: int) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float64]]:
    """Tabulate the conjugate spectra of waves between the grids, (bins, waves), of gain 1, and their curvatures."""
    t = (torch.arange(antennas, dtype=torch.float64) + 0.5) / antennas - 0.5
    axes = [torch.linspace(-largest, largest, steps).double() for largest, steps in _FINE]
    slope, bend = (grid.reshape(-1, 1) for grid in torch.meshgrid(*axes, indexing="ij"))
    phase = 2 * math.pi * t * (slope + t * bend)
    around = (torch.arange(_BINS) - _BINS // 2) % antennas
    spectra = torch.fft.fft(torch.polar(torch.ones_like(phase), phase))[:, around] / antennas
    spectra /= spectra.abs().square().sum(-1, keepdim=True)
    return spectra.conj().T.to(torch.complex64).contiguous().numpy(), bend.flatten().numpy()


def _is_single(peaks: _Peaks, energy: Tensor, is_clear: Tensor) -> Tensor:
    """Return whether one wave has `LEAST_SHARE` of the energy without that of noise, as clear waves have.

    Parameters
    ----------
    peaks
        Result of `_peaks`.
    energy
        ||y||^2, float32 (users,).
    is_clear
        Channels that need no test, bool (users,).

    Returns
    -------
    Tensor
        bool (users,).
    """
    strongest = peaks.spectrum.gather(-1, peaks.strongest).squeeze(-1)
    single = is_clear | (strongest.square() >= LEAST_SHARE * peaks.spectrum.shape[-1] * energy)
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
