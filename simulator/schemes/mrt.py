"""Maximum ratio transmission."""

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes.registry import register


@register("mrt")
def mrt(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Match each beam to its own user, w_k = h_k / ||h_k||, with equal powers.

    Also called matched filter or conjugate beamforming.

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
    return equal_power_precoding(batch, batch.channels, budget)
