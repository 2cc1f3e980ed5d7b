"""Weighted MMSE, the iterative solver that other schemes are compared with, batched and in its K x K form."""

from typing import Annotated

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import assemble, project_powers
from simulator.downlink.gram import mixed_precision_gram
from simulator.downlink.precoding import ChannelBatch, Precoding, constrained_labels
from simulator.downlink.rounding import measured_where_lossy
from simulator.downlink.structure import wmmse_iterations
from simulator.schemes.options import Between
from simulator.schemes.registry import register


@register("wmmse")
def wmmse(batch: ChannelBatch, budget: LinkBudget, iterations: Annotated[int, Between(1, 10_000)] = 200) -> Precoding:
    """Maximise the sum rate by iterations of weighted MMSE, see `structure.wmmse_step`.

    The sum rate is maximised under C1 alone; C3 and C4 are then met by moving powers over the directions found.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.
    iterations : int
        Number of iterations from regularised zero forcing.

    Returns
    -------
    Precoding
        Precoding of every drop.
    """
    gram, needs_float64 = mixed_precision_gram(batch.channels, budget)
    dual, beams, power_fractions = wmmse_iterations(gram, iterations)
    near_field, limits = constrained_labels(batch, budget), budget.limits(power_fractions)
    chosen = project_powers(beams.coefficients, beams.effective_gains, power_fractions, near_field, limits, dual)
    chosen = measured_where_lossy(chosen, batch, gram, needs_float64, power_fractions, near_field, budget)
    return assemble(batch, chosen, budget, needs_float64=needs_float64)
