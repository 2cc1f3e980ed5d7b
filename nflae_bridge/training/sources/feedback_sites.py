"""Draw users of sites, whose paths leave a line of antennas within the site's range of directions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nflae_bridge.training.recipe import CPU, Streams

WAVES, SITE_WIDTH = 6, 0.3  # paths per user; width of a site, in sines of directions
PROMPT_USERS = 50
_LARGEST_DOPPLER = 0.07  # cycles per snapshot: 3 m/s, 7 GHz, 1 ms
_VALIDATION_SEED, _VALIDATION_SITES = 7_777_777, 128


@dataclass(frozen=True)
class FeedbackBatch:
    """Hold channels and the prompt of each.

    Attributes
    ----------
    channels : Tensor
        complex64 (rows, antennas), ||h|| = 1.
    magnitude : Tensor
        Mean magnitude of each beam over other users of the site, float32 (rows, antennas), largest 1.
    """

    channels: Tensor
    magnitude: Tensor

    def to(self, device: torch.device) -> FeedbackBatch:
        """Return the batch on ``device``."""
        return FeedbackBatch(self.channels.to(device), self.magnitude.to(device))


@dataclass(frozen=True)
class SiteDistribution:
    """Distribution of snapshots of users of fresh sites.

    Attributes
    ----------
    sites : int
        Sites per batch.
    users : int
        Users per site.
    antennas : int
        N.
    """

    sites: int = 16
    users: int = 4
    antennas: int = 64

    def training(self, seed: int, step: int, device: torch.device = CPU) -> FeedbackBatch:
        """Return the batch of a step.

        Parameters
        ----------
        seed, step : int
            Seed of the run, and step from 0.
        device : torch.device
            Device on which the batch is drawn.

        Returns
        -------
        FeedbackBatch
            The batch.
        """
        return self._draw(self.sites, Streams.of(seed, step, device).tensors)

    def validation(self) -> list[FeedbackBatch]:
        """Return one batch of many sites."""
        return [self._draw(_VALIDATION_SITES, torch.Generator().manual_seed(_VALIDATION_SEED))]

    def _draw(self, sites: int, generator: torch.Generator) -> FeedbackBatch:
        drawn = draw_sites(sites, self.users + PROMPT_USERS, self.antennas, generator)[:, :, 0]
        magnitude = mean_magnitude(drawn[:, self.users :]).repeat_interleave(self.users, 0)
        return FeedbackBatch(drawn[:, : self.users].flatten(0, 1), magnitude)


def draw_sites(sites: int, users: int, antennas: int, generator: torch.Generator, snapshots: int = 1) -> Tensor:
    """Draw users of several sites, each path with a Doppler shift of its own.

    Parameters
    ----------
    sites, users : int
        Number of sites, and of users at each.
    antennas : int
        N.
    generator : torch.Generator
        Source of randomness; its device is that of the result.
    snapshots : int
        Number of snapshots, 1 ms apart for users of 3 m/s at 7 GHz.

    Returns
    -------
    Tensor
        h, complex64 (sites, users, snapshots, antennas), ||h|| = 1 in every snapshot.
    """
    device, shape = generator.device, (sites, users, WAVES)
    centre = 2 * torch.rand(sites, 1, 1, generator=generator, device=device) - 1
    sines = centre + SITE_WIDTH * (torch.rand(*shape, generator=generator, device=device) - 0.5)
    gains = torch.randn(*shape, dtype=torch.complex64, generator=generator, device=device)
    gains = gains * torch.exp(-torch.arange(WAVES, device=device) / 2)
    doppler = _LARGEST_DOPPLER * torch.cos(2 * math.pi * torch.rand(*shape, generator=generator, device=device))
    turned = gains.unsqueeze(2) * _waves(2 * doppler, snapshots).swapaxes(2, 3)
    channels = turned @ _waves(sines, antennas)
    unit: Tensor = channels / torch.linalg.vector_norm(channels, dim=-1, keepdim=True)
    return unit


def _waves(cycles: Tensor, length: int) -> Tensor:
    """Return exp(j pi x n), n = 0 to length - 1, complex64 (..., length)."""
    phase = math.pi * cycles.unsqueeze(-1) * torch.arange(length, device=cycles.device)
    return torch.polar(torch.ones_like(phase), phase)


def mean_magnitude(channels: Tensor) -> Tensor:
    """Return the mean magnitude of each beam over the users of a site, largest 1.

    Parameters
    ----------
    channels : Tensor
        complex64 (sites, users, antennas).

    Returns
    -------
    Tensor
        float32 (sites, antennas).
    """
    mean: Tensor = torch.fft.fft(channels).abs().mean(1)
    return mean / mean.amax(-1, keepdim=True)
