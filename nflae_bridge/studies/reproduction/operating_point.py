"""Define the published scenario at one operating point: users, power and constraints."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch

from simulator.channels.scenario import Drops, Scenario
from simulator.downlink.budget import LinkBudget
from simulator.geometry.arrays import UniformLinearArray

NOISE_POWER = 0.01


@dataclass(frozen=True)
class OperatingPoint:
    """Scenario `paper` with absolute angles, as published, and a link budget.

    Parameters
    ----------
    users
        K.
    power_dbw
        P, dBW; the noise power is -20 dBW.
    alpha_c, min_rate
        Constraints C3 and C4, as in `LinkBudget`.
    array
        The base station's array.
    """

    users: int = 10
    power_dbw: float = 0.0
    alpha_c: float = 0.4
    min_rate: float = 0.6
    array: UniformLinearArray = field(default_factory=UniformLinearArray)

    @property
    def scene(self) -> Scenario:
        """Scenario of the drops."""
        return Scenario(array=self.array, users=self.users, angle="absolute")

    @property
    def constrained(self) -> LinkBudget:
        """Link budget with C3 and C4."""
        return replace(self.free, alpha_c=self.alpha_c, min_rate=self.min_rate)

    @property
    def free(self) -> LinkBudget:
        """Link budget with the power limit alone."""
        return LinkBudget(10 ** (self.power_dbw / 10), NOISE_POWER)

    @property
    def snr_db(self) -> float:
        """P / sigma^2, dB."""
        return self.power_dbw - 10 * math.log10(NOISE_POWER)

    def draw(self, drops: int, seed: int) -> Drops:
        """Draw test drops, which depend on the scenario and the seed alone.

        Parameters
        ----------
        drops
            Number of drops.
        seed
            Seed of the drops.
        """
        return self.scene.draw(drops, torch.Generator().manual_seed(seed))


PUBLISHED = OperatingPoint()
