"""Regularised zero forcing, also the lower bound of the network's sum rate."""

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import Candidate, assemble, project_powers
from simulator.downlink.gram import mixed_precision_gram
from simulator.downlink.precoding import ChannelBatch, Precoding, constrained_labels
from simulator.downlink.rounding import measured_where_lossy
from simulator.downlink.structure import structured_beams
from simulator.schemes.registry import register


def rzf_candidate(gram: Tensor, near_field: Tensor, budget: LinkBudget) -> Candidate:
    """Compute the optimal structure with lambda = p = P / K, under the budget's constraints.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).
    near_field : Tensor
        Near-field labels, bool (drops, users).
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Candidate
        Candidate of every drop.
    """
    equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    beams = structured_beams(gram, equal)
    return project_powers(beams.coefficients, beams.effective_gains, equal, near_field, budget.limits(equal), equal)


@register("rzf")
def rzf(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Regularise zero forcing by the noise, W ~ H (I + P / (K sigma^2) H^H H)^-1, with equal powers.

    Also called MMSE precoder.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Precoding
        Precoding of every drop.
    """
    gram, needs_float64 = mixed_precision_gram(batch.channels, budget)
    near_field = constrained_labels(batch, budget)
    chosen = rzf_candidate(gram, near_field, budget)
    equal = torch.full_like(chosen.power_fractions, 1 / gram.shape[-1])
    chosen = measured_where_lossy(chosen, batch, gram, needs_float64, equal, near_field, budget)
    return assemble(batch, chosen, budget, needs_float64=needs_float64)
