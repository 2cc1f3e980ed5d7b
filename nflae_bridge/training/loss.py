"""Compute training losses: near/far error, sum rate, shortfall of minimum rates; sum rate lost by predicted CSI."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from nflae_bridge.engine.near_parallel import redundant_users, without_users
from nflae_bridge.network.model import NetworkOutput
from simulator.downlink.powers import limit_power_fractions, project_power_fractions
from simulator.downlink.sinr import effective_gain_matrix, rates, sinr
from simulator.downlink.structure import structured_coefficients


@dataclass(frozen=True)
class LossWeights:
    """Weights and variants of the loss.

    Attributes
    ----------
    min_rate : float
        gamma_1, weight of the shortfall of the minimum rates.
    near_field : float
        gamma_2, weight of the near/far error.
    relative : bool
        Divide rates by the sum rate of RZF on the same drop, so that drops at 0 dB and at 30 dB count alike.
    pooled : bool
        With ``relative``, divide by the mean sum rate of RZF over the batch: drops on which RZF fails then do not count
        several times.
    pruned : bool
        Take per drop the smaller loss of the allocation with and without redundant users, as the engine serves the
        better of both: a network need not choose between users that are alike to it.
    projected : bool
        Use the sum rate after the projection onto C4, which the engine serves, instead of the one before.
    labels_alone : bool
        Binary cross entropy of the near/far labels instead of all of the above, for the classifier of a network.
    """

    min_rate: float = 10.0
    near_field: float = 5.0
    relative: bool = True
    pooled: bool = False
    pruned: bool = False
    projected: bool = True
    labels_alone: bool = False


@dataclass(frozen=True)
class LossParts:
    """Loss and its parts, scalars.

    Attributes
    ----------
    total : Tensor
        Loss, with gradient.
    rate_over_rzf : Tensor
        Mean sum rate relative to that of RZF.
    unmet : Tensor
        Mean shortfall of the minimum rates, scaled like the loss.
    near_field : Tensor
        Mean squared error of the near-field scores.
    """

    total: Tensor
    rate_over_rzf: Tensor
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
    """Compute gamma_2 MSE(score, label) - sum rate + gamma_1 sum_k max(R_min - R_k, 0), averaged over drops.

    Parameters
    ----------
    output : NetworkOutput
        Output of the network.
    gram : Tensor
        Gamma = P / sigma^2 H^H H, complex (drops, users, users).
    near_field : Tensor
        Labels, bool (drops, users).
    alpha_c, min_rate : Tensor
        Constraints C3 and C4 (bps/Hz), (drops,).
    weights : LossWeights
        Weights and variants.
    labelled : bool
        Include the near/far error; otherwise the labels serve C3 only.

    Returns
    -------
    LossParts
        The loss and its parts.
    """
    dual, power = output.dual_power_fractions.to(gram.real.dtype), output.power_fractions.to(gram.real.dtype)
    served, unmet = _served_and_unmet(gram, dual, power, near_field, alpha_c, min_rate, weights.projected)
    if weights.pruned:
        redundant = redundant_users(gram, None, near_field, power.detach())
        pruned = without_users(redundant, dual), without_users(redundant, power)
        others = _served_and_unmet(gram, pruned[0], pruned[1], near_field, alpha_c, min_rate, weights.projected)
        better = weights.min_rate * others[1] - others[0] < weights.min_rate * unmet - served
        served, unmet = torch.where(better, others[0], served), torch.where(better, others[1], unmet)
    with torch.no_grad():
        equal = torch.full_like(dual, 1 / gram.shape[-1])
        rzf = rates(sinr(effective_gain_matrix(gram, structured_coefficients(gram, equal)), equal)).sum(-1)
        rzf = rzf.clamp(min=1e-3)
    scale = torch.ones_like(rzf)
    if weights.relative:
        scale = rzf.mean() if weights.pooled else rzf
    loss = ((weights.min_rate * unmet - served) / scale).mean()
    error = gram.new_zeros((), dtype=torch.float32)
    if labelled and output.near_field_logit is not None:
        error = mse_loss(torch.sigmoid(output.near_field_logit), near_field.float())
        loss = loss + weights.near_field * error
    return LossParts(loss, (served / rzf).mean().detach(), (unmet / scale).mean().detach(), error.detach())


def _served_and_unmet(
    gram: Tensor,
    dual_power_fractions: Tensor,
    power_fractions: Tensor,
    near_field: Tensor,
    alpha_c: Tensor,
    min_rate: Tensor,
    projected: bool,
) -> tuple[Tensor, Tensor]:
    """Return the sum rate and the shortfall of the minimum rates of an allocation, (drops,)."""
    effective_gains = effective_gain_matrix(gram, structured_coefficients(gram, dual_power_fractions))
    rate = rates(sinr(effective_gains, limit_power_fractions(power_fractions, near_field, alpha_c)))
    unmet, served = (min_rate.unsqueeze(-1) - rate).clamp(min=0).sum(-1), rate.sum(-1)
    if projected:
        given = power_fractions.to(effective_gains)
        held, feasible = project_power_fractions(effective_gains, given, near_field, alpha_c, min_rate)
        served = torch.where(feasible, rates(sinr(effective_gains, held)).sum(-1), served)
    return served, unmet


def label_loss(near_field_logit: Tensor, near_field: Tensor) -> LossParts:
    """Compute the binary cross entropy of near-field logits.

    Parameters
    ----------
    near_field_logit : Tensor
        Logits of the near-field scores, float32 (drops, users).
    near_field : Tensor
        True labels, bool (drops, users).

    Returns
    -------
    LossParts
        The loss; the parts that concern rates are NaN.
    """
    absent = near_field_logit.new_full((), torch.nan)
    error = mse_loss(torch.sigmoid(near_field_logit.detach()), near_field.float())
    loss = binary_cross_entropy_with_logits(near_field_logit, near_field.float())
    return LossParts(loss, absent, absent, error)


def predicted_rate_loss(predicted: Tensor, channels: Tensor, noise: float, users: int = 6) -> Tensor:
    """Compute the share of the sum rate that RZF loses by predicted CSI.

    Parameters
    ----------
    predicted : Tensor
        CSI, complex (series, ahead, antennas); ``users`` successive series form a drop, an incomplete last one is left
        out.
    channels : Tensor
        True channels of that shape; each series is scaled to a mean ||h||^2 of 1, its CSI alike.
    noise : float
        sigma^2 / P.
    users : int
        Users per drop.

    Returns
    -------
    Tensor
        1 - mean sum rate / mean sum rate from true channels, equal powers, real (ahead,).
    """
    scale = channels.abs().square().sum(-1, keepdim=True).mean(1, keepdim=True).rsqrt() * noise**-0.5
    found, truth = (_drops(values * scale, users) for values in (predicted, channels))

    def rate(csi: Tensor) -> Tensor:
        gram = csi.conj() @ csi.mT
        equal = torch.full_like(gram.real[..., 0], 1 / users)
        beams = torch.nn.functional.normalize(structured_coefficients(gram, equal).mT @ csi, dim=-1)
        gains = (truth.conj() @ beams.mT).abs().square()
        return rates(sinr(gains, equal)).sum(-1).mean(0)

    with torch.no_grad():
        perfect = rate(truth)
    return 1 - rate(found) / perfect


def _drops(series: Tensor, users: int) -> Tensor:
    """Return complex (drops, ahead, users, antennas) of complex (series, ahead, antennas)."""
    whole = len(series) // users * users
    return series[:whole].reshape(-1, users, *series.shape[1:]).swapaxes(1, 2)
