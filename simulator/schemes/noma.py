"""Near-field non-orthogonal multiple access (NOMA)."""

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.candidates import Candidate, assemble
from simulator.downlink.constraints import TOLERANCE
from simulator.downlink.gram import compute_amplitude_scale, normalised_gram
from simulator.downlink.powers import project_power_fractions, water_filling
from simulator.downlink.precoding import ChannelBatch, Precoding, constrained_labels
from simulator.downlink.rounding import measure_gains
from simulator.downlink.sinr import rates
from simulator.interruption import check_interrupt
from simulator.schemes.options import Between
from simulator.schemes.registry import register
from simulator.schemes.superposition import (
    coherent_groups,
    decoding_ranks,
    gains_after_cancellation,
    guaranteed_power_fractions,
    same_group,
    sic_sinr,
)
from simulator.schemes.zf import zero_forcing_coefficients

# Moved powers may change the order of decoding, and with it the demands of C4.
_ROUNDS = 2


@register("noma", needs_sic=True)
def noma(batch: ChannelBatch, budget: LinkBudget, coherence: Annotated[float, Between(0, 1)] = 0.5) -> Precoding:
    """Serve groups of coherent users on shared zero-forcing beams, separated by power and SIC.

    A group contains users with |h_i^H h_j|^2 > `coherence` ||h_i||^2 ||h_j||^2 and shares one beam, by zero forcing
    between the groups' heads; rows of the precoder are equal within a group. Power is water-filled over the groups by
    their heads' gains, which gives a larger mean sum rate than equal powers, and divided within each by
    `superposition.guaranteed_power_fractions`.

    SINRs are those of `superposition.sic_sinr`. The messages of a group are decoded in the order of rising gain
    |h_k^H w|^2 / (sigma^2 + interference of other groups), at the powers returned. C4 is met by moving powers for the
    order found before; a drop counts as feasible if every user then has its rate. Powers moved by C3 or C4 no longer
    guarantee the rates of time sharing.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.
    coherence : float
        Squared coherence above which two users share a beam.

    Returns
    -------
    Precoding
        Precoding of every drop, with `needs_sic`.
    """
    gram = normalised_gram(batch.channels, budget)
    near_field = constrained_labels(batch, budget)
    head = coherent_groups(gram, coherence)
    coefficients = _shared_beams(gram, head)
    effective_gains = measure_gains(batch.channels, compute_amplitude_scale(budget, gram.device), coefficients)
    head_power_fractions = water_filling(effective_gains.diagonal(dim1=-2, dim2=-1) * _is_head(head))
    gain = _gains(effective_gains, head_power_fractions, head)
    target = guaranteed_power_fractions(head_power_fractions.gather(-1, head), gain, head)
    alpha_c, min_rate = per_drop(budget.alpha_c, gram), per_drop(budget.min_rate, gram)
    for _ in range(_ROUNDS):
        check_interrupt()
        remaining = gains_after_cancellation(effective_gains, head, decoding_ranks(gain))
        power_fractions, feasible = project_power_fractions(remaining, target, near_field, alpha_c, min_rate)
        gain = _gains(effective_gains, power_fractions, head)
    sinr = sic_sinr(effective_gains, power_fractions, head, decoding_ranks(gain))
    feasible = feasible & (rates(sinr) >= min_rate.unsqueeze(-1) - TOLERANCE / 10).all(-1)
    chosen = Candidate(coefficients, power_fractions, torch.full_like(power_fractions, torch.nan), sinr, feasible)
    return replace(assemble(batch, chosen, budget), needs_sic=True)


def _shared_beams(gram: Tensor, head: Tensor) -> Tensor:
    """Give every user the coefficients of its head, by zero forcing between the heads; see `Candidate`."""
    heads = _is_head(head)
    both = heads.unsqueeze(-1) & heads.unsqueeze(-2)
    others = torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1) * ~heads)
    inverse = zero_forcing_coefficients(torch.where(both, gram, others)) * both
    return inverse.gather(-1, head.unsqueeze(-2).expand_as(inverse))


def _gains(effective_gains: Tensor, power_fractions: Tensor, head: Tensor) -> Tensor:
    """Compute each user's SNR at full power with other groups' interference as noise, real (drops, users)."""
    outside = (effective_gains * power_fractions.unsqueeze(-2)).masked_fill(same_group(head), 0).sum(-1)
    return effective_gains.diagonal(dim1=-2, dim2=-1) / (1 + outside)


def _is_head(head: Tensor) -> Tensor:
    return head == torch.arange(head.shape[-1], device=head.device)
