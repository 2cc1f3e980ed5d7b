"""Zero forcing: no interference between users whose channels are independent, equal powers."""

import torch

from simulator.link import ChannelBatch, LinkBudget, normalised_gram
from simulator.precoding import Precoding, answer, candidate, labels_of
from simulator.schemes import register


@register("zf")
def zf(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """W = H (H^H H)^+ with unit-norm columns.

    The pseudo-inverse serves rank-deficient channels: users who share a direction then share its beam.
    """
    gram = normalised_gram(batch.channels, budget)
    near = labels_of(batch)
    # Users' gains may differ by 100 dB; the rank is that of the directions.
    norm = torch.sqrt(gram.diagonal(dim1=-2, dim2=-1).real).clamp(min=1e-150)
    scale = norm.unsqueeze(-1) * norm.unsqueeze(-2)
    inverse = torch.linalg.pinv(gram / scale, rtol=1e-9, hermitian=True) / scale
    equal = torch.ones_like(norm)
    return answer(batch.channels, candidate(gram, inverse, equal, near, budget), budget, near)
