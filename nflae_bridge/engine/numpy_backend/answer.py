"""Hold the answer to drops without constraints as NumPy arrays, and as arrays of the result schema."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.downlink.sinr import rates
from simulator.problems.algebra import Bool, Real

_RATES = ("rate", "sum_rate")


class Answer(NamedTuple):
    """Hold the answer to drops.

    Attributes
    ----------
    precoder
        complex64 (drops, users, antennas).
    fractions
        P_k / P, then lambda / P, float64 (2, drops, users).
    fallback
        bool (drops,), drops answered by regularised zero forcing.
    lossy
        bool (drops,), drops that `simulator.downlink.rounding.loses_digits` marks; None: none.
    compute_sinr
        Function that computes the SINRs in double precision, float64 (drops, users).
    """

    precoder: npt.NDArray[np.complex64]
    fractions: npt.NDArray[np.float64]
    fallback: Bool
    lossy: Bool | None
    compute_sinr: Callable[[], Real]

    def arrays(
        self, power: float | Real, names: Collection[str], compute_scores: Callable[[], Real]
    ) -> dict[str, npt.NDArray[Any]]:
        """Return arrays of the result schema; SINRs and scores are computed only for those that depend on them.

        Parameters
        ----------
        power
            P, W, a number or float64 (drops or 1, 1).
        names
            Names of the arrays, see `matlab_io.result.RESULT_ARRAYS`.
        compute_scores
            Function that computes the near-field scores, float64 (drops, users).

        Returns
        -------
        dict
            Arrays by name, drops first.
        """
        watts = power * self.fractions
        found: dict[str, npt.NDArray[Any]] = {
            "precoder": self.precoder,
            "power": watts[0],
            "lambda": watts[1],
            "fallback": self.fallback,
        }
        if "feasible" in names:
            found["feasible"] = np.ones(len(self.precoder), np.bool_)
        if "near_field" in names or "near_field_score" in names:
            score = found["near_field_score"] = compute_scores()
            found["near_field"] = score > _NEAR
        if "sinr" in names or any(name in names for name in _RATES):
            sinr = found["sinr"] = self.compute_sinr()
            rate = rates(torch.from_numpy(sinr))
            found["rate"], found["sum_rate"] = rate.numpy(), rate.sum(-1).numpy()
        return {name: found[name] for name in names}


_NEAR = 0.5  # score above which a user is near-field


def column(value: float | Tensor) -> float | npt.NDArray[np.float64]:
    """Return a budget's quantity as a number, or as one per drop.

    Parameters
    ----------
    value
        One number, or real (drops,).

    Returns
    -------
    float or numpy.ndarray
        float64 (drops or 1, 1).
    """
    if isinstance(value, (int, float)):  # of all types the least time to recognise
        return float(value)
    numbers: npt.NDArray[np.float64] = value.reshape(-1, 1).double().cpu().numpy()
    return numbers
