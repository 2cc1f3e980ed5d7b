"""Iterate WMMSE for the weighted sum rate from any start, in K x K matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.structure import Beams, structured_beams, wmmse_step


def normalised(values: Tensor) -> Tensor:
    """Scale non-negative values to the sum 1 over the last axis.

    Parameters
    ----------
    values : Tensor
        Real (drops, users), not all zero.

    Returns
    -------
    Tensor
        Real (drops, users).
    """
    return values / values.sum(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)


def wmmse_steps(
    gram: Tensor, dual_power_fractions: Tensor, power_fractions: Tensor, steps: int, weights: Tensor | None = None
) -> tuple[Tensor, Beams, Tensor]:
    """Perform WMMSE iterations for sum_k a_k R_k from given (mu, q), see `structure.wmmse_step`.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex128 (drops, users, users).
    dual_power_fractions, power_fractions : Tensor
        mu = lambda / P and q = P_k / P to start from, real (drops, users), of sum 1.
    steps : int
        Number of iterations; 0 returns the beams of the start.
    weights : Tensor, optional
        a, real (drops or 1, users); equal by default.

    Returns
    -------
    dual_power_fractions : Tensor
        mu, real (drops, users), of sum 1.
    beams : Beams
        Beams of mu.
    power_fractions : Tensor
        q, real (drops, users), of sum 1.
    """
    beams = structured_beams(gram, dual_power_fractions)
    for _ in range(steps):
        dual_power_fractions, beams, power_fractions = wmmse_step(gram, beams, power_fractions, weights)
    return dual_power_fractions, beams, power_fractions
