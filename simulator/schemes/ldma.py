"""Near-field location division multiple access (LDMA)."""

from typing import Annotated

from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import equal_power_precoding
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.schemes.codebooks import hybrid_zero_forcing, panel_grid, polar_domain_curvatures
from simulator.schemes.options import Between
from simulator.schemes.registry import register


@register("ldma")
def ldma(
    batch: ChannelBatch,
    budget: LinkBudget,
    coherence: Annotated[float, Between(0.25, 0.99)] = 0.5,
    panel: str = "",
) -> Precoding:
    """Separate users by angle and distance: a focused beam per user, then zero forcing, equal powers.

    The codebook is that of the polar domain (Cui and Dai 2022).

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.
    coherence : float
        Coherence of the codebook's beams of one angle and neighbouring distances, as an amplitude.
    panel : str
        Size of a planar array, ``ROWSxCOLUMNS``; a line by default.

    Returns
    -------
    Precoding
        Precoding of every drop.

    References
    ----------
    * Z. Wu, L. Dai, "Multiple access for near-field communications: SDMA or LDMA?", IEEE Journal on Selected Areas in
      Communications, 2023.
    * M. Cui, L. Dai, "Channel estimation for extremely large-scale MIMO: far-field or near-field?", IEEE Transactions
      on Communications, 2022.
    """
    grid = panel_grid(panel, batch.channels.shape[-1])
    curvatures = polar_domain_curvatures(grid if isinstance(grid, int) else max(grid), coherence)
    return equal_power_precoding(batch, hybrid_zero_forcing(batch.channels, curvatures, grid), budget)
