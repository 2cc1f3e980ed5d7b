"""Estimate the noise variance of received pilots: weak eigenvalues of a history, noise floor of few snapshots."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry, canonical_phases
from simulator.csi.noise_floor import WhiteNoise, noise_floor, white_noise
from simulator.csi.prediction.temporal import temporal_gram

_PASSES = 8
_POOLED = 0.1  # quantile: channels in many beams bias estimates upwards
_CAUTION = 0.25  # higher quantile of white noise
_FLAT_ENOUGH, _SIGNAL_AT_FLOOR = 0.8, 0.4  # share of flat drops, and part of the estimate taken off without any
_LEAST_SHARE_OF_POOL = 0.5
_OVERSAMPLING = 4
_NOISY = 0.7  # of the mean power, from which on a floor is taken for noise however steep the spectrum
_SERIES_AT_A_TIME = 512
_SIGNIFICANT = 0.008  # chance of as strong a wave in noise
_STRUCTURED_SHARE, _STRUCTURED_SERIES = 0.1, 2  # of the series, from which on all are taken as structured
_CERTAIN, _LEAST_CONFIDENCE = 0.002, 0.4  # chance of as strong a wave, and confidence without one
_FEW_DROPS = 2  # up to which estimates have a confidence
_LEAST_ANTENNAS = 16  # fewer have no floor
_LEAST_VALUES = 64  # per user, over antennas, snapshots and drops


@dataclass(frozen=True)
class PooledNoise:
    """Hold the noise variances of several users, estimated from all their drops.

    Parameters
    ----------
    variance
        sigma^2 per antenna, float64 (groups, users).
    unknown
        bool (groups, users): pilots without a wave that noise alone would not show, users without a drop of flat
        spectrum, or too few values.
    confidence
        Of estimates from one or two drops per user, float64 (groups, users): 1 where a wave stands out of the noise,
        elsewhere the median variance of such users over that of the user, from 0.4 to 1. None with more drops.
    """

    variance: Tensor
    unknown: Tensor
    confidence: Tensor | None = None

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
        confidence = None if self.confidence is None else self.confidence[start:stop]
        return PooledNoise(self.variance[start:stop], self.unknown[start:stop], confidence)


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
        before, count = count, np.maximum((values <= edge * variance[:, None]).sum(1), max(1, few // 4))
        variance = means[each, count - 1] / (many - few + count)
        if (count == before).all():
            break
    return torch.from_numpy(variance).to(snapshots.device)


def noise_variance_of_beams(snapshots: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Estimate the noise variance per antenna by the noise floor of the beams after the canonical step.

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
    return _floor_of_beams(snapshots, geometry)[0]


def _floor_of_beams(snapshots: Tensor, geometry: ArrayGeometry) -> tuple[Tensor, Tensor]:
    """Return the noise floor, at most the mean power, and whether noise is the larger part of it, (series,)."""
    turned = snapshots * canonical_phases(snapshots, geometry).unsqueeze(1)
    floor, flat = noise_floor(turned, geometry)
    power = snapshots.abs().square().mean((1, 2))
    return torch.minimum(floor, power), flat | (floor > _NOISY * power)


def pool_over_drops(variances: Tensor, flat: Tensor, noise: WhiteNoise) -> Tensor:
    """Replace estimates of one receiver's noise variance by a low quantile of them.

    Channels that fill all beams only raise an estimate. The quantile is compared with a higher one of white noise:
    noise taken too low costs less than noise taken too high. Where few drops have a flat spectrum, signal is left at
    the floor of the others, and up to two fifths are taken off. Estimates below half of the common one are kept.

    Parameters
    ----------
    variances
        Estimates, real (drops, receivers).
    flat
        bool (drops, receivers): flat spectrum.
    noise
        Floors of white noise.

    Returns
    -------
    Tensor
        sigma^2, real (drops, receivers).
    """
    level = max(_POOLED, 1 / (len(variances) + 1))
    expected = float(noise.floors.quantile(min(level + _CAUTION, 1.0)))
    common = variances.quantile(level, dim=0, keepdim=True) / expected
    share = flat.to(variances.dtype).mean(0, keepdim=True) / _FLAT_ENOUGH
    common = common * (1 - _SIGNAL_AT_FLOOR * (1 - share.clamp(max=1)))
    return torch.where(variances < _LEAST_SHARE_OF_POOL * common, variances, common)


def pooled_noise(blocks: Iterable[Tensor], geometry: ArrayGeometry) -> PooledNoise:
    """Estimate sigma^2 of each user from the noise floor of all its drops.

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
    variances, flats, chances, values, antennas, snapshots = [], [], [], 0, 0, 0
    for block in blocks:
        groups, snapshots, users, antennas = block.shape
        values += groups * snapshots * antennas
        for part in torch.split(block.transpose(1, 2).flatten(0, 1), _SERIES_AT_A_TIME):
            root = part.abs().amax((1, 2), keepdim=True)  # float32 does not hold all squares
            root = root * (part / root).abs().square().mean((1, 2), keepdim=True).sqrt()
            unit = part / root
            floor, flat = _floor_of_beams(unit, geometry)
            variances.append(floor.double() * root[:, 0, 0].double().square())
            flats.append(flat)
            chances.append(chance_of_strongest_wave(unit, geometry))
    chance = torch.cat(chances).view(-1, users)
    significant = chance < _SIGNIFICANT
    few = antennas < _LEAST_ANTENNAS or values < _LEAST_VALUES
    structured = significant.sum() >= max(_STRUCTURED_SERIES, _STRUCTURED_SHARE * significant.numel())
    flat = torch.cat(flats).view(-1, users)
    noise = white_noise(geometry.grid(antennas), snapshots)
    variance = pool_over_drops(torch.cat(variances).view(-1, users), flat, noise)
    confidence = _confidence(variance, chance, flat) if len(variance) <= _FEW_DROPS else None
    return PooledNoise(variance, ~(significant | structured) | ~flat.any(0) | few, confidence)


def _confidence(variance: Tensor, chance: Tensor, flat: Tensor) -> Tensor:
    """Return the confidence in variances from few drops, (groups, users).

    A channel that fills all beams evenly is no different from noise; one receiver's users have the same noise.
    """
    certain = chance < _CERTAIN
    if not bool((certain & flat).any()):
        return torch.ones_like(variance)
    ratio = variance[certain & flat].median() / variance
    return torch.where(certain, 1.0, ratio.clamp(_LEAST_CONFIDENCE, 1.0))


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
