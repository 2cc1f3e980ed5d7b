"""Hold beams and powers of drops."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simulator.problems.algebra import Bool, Complex, Real


class Solution(NamedTuple):
    """Hold beams and powers of drops, as `simulator.downlink.candidates.Candidate` does.

    Attributes
    ----------
    coefficients
        C up to the scale of its columns, complex (drops, users, users).
    power_fractions, dual_power_fractions, sinr
        real (drops, users).
    sum_rate
        Sum of log2(1 + SINR), bps/Hz, real (drops,).
    """

    coefficients: Complex
    power_fractions: Real
    dual_power_fractions: Real
    sinr: Real
    sum_rate: Real

    def put(self, drops: npt.NDArray[np.intp] | Bool, other: Solution) -> None:
        """Replace drops by those of another solution, in place.

        Parameters
        ----------
        drops
            The drops, as indices or bool (drops,).
        other
            The other solution, of all drops.
        """
        for own, others in zip(self, other, strict=True):
            own[drops] = others[drops]

    def select(self, drops: npt.NDArray[np.intp]) -> Solution:
        """Return some drops.

        Parameters
        ----------
        drops
            Their indices.

        Returns
        -------
        Solution
        """
        return Solution(
            self.coefficients[drops],
            self.power_fractions[drops],
            self.dual_power_fractions[drops],
            self.sinr[drops],
            self.sum_rate[drops],
        )


def sum_rate(sinr: Real) -> Real:
    """Compute the sums of log2(1 + SINR).

    Parameters
    ----------
    sinr
        SINRs, linear, real (drops, users).

    Returns
    -------
    ndarray
        Sum rates, bps/Hz, real (drops,).
    """
    result: Real = np.add.reduce(np.log2(1 + sinr), 1)
    return result
