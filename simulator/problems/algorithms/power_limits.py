"""Hold power limits of groups of antennas beside a total power, and scale precoders onto them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.gram import squared_magnitude
from simulator.problems.problem import PrecodingProblem

_TINY = torch.finfo(torch.float64).tiny
_FILL_STEPS = 12  # each step adds groups to those at their limit; the last scaling down makes up for the rest


@dataclass(frozen=True)
class PowerLimits:
    """Hold the power limits of groups of consecutive antennas, and the total, as shares of the usable power.

    Beams are in rows, sqrt(P_k) w_k, complex (drops, users, antennas), in units of the root of the usable power.

    Parameters
    ----------
    usable : Tensor
        Largest power that all limits together allow, float64 (drops or 1,), W.
    groups : Tensor
        c_l > 0, float64 (drops or 1, groups), as shares of the usable power.
    total : Tensor
        P >= 1, float64 (drops or 1, 1), as a share of the usable power; Inf where no total holds.
    size : int
        Antennas per group.
    """

    usable: Tensor
    groups: Tensor
    total: Tensor
    size: int

    @classmethod
    def of(cls, problem: PrecodingProblem, budget: LinkBudget, channels: Tensor) -> PowerLimits:
        """Return the limits of a problem.

        Parameters
        ----------
        problem, budget
            Problem with power limits of antennas, and link budget.
        channels : Tensor
            Channels, complex (drops, users, antennas).

        Returns
        -------
        PowerLimits
            Limits on the device of the channels.
        """
        assert problem.antenna_power is not None
        size = problem.antenna_groups or 1
        each = torch.as_tensor(problem.antenna_power, dtype=torch.float64, device=channels.device)
        groups = each.expand(channels.shape[-1]).reshape(-1, size).sum(-1)
        total = per_drop(budget.power, groups)
        if not problem.total_power:
            total = torch.full_like(total, torch.inf)
        usable = torch.minimum(total, groups.sum())
        return cls(usable, groups / usable.unsqueeze(-1), (total / usable).unsqueeze(-1), size)

    @property
    def total_binds(self) -> Tensor:
        """Drops on which the total is below the sum of the groups' limits, bool (drops or 1, 1)."""
        return self.total < self.groups.sum(-1, keepdim=True) * (1 - 1e-12)

    def group_powers(self, weighted: Tensor) -> Tensor:
        """Compute the groups' powers g_l of beams, float64 (drops, groups)."""
        return squared_magnitude(weighted).sum(-2).double().reshape(len(weighted), -1, self.size).sum(-1)

    def per_antenna(self, values: Tensor) -> Tensor:
        """Repeat values of groups, (drops, groups), for their antennas; (drops, 1, antennas)."""
        return values.repeat_interleave(self.size, -1).unsqueeze(-2)

    def excess(self, weighted: Tensor) -> Tensor:
        """Compute the largest ratio of a power to its limit, float64 (drops, 1)."""
        powers = self.group_powers(weighted)
        return torch.maximum((powers / self.groups).amax(-1, keepdim=True), powers.sum(-1, keepdim=True) / self.total)

    def scaled(self, weighted: Tensor) -> Tensor:
        """Scale all beams by one factor to the largest power that meets every limit."""
        factor = self.excess(weighted).clamp(min=_TINY).rsqrt()
        return weighted * factor.to(weighted.real.dtype).unsqueeze(-1)

    def clipped(self, weighted: Tensor) -> Tensor:
        """Scale the antennas of groups above their limit down to it."""
        return self._limited(weighted, torch.ones_like(self.total))

    def filled(self, weighted: Tensor) -> Tensor:
        """Scale all antennas by one factor, those of each group as far as its limit, until no power is left."""
        binds = self.total_binds
        if not bool(binds.any()):
            return self._limited(weighted, torch.full_like(self.total, torch.inf))
        powers = self.group_powers(weighted)
        # The total left by the groups at their limit goes to the others; more of them then reach their own.
        at_limit = torch.zeros_like(powers, dtype=torch.bool)
        factor = torch.zeros_like(powers[:, :1])
        for _ in range(_FILL_STEPS):
            left = self.total - (self.groups * at_limit).sum(-1, keepdim=True)
            free = (powers * ~at_limit).sum(-1, keepdim=True).clamp(min=_TINY)
            factor = torch.where(binds, left.clamp(min=0) / free, torch.inf)
            at_limit = at_limit | (factor * powers >= self.groups)
        return self._limited(weighted, factor)

    def _limited(self, weighted: Tensor, factor: Tensor) -> Tensor:
        """Scale powers by a factor, (drops or 1, 1), and each group down to its limit, then all to the total."""
        powers = self.group_powers(weighted)
        gain = torch.where(powers > 0, torch.minimum(factor, self.groups / powers.clamp(min=_TINY)), 0)
        gain = gain / ((powers * gain).sum(-1, keepdim=True) / self.total).clamp(min=1)
        return weighted * self.per_antenna(gain.sqrt().to(weighted.real.dtype))
