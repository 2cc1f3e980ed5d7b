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
    clusters, kind = (_integer(low, count, decisions) for low, count in ((1, 8), (0, 4)))
    rays, draws = (1, 1, 4, 16)[kind], _Draws(generator)
    centres = draws.uniform(-1, 1, series, clusters, 1)
    sines, doppler, gains = _draw_rays(centres, rays, draws)
    curvature = draws.uniform(0, 4, series, clusters * rays) * draws.share(0.5, series)
    rate = draws.uniform(-2e-4, 2e-4, series, clusters * rays) * draws.share(0.3, series)
    place, time = _places_and_times(antennas, slots, known, generator.device)
    flat = curvature.unsqueeze(-1) * (place / antennas).square()
    waves = _unit(sines.unsqueeze(-1) * place / 2 - flat)
    fading = _unit(doppler.unsqueeze(-1) * time + rate.unsqueeze(-1) * time.square())
    return _sum_of_rays(fading, gains, waves)


def draw_rich_paths(
    series: int,
    antennas: int,
    slots: int,
    generator: torch.Generator,
    known: int = 16,
    host: torch.Generator | None = None,
) -> Tensor:
    """Draw channels of a line array over time in rich scattering around a direction.

    Per batch: 6 to 24 clusters of four rays. Per series: directions of the clusters around a common one, with a
    standard deviation of 10^-1.5 to 1 in their sines. Doppler shifts and powers are those of `draw_moving_paths`.

    Parameters
    ----------
    series, antennas, slots, generator, known, host
        As in `draw_moving_paths`.

    Returns
    -------
    Tensor
        As of `draw_moving_paths`.
    """
    clusters = _integer(6, 19, generator if host is None else host)
    draws = _Draws(generator)
    spread = 10 ** draws.uniform(-1.5, 0, series, 1, 1)
    centres = draws.uniform(-1, 1, series, 1, 1) + spread * draws.normal(series, clusters, 1)
    sines, doppler, gains = _draw_rays(centres, 4, draws)
    place, time = _places_and_times(antennas, slots, known, generator.device)
    waves, fading = _unit(sines.unsqueeze(-1) * place / 2), _unit(doppler.unsqueeze(-1) * time)
    return _sum_of_rays(fading, gains, waves)


def _integer(low: int, count: int, decisions: torch.Generator) -> int:
    return int(low + count * torch.rand(1, generator=decisions, device=decisions.device))


def _draw_rays(centres: Tensor, rays: int, draws: _Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Draw sines, Doppler shifts, cycles per slot, and gains of the rays of clusters, (series, clusters * rays)."""
    series, clusters, _ = centres.shape
    grid = (series, clusters, rays)
    sines = centres + draws.uniform(0, 0.12, series, 1, 1) * draws.normal(*grid)
    bearing = draws.uniform(0, 2 * math.pi, series, clusters, 1)
    bearing = bearing + draws.uniform(0, 0.5, series, 1, 1) * draws.normal(*grid)
    doppler = 10 ** draws.uniform(-2.5, -0.3, series, 1, 1) * torch.cos(bearing)
    gains = _draw_gains(series, clusters, rays, draws)
    return sines.flatten(1), doppler.flatten(1), gains.flatten(1)


def _places_and_times(antennas: int, slots: int, known: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the places of the antennas from the centre and the slots from the end of the history."""
    return torch.arange(antennas, device=device) - (antennas - 1) / 2, torch.arange(slots, device=device) - known


def _sum_of_rays(fading: Tensor, gains: Tensor, waves: Tensor) -> Tensor:
    channels = (fading * gains.unsqueeze(-1)).mT @ waves
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
