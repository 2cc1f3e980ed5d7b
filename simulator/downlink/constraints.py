"""Check the constraints C1-C5, and hold those that may bind as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.sinr import achieved_sinr, rates

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Limits:
    """C3 and C4 as tensors, for computing with them; None for one that binds on no drop.

    alpha_c, min_rate: as in `LinkBudget`, real (drops or 1,).
    """

    alpha_c: Tensor | None = None
    min_rate: Tensor | None = None

    def select(self, drops: Tensor) -> Limits:
        """Those of the drops where ``drops`` (bool) is true."""

        def part(value: Tensor | None) -> Tensor | None:
            return value if value is None or len(value) == 1 else value[drops.to(value.device)]

        return Limits(part(self.alpha_c), part(self.min_rate))


@dataclass(frozen=True)
class ConstraintCheck:
    """By how much each constraint is violated on each drop; float64 (drops,), 0 where it holds.

    total_power (C1) and near_share (C3) as shares of P; negative_power (C2) as a share of P;
    min_rate (C4) in bps/Hz, the worst user's; beam_norm (C5) as | ||w_k|| - 1 |, the worst user's.
    """

    total_power: Tensor
    negative_power: Tensor
    near_share: Tensor
    min_rate: Tensor
    beam_norm: Tensor


def check_constraints(
    channels: Tensor, precoder: Tensor, power: Tensor, near_field: Tensor, budget: LinkBudget
) -> ConstraintCheck:
    """How far (precoder, power) is from C1-C5 under ``budget``; C3 goes by the labels ``near_field``.

    Shapes as in `achieved_sinr`; near_field: bool (drops, users).
    """
    power_fractions = power.double() / per_drop(budget.power, power.double()).unsqueeze(-1)
    allowed = per_drop(budget.alpha_c, power_fractions)
    rate = rates(achieved_sinr(channels, precoder, power, budget.noise_power))
    demanded = per_drop(budget.min_rate, power_fractions).unsqueeze(-1)
    norms = torch.linalg.vector_norm(precoder.to(torch.complex128), dim=-1)
    return ConstraintCheck(
        total_power=(power_fractions.sum(-1) - 1).clamp(min=0),
        negative_power=(-power_fractions).clamp(min=0).amax(-1),
        near_share=((power_fractions * near_field).sum(-1) - allowed).clamp(min=0),
        min_rate=(demanded - rate).clamp(min=0).amax(-1),
        beam_norm=(norms - 1).abs().amax(-1),
    )
