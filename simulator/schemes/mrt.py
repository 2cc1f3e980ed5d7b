"""Maximum ratio transmission: each beam matched to its own user, w_k = h_k / ||h_k||, equal powers."""

import torch

from simulator.link import ChannelBatch, LinkBudget, normalised_gram
from simulator.precoding import Precoding, answer, candidate, labels_of, unconstrained
from simulator.schemes import register


@register("mrt")
def mrt(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Maximum ratio transmission (also called matched filter or conjugate beamforming)."""
    if not (budget.constrains_shares or budget.demands_rates):
        return unconstrained(batch, batch.channels, budget)
    gram = normalised_gram(batch.channels, budget)
    near = labels_of(batch)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    equal = torch.ones_like(gram.real[..., 0])
    return answer(batch.channels, candidate(gram, identity, equal, near, budget), budget, near)
