"""Far-field SDMA: a plane-wave beam from the DFT codebook for every user, zero forcing behind them, equal powers."""

from simulator.downlink.budget import LinkBudget
from simulator.downlink.codebooks import PLANE_WAVES, hybrid_zero_forcing
from simulator.downlink.precoding import Precoding, equal_powers
from simulator.downlink.problem import ChannelBatch
from simulator.schemes import register


@register("sdma")
def sdma(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Space division multiple access with hybrid precoding: users are told apart by angle alone."""
    return equal_powers(batch, hybrid_zero_forcing(batch.channels, PLANE_WAVES), budget)
