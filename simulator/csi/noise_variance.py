"""Estimate the noise variance of received pilots from weak eigenvalues of a history or weak beams of few snapshots."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry, canonical_phases
from simulator.csi.prediction.temporal import temporal_gram

_PASSES = 8
_WEAK = 0.25  # of the beams
_TAPERED = 16  # antennas along a dimension from which on it is tapered
_POOLED = 0.25  # quantile: channels in many beams bias estimates upwards
_LEAST_SHARE_OF_POOL = 0.5
_OVERSAMPLING = 4
_SERIES_AT_A_TIME = 512
_SIGNIFICANT = 0.05  # chance of as strong a wave in noise
_STRUCTURED_SHARE = 0.2  # of the series, from which on all are taken as structured
_LEAST_ANTENNAS = 16  # below which weak beams tell nothing
_LEAST_VALUES = 64  # per user, over antennas, snapshots and drops


@dataclass(frozen=True)
class PooledNoise:
    """Hold the noise variances of several users, estimated from all their drops.

    Parameters
    ----------
    variance
        sigma^2 per antenna, float64 (groups, users).
    unknown
        bool (groups, users): pilots without a wave that noise alone would not show, or too few values.
    """

    variance: Tensor
    unknown: Tensor

    def part(self, start: int, stop: int) -> PooledNoise:
        """Return the part of successive groups.

        Parameters
        ----------
        start, stop
            First group, and the one after the last.

        Returns
        -------
        PooledNoise
            Noise of those groups.
        """
        return PooledNoise(self.variance[start:stop], self.unknown[start:stop])


def noise_variance_of_history(snapshots: Tensor) -> Tensor:
    """Estimate the noise variance per antenna and snapshot from the weak eigenvalues of the temporal Gram matrix.

    White noise gives min(P, N) eigenvalues within max(P, N) sigma^2 (1 +- sqrt(c))^2, c = min / max (Marchenko and
    Pastur). Eigenvalues above the upper edge count as signal, r in number; the others have the mean (max - r) sigma^2.
    The estimate starts from the weaker half and is repeated until r stays.

    Parameters
    ----------
    snapshots
        Complex (series, history, antennas).

    Returns
    -------
    Tensor
        sigma^2, float64 (series,); 0 for a single snapshot or antenna.
    """
    series, history, antennas = snapshots.shape
    few, many = sorted((history, antennas))
    if few == 1:
        return torch.zeros(series, dtype=torch.float64, device=snapshots.device)
    found = torch.linalg.eigvalsh(temporal_gram(snapshots))[:, history - few :].cpu().numpy()  # rising
    values = np.maximum(found, 0)
    means = values.cumsum(1) / np.arange(1, few + 1)
    edge = many * (1 + (few / many) ** 0.5) ** 2
    each, count = np.arange(series), np.full(series, max(1, few // 2))
    variance = means[each, count - 1] / (many - few + few // 2)
    for _ in range(_PASSES):
        count = np.maximum((values <= edge * variance[:, None]).sum(1), max(1, few // 4))
        variance = means[each, count - 1] / (many - few + count)
    return torch.from_numpy(variance).to(snapshots.device)


def noise_variance_of_beams(snapshots: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Estimate the noise variance per antenna from the weakest quarter of the beams.

    The beams are those after the canonical step, with a Hann taper along the array against the side lobes of strong
    waves. Powers of noise alone are sigma^2 Gamma(T) / T variables, whose quantiles scale the mean of the smallest.
    Channels that fill all beams bias the estimate upwards; it never exceeds the mean power per antenna.

    Parameters
    ----------
    snapshots
        Received pilots, one per antenna, complex (series, snapshots, antennas).
    geometry
        Arrangement of the antennas, not ``none``.

    Returns
    -------
    Tensor
        sigma^2, float32 (series,).
    """
    sizes = geometry.grid(snapshots.shape[-1])
    turned = snapshots * canonical_phases(snapshots, geometry).unsqueeze(1)
    field = turned.reshape(*snapshots.shape[:2], *sizes)
    for axis, size in enumerate(sizes):
        if size >= _TAPERED:
            taper = torch.sin(math.pi * (torch.arange(size, device=field.device) + 0.5) / size).square()
            taper = taper / taper.square().mean().sqrt()
            field = field * taper.reshape(-1, *[1] * (len(sizes) - 1 - axis))
    axes = tuple(range(-len(sizes), 0))
    power = torch.fft.fftn(field, dim=axes, norm="ortho").flatten(-len(sizes)).abs().square().mean(1)
    beams = power.shape[-1]
    weak = max(1, int(_WEAK * beams))
    rising = power.sort(-1).values[:, :weak].mean(-1)
    variance: Tensor = rising / _mean_of_smallest(beams, weak, snapshots.shape[1])
    return torch.minimum(variance, snapshots.abs().square().mean((1, 2)))


@cache
def _mean_of_smallest(beams: int, weak: int, snapshots: int) -> float:
    """Compute the mean of the smallest of many Gamma(T) / T variables, by their quantiles at (i - 1/2) / N."""
    from scipy.special import gammaincinv

    levels = (np.arange(weak) + 0.5) / beams
    return float(gammaincinv(snapshots, levels).mean() / snapshots)


def pool_over_drops(variances: Tensor) -> Tensor:
    """Replace estimates of one receiver's noise variance by their lower quartile.

    Channels that fill all beams only raise an estimate. Those below half of the quartile are kept.

    Parameters
    ----------
    variances
        Estimates, real (drops, receivers).

    Returns
    -------
    Tensor
        sigma^2, real (drops, receivers).
    """
    common = variances.quantile(_POOLED, dim=0, keepdim=True)
    return torch.where(variances < _LEAST_SHARE_OF_POOL * common, variances, common)


def pooled_noise(blocks: Iterable[Tensor], geometry: ArrayGeometry) -> PooledNoise:
    """Estimate sigma^2 of each user from the weak beams of all its drops.

    Parameters
    ----------
    blocks
        Received pilots, one per antenna, complex (groups, snapshots, users, antennas), none of them zero; blocks of
        successive groups, of which only the variances are kept. Their lengths do not matter.
    geometry
        Arrangement of the antennas, not ``none``.

    Returns
    -------
    PooledNoise
        Noise of all groups.
    """
    variances, chances, values, antennas = [], [], 0, 0
    for block in blocks:
        groups, snapshots, users, antennas = block.shape
        values += groups * snapshots * antennas
        for part in torch.split(block.transpose(1, 2).flatten(0, 1), _SERIES_AT_A_TIME):
            root = part.abs().amax((1, 2), keepdim=True)  # float32 does not hold all squares
            root = root * (part / root).abs().square().mean((1, 2), keepdim=True).sqrt()
            unit = part / root
            variances.append(noise_variance_of_beams(unit, geometry).double() * root[:, 0, 0].double().square())
            chances.append(chance_of_strongest_wave(unit, geometry))
    significant = (torch.cat(chances) < _SIGNIFICANT).view(-1, users)
    few = antennas < _LEAST_ANTENNAS or values < _LEAST_VALUES
    structured = significant.double().mean() >= _STRUCTURED_SHARE
    variance = pool_over_drops(torch.cat(variances).view(-1, users))
    return PooledNoise(variance, torch.full_like(significant, few) | ~(significant | structured))


def chance_of_strongest_wave(snapshots: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Bound the probability that white noise alone concentrates as much power on one plane wave.

    The share of one direction in the power of T snapshots of noise is a Beta(T, T (N - 1)) variable; the bound is its
    tail times the number of directions. Channels without structure over the array are no different from noise.

    Parameters
    ----------
    snapshots
        Received pilots, complex (series, snapshots, antennas).
    geometry
        Arrangement of the antennas, not ``none``.

    Returns
    -------
    Tensor
        Bound, float64 (series,); it may exceed 1.
    """
    from scipy.special import betaincc

    series, count, antennas = snapshots.shape
    sizes = geometry.grid(antennas)
    axes, fine = tuple(range(-len(sizes), 0)), [size * _OVERSAMPLING for size in sizes]
    spectra = torch.fft.fftn(snapshots.reshape(series, count, *sizes), fine, axes).flatten(2).abs().square()
    share = spectra.sum(1).amax(-1) / (antennas * snapshots.abs().square().sum((1, 2)))
    tail = betaincc(count, count * max(1, antennas - 1), share.double().clamp(max=1).cpu().numpy())
    return torch.from_numpy(np.asarray(tail)).to(snapshots.device) * math.prod(fine)
