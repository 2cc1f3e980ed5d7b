"""Power-domain superposition on a shared beam: groups of coherent users, SIC, and the powers that leave nobody worse.

Users of a group share one beam. A receiver decodes the messages of the group's weaker users first, the weakest to begin
with, and takes each off what it received (successive interference cancellation, SIC); what it can't decode it can't
take off. Messages of stronger users and of other groups are noise to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude

# Gains this close count as equal: rounding must not decide who heads a group.
_ALIKE_DB = 0.1


def coherent_groups(gram: Tensor, coherence: float) -> Tensor:
    """The head of each user's group, as the head's number; int64 (drops, users).

    The strongest user not in a group yet heads the next and takes in all others not in one with
    |h_i^H h_j|^2 > ``coherence`` ||h_i||^2 ||h_j||^2. Of users alike in strength the one most coherent with the others
    heads.

    gram: Gamma, complex (drops, users, users), see `gram.normalised_gram`.
    """
    users = gram.shape[-1]
    gain = gram.diagonal(dim1=-2, dim2=-1).real.clamp(min=1e-300)
    amplitude = torch.sqrt(gain)
    alike = squared_magnitude(gram / (amplitude.unsqueeze(-1) * amplitude.unsqueeze(-2)))
    level = torch.round(10 * torch.log10(gain / gain.amax(-1, keepdim=True)) / _ALIKE_DB)
    standing = level + alike.sum(-1) / (2 * users)  # the second is below one step of the first
    number = torch.arange(users, device=gram.device)
    head = torch.full(gain.shape, -1, dtype=torch.int64, device=gram.device)
    for _ in range(users):
        free = head < 0
        chosen = torch.where(free, standing, -torch.inf).argmax(-1, keepdim=True)
        coherent = alike.gather(-2, chosen.unsqueeze(-1).expand(-1, 1, users)).squeeze(-2) > coherence
        head = torch.where(free & (coherent | (number == chosen)), chosen, head)
    return head


def same_group(head: Tensor) -> Tensor:
    """Whether users i and j share a group; bool (drops, users, users)."""
    return head.unsqueeze(-1) == head.unsqueeze(-2)


def ranks(gain: Tensor) -> Tensor:
    """Each user's place in the drop's order of rising gain, 0 the weakest; int64, the shape of ``gain``.

    Users of equal gain keep the order they are in: one of them has to decode first.
    """
    return gain.argsort(dim=-1, stable=True).argsort(-1)


def guaranteed_power_fractions(group_power_fractions: Tensor, gain: Tensor, head: Tensor) -> Tensor:
    """Split each group's power so that every weaker user gets what time sharing would give it, the strongest the rest.

    The general power allocation of Yang, Ding, Fan, Al-Dhahir (IEEE TWC 2016). In a group of M users with power Q,
    user m alone on the beam for 1/M of the time has log2(1 + Q g_m) / M. From the weakest user on, with q left before
    user m and q' after it, its SIC rate log2((1 + q g_m) / (1 + q' g_m)) is just that where

        q' = ((1 + q g_m) / (1 + Q g_m)^(1/M) - 1) / g_m.

    ((1 + Q g)^a - 1) / g falls with g for a < 1; so by induction q' >= ((1 + Q g_m)^(1 - m/M) - 1) / g_m >= 0 after the
    m-th weakest, and the strongest, too, has at least its share of time: q >= ((1 + Q g_M)^(1/M) - 1) / g_M.

    group_shares: Q / P of each user's group, real (drops, users); gain: g, SNR at full power P with what other groups
    cause counted as noise, real (drops, users); head: see `coherent_groups`. Returns real (drops, users).
    """
    same = same_group(head)
    size = same.sum(-1)
    floor = gain.clamp(min=1e-200)
    order = gain.argsort(dim=-1, stable=True)
    left, power_fractions = group_power_fractions, torch.zeros_like(group_power_fractions)
    waiting = size
    for place in range(gain.shape[-1]):
        user = order[..., place : place + 1]
        here, whole = left.gather(-1, user), group_power_fractions.gather(-1, user)
        own, members = floor.gather(-1, user), size.gather(-1, user)
        rest = torch.expm1(torch.log1p(here * own) - torch.log1p(whole * own) / members) / own
        rest = torch.where(waiting.gather(-1, user) > 1, torch.minimum(rest.clamp(min=0), here), 0.0)
        power_fractions = power_fractions.scatter(-1, user, here - rest)
        mine = same.gather(-2, user.unsqueeze(-1).expand_as(same[:, :1])).squeeze(-2)
        left, waiting = torch.where(mine, rest, left), waiting - mine.long()
    return power_fractions


def after_cancellation(effective_gains: Tensor, head: Tensor, rank: Tensor) -> Tensor:
    """The couplings left once every user has cancelled the weaker users of its group.

    couplings: F, real (drops, users, users), see `sinr.effective_gain_matrix`; head, rank: see `coherent_groups`, `ranks`.
    """
    cancelled = same_group(head) & (rank.unsqueeze(-1) > rank.unsqueeze(-2))
    return effective_gains.masked_fill(cancelled, 0)


def sic_sinr(effective_gains: Tensor, power_fractions: Tensor, head: Tensor, rank: Tensor) -> Tensor:
    """The SINR at which all who must decode a user's message can: itself and the stronger users of its group.

    User m sees message i at F_mi q_i / (1 + sum over other groups F_mj q_j + sum over stronger j F_mj q_j), j stronger
    than i and of its group; the least over m counts.

    Shapes as in `after_cancellation`; shares: q, real (drops, users). Returns linear (drops, users).
    """
    same = same_group(head)
    received = effective_gains * power_fractions.unsqueeze(-2)
    outside = received.masked_fill(same, 0).sum(-1, keepdim=True)
    inside = received.masked_fill(~same, 0)
    stronger = rank.unsqueeze(-1) > rank.unsqueeze(-2)
    seen = inside / (1 + outside + inside @ stronger.to(inside.dtype))  # (decoder, message)
    decodes = same & (rank.unsqueeze(-1) >= rank.unsqueeze(-2))
    return seen.masked_fill(~decodes, torch.inf).amin(-2)
