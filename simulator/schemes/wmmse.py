"""WMMSE: the iterative solver everybody compares with, in its K x K form and batched."""

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import Precoding, assemble, constrained_labels, project_powers
from simulator.downlink.problem import ChannelBatch, mixed_precision_gram
from simulator.downlink.structure import Beams, structured_beams, wmmse_step
from simulator.schemes import register


def wmmse_power_fractions(gram: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """(lambda / P, P_k / P) after ``iterations`` steps from regularised zero forcing; real (drops, users) each."""
    uplink, _, power_fractions = _iterate(gram, iterations)
    return uplink, power_fractions


def _iterate(gram: Tensor, iterations: int) -> tuple[Tensor, Beams, Tensor]:
    uplink = power_fractions = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    beams = structured_beams(gram, uplink)
    for _ in range(iterations):
        uplink, beams, power_fractions = wmmse_step(gram, beams, power_fractions)
    return uplink, beams, power_fractions


@register("wmmse")
def wmmse(batch: ChannelBatch, budget: LinkBudget, iterations: int = 200) -> Precoding:
    """Weighted MMSE maximisation of the sum rate (Shi et al., IEEE TSP 2011), 200 iterations by default.

    It maximises the sum rate under C1 alone; C3 and C4 are then met by moving powers over its directions.
    """
    gram, needs_float64 = mixed_precision_gram(batch.channels, budget)
    uplink, beams, power_fractions = _iterate(gram, iterations)
    near, limits = constrained_labels(batch, budget), budget.limits(power_fractions)
    chosen = project_powers(beams.coefficients, beams.effective_gains, power_fractions, near, limits, uplink)
    return assemble(batch, chosen, budget, needs_float64=needs_float64)
