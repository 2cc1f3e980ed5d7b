"""Far-field space division multiple access (SDMA)."""

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes.codebooks import DFT_CURVATURES, hybrid_zero_forcing
from simulator.schemes.registry import register


@register("sdma")
def sdma(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Separate users by angle alone: a plane-wave beam of the DFT codebook per user, then zero forcing, equal powers.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Precoding
        Precoding of every drop.
    """
    return equal_power_precoding(batch, hybrid_zero_forcing(batch.channels, DFT_CURVATURES), budget)
