"""Draw snapshots of users, labelled near or far and in sight or not, for networks that learn from channels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from simulator.channels.scenario import scenario
from simulator.geometry.steering import near_field_steering

_HIDDEN_SHARE = 0.4  # of the users, whose line of sight is blocked
_BLOCKED = 0.95  # of the amplitude of the line of sight taken off
_WAVES = 4


@dataclass(frozen=True)
class Snapshots:
    """Hold noisy channels of independent users and their labels.

    Parameters
    ----------
    channels
        complex64 (users, antennas), mean |h_n|^2 = 1 before the noise.
    near_field, line_of_sight
        bool (users,).
    """

    channels: Tensor
    near_field: Tensor
    line_of_sight: Tensor

    def to(self, device: torch.device) -> Snapshots:
        """Return the snapshots on ``device``."""
        return Snapshots(self.channels.to(device), self.near_field.to(device), self.line_of_sight.to(device))


def draw_snapshots(users: int, antennas: int, snr_db: tuple[float, float], generator: torch.Generator) -> Snapshots:
    """Draw users of the low-altitude scenario, four in ten with a blocked line of sight.

    Parameters
    ----------
    users, antennas
        Their numbers.
    snr_db
        Range of the SNR per antenna, uniform, dB.
    generator
        Source of randomness; its device is that of the result.

    Returns
    -------
    Snapshots
        Channels and labels.
    """
    scene = replace(scenario("uav", 1, antennas), path_loss_reference=None)
    drawn = scene.draw(users, generator)
    channels = drawn.channels[:, 0]
    wave = near_field_steering(scene.array, drawn.angle[:, 0], drawn.distance[:, 0]).to(torch.complex64)
    hidden = torch.rand(users, generator=generator, device=generator.device) < _HIDDEN_SHARE
    direct = (wave.conj() * channels).sum(-1, keepdim=True) * wave
    channels = torch.where(hidden.unsqueeze(-1), channels - _BLOCKED * direct, channels)
    return Snapshots(_noisy(channels, snr_db, generator), drawn.near_field[:, 0], ~hidden)


def draw_plane_waves(users: int, antennas: int, snr_db: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Draw sums of four plane waves from one cluster of directions each, of falling strength.

    Parameters
    ----------
    users, antennas, snr_db, generator
        As in `draw_snapshots`.

    Returns
    -------
    Tensor
        complex64 (users, antennas).
    """
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator, device=device)

    sines = uniform(-1, 1, users, 1) + uniform(-0.15, 0.15, users, _WAVES)
    gains = torch.randn(users, _WAVES, dtype=torch.complex64, generator=generator, device=device)
    gains = gains * torch.exp(-torch.arange(_WAVES, device=device) / 2)
    phase = math.pi * sines.unsqueeze(-1) * torch.arange(antennas, device=device)
    channels = (gains.unsqueeze(-1) * torch.polar(torch.ones_like(phase), phase)).sum(1)
    return _noisy(channels, snr_db, generator)


def _noisy(channels: Tensor, snr_db: tuple[float, float], generator: torch.Generator) -> Tensor:
    device = channels.device
    scaled = channels / channels.abs().square().mean(-1, keepdim=True).sqrt()
    snr = snr_db[0] + (snr_db[1] - snr_db[0]) * torch.rand(len(channels), 1, generator=generator, device=device)
    noise = torch.randn(channels.shape, dtype=torch.complex64, generator=generator, device=device)
    return scaled + noise * 10 ** (-snr / 20)
