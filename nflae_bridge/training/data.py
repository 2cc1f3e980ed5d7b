"""Training drops, generated as they are used: no drop is ever seen twice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from simulator.channels.csi import noisy_csi
from simulator.channels.scenario import Scenario, scenario
from simulator.geometry.arrays import AngleConvention, UniformLinearArray


@dataclass(frozen=True)
class TrainingBatch:
    """Drops with a link budget each.

    channels: complex64 (drops, users, antennas), scaled so that P / sigma^2 = 1; noisy CSI where that was drawn.
    near_field: bool (drops, users), true labels where ``labelled``, arbitrary ones elsewhere.
    alpha_c, min_rate: float32 (drops,).
    labelled: the labels are true of these channels' wavefronts.
    """

    channels: Tensor
    near_field: Tensor
    alpha_c: Tensor
    min_rate: Tensor
    labelled: bool

    def select(self, index: Tensor) -> TrainingBatch:
        """The drops at ``index``."""
        return TrainingBatch(
            self.channels[index],
            self.near_field[index],
            self.alpha_c[index],
            self.min_rate[index],
            self.labelled,
        )


class DropSource(Protocol):
    """Where training and validation batches come from; the same (seed, step) gives the same batch."""

    def training(self, seed: int, step: int) -> TrainingBatch:
        """The batch of one optimiser step."""
        ...

    def validation(self) -> list[TrainingBatch]:
        """The fixed batches a network is judged by; training never sees them."""
        ...


VALIDATION_SEED = 7_777_777


def _generator(seed: int, step: int) -> torch.Generator:
    # One stream a step, so that a resumed run draws what an unbroken one would have.
    return torch.Generator().manual_seed(seed * 10_000_019 + step)


@dataclass(frozen=True)
class DropDistribution:
    """What the drops are drawn from.

    users: smallest and largest K. antennas: the choices of N for near-field drops. tokens: drops x users a batch.
    snr_db: range of the drops' mean P ||h||^2 / sigma^2.
    spherical: share of batches from the near-field scenario; the rest are sums of a few plane waves, Rayleigh
        channels and channels of deficient rank.
    noisy: share of batches with noisy CSI, its SNR per antenna uniform in csi_snr_db.
    gain_spread_db: largest spread of the users' gains in a drop (half of the drops have none).
    constrained: share of drops with alpha_c < 1, and share with R_min > 0. Half of those alpha_c lie below 0.29, where
        the near-field users' minimum rates leave little freedom and there is most to learn.
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

    def training(self, seed: int, step: int) -> TrainingBatch:
        """Fresh drops; all of a batch have the same K and N, so nothing is padded."""
        return _Draw(self, _generator(seed, step)).batch()

    def validation(self) -> list[TrainingBatch]:
        """36 batches of the distribution, and the published scenario at K = 5, 8, 10 and 16 without constraints."""
        drawn = [self.training(VALIDATION_SEED, step) for step in range(36)]
        published = [
            _unit_norm_drops(scenario("paper", users), VALIDATION_SEED + users, 200, 20.0, 1.0, 0.0)
            for users in (5, 8, 10, 16)
        ]
        return drawn + published


@dataclass(frozen=True)
class PublishedDrops:
    """The papers' data: a fixed set of drops with one K, array and link budget, gone through in epochs.

    train, validate: drops. batch: drops a step. snr_db: P / sigma^2, the channels having unit norm.
    angle: absolute, as the papers write it and as their curves have it; see `geometry.angle_and_distance`.
    noisy: share of the drops whose CSI is noisy, its SNR per antenna uniform in csi_snr_db (the papers' range).
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

    def training(self, seed: int, step: int) -> TrainingBatch:
        """Batch ``step`` of its epoch, the drops shuffled and the CSI's noise drawn anew each epoch."""
        epoch, place = divmod(step, self.train // self.batch)
        order = torch.randperm(self.train, generator=_generator(seed, epoch))
        clean = self._drops(self.train, self.seed).select(order[place * self.batch : (place + 1) * self.batch])
        return self._with_noise(clean, _generator(seed + 1, step))

    def validation(self) -> list[TrainingBatch]:
        """The validation drops, in batches of the same size."""
        whole = self._with_noise(self._drops(self.validate, VALIDATION_SEED), _generator(VALIDATION_SEED, 0))
        return [whole.select(torch.arange(start, start + self.batch)) for start in range(0, self.validate, self.batch)]

    def _drops(self, drops: int, seed: int) -> TrainingBatch:
        scene = Scenario(array=self.array, users=self.users, angle=self.angle)
        return _unit_norm_drops(scene, seed, drops, self.snr_db, self.alpha_c, self.min_rate)

    def _with_noise(self, batch: TrainingBatch, generator: torch.Generator) -> TrainingBatch:
        drops = len(batch.channels)
        low, high = self.csi_snr_db
        noisy = torch.rand(drops, generator=generator) < self.noisy
        snr_db = low + (high - low) * torch.rand(drops, generator=generator)
        seen = noisy_csi(batch.channels, torch.where(noisy, snr_db, torch.inf).unsqueeze(-1), generator)
        return replace(batch, channels=seen)


@lru_cache(maxsize=8)
def _unit_norm_drops(
    scene: Scenario, seed: int, drops: int, snr_db: float, alpha_c: float, min_rate: float
) -> TrainingBatch:
    """Drops of a scenario whose channels have unit norm, at one P / sigma^2 (dB) and under one set of constraints."""
    drawn = scene.draw(drops, torch.Generator().manual_seed(seed))
    return TrainingBatch(
        drawn.channels * 10 ** (snr_db / 20),
        drawn.near_field,
        torch.full((drops,), alpha_c),
        torch.full((drops,), min_rate),
        True,
    )


class _Draw:
    def __init__(self, distribution: DropDistribution, generator: torch.Generator) -> None:
        self.of = distribution
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def chance(self, probability: float) -> bool:
        return bool(self.uniform(0, 1, 1) < probability)

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def gaussian(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.complex64)

    def batch(self) -> TrainingBatch:
        of = self.of
        low, high = of.users
        # Larger K is harder: the larger of two draws.
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
        """Per user sqrt(P gain / sigma^2): an SNR per drop, a spread of gains within half of the drops."""
        spread = self.uniform(0, self.of.gain_spread_db, drops, 1) * (self.uniform(0, 1, drops, 1) < 0.5)
        decibel = self.uniform(*self.of.snr_db, drops, 1) + (self.uniform(0, 1, drops, users) - 0.5) * spread
        return (10 ** (decibel / 20)).unsqueeze(-1)

    def spherical(self, drops: int, users: int) -> tuple[Tensor, Tensor]:
        antennas = self.of.antennas[self.integer(0, len(self.of.antennas) - 1)]
        published = self.chance(0.4)
        # Regions grow with N^2, as the near field does: a fixed one would be all near or all far.
        size = 1.0 if published and antennas in (200, 256, 320) else (antennas / 256) ** 2
        size *= 1.0 if published else float(torch.exp(self.uniform(-0.7, 0.7, 1)))
        reach = 200.0 * size
        array = UniformLinearArray(
            antennas=antennas,
            height=15.0 if published else float(self.uniform(5, 40, 1)) * size,
            tilt=math.radians(5.0 if published else float(self.uniform(0, 15, 1))),
        )
        scene = Scenario(
            array=array,
            users=users,
            x_range=(0.0 if published else 0.02 * reach, reach),
            height_range=(0.0, 2 * array.height),
            ground_share=0.0 if published else float(self.uniform(0, 0.5, 1)),
            angle="absolute" if self.chance(0.2) else "signed",
        )
        if not published and self.chance(0.5):
            scene = replace(
                scene,
                scattered_paths=self.integer(1, 3),
                rician_factor_db=float(self.uniform(3, 20, 1)),
            )
        drawn = scene.draw(drops, self.generator)
        unit = torch.linalg.vector_norm(drawn.channels, dim=-1, keepdim=True).clamp(min=1e-9)
        return drawn.channels / unit, drawn.near_field

    def unlabelled(self, drops: int, users: int) -> tuple[Tensor, Tensor]:
        antennas = self.integer(max(2, users // 2), 64)
        kind = self.integer(0, 3)
        if kind == 0:
            channels = self.gaussian(drops, users, antennas)
        elif kind == 1:  # rank-deficient: users in a subspace, some the same but for a phase
            rank = self.integer(1, max(1, min(users, antennas) - 1))
            channels = self.gaussian(drops, users, rank) @ self.gaussian(drops, rank, antennas)
            twin = torch.randint(users, (drops, users), generator=self.generator)
            copied = channels.gather(1, twin.unsqueeze(-1).expand_as(channels))
            same = (self.uniform(0, 1, drops, users, 1) < 0.3).float()
            channels = channels * (1 - same) + copied * same
        else:  # plane waves in clusters that users may share
            paths = self.integer(1, 10)
            centre = self.uniform(-1, 1, drops, users, 1)
            if kind == 3:
                centre = self.uniform(-1, 1, drops, 1, 1) + 0.3 * centre
            direction = centre + float(self.uniform(0, 0.5, 1)) * self.uniform(-1, 1, drops, users, paths)
            gains = self.gaussian(drops, users, paths) * torch.exp(-float(self.uniform(0, 1, 1)) * torch.arange(paths))
            phase = math.pi * direction.unsqueeze(-1) * torch.arange(antennas)
            channels = (gains.unsqueeze(-2) @ torch.polar(torch.ones_like(phase), phase)).squeeze(-2)
        channels = channels / torch.linalg.vector_norm(channels, dim=-1, keepdim=True).clamp(min=1e-9)
        near = self.uniform(0, 1, drops, users) < self.uniform(0, 1, drops, 1)
        return channels, near
