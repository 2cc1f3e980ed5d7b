"""The published scenario at one point: users, power and constraints."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from simulator.channels.scenario import Drops, Scenario
from simulator.downlink.budget import LinkBudget
from simulator.geometry.arrays import UniformLinearArray

NOISE_POWER = 0.01


@dataclass(frozen=True)
class OperatingPoint:
    """Scenario `paper` with the angles the papers write, absolute ones, and a link budget.

    users: K. power_dbw: P, dBW; the noise is -20 dBW. alpha_c, min_rate: as in `LinkBudget`. array: the base station's.
    """

    users: int = 10
    power_dbw: float = 0.0
    alpha_c: float = 0.4
    min_rate: float = 0.6
    array: UniformLinearArray = field(default_factory=UniformLinearArray)

    @property
    def scene(self) -> Scenario:
        """Where users stand."""
        return Scenario(array=self.array, users=self.users, angle="absolute")

    @property
    def constrained(self) -> LinkBudget:
        """The link budget with C3 and C4."""
        return replace(self.free, alpha_c=self.alpha_c, min_rate=self.min_rate)

    @property
    def free(self) -> LinkBudget:
        """The link budget with the power limit alone."""
        return LinkBudget(10 ** (self.power_dbw / 10), NOISE_POWER)

    @property
    def snr_db(self) -> float:
        """P / sigma^2, dB."""
        return self.power_dbw + 20.0

    def draw(self, drops: int, seed: int) -> Drops:
        """Test drops: the same seed gives the same ones, whatever the budget."""
        return self.scene.draw(drops, torch.Generator().manual_seed(seed))


PUBLISHED = OperatingPoint()
