"""Regularised zero forcing: the textbook's answer, and the floor under the network's."""

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import Candidate, assemble, project_powers
from simulator.downlink.gram import mixed_precision_gram
from simulator.downlink.precoding import ChannelBatch, Precoding, constrained_labels
from simulator.downlink.structure import structured_beams
from simulator.schemes import register


def rzf_candidate(gram: Tensor, near_field: Tensor, budget: LinkBudget) -> Candidate:
    """The optimal structure with lambda = p = P / K, under the budget's constraints; shapes as in `Candidate`."""
    equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    beams = structured_beams(gram, equal)
    return project_powers(beams.coefficients, beams.effective_gains, equal, near_field, budget.limits(equal), equal)


@register("rzf")
def rzf(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """W ~ H (I + P / (K sigma^2) H^H H)^-1, equal powers (the MMSE precoder)."""
    gram, needs_float64 = mixed_precision_gram(batch.channels, budget)
    return assemble(
        batch, rzf_candidate(gram, constrained_labels(batch, budget), budget), budget, needs_float64=needs_float64
    )
