"""Hold power limits of groups of antennas beside a total power, and scale precoders onto them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.downlink.budget import LinkBudget
from simulator.problems.algebra import TINY, Bool, Complex, Real
from simulator.problems.problem import PrecodingProblem
from simulator.problems.structured import per_drop_column

_FILL_STEPS = 12  # each step adds groups to those at their limit; the last scaling down makes up for the rest


@dataclass(frozen=True)
class PowerLimits:
    """Hold the power limits of groups of consecutive antennas, and the total, as shares of the usable power.

    Beams are in rows, sqrt(P_k) w_k, complex (drops, users, antennas), in units of the root of the usable power.

    Parameters
    ----------
    usable : ndarray
        Largest power that all limits together allow, float64 (drops or 1, 1), W.
    groups : ndarray
        c_l > 0, float64 (drops or 1, groups), as shares of the usable power.
    total : ndarray
        P >= 1, float64 (drops or 1, 1), as a share of the usable power; Inf where no total holds.
    size : int
        Antennas per group.
    """

    usable: Real
    groups: Real
    total: Real
    size: int

    @classmethod
    def of(cls, problem: PrecodingProblem, budget: LinkBudget, antennas: int) -> PowerLimits:
        """Return the limits of a problem.

        Parameters
        ----------
        problem, budget
            Problem with power limits of antennas, and link budget.
        antennas : int
            Number of antennas.

        Returns
        -------
        PowerLimits
        """
        assert problem.antenna_power is not None
        size = problem.antenna_groups or 1
        groups = np.broadcast_to(problem.antenna_power, antennas).reshape(-1, size).sum(-1)
        total = np.reshape(per_drop_column(budget.power), (-1, 1)) if problem.total_power else np.full((1, 1), np.inf)
        usable = np.minimum(total, groups.sum())
        return cls(usable, groups / usable, total / usable, size)

    @property
    def total_binds(self) -> Bool:
        """Drops on which the total is below the sum of the groups' limits, bool (drops or 1, 1)."""
        binds: Bool = self.total < self.groups.sum(1, keepdims=True) * (1 - 1e-12)
        return binds

    def group_powers(self, beams: Complex, amplitudes: npt.NDArray[Any]) -> Real:
        """Compute the groups' powers g_l of beams times an amplitude per antenna, float64 (drops, groups).

        Parameters
        ----------
        beams : ndarray
            Complex (drops, users, antennas).
        amplitudes : ndarray
            Real (drops or 1, 1, antennas or 1).

        Returns
        -------
        ndarray
        """
        parts = beams.view(beams.real.dtype)
        entries = np.add.reduce(parts * parts, 1).reshape(len(beams), -1, 2)
        powers = (entries[..., 0] + entries[..., 1]) * (amplitudes * amplitudes)[:, 0]
        result: Real = np.add.reduce(powers.reshape(len(beams), -1, self.size), 2, dtype=np.float64)
        return result

    def per_antenna(self, values: Real) -> npt.NDArray[np.float32]:
        """Repeat values of groups, (drops, groups), for their antennas; float32 (drops, 1, antennas)."""
        single = values.astype(np.float32)
        return (single if self.size == 1 else np.repeat(single, self.size, 1))[:, None]

    def excess(self, powers: Real) -> Real:
        """Compute the largest ratio of a power to its limit from the groups' powers, float64 (drops, 1)."""
        largest = np.maximum.reduce(powers / self.groups, 1, keepdims=True)
        return np.maximum(largest, np.add.reduce(powers, 1, keepdims=True) / self.total)

    def clipping_gain(self, powers: Real) -> Real:
        """Return the power gains that scale groups above their limit down to it, float64 (drops, groups)."""
        return self._limited_gain(powers, np.ones_like(self.total))

    def filling_gain(self, powers: Real) -> Real:
        """Return the power gains that scale all antennas up by one factor, each group as far as its limit.

        The factor is the one that leaves no power.

        Parameters
        ----------
        powers : ndarray
            g_l, float64 (drops, groups).

        Returns
        -------
        ndarray
            float64 (drops, groups).
        """
        binds = self.total_binds
        if not binds.any():
            return self._limited_gain(powers, np.full_like(self.total, np.inf))
        # The total left by the groups at their limit goes to the others; more of them then reach their own.
        at_limit = np.zeros(powers.shape, np.bool_)
        factor = np.zeros_like(powers[:, :1])
        for _ in range(_FILL_STEPS):
            left = self.total - (self.groups * at_limit).sum(1, keepdims=True)
            free = np.maximum((powers * ~at_limit).sum(1, keepdims=True), TINY)
            factor = np.where(binds, np.maximum(left, 0) / free, np.inf)
            reached = at_limit | (factor * powers >= self.groups)
            if np.array_equal(reached, at_limit):
                break
            at_limit = reached
        return self._limited_gain(powers, factor)

    def _limited_gain(self, powers: Real, factor: Real) -> Real:
        """Scale powers by a factor, (drops or 1, 1), and each group down to its limit, then all to the total."""
        gain = np.where(powers > 0, np.minimum(factor, self.groups / np.maximum(powers, TINY)), 0)
        result: Real = gain / np.maximum(np.add.reduce(powers * gain, 1, keepdims=True) / self.total, 1)
        return result
