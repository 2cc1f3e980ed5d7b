"""Find the Doppler shifts, and with subcarriers the delays, of each user's paths by ESPRIT in one or two dimensions.

Over snapshots t and subcarriers f, a user's channel is a sum of paths with a vector over the antennas each,

    x_{t,f} = sum_k c_k z_k^t w_k^f,   z = exp(j 2 pi doppler),   w = exp(-j 2 pi delay),

Doppler shifts in cycles per snapshot, delays in units of the inverse subcarrier spacing. Windows of m_t x m_f samples
of all antennas, averaged with their reversed conjugates, have a covariance whose eigenvectors above the noise span the
vectors of the paths. The shifts by one snapshot and by one subcarrier map this space onto itself: both are diagonal in
one basis, that of a combination of them, which pairs Doppler shifts and delays. Powers are those of least-squares
amplitudes.

References
----------
M. Haardt, J. A. Nossek, "Simultaneous Schur decomposition of several nonsymmetric matrices to achieve automatic pairing
in multidimensional harmonic retrieval problems", IEEE Transactions on Signal Processing, 1998.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_NOISE_FACTOR = 2.0  # eigenvalues above so many times the noise are paths
_LEAST_SHARE = 1e-9
_MIX = 0.618  # weight of the shift in frequency in the combination that pairs


@dataclass(frozen=True)
class Paths:
    """Hold the paths of several users, the strongest first; unused places hold NaN.

    Parameters
    ----------
    doppler
        Cycles per snapshot, -0.5 to 0.5, float64 (series, paths).
    delay
        In units of the inverse subcarrier spacing, 0 to 1, float64 (series, paths); NaN with a single subcarrier.
    power
        Mean power over the antennas, float64 (series, paths).
    """

    doppler: Tensor
    delay: Tensor
    power: Tensor


MOST_PATHS = 8


def find_paths(snapshots: Tensor, noise_variance: Tensor, most: int = MOST_PATHS) -> Paths:
    """Find the paths of each user.

    Parameters
    ----------
    snapshots
        Complex (series, history, subcarriers, antennas).
    noise_variance
        sigma^2 per antenna, subcarrier and snapshot, real (series,).
    most
        Largest number of paths per user.

    Returns
    -------
    Paths
        The paths; none of a single snapshot or of channels of zero.
    """
    exact = snapshots.to(torch.complex128)
    found = torch.full((3, len(exact), most), torch.nan, dtype=torch.float64)
    for index, (channel, variance) in enumerate(zip(exact, noise_variance.tolist(), strict=True)):
        if channel.shape[0] < 2 or not bool(channel.any()):
            continue
        doppler, delay, power = _paths_of_user(channel, variance, most)
        order = power.argsort(descending=True)
        found[:, index, : len(order)] = torch.stack([doppler, delay, power])[:, order]
    return Paths(*found)


def _paths_of_user(channel: Tensor, variance: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return Doppler shifts, delays and powers, (paths,), of a channel (history, subcarriers, antennas)."""
    history, carriers, _ = channel.shape
    sizes = (history // 2 + 1, carriers // 2 + 1)
    windows = channel.unfold(0, sizes[0], 1).unfold(1, sizes[1], 1)  # (..., antennas, m_t, m_f)
    samples = windows.flatten(3).flatten(0, 2)
    forward = samples.mT @ samples.conj()
    both = forward + forward.flip(0, 1).conj()
    values, vectors = torch.linalg.eigh(both)
    floor = max(_NOISE_FACTOR * 2 * len(samples) * variance, _LEAST_SHARE * float(values[-1]))
    widest = (sizes[0] - 1) * max(1, sizes[1] - 1) if carriers > 1 else sizes[0] - 1
    count = min(max(1, int((values > floor).sum())), most, widest)
    space = vectors[:, len(values) - count :].reshape(*sizes, count)
    in_time = _shift(space[:-1], space[1:])
    in_frequency = _shift(space[:, :-1], space[:, 1:]) if carriers > 1 else torch.zeros_like(in_time)
    _, basis = torch.linalg.eig(in_time + _MIX * in_frequency)
    inverse = torch.linalg.inv(basis)
    poles, tones = ((inverse @ shift @ basis).diagonal() for shift in (in_time, in_frequency))
    doppler = poles.angle() / (2 * math.pi)
    delay = (-tones.angle() / (2 * math.pi)) % 1 if carriers > 1 else torch.full_like(doppler, torch.nan)
    return doppler, delay, _powers(channel, doppler, delay)


def _shift(first: Tensor, second: Tensor) -> Tensor:
    """Return the matrix that maps one part of the signal space onto the part beside it."""
    solution: Tensor = torch.linalg.lstsq(first.flatten(0, 1), second.flatten(0, 1), driver="gelsd").solution
    return solution


def _powers(channel: Tensor, doppler: Tensor, delay: Tensor) -> Tensor:
    """Return the mean power over the antennas of least-squares amplitudes, (paths,)."""
    history, carriers, _ = channel.shape
    time = torch.arange(history, dtype=torch.float64)[:, None, None] * doppler
    frequency = torch.arange(carriers, dtype=torch.float64)[None, :, None] * delay.nan_to_num()
    phase = 2 * math.pi * (time - frequency)
    waves = torch.polar(torch.ones_like(phase), phase).flatten(0, 1)
    amplitudes = torch.linalg.lstsq(waves, channel.flatten(0, 1), driver="gelsd").solution
    power: Tensor = amplitudes.abs().square().mean(-1)
    return power
