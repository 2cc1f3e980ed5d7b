"""Maximum ratio transmission: each beam matched to its own user, w_k = h_k / ||h_k||, equal powers."""

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes import register


@register("mrt")
def mrt(batch: ChannelBatch, budget: LinkBudget) -> Precoding:
    """Maximum ratio transmission (also called matched filter or conjugate beamforming)."""
    return equal_power_precoding(batch, batch.channels, budget)
