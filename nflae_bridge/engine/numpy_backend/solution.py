"""Hold beams and powers of drops."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from simulator.problems.algebra import Bool, Complex, Real


@dataclass(frozen=True)
class Solution:
    """Hold beams and powers of drops, as `simulator.downlink.candidates.Candidate` does.

    Attributes
    ----------
    coefficients
        C up to the scale of its columns, complex (drops, users, users).
    power_fractions, dual_power_fractions, sinr
        real (drops, users).
    """

    coefficients: Complex
    power_fractions: Real
    dual_power_fractions: Real
    sinr: Real

    @property
    def sum_rate(self) -> Real:
        """Sum of log2(1 + SINR), bps/Hz, (drops,)."""
        result: Real = np.add.reduce(np.log2(1 + self.sinr), 1)
        return result

    def put(self, drops: npt.NDArray[np.intp] | Bool, other: Solution, chosen: Bool) -> None:
        """Replace drops by chosen ones of another solution, in place.

        Parameters
        ----------
        drops
            The drops to replace, as indices or bool (drops,).
        other
            The other solution.
        chosen
            bool, as many true ones as ``drops`` selects.
        """
        for field in fields(self):
            getattr(self, field.name)[drops] = getattr(other, field.name)[chosen]
