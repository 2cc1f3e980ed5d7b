"""WMMSE: the iterative solver everybody compares with, in its K x K form and batched."""

import torch
from torch import Tensor

from simulator.link import ChannelBatch, LinkBudget, normalised_gram
from simulator.precoding import Precoding, answer, candidate, labels_of
from simulator.schemes import register
from simulator.structure import structured_coefficients, wmmse_step


def wmmse_shares(gram: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """(lambda / P, P_k / P) after ``iterations`` steps from regularised zero forcing; real (drops, users) each."""
    equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    uplink, shares = equal, equal
    for _ in range(iterations):
        uplink, shares = wmmse_step(gram, uplink, shares)
    return uplink, shares


@register("wmmse")
def wmmse(batch: ChannelBatch, budget: LinkBudget, iterations: int = 200) -> Precoding:
    """Weighted MMSE maximisation of the sum rate (Shi et al., IEEE TSP 2011), 200 iterations by default.

    It maximises the sum rate under C1 alone; C3 and C4 are then met by moving powers over its directions.
    """
    gram = normalised_gram(batch.channels, budget)
    near = labels_of(batch)
    uplink, shares = wmmse_shares(gram, iterations)
    chosen = candidate(gram, structured_coefficients(gram, uplink), shares, near, budget, uplink)
    return answer(batch.channels, chosen, budget, near)
