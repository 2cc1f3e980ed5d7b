"""Far-field space division multiple access (SDMA)."""

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes.codebooks import DFT_CURVATURES, hybrid_zero_forcing, panel_grid
from simulator.schemes.registry import register


@register("sdma")
def sdma(batch: ChannelBatch, budget: LinkBudget, panel: str = "") -> Precoding:
    """Separate users by angle alone: a plane-wave beam of the DFT codebook per user, then zero forcing, equal powers.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.
    panel : str
        Size of a planar array, ``ROWSxCOLUMNS``; a line by default.

    Returns
    -------
    Precoding
        Precoding of every drop.
    """
    grid = panel_grid(panel, batch.channels.shape[-1])
    return equal_power_precoding(batch, hybrid_zero_forcing(batch.channels, DFT_CURVATURES, grid), budget)
