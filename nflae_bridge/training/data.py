"""Generate training drops: an endless distribution of fresh drops, and the fixed set of the publications."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from nflae_bridge.training.recipe import CPU, Streams
from simulator.channels.scenario import Scenario, scenario
from simulator.csi.impairments import noisy_csi
from simulator.geometry.arrays import AngleConvention, UniformLinearArray


@dataclass(frozen=True)
class TrainingBatch:
    """Drops with one link budget per drop.

    Attributes
    ----------
    channels : Tensor
        complex64 (drops, users, antennas), scaled so that P / sigma^2 = 1; noisy CSI where it was drawn.
    near_field : Tensor
        bool (drops, users), true labels if ``labelled``, else arbitrary ones.
    alpha_c, min_rate : Tensor
        Constraints C3 and C4 (bps/Hz), float32 (drops,).
    labelled : bool
        The labels are true of the wavefronts of these channels.
    """

    channels: Tensor
    near_field: Tensor
    alpha_c: Tensor
    min_rate: Tensor
    labelled: bool

    def select(self, index: Tensor) -> TrainingBatch:
        """Return the drops at ``index``, an int64 or bool tensor."""
        return TrainingBatch(
            self.channels[index],
            self.near_field[index],
            self.alpha_c[index],
            self.min_rate[index],
            self.labelled,
        )

    def to(self, device: torch.device) -> TrainingBatch:
        """Return the batch on ``device``."""
        return TrainingBatch(
            self.channels.to(device),
            self.near_field.to(device),
            self.alpha_c.to(device),
            self.min_rate.to(device),
            self.labelled,
        )


VALIDATION_SEED = 7_777_777


@dataclass(frozen=True)
class DropDistribution:
    """Distribution of fresh drops.

    Attributes
    ----------
    users : tuple of int
        Smallest and largest K.
    antennas : tuple of int
        Choices of N for near-field drops.
    tokens : int
        Drops times users per batch.
    snr_db : tuple of float
        Range of the mean P ||h||^2 / sigma^2 of a drop, dB.
    spherical : float
        Fraction of batches from the near-field scenario; the others are sums of a few plane waves, Rayleigh channels
        and channels of deficient rank.
    noisy : float
        Fraction of batches with noisy CSI.
    csi_snr_db : tuple of float
        Range of the SNR per antenna of noisy CSI, uniform, dB.
    gain_spread_db : float
        Largest spread of the gains of the users of a drop, dB; half of the drops have none.
    constrained : float
        Fraction of drops with alpha_c < 1, and fraction with R_min > 0. Half of those alpha_c lie below 0.29, where the
        minimum rates of the near-field users leave the least freedom.
    clustered : float
        Fraction of batches not from the near-field scenario whose channels are clusters of rays as in 3GPP TR 38.901.
    overloaded : float
        Fraction of batches not from the near-field scenario with N < K.
    """

    users: tuple[int, int] = (1, 16)
    antennas: tuple[int, ...] = (32, 64, 96, 128, 200, 256, 256, 320)
    tokens: int = 2048
    snr_db: tuple[float, float] = (-4.0, 34.0)
    spherical: float = 0.6
    noisy: float = 0.5
    csi_snr_db: tuple[float, float] = (-2.0, 25.0)
    gain_spread_db: float = 30.0
    constrained: float = 0.6
    clustered: float = 0.0
    overloaded: float = 0.0

    def training(self, seed: int, step: int, device: torch.device = CPU) -> TrainingBatch:
        """Draw fresh drops; all drops of a batch have the same K and N, so that no padding is needed.

        Parameters
        ----------
        seed : int
            Seed of the run.
        step : int
            Step, from 0.
        device : torch.device
            Device on which the drops are drawn.

        Returns
        -------
        TrainingBatch
            The drops of the step.
        """
        return _Draw(self, Streams.of(seed, step, device)).batch()

    def validation(self) -> list[TrainingBatch]:
        """Return 36 batches of the distribution, and the published scenario at K = 5, 8, 10, 16 without constraints."""
        drawn = [self.training(VALIDATION_SEED, step) for step in range(36)]
        published = [
            _unit_norm_drops(scenario("paper", users), VALIDATION_SEED + users, 200, 20.0, 1.0, 0.0)
            for users in (5, 8, 10, 16)
        ]
        return drawn + published


def labelled_users() -> DropDistribution:
    """Return the distribution for near/far labels: spherical waves alone, six in seven batches with noisy CSI.

    Returns
    -------
    DropDistribution
        4,096 users per batch, N from 32 to 512, CSI SNR -3 to 25 dB per antenna, without constraints.
    """
    antennas = (32, 64, 96, 128, 200, 256, 256, 320, 384, 512)
    return DropDistribution((8, 8), antennas, 4096, spherical=1.0, noisy=6 / 7, csi_snr_db=(-3.0, 25.0), constrained=0)


@dataclass(frozen=True)
class PublishedDrops:
    """Fixed set of drops of the publications, with one K, array and link budget, used in epochs.

    Attributes
    ----------
    users : int
        Users K.
    array : UniformLinearArray
        Array of the base station.
    train, validate : int
        Drops of the training and of the validation set.
    batch : int
        Drops per step.
    alpha_c, min_rate : float
        Constraints C3 and C4 (bps/Hz).
    snr_db : float
        P / sigma^2 of channels of unit norm, dB.
    angle : {"absolute", "signed"}
        Angle convention, see `simulator.geometry.arrays.angle_and_distance`; the published curves fit ``absolute``.
    noisy : float
        Fraction of the drops with noisy CSI.
    csi_snr_db : tuple of float
        Range of the SNR per antenna of noisy CSI, uniform, dB; the published range.
    seed : int
        Seed of the training set.
    """

    users: int = 10
    array: UniformLinearArray = field(default_factory=UniformLinearArray)
    train: int = 8_000
    validate: int = 1_000
    batch: int = 100
    alpha_c: float = 0.4
    min_rate: float = 0.6
    snr_db: float = 20.0
    angle: AngleConvention = "absolute"
    noisy: float = 0.5
    csi_snr_db: tuple[float, float] = (0.0, 25.0)
    seed: int = 1

    def training(self, seed: int, step: int, device: torch.device = CPU) -> TrainingBatch:
        """Return the batch of a step; drops are shuffled and CSI noise is drawn anew in each epoch.

        Parameters
        ----------
        seed : int
            Seed of the run.
        step : int
            Step, from 0.
        device : torch.device
            Device that keeps the set of drops and selects from it.

        Returns
        -------
        TrainingBatch
            The drops of the step.
        """
        epoch, position = divmod(step, self.train // self.batch)
        order = torch.randperm(self.train, generator=Streams.of(seed, epoch, device).tensors, device=device)
        drops = self._drops(self.train, self.seed, device)
        clean = drops.select(order[position * self.batch : (position + 1) * self.batch])
        return self._with_noise(clean, Streams.of(seed + 1, step, device).tensors)

    def validation(self) -> list[TrainingBatch]:
        """Return the validation drops as one batch."""
        return [self._with_noise(self._drops(self.validate, VALIDATION_SEED), Streams.of(VALIDATION_SEED, 0).tensors)]

    def _drops(self, drops: int, seed: int, device: torch.device = CPU) -> TrainingBatch:
        scene = Scenario(array=self.array, users=self.users, angle=self.angle)
        return _unit_norm_drops(scene, seed, drops, self.snr_db, self.alpha_c, self.min_rate, device)

    def _with_noise(self, batch: TrainingBatch, generator: torch.Generator) -> TrainingBatch:
        drops, device = len(batch.channels), generator.device
        low, high = self.csi_snr_db
        noisy = torch.rand(drops, generator=generator, device=device) < self.noisy
        snr_db = low + (high - low) * torch.rand(drops, generator=generator, device=device)
        estimates = noisy_csi(batch.channels, torch.where(noisy, snr_db, torch.inf).unsqueeze(-1), generator)
        return replace(batch, channels=estimates)


@lru_cache(maxsize=8)
def _unit_norm_drops(
    scene: Scenario,
    seed: int,
    drops: int,
    snr_db: float,
    alpha_c: float,
    min_rate: float,
    device: torch.device = CPU,
) -> TrainingBatch:
    """Draw drops of a scenario of unit-norm channels, at one P / sigma^2 (dB) and under one set of constraints.

    They are the same on every device.
    """
    drawn = scene.draw(drops, torch.Generator().manual_seed(seed))
    return TrainingBatch(
        drawn.channels * 10 ** (snr_db / 20),
        drawn.near_field,
        torch.full((drops,), alpha_c),
        torch.full((drops,), min_rate),
        True,
    ).to(device)


class _Draw:
    """One batch of a `DropDistribution`, drawn from the streams of its step."""

    def __init__(self, distribution: DropDistribution, streams: Streams) -> None:
        self.distribution = distribution
        self.host, self.generator, self.device = streams.host, streams.tensors, streams.tensors.device

    def number(self, low: float, high: float) -> float:
        return float(low + (high - low) * torch.rand(1, generator=self.host))

    def chance(self, probability: float) -> bool:
        return bool(torch.rand(1, generator=self.host) < probability)

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.host))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def gaussian(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device, dtype=torch.complex64)

    def batch(self) -> TrainingBatch:
        of = self.distribution
        low, high = of.users
        # The larger of two draws, as larger K is harder.
        users = max(self.integer(low, high), self.integer(low, high))
        drops = max(32, min(512, of.tokens // users))
        labelled = self.chance(of.spherical)
        channels, near = self.spherical(drops, users) if labelled else self.unlabelled(drops, users)
        noisy = self.chance(of.noisy)
        if noisy:
            channels = noisy_csi(channels, self.uniform(*of.csi_snr_db, drops, 1), self.generator)
        channels = channels * self.amplitudes(drops, users)
        constrained = self.uniform(0, 1, 2, drops) < of.constrained
        alpha_c = torch.where(constrained[0], 0.05 + 0.95 * self.uniform(0, 1, drops).square(), 1.0)
        min_rate = torch.where(constrained[1], self.uniform(0.02, 1.2, drops), 0.0)
        return TrainingBatch(channels, near, alpha_c, min_rate, labelled)

    def amplitudes(self, drops: int, users: int) -> Tensor:
        """Draw sqrt(P gain / sigma^2) per user: one SNR per drop, and a spread of gains in half of the drops."""
        spread = self.uniform(0, self.distribution.gain_spread_db, drops, 1) * (self.uniform(0, 1, drops, 1) < 0.5)
        decibel = self.uniform(*self.distribution.snr_db, drops, 1) + (self.uniform(0, 1, drops, users) - 0.5) * spread
        return (10 ** (decibel / 20)).unsqueeze(-1)

    def spherical(self, drops: int, users: int) -> tuple[Tensor, Tensor]:
        """Draw unit-norm channels of the near-field scenario, of random geometry, and their labels."""
        antennas = self.distribution.antennas[self.integer(0, len(self.distribution.antennas) - 1)]
        published = self.chance(0.4)
        # The region grows with N^2 like the near field; in a fixed one all users would be near or all far.
        size = 1.0 if published and antennas in (200, 256, 320) else (antennas / 256) ** 2
        size *= 1.0 if published else float(torch.exp(torch.tensor(self.number(-0.7, 0.7))))
        reach = 200.0 * size
        array = UniformLinearArray(
            antennas=antennas,
            height=15.0 if published else self.number(5, 40) * size,
            tilt=math.radians(5.0 if published else self.number(0, 15)),
        )
        scene = Scenario(
            array=array,
            users=users,
            x_range=(0.0 if published else 0.02 * reach, reach),
            height_range=(0.0, 2 * array.height),
            ground_share=0.0 if published else self.number(0, 0.5),
            angle="absolute" if self.chance(0.2) else "signed",
        )
        if not published and self.chance(0.5):
            scene = replace(
                scene,
                scattered_paths=self.integer(1, 3),
                rician_factor_db=self.number(3, 20),
            )
        drawn = scene.draw(drops, self.generator)
        unit = torch.linalg.vector_norm(drawn.channels, dim=-1, keepdim=True).clamp(min=1e-9)
        return drawn.channels / unit, drawn.near_field

    def unlabelled(self, drops: int, users: int) -> tuple[Tensor, Tensor]:
        """Draw unit-norm channels of other kinds, and arbitrary labels."""
        of = self.distribution
        antennas = self.integer(max(2, users // 2), 64)
        # No chance of 0 is drawn: recipes without these kinds keep their stream of drops.
        if of.overloaded and users > 1 and self.chance(of.overloaded):
            antennas = self.integer(max(1, users // 4), users - 1)
        kind = 4 if of.clustered and self.chance(of.clustered) else self.integer(0, 3)
        if kind == 4:
            channels = self.clusters(drops, users, antennas)
        elif kind == 0:
            channels = self.gaussian(drops, users, antennas)
        elif kind == 1:  # rank-deficient: users in a subspace, some copies of others
            rank = self.integer(1, max(1, min(users, antennas) - 1))
            channels = self.gaussian(drops, users, rank) @ self.gaussian(drops, rank, antennas)
            source = torch.randint(users, (drops, users), generator=self.generator, device=self.device)
            copied = channels.gather(1, source.unsqueeze(-1).expand_as(channels))
            same = (self.uniform(0, 1, drops, users, 1) < 0.3).float()
            channels = channels * (1 - same) + copied * same
        else:  # plane waves in clusters, which users may share
            paths = self.integer(1, 10)
            centre = self.uniform(-1, 1, drops, users, 1)
            if kind == 3:
                centre = self.uniform(-1, 1, drops, 1, 1) + 0.3 * centre
            direction = centre + self.number(0, 0.5) * self.uniform(-1, 1, drops, users, paths)
            gains = self.gaussian(drops, users, paths) * torch.exp(
                -self.number(0, 1) * torch.arange(paths, device=self.device)
            )
            phase = math.pi * direction.unsqueeze(-1) * torch.arange(antennas, device=self.device)
            channels = (gains.unsqueeze(-2) @ torch.polar(torch.ones_like(phase), phase)).squeeze(-2)
        channels = channels / torch.linalg.vector_norm(channels, dim=-1, keepdim=True).clamp(min=1e-9)
        near = self.uniform(0, 1, drops, users) < self.uniform(0, 1, drops, 1)
        return channels, near

    def clusters(self, drops: int, users: int, antennas: int) -> Tensor:
        """Draw channels of clusters of rays, of a spread and Rician factor in the ranges of 3GPP TR 38.901's cells."""
        clusters, rays = self.integer(2, 8), 5
        shape = (drops, users, clusters)
        powers = -torch.log(self.uniform(1e-3, 1, *shape)) + 0.7 * self.normal(*shape)
        spread, width = math.radians(self.number(3, 30)), math.radians(self.number(1, 8))
        centre = math.radians(60) * self.uniform(-1, 1, drops, users, 1)
        angle = centre + spread * self.normal(*shape)
        offset = width * self.normal(*shape, rays)
        gains = self.gaussian(*shape, rays) * torch.exp(-powers / 2).unsqueeze(-1)
        sines = torch.sin(torch.cat([centre, (angle.unsqueeze(-1) + offset).flatten(-2)], -1))
        total = torch.linalg.vector_norm(gains.flatten(-2), dim=-1, keepdim=True)
        sight = float(10 ** (torch.tensor(self.number(-5, 12)) / 20)) if self.chance(0.5) else 0.0
        return _plane_waves(sines, torch.cat([sight * total, gains.flatten(-2)], -1), antennas)


_COLUMNS = 8


def _plane_waves(sines: Tensor, gains: Tensor, antennas: int) -> Tensor:
    """Sum plane waves, complex64 (..., antennas), as one product of matrices: n = 8 a + b splits a wave in factors."""
    rows, device = -(-antennas // _COLUMNS), sines.device
    phase, one = math.pi * sines.unsqueeze(-1), torch.ones((), device=device)
    fine = torch.polar(one, phase * torch.arange(_COLUMNS, device=device))
    coarse = torch.polar(one, phase * _COLUMNS * torch.arange(rows, device=device))
    return ((gains.unsqueeze(-1) * coarse).mT @ fine).flatten(-2)[..., :antennas]
