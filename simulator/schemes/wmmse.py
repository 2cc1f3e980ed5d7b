"""WMMSE: the iterative solver everybody compares with, in its K x K form and batched."""

from typing import Annotated

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import assemble, project_powers
from simulator.downlink.gram import mixed_precision_gram
from simulator.downlink.precoding import ChannelBatch, Precoding, constrained_labels
from simulator.downlink.structure import wmmse_iterations
from simulator.schemes import Between, register


@register("wmmse")
def wmmse(batch: ChannelBatch, budget: LinkBudget, iterations: Annotated[int, Between(1, 10_000)] = 200) -> Precoding:
    """Weighted MMSE maximisation of the sum rate (Shi et al., IEEE TSP 2011), 200 iterations by default.

    It maximises the sum rate under C1 alone; C3 and C4 are then met by moving powers over its directions.
    """
    gram, needs_float64 = mixed_precision_gram(batch.channels, budget)
    uplink, beams, power_fractions = wmmse_iterations(gram, iterations)
    near, limits = constrained_labels(batch, budget), budget.limits(power_fractions)
    chosen = project_powers(beams.coefficients, beams.effective_gains, power_fractions, near, limits, uplink)
    return assemble(batch, chosen, budget, needs_float64=needs_float64)
