"""Generate noisy pilots of generic channels: clusters of rays over lines, bent wavefronts among them, and panels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nflae_bridge.training.recipe import CPU, Streams
from simulator.csi.beams import ArrayGeometry
from simulator.csi.estimation.pilots import Observation
from simulator.csi.noise_variance import noise_variance_of_beams

_VALIDATION_SEED = 7_777_777
_VALIDATION_BATCHES = 32


@dataclass(frozen=True)
class PilotBatch:
    """Received orthogonal pilots with their channels.

    Attributes
    ----------
    channels : Tensor
        h, complex64 (series, snapshots, antennas).
    observation : Observation
        Received pilots with their known or estimated noise variance.
    geometry : ArrayGeometry
        Arrangement of the antennas.
    known : Tensor
        1 where the noise variance is the true one, 0 where it is estimated, float32 (series,).
    """

    channels: Tensor
    observation: Observation
    geometry: ArrayGeometry
    known: Tensor

    def to(self, device: torch.device) -> PilotBatch:
        """Return the batch on ``device``."""
        moved = Observation(self.observation.received.to(device), self.observation.noise_variance.to(device))
        return replace(self, channels=self.channels.to(device), observation=moved, known=self.known.to(device))


@dataclass(frozen=True)
class PilotDistribution:
    """Distribution of noisy pilots; series of a batch have the same array and number of snapshots.

    Attributes
    ----------
    series : int
        Channels per batch.
    antennas : tuple of int
        Choices of N of a line.
    panels : tuple of tuple of int
        Choices of rows and columns of a panel.
    panel_share : float
        Fraction of batches over panels.
    snapshots : tuple of int
        Choices of the number of snapshots.
    clusters : tuple of int
        Choices of the number of clusters.
    rays : tuple of int
        Choices of rays per cluster.
    snr_db : tuple of float
        Range of the SNR per antenna, dB.
    estimated_noise : float
        Fraction of batches whose noise variance is estimated.
    """

    series: int = 48
    antennas: tuple[int, ...] = (16, 32, 64, 64, 128, 256)
    panels: tuple[tuple[int, int], ...] = ((4, 8), (4, 16), (8, 8), (8, 16), (2, 16))
    panel_share: float = 0.25
    snapshots: tuple[int, ...] = (1, 1, 1, 1, 2, 4)
    clusters: tuple[int, ...] = (1, 1, 1, 2, 2, 3, 4, 6, 9, 12)
    rays: tuple[int, ...] = (1, 1, 4, 16)
    snr_db: tuple[float, float] = (-14.0, 24.0)
    estimated_noise: float = 0.35

    def training(self, seed: int, step: int, device: torch.device = CPU) -> PilotBatch:
        """Draw fresh channels and pilots.

        Parameters
        ----------
        seed : int
            Seed of the run.
        step : int
            Step, from 0.
        device : torch.device
            Device on which the batch is drawn.

        Returns
        -------
        PilotBatch
            The batch of the step.
        """
        return _Draw(self, Streams.of(seed, step, device)).batch()

    def validation(self) -> list[PilotBatch]:
        """Return 32 batches of the distribution."""
        return [self.training(_VALIDATION_SEED, step) for step in range(_VALIDATION_BATCHES)]


@dataclass(frozen=True)
class _Draw:
    """One batch from its stream of random numbers."""

    of: PilotDistribution
    streams: Streams

    @property
    def device(self) -> torch.device:
        return self.streams.tensors.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.streams.tensors, device=self.device)

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.randn(*shape, generator=self.streams.tensors, device=self.device, dtype=dtype)

    def choice(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.streams.host))

    def chance(self, probability: float) -> bool:
        return float(torch.rand(1, generator=self.streams.host)) < probability

    def batch(self) -> PilotBatch:
        of = self.of
        snapshots = of.snapshots[self.choice(len(of.snapshots))]
        if self.chance(of.panel_share):
            rows, columns = of.panels[self.choice(len(of.panels))]
            geometry, antennas = ArrayGeometry("panel", rows, columns), rows * columns
        else:
            geometry, antennas = ArrayGeometry("line"), of.antennas[self.choice(len(of.antennas))]
        channels = self.channels(geometry.grid(antennas), snapshots)
        channels = channels * 10 ** (self.uniform(*of.snr_db, of.series, 1, 1) / 20)
        noise = self.normal(*channels.shape, dtype=torch.complex64)
        received, variance = channels + noise, torch.ones(of.series, device=self.device)
        estimated = self.chance(of.estimated_noise)
        if estimated:
            variance = noise_variance_of_beams(received, geometry)
        known = torch.full((of.series,), 0.0 if estimated else 1.0, device=self.device)
        return PilotBatch(channels, Observation(received, variance), geometry, known)

    def channels(self, sizes: tuple[int, ...], snapshots: int) -> Tensor:
        """Draw channels of unit mean power per antenna, (series, snapshots, antennas)."""
        clusters = self.of.clusters[self.choice(len(self.of.clusters))]
        rays = self.of.rays[self.choice(len(self.of.rays))]
        waves = torch.ones(self.of.series, 1, clusters * rays, dtype=torch.complex64, device=self.device)
        for size in sizes:
            along = self.waves(size, clusters, rays, bent=len(sizes) == 1)
            waves = (waves.unsqueeze(2) * along.unsqueeze(1)).flatten(1, 2)
        shift = self.uniform(-0.5, 0.5, self.of.series, clusters * rays) * self.uniform(0, 1, self.of.series, 1)
        phase = 2 * math.pi * shift.unsqueeze(-1) * torch.arange(snapshots, device=self.device)
        gains = self.gains(clusters, rays).unsqueeze(-1) * torch.polar(torch.ones_like(phase), phase)
        channels = (waves @ gains).mT
        return channels / channels.abs().square().mean((1, 2), keepdim=True).sqrt()

    def waves(self, size: int, clusters: int, rays: int, bent: bool) -> Tensor:
        """Draw waves along one dimension; half of the lines have wavefronts bent as in a near field."""
        series = self.of.series
        spread = self.uniform(0, 0.12, series, 1, 1)
        offsets = spread * self.normal(series, clusters, rays)
        direction = (self.uniform(-1, 1, series, clusters, 1) + offsets).flatten(1)
        curvature = self.uniform(0, math.sqrt(size) / 2, series, clusters * rays)
        curvature = curvature * (self.uniform(0, 1, series, 1) < 0.5) * bent
        position = torch.arange(size, device=self.device) - (size - 1) / 2
        phase = math.pi * direction.unsqueeze(1) * position.unsqueeze(-1)
        phase = phase - 2 * math.pi * curvature.unsqueeze(1) * (position / size).square().unsqueeze(-1)
        return torch.polar(torch.ones_like(phase), phase)

    def gains(self, clusters: int, rays: int) -> Tensor:
        """Draw gains: clusters up to 20 dB apart, and a dominant first ray of Rician factor -10 to 20 dB in half."""
        series = self.of.series
        power = 10 ** (-self.uniform(0, 20, series, clusters, 1) / 10)
        gains = self.normal(series, clusters, rays, dtype=torch.complex64)
        gains = (gains if rays > 1 else gains / gains.abs()) * (power / power.sum(1, keepdim=True) / rays).sqrt()
        gains = gains.flatten(1)
        total = gains.abs().square().sum(1).sqrt()
        dominant = gains[:, 0] / gains[:, 0].abs() * 10 ** (self.uniform(-10, 20, series) / 20) * total
        gains[:, 0] = torch.where(self.uniform(0, 1, series) < 0.5, dominant, gains[:, 0])
        return gains
