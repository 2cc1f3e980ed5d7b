"""Group coherent users on shared beams, and allocate powers for successive interference cancellation (SIC).

Users of a group share one beam. A receiver decodes the messages of the group's weaker users first, the weakest to begin
with, and subtracts each from the received signal; a message that it cannot decode remains. Messages of stronger users
and of other groups are noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude
from simulator.interruption import check_interrupt

# Gains this close count as equal: rounding must not decide which user heads a group.
_EQUAL_GAIN_DB = 0.1


def coherent_groups(gram: Tensor, coherence: float) -> Tensor:
    """Assign users to groups of coherent channels.

    The strongest user without a group heads the next one and takes in all others without one for which
    |h_i^H h_j|^2 > `coherence` ||h_i||^2 ||h_j||^2. Of users of equal strength the one most coherent with the others
    is the head.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users), see `gram.normalised_gram`.
    coherence : float
        Squared coherence above which users share a group.

    Returns
    -------
    Tensor
        Index of the head of each user's group, int64 (drops, users).
    """
    users = gram.shape[-1]
    gain = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-300)
    amplitude = torch.sqrt(gain)
    coherences = squared_magnitude(gram / (amplitude.unsqueeze(-1) * amplitude.unsqueeze(-2)))
    level = torch.round(10 * torch.log10(gain / gain.amax(-1, keepdim=True)) / _EQUAL_GAIN_DB)
    priority = level + coherences.sum(-1) / (2 * users)  # the second term is below one step of the first
    number = torch.arange(users, device=gram.device)
    head = torch.full(gain.shape, -1, dtype=torch.int64, device=gram.device)
    for _ in range(users):
        check_interrupt()
        free = head < 0
        chosen = torch.where(free, priority, -torch.inf).argmax(-1, keepdim=True)
        coherent = coherences.gather(-2, chosen.unsqueeze(-1).expand(-1, 1, users)).squeeze(-2) > coherence
        head = torch.where(free & (coherent | (number == chosen)), chosen, head)
    return head


def same_group(head: Tensor) -> Tensor:
    """Mark the pairs of users that share a group.

    Parameters
    ----------
    head : Tensor
        Heads, see `coherent_groups`.

    Returns
    -------
    Tensor
        bool (drops, users, users).
    """
    return head.unsqueeze(-1) == head.unsqueeze(-2)


def decoding_ranks(gain: Tensor) -> Tensor:
    """Rank the users of each drop by rising gain, 0 for the weakest.

    Users of equal gain keep their order: one of them has to be decoded first.

    Parameters
    ----------
    gain : Tensor
        Gains, real (drops, users).

    Returns
    -------
    Tensor
        Ranks, int64 (drops, users).
    """
    return gain.argsort(dim=-1, stable=True).argsort(-1)


def guaranteed_power_fractions(group_power_fractions: Tensor, gain: Tensor, head: Tensor) -> Tensor:
    """Divide each group's power so that every weaker user has its time-sharing rate, and the strongest the rest.

    The general power allocation of Yang et al. (2016). In a group of M users with power Q, user m alone on the beam for
    1/M of the time has the rate log2(1 + Q g_m) / M. From the weakest user on, with q left before user m and q' after
    it, its SIC rate log2((1 + q g_m) / (1 + q' g_m)) equals that for

        q' = ((1 + q g_m) / (1 + Q g_m)^(1/M) - 1) / g_m.

    ((1 + Q g)^a - 1) / g falls with g for a < 1; so by induction q' >= ((1 + Q g_m)^(1 - m/M) - 1) / g_m >= 0 after the
    m-th weakest, and the strongest user, too, has at least its time-sharing rate: q >= ((1 + Q g_M)^(1/M) - 1) / g_M.

    Parameters
    ----------
    group_power_fractions : Tensor
        Q / P of each user's group, real (drops, users).
    gain : Tensor
        g, SNR at full power P with other groups' interference as noise, real (drops, users).
    head : Tensor
        Heads, see `coherent_groups`.

    Returns
    -------
    Tensor
        q = P_k / P, real (drops, users).

    References
    ----------
    * Z. Yang, Z. Ding, P. Fan, N. Al-Dhahir, "A general power allocation scheme to guarantee quality of service in
      downlink and uplink NOMA systems", IEEE Transactions on Wireless Communications, 2016.
    """
    same = same_group(head)
    size = same.sum(-1)
    floor = gain.clamp(min=1e-200)
    order = gain.argsort(dim=-1, stable=True)
    remaining, power_fractions = group_power_fractions, torch.zeros_like(group_power_fractions)
    unassigned = size
    for index in range(gain.shape[-1]):
        user = order[..., index : index + 1]
        before, total = remaining.gather(-1, user), group_power_fractions.gather(-1, user)
        own, members = floor.gather(-1, user), size.gather(-1, user)
        rest = torch.expm1(torch.log1p(before * own) - torch.log1p(total * own) / members) / own
        rest = torch.where(unassigned.gather(-1, user) > 1, torch.minimum(rest.clamp(min=0), before), 0.0)
        power_fractions = power_fractions.scatter(-1, user, before - rest)
        in_group = same.gather(-2, user.unsqueeze(-1).expand_as(same[:, :1])).squeeze(-2)
        remaining, unassigned = torch.where(in_group, rest, remaining), unassigned - in_group.long()
    return power_fractions


def gains_after_cancellation(effective_gains: Tensor, head: Tensor, rank: Tensor) -> Tensor:
    """Set to zero the effective gains of messages that a user cancels: those of the weaker users of its group.

    Parameters
    ----------
    effective_gains : Tensor
        F, real (drops, users, users), see `sinr.effective_gain_matrix`.
    head : Tensor
        Heads, see `coherent_groups`.
    rank : Tensor
        Ranks, see `decoding_ranks`.

    Returns
    -------
    Tensor
        Remaining F, real (drops, users, users).
    """
    cancelled = same_group(head) & (rank.unsqueeze(-1) > rank.unsqueeze(-2))
    return effective_gains.masked_fill(cancelled, 0)


def sic_sinr(effective_gains: Tensor, power_fractions: Tensor, head: Tensor, rank: Tensor) -> Tensor:
    """Compute the SINR at which a message is decodable by all users that have to decode it.

    These are its user and the stronger users of its group. User m receives message i of its group at
    F_mi q_i / (1 + sum over other groups F_mj q_j + sum over stronger j of the group F_mj q_j), j stronger than i; the
    least value over m counts.

    Parameters
    ----------
    effective_gains, head, rank : Tensor
        As in `gains_after_cancellation`.
    power_fractions : Tensor
        q = P_k / P, real (drops, users).

    Returns
    -------
    Tensor
        SINRs, linear, real (drops, users).
    """
    same = same_group(head)
    received = effective_gains * power_fractions.unsqueeze(-2)
    outside = received.masked_fill(same, 0).sum(-1, keepdim=True)
    inside = received.masked_fill(~same, 0)
    stronger = rank.unsqueeze(-1) > rank.unsqueeze(-2)
    sinrs = inside / (1 + outside + inside @ stronger.to(inside.dtype))  # (decoder, message)
    decodes = same & (rank.unsqueeze(-1) >= rank.unsqueeze(-2))
    return sinrs.masked_fill(~decodes, torch.inf).amin(-2)
