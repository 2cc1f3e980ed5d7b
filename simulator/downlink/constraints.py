"""Hold the constraints C3 and C4 as tensors, and check an answer against C1-C5."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.sinr import achieved_sinr, rates

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Limits:
    """Hold C3 and C4 as tensors; None for a constraint that binds on no drop.

    Parameters
    ----------
    alpha_c : Tensor or None
        Largest fraction of P for the near-field users together, real (drops or 1,).
    min_rate : Tensor or None
        Minimum rate of every user, real (drops or 1,), bps/Hz.
    """

    alpha_c: Tensor | None = None
    min_rate: Tensor | None = None

    def select(self, drops: Tensor) -> Limits:
        """Return the limits of the drops where `drops`, bool (drops,), is true."""

        def part(value: Tensor | None) -> Tensor | None:
            return value if value is None or len(value) == 1 else value[drops.to(value.device)]

        return Limits(part(self.alpha_c), part(self.min_rate))


@dataclass(frozen=True)
class ConstraintCheck:
    """Hold the violation of each constraint per drop, float64 (drops,), 0 where the constraint holds.

    Parameters
    ----------
    total_power : Tensor
        C1, sum P_k <= P: excess as a fraction of P.
    negative_power : Tensor
        C2, P_k >= 0: most negative power as a fraction of P.
    near_share : Tensor
        C3, near-field users' power <= alpha_c P: excess as a fraction of P.
    min_rate : Tensor
        C4, R_k >= R_min: largest missing rate, bps/Hz.
    beam_norm : Tensor
        C5, ||w_k|| = 1: largest | ||w_k|| - 1 |.
    """

    total_power: Tensor
    negative_power: Tensor
    near_share: Tensor
    min_rate: Tensor
    beam_norm: Tensor


def check_constraints(
    channels: Tensor, precoder: Tensor, power: Tensor, near_field: Tensor, budget: LinkBudget
) -> ConstraintCheck:
    """Measure the violations of C1-C5 by precoders and powers.

    Parameters
    ----------
    channels, precoder, power : Tensor
        As in `sinr.achieved_sinr`.
    near_field : Tensor
        Labels that C3 goes by, bool (drops, users).
    budget : LinkBudget
        Link budget.

    Returns
    -------
    ConstraintCheck
        Violations per drop.
    """
    power_fractions = power.double() / per_drop(budget.power, power.double()).unsqueeze(-1)
    alpha_c = per_drop(budget.alpha_c, power_fractions)
    rate = rates(achieved_sinr(channels, precoder, power, budget.noise_power))
    min_rate = per_drop(budget.min_rate, power_fractions).unsqueeze(-1)
    norms = torch.linalg.vector_norm(precoder.to(torch.complex128), dim=-1)
    return ConstraintCheck(
        total_power=(power_fractions.sum(-1) - 1).clamp(min=0),
        negative_power=(-power_fractions).clamp(min=0).amax(-1),
        near_share=((power_fractions * near_field).sum(-1) - alpha_c).clamp(min=0),
        min_rate=(min_rate - rate).clamp(min=0).amax(-1),
        beam_norm=(norms - 1).abs().amax(-1),
    )
