"""Far-field SDMA: a plane-wave beam from the DFT codebook for every user, zero forcing behind them, equal powers."""

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes import register
from simulator.schemes.codebooks import DFT_CURVATURES, hybrid_zero_forcing


@register("sdma")
def sdma(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Space division multiple access with hybrid precoding: users are told apart by angle alone."""
    return equal_power_precoding(batch, hybrid_zero_forcing(batch.channels, DFT_CURVATURES), budget)
