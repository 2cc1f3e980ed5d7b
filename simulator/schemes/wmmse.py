"""WMMSE: the iterative solver everybody compares with, in its K x K form and batched."""

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import Precoding, answer, constrained_labels, powered
from simulator.downlink.problem import ChannelBatch, quick_gram
from simulator.downlink.structure import Beams, structured_beams, wmmse_step
from simulator.schemes import register


def wmmse_shares(gram: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """(lambda / P, P_k / P) after ``iterations`` steps from regularised zero forcing; real (drops, users) each."""
    uplink, _, shares = _iterate(gram, iterations)
    return uplink, shares


def _iterate(gram: Tensor, iterations: int) -> tuple[Tensor, Beams, Tensor]:
    uplink = shares = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    beams = structured_beams(gram, uplink)
    for _ in range(iterations):
        uplink, beams, shares = wmmse_step(gram, beams, shares)
    return uplink, beams, shares


@register("wmmse")
def wmmse(batch: ChannelBatch, budget: LinkBudget, iterations: int = 200) -> Precoding:
    """Weighted MMSE maximisation of the sum rate (Shi et al., IEEE TSP 2011), 200 iterations by default.

    It maximises the sum rate under C1 alone; C3 and C4 are then met by moving powers over its directions.
    """
    gram, careful = quick_gram(batch.channels, budget)
    uplink, beams, shares = _iterate(gram, iterations)
    near, limits = constrained_labels(batch, budget), budget.limits(shares)
    chosen = powered(beams.coefficients, beams.couplings, shares, near, limits, uplink)
    return answer(batch, chosen, budget, careful=careful)
