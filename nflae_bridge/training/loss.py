"""The loss: near/far error, sum rate and unmet minimum rates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nflae_bridge.network.model import NetworkOutput
from simulator.downlink.powers import limit_power_fractions, project_power_fractions
from simulator.downlink.sinr import effective_gain_matrix, rates, sinr
from simulator.downlink.structure import structured_coefficients


@dataclass(frozen=True)
class LossWeights:
    """gamma_1 (unmet minimum rates) and gamma_2 (near/far error) of the papers' loss.

    relative: divide rates by RZF's sum rate on the same drop, so that a drop at 0 dB counts as much as one at 30.
    projected: take the sum rate after the projection onto C4, as the engine serves it, instead of before.
    """

    min_rate: float = 10.0
    near_field: float = 5.0
    relative: bool = True
    projected: bool = True


@dataclass(frozen=True)
class LossParts:
    """The loss and what it is made of; scalars. share: mean of the sum rate over RZF's."""

    total: Tensor
    share: Tensor
    unmet: Tensor
    near_field: Tensor


def precoding_loss(
    output: NetworkOutput,
    gram: Tensor,
    near_field: Tensor,
    alpha_c: Tensor,
    min_rate: Tensor,
    weights: LossWeights,
    labelled: bool = True,
) -> LossParts:
    """gamma_2 MSE(score, label) - sum rate + gamma_1 sum_k max(R_min - R_k, 0).

    gram: Gamma, complex (drops, users, users); near_field: bool (drops, users); alpha_c, min_rate: (drops,).
    Without ``labelled`` the labels serve C3 only.
    """
    effective_gains = effective_gain_matrix(
        gram, structured_coefficients(gram, output.dual_power_fractions.to(gram.real.dtype))
    )
    wanted = limit_power_fractions(output.power_fractions.to(gram.real.dtype), near_field, alpha_c)
    rate = rates(sinr(effective_gains, wanted))
    unmet = (min_rate.unsqueeze(-1) - rate).clamp(min=0).sum(-1)
    served = rate.sum(-1)
    if weights.projected:
        power_fractions, feasible = project_power_fractions(
            effective_gains, output.power_fractions.to(effective_gains), near_field, alpha_c, min_rate
        )
        served = torch.where(feasible, rates(sinr(effective_gains, power_fractions)).sum(-1), served)
    with torch.no_grad():
        equal = torch.full_like(wanted, 1 / wanted.shape[-1])
        rzf = rates(sinr(effective_gain_matrix(gram, structured_coefficients(gram, equal)), equal)).sum(-1)
        rzf = rzf.clamp(min=1e-3)
    scale = rzf if weights.relative else torch.ones_like(rzf)
    loss = ((weights.min_rate * unmet - served) / scale).mean()
    error = gram.new_zeros((), dtype=torch.float32)
    if labelled and output.near_field_logit is not None:
        error = mse_loss(torch.sigmoid(output.near_field_logit), near_field.float())
        loss = loss + weights.near_field * error
    return LossParts(loss, (served / rzf).mean().detach(), (unmet / scale).mean().detach(), error.detach())
