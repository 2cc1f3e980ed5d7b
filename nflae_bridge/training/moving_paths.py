"""Draw channels of moving users for training: clusters of rays with random directions, Doppler shifts and curvatures.

Nothing in them is taken from a standard's model or from the scenarios, which remain for evaluation: what all have in
common is a sum of few to many exponentials in time with a pattern over the array.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def draw_moving_paths(series: int, antennas: int, slots: int, generator: torch.Generator, known: int = 16) -> Tensor:
    """Draw channels of a line array over time.

    Per batch: 1 to 8 clusters of 1, 4 or 16 rays. Per series: the fastest Doppler shift from 10^-2.5 to 10^-0.3 cycles
    per slot, powers of the clusters over up to 20 dB, a strongest ray of -10 to 20 dB over the others in half of the
    series, curved wavefronts in half, Doppler rates up to 2e-4 cycles per squared slot in three of ten.

    Parameters
    ----------
    series, antennas, slots
        Numbers of series, antennas and slots.
    generator
        Source of randomness; its device is that of the result.
    known
        Slots of the history; the phases of Doppler rates count from its end.

    Returns
    -------
    Tensor
        complex64 (series, slots, antennas) with a mean power of 1 per antenna.
    """
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, device=device)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    clusters, rays = int(uniform(1, 9, 1)), (1, 1, 4, 16)[int(uniform(0, 4, 1))]
    grid = (series, clusters, rays)
    sines = uniform(-1, 1, series, clusters, 1) + uniform(0, 0.12, series, 1, 1) * normal(*grid)
    bearing = uniform(0, 2 * math.pi, series, clusters, 1) + uniform(0, 0.5, series, 1, 1) * normal(*grid)
    doppler = 10 ** uniform(-2.5, -0.3, series, 1, 1) * torch.cos(bearing)
    power = 10 ** -uniform(0, 2, series, clusters, 1)
    gains = torch.complex(normal(*grid), normal(*grid))
    gains = (gains / gains.abs() if rays == 1 else gains) * power.sqrt()
    total = gains.abs().square().sum((1, 2), keepdim=True)
    first = gains[:, :1, :1]
    direct = first / first.abs() * (10 ** uniform(-1, 2, series, 1, 1) * total).sqrt()
    gains[:, :1, :1] = torch.where(uniform(0, 1, series, 1, 1) < 0.5, direct, first)

    def share(probability: float) -> Tensor:
        return (uniform(0, 1, series, 1) < probability).float()

    curvature = uniform(0, 4, series, clusters * rays) * share(0.5)
    rate = uniform(-2e-4, 2e-4, series, clusters * rays) * share(0.3)
    place = torch.arange(antennas, device=device) - (antennas - 1) / 2
    time = torch.arange(slots, device=device) - known
    flat = curvature.unsqueeze(-1) * (place / antennas).square()
    waves = _unit(sines.flatten(1).unsqueeze(-1) * place / 2 - flat)
    fading = _unit(doppler.flatten(1).unsqueeze(-1) * time + rate.unsqueeze(-1) * time.square())
    channels = (fading * gains.flatten(1).unsqueeze(-1)).mT @ waves
    return channels / channels.abs().square().mean((1, 2), keepdim=True).sqrt()


def _unit(cycles: Tensor) -> Tensor:
    phase = 2 * math.pi * (cycles - cycles.round())
    return torch.polar(torch.ones_like(phase), phase)
