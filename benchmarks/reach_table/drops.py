"""Generate the drops and link budgets of the lines."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from reach_table.measuring import (
    Batches,
    Bench,
    generator,
)
from simulator.channels.scenario import Scenario, scenario
from simulator.csi.impairments import noisy_csi
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch


def published(bench: Bench, users: int, antennas: int, snr_db: float, point: int) -> Batches:
    """Yield drops of scenario ``paper`` with P = 1 W, without C3 and C4."""
    budget = LinkBudget(noise_power=10 ** (-snr_db / 10))
    return ((batch, budget) for batch in bench.blocks(scenario("paper", users, antennas), point))


def mixed_noise(drops: int, point: int) -> LinkBudget:
    """Return a link budget of -5 to 40 dB, drawn per drop."""
    decibel = -5 + 45 * torch.rand(drops, generator=generator(point), dtype=torch.float64)
    return LinkBudget(noise_power=10 ** (-decibel / 10))


def identical_users(bench: Bench) -> Batches:
    """Yield drops whose users are copies of one user, or pairs of copies, each with its own phase."""
    for index, users in enumerate((2, 4, 8)):
        for paired in (False, True):
            point = 210 + 10 * index + paired
            different = max(1, users // 2) if paired else 1
            draw = generator(point + 5)
            for batch in bench.blocks(scenario("paper", different), point, max(1, bench.drops // 6)):
                copies = batch.channels.repeat(1, users // different, 1)
                phase = 2 * math.pi * torch.rand(*copies.shape[:2], 1, generator=draw)
                turned = copies * torch.polar(torch.ones_like(phase), phase).to(copies.device)
                yield ChannelBatch(turned), mixed_noise(len(turned), point + 7)


def rank_deficient(bench: Bench) -> Batches:
    """Yield Gaussian channels in a subspace, and more users than antennas; half of the drops with C3 and C4."""
    for index, (users, rank, antennas) in enumerate(((8, 3, 64), (16, 8, 8))):
        draw = generator(250 + index)
        for batch in bench.split(low_rank(bench.drops // 2, users, rank, antennas, draw)):
            budget = mixed_noise(len(batch.channels), 260 + index)
            half = torch.arange(len(batch.channels)) % 2 == 0
            yield (
                batch,
                replace(
                    budget,
                    alpha_c=torch.where(half, 0.4, 1.0).double(),
                    min_rate=torch.where(half, 0.1, 0.0).double(),
                ),
            )


def low_rank(drops: int, users: int, rank: int, antennas: int, draw: torch.Generator) -> Tensor:
    """Draw complex Gaussian combinations of ``rank`` Gaussian vectors, mean ||h||^2 = 1."""

    def gaussian(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.complex64)

    return gaussian(drops, users, rank) @ gaussian(drops, rank, antennas) / math.sqrt(rank * antennas)


def constrained(users: int, angle: str) -> Scenario:
    """Return scenario ``paper``, N = 256, with signed angles or the published, absolute ones."""
    scene = scenario("paper", users)
    return scene if angle == "signed" else replace(scene, angle="absolute")


ALL_CONSTRAINTS = LinkBudget(alpha_c=0.4, min_rate=0.6)
CONSTRAINED_POINTS = tuple((users, angle) for angle in ("signed", "absolute") for users in (8, 10))


def mixture(bench: Bench) -> Batches:
    """Yield five times the drops, 25 per batch: K, N and kind of channel by batch, link budget by drop."""
    draw = generator(400)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=draw, dtype=torch.float64)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=draw))

    size = 25
    for turn in range(max(4, 5 * bench.drops // size)):
        users, antennas = integer(1, 16), (8, 16, 32, 64, 100, 128, 200, 256, 512)[integer(0, 8)]
        if turn % 4 == 3:
            channels = low_rank(size, users, integer(1, 16), antennas, draw)
        else:
            scene = (scenario("paper", users, antennas), scenario("uav", users, antennas))[turn % 2]
            channels = scene.draw(size, draw).channels
            channels = channels / torch.linalg.vector_norm(channels, dim=-1, keepdim=True)
        if turn % 4 == 2:
            channels = noisy_csi(channels, uniform(0, 20, size, 1).float(), draw)
        spread = uniform(0, 30, size, 1) * (uniform(0, 1, size, 1) < 0.5)
        channels = channels * 10 ** ((uniform(-0.5, 0.5, size, users) * spread / 20).unsqueeze(-1)).float()
        budget = LinkBudget(
            power=10 ** uniform(-1, 1, size),
            noise_power=10 ** (-uniform(-5, 35, size) / 10),
            alpha_c=uniform(0.1, 1, size),
            min_rate=uniform(0, 1, size),
        )
        yield ChannelBatch(channels.to(bench.engine.device)), budget


def scaled_region(scene: Scenario) -> Scenario:
    """Scale the region of users and the mast with N^2, as the near field scales."""
    size = (scene.array.antennas / 256) ** 2
    return replace(
        scene,
        array=replace(scene.array, height=15.0 * size),
        x_range=(0.0, 200.0 * size),
        height_range=(0.0, 30.0 * size),
    )
