"""Regularised zero forcing: the textbook's answer, and the floor under the network's."""

import torch
from torch import Tensor

from simulator.link import ChannelBatch, LinkBudget, normalised_gram
from simulator.precoding import Candidate, Precoding, answer, candidate, labels_of
from simulator.schemes import register
from simulator.structure import structured_coefficients


def rzf_candidate(gram: Tensor, near_field: Tensor, budget: LinkBudget) -> Candidate:
    """The optimal structure with lambda = p = P / K, under the budget's constraints; shapes as in `Candidate`."""
    equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    coefficients = structured_coefficients(gram, equal)
    return candidate(gram, coefficients, equal, near_field, budget, equal)


@register("rzf")
def rzf(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """W ~ H (I + P / (K sigma^2) H^H H)^-1, equal powers (the MMSE precoder)."""
    gram = normalised_gram(batch.channels, budget)
    near = labels_of(batch)
    return answer(batch.channels, rzf_candidate(gram, near, budget), budget, near)
