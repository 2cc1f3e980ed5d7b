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

import numpy as np
import torch
from torch import Tensor

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
_PART = 1 << 17  # users x antennas whose intermediate results stay in a processor's cache
_TABULATED = 512  # antennas up to which the chirps of all tones are tabulated, 2 MB
_LEAST_NORM = 1e-9  # of a channel whose products are in the range of single precision
_TINY = torch.finfo(torch.float32).tiny


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
    antennas = channels.shape[-1]
    if antennas < LEAST_ANTENNAS or not channels.numel():
        return torch.ones(channels.shape[:-1], dtype=torch.bool, device=channels.device)
    users = channels.reshape(-1, antennas)
    parts = torch.split(users, max(1, _PART // antennas)) if users.device.type == "cpu" else [users]
    return torch.cat([_is_single_wave(part) for part in parts]).reshape(channels.shape[:-1])


def _is_single_wave(users: Tensor) -> Tensor:
    (users, energy), antennas = _in_range(users), users.shape[-1]
    single = _share(users, energy, antennas // _LAGS[0]) >= LEAST_SHARE
    if antennas <= _FEW_ANTENNAS and not bool(single.all()):
        rest = torch.nonzero(~single).squeeze(-1)
        single[rest] = _share(users[rest], energy[rest], antennas // _LAGS[1]) >= LEAST_SHARE
    return single


def _in_range(users: Tensor) -> tuple[Tensor, Tensor]:
    """Return channels whose products are in the range of single precision, and their energies, float32 (users,)."""
    users = users.resolve_conj()
    parts = torch.view_as_real(users).flatten(-2)
    if users.device.type == "cpu":
        energy = np.einsum("un,un->u", parts.numpy(), parts.numpy())
        least, largest = np.minimum.reduce(energy, initial=1), np.maximum.reduce(energy, initial=1)
        if least > _LEAST_NORM**2 and largest < _LEAST_NORM**-2:
            return users, torch.from_numpy(energy)
    parts = parts / parts.abs().amax(-1, keepdim=True).clamp(min=_TINY)
    energy = parts.square().sum(-1).clamp(min=_TINY)
    return torch.view_as_complex(parts.reshape(*users.shape, 2)), energy


def _share(users: Tensor, energy: Tensor, lag: int) -> Tensor:
    """Return the share of the energy, without that of noise, in the strongest wave of channels.

    Parameters
    ----------
    users
        complex64 (users, antennas).
    energy
        ||y||^2, float32 (users,).
    lag
        m, in antennas.

    Returns
    -------
    Tensor
        float32 (users,); with the noise where less than `LEAST_DETECTED`.
    """
    antennas = users.shape[-1]
    products = users[:, lag:] * users[:, : antennas - lag].conj()
    tone = _peak(_magnitude(torch.fft.fft(products, n=antennas)))
    if antennas <= _TABULATED:
        flattened = _rows(_all_chirps(antennas, lag, users.device), tone)
    else:
        flattened = _chirps(tone, antennas, lag)
    bins = torch.fft.fft(flattened.mul_(users))
    spectrum = _magnitude(bins)
    strongest = _peak(spectrum).unsqueeze(-1)
    share = spectrum.gather(-1, strongest).squeeze(-1).square() / (antennas * energy)
    weak = torch.nonzero(share < LEAST_SHARE).squeeze(-1)
    if len(weak):
        share[weak] = _share_in_detail(bins[weak], spectrum[weak], strongest[weak], energy[weak])
    return share


def _share_in_detail(bins: Tensor, spectrum: Tensor, strongest: Tensor, energy: Tensor) -> Tensor:
    """Return the shares of `_share` between the grids of angles and curvatures, and beside noise.

    Parameters
    ----------
    bins, spectrum
        Spectrum without the curvature, complex64 (users, antennas), and its magnitude.
    strongest
        Its peak, int64 (users, 1).
    energy
        As in `_share`.

    Returns
    -------
    Tensor
        float32 (users,).
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
