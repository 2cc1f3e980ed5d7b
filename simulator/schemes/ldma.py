"""Near-field LDMA: a beam focused on an angle and a distance for every user, zero forcing behind them, equal powers."""

from typing import Annotated

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes import Between, register
from simulator.schemes.codebooks import hybrid_zero_forcing, polar_domain_curvatures


@register("ldma")
def ldma(batch: ChannelBatch, budget: LinkBudget, coherence: Annotated[float, Between(0.25, 0.99)] = 0.5) -> Precoding:
    """Location division multiple access (Wu and Dai, IEEE JSAC 2023): users are told apart by angle and distance.

    The codebook is the polar domain's (Cui and Dai, IEEE TCOM 2022), whose beams of one angle and neighbouring
    distances have at most ``coherence`` of each other's amplitude, in (0.2, 1).
    """
    curvatures = polar_domain_curvatures(batch.channels.shape[-1], coherence)
    return equal_power_precoding(batch, hybrid_zero_forcing(batch.channels, curvatures), budget)
