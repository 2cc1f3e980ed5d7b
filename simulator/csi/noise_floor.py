"""Find the noise floor of received pilots over an array: the weak part of their multitaper spectrum.

Products of discrete prolate spheroidal sequences taper the array. The powers of all beams, averaged over tapers and
snapshots, have side lobes below the noise for waves of up to 30 dB, and little variance: the floor is their weakest
fifth. White noise gives flat spectra. A second fifth far above the floor is signal in most beams; the floor is then an
upper bound of the noise at best.

References
----------
* D. J. Thomson, "Spectrum estimation and harmonic analysis", Proceedings of the IEEE, 1982.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from simulator.csi.beams import ArrayGeometry

_WEAK, _MIDDLE = 0.2, 0.4  # of the beams
_TAPERED = 16  # antennas along a dimension from which on it is tapered
_ANTENNAS_PER_TAPER, _FEWEST_TAPERS, _MOST_TAPERS = 12, 2, 5
_DRAWS, _DRAWS_AT_A_TIME = 400, 50
_FLAT = 0.95  # share of white noise that counts as flat
_SEED = 20_261_127


@dataclass(frozen=True)
class WhiteNoise:
    """Hold what white noise of unit variance gives.

    Parameters
    ----------
    floors
        Floors relative to their median, rising, float32 (draws,).
    median
        Median of the floors.
    flatness
        Ratio of the 40 % quantile to the floor that 5 % of the draws exceed.
    """

    floors: Tensor
    median: float
    flatness: float


def noise_floor(snapshots: Tensor, geometry: ArrayGeometry) -> tuple[Tensor, Tensor]:
    """Compute the floor of the spectrum, scaled so that white noise of unit variance has a median of 1.

    Parameters
    ----------
    snapshots
        Received pilots after the canonical step, complex (series, snapshots, antennas).
    geometry
        Arrangement of the antennas, not ``none``.

    Returns
    -------
    floor : Tensor
        Real (series,).
    flat : Tensor
        bool (series,): the 40 % quantile of the spectrum is as close to the floor as that of white noise.
    """
    sizes = geometry.grid(snapshots.shape[-1])
    reference = white_noise(sizes, snapshots.shape[1])
    floor, ratio = _floor(snapshots.reshape(*snapshots.shape[:2], *sizes))
    return floor / reference.median, ratio <= reference.flatness


@cache
def white_noise(sizes: tuple[int, ...], snapshots: int) -> WhiteNoise:
    """Draw the floors of white noise.

    Parameters
    ----------
    sizes
        Antennas along each dimension of the array.
    snapshots
        T.

    Returns
    -------
    WhiteNoise
    """
    generator = torch.Generator().manual_seed(_SEED)
    draws = [
        _floor(torch.randn(_DRAWS_AT_A_TIME, snapshots, *sizes, dtype=torch.complex64, generator=generator))
        for _ in range(_DRAWS // _DRAWS_AT_A_TIME)
    ]
    floors, ratios = (torch.cat(values) for values in zip(*draws, strict=True))
    median = float(floors.median())
    return WhiteNoise(floors.sort().values / median, median, float(ratios.quantile(_FLAT)))


def _floor(field: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of the weakest beams, and the 40 % quantile over it; field (series, snapshots, *sizes)."""
    sizes = field.shape[2:]
    axes, padded = tuple(range(-len(sizes), 0)), [2 * size if size >= _TAPERED else size for size in sizes]
    power = torch.zeros(len(field), *padded, device=field.device)
    products = list(itertools.product(*map(_tapers, sizes)))
    for tapers in products:
        tapered = field
        for axis, taper in enumerate(tapers):
            tapered = tapered * taper.to(field.device).reshape(-1, *[1] * (len(sizes) - 1 - axis))
        power = power + torch.fft.fftn(tapered, padded, axes).abs().square().mean(1)
    rising = power.flatten(1).sort(-1).values / len(products)
    floor = rising[:, : max(1, int(_WEAK * rising.shape[1]))].mean(-1)
    return floor, rising[:, int(_MIDDLE * rising.shape[1])] / floor.clamp(min=torch.finfo(floor.dtype).tiny)


@cache
def _tapers(size: int) -> tuple[Tensor, ...]:
    """Return the tapers of one dimension, of unit energy."""
    if size < _TAPERED:
        return (torch.full((size,), size**-0.5),)
    from scipy.signal.windows import dpss

    count = min(_MOST_TAPERS, max(_FEWEST_TAPERS, size // _ANTENNAS_PER_TAPER))
    tapers = dpss(size, (count + 3) / 2, count)
    return tuple(torch.tensor(taper.copy(), dtype=torch.float32) for taper in tapers)
