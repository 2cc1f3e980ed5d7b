"""Draw channels of moving users for training: clusters of rays with random directions, Doppler shifts and curvatures.

Nothing in them is taken from a standard's model or from the scenarios, which remain for evaluation: what all have in
common is a sum of few to many exponentials in time with a pattern over the array.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def draw_moving_paths(
    series: int,
    antennas: int,
    slots: int,
    generator: torch.Generator,
    known: int = 16,
    host: torch.Generator | None = None,
) -> Tensor:
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
    host
        Source of randomness on the host for the numbers of clusters and rays; None: ``generator``.

    Returns
    -------
    Tensor
        complex64 (series, slots, antennas) with a mean power of 1 per antenna.
    """
    decisions = generator if host is None else host
    clusters, kind = (
        int(low + count * torch.rand(1, generator=decisions, device=decisions.device))
        for low, count in ((1, 8), (0, 4))
    )
    rays, draws = (1, 1, 4, 16)[kind], _Draws(generator)
    grid = (series, clusters, rays)
    sines = draws.uniform(-1, 1, series, clusters, 1) + draws.uniform(0, 0.12, series, 1, 1) * draws.normal(*grid)
    bearing = draws.uniform(0, 2 * math.pi, series, clusters, 1)
    bearing = bearing + draws.uniform(0, 0.5, series, 1, 1) * draws.normal(*grid)
    doppler = 10 ** draws.uniform(-2.5, -0.3, series, 1, 1) * torch.cos(bearing)
    gains = _draw_gains(series, clusters, rays, draws)
    curvature = draws.uniform(0, 4, series, clusters * rays) * draws.share(0.5, series)
    rate = draws.uniform(-2e-4, 2e-4, series, clusters * rays) * draws.share(0.3, series)
    place = torch.arange(antennas, device=generator.device) - (antennas - 1) / 2
    time = torch.arange(slots, device=generator.device) - known
    flat = curvature.unsqueeze(-1) * (place / antennas).square()
    waves = _unit(sines.flatten(1).unsqueeze(-1) * place / 2 - flat)
    fading = _unit(doppler.flatten(1).unsqueeze(-1) * time + rate.unsqueeze(-1) * time.square())
    channels = (fading * gains.flatten(1).unsqueeze(-1)).mT @ waves
    return channels / channels.abs().square().mean((1, 2), keepdim=True).sqrt()


@dataclass(frozen=True)
class _Draws:
    """Random numbers of a generator, on its device."""

    generator: torch.Generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw from [low, high)."""
        return low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.generator.device)

    def normal(self, *shape: int) -> Tensor:
        """Draw from the standard normal distribution."""
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)

    def share(self, probability: float, series: int) -> Tensor:
        """Draw 1 with a probability, else 0, (series, 1)."""
        return (self.uniform(0, 1, series, 1) < probability).float()


def _draw_gains(series: int, clusters: int, rays: int, draws: _Draws) -> Tensor:
    """Draw the rays' gains, complex64 (series, clusters, rays), with a direct path in half of the series."""
    power = 10 ** -draws.uniform(0, 2, series, clusters, 1)
    gains = torch.complex(draws.normal(series, clusters, rays), draws.normal(series, clusters, rays))
    gains = (gains / gains.abs() if rays == 1 else gains) * power.sqrt()
    total = gains.abs().square().sum((1, 2), keepdim=True)
    first = gains[:, :1, :1]
    direct = first / first.abs() * (10 ** draws.uniform(-1, 2, series, 1, 1) * total).sqrt()
    gains[:, :1, :1] = torch.where(draws.uniform(0, 1, series, 1, 1) < 0.5, direct, first)
    return gains


def _unit(cycles: Tensor) -> Tensor:
    phase = 2 * math.pi * (cycles - cycles.round())
    return torch.polar(torch.ones_like(phase), phase)
