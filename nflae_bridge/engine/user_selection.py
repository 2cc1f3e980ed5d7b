"""Select users to serve in overloaded cells, those with as many users as antennas or more.

At most N users can be separated there, and which ones decides the sum rate more than their powers do. A set grows
greedily by the user that adds most to the sum rate of the virtual uplink with MMSE receivers and equal powers,
sum_k -log2 [(I + Gamma_S / |S|)^-1]_kk, which the downlink reaches as well by duality. Sets are grown from each of the
strongest users; of all sets on the way, the one of the largest sum rate is taken.

References
----------
* G. Dimic, N. D. Sidiropoulos, "On downlink beamforming with greedy user selection: performance analysis and a simple
  new algorithm", IEEE Transactions on Signal Processing, 2005: the same with zero forcing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude

STARTS = 4
"""Strongest users from which a set is grown; the first user is what a greedy search cannot correct."""
MOST_SELECTED = 32
"""Users in a set at most: the time grows with the fourth power of their number."""


def is_overloaded(users: int, antennas: int) -> bool:
    """Return whether users are to be selected: there are several, and no fewer than antennas.

    Parameters
    ----------
    users, antennas
        K and N.

    Returns
    -------
    bool
    """
    return users >= max(2, antennas)


def select_users(gram: Tensor, antennas: int) -> Tensor:
    """Select a set of users, and divide the power equally among them.

    Parameters
    ----------
    gram
        Gamma, complex128 (drops, users, users).
    antennas
        Number of antennas.

    Returns
    -------
    Tensor
        P_k / P, float64 (drops, users), 0 for users outside of the set.
    """
    drops, users, _ = gram.shape
    strength = gram.diagonal(dim1=-2, dim2=-1).real
    starts = strength.topk(min(users, STARTS), -1).indices
    order, sum_rates = _grow(
        gram.repeat_interleave(starts.shape[1], 0),
        strength.repeat_interleave(starts.shape[1], 0),
        starts.reshape(-1, 1),
        min(users, antennas, MOST_SELECTED),
    )
    best = sum_rates.reshape(drops, -1).argmax(-1, keepdim=True)
    most = order.shape[-1]
    chosen = order.reshape(drops, -1, most).gather(1, (best // most).unsqueeze(-1).expand(-1, -1, most)).squeeze(1)
    within = torch.arange(most, device=gram.device) <= best % most
    member = chosen.unsqueeze(-1) == torch.arange(users, device=gram.device)
    selected = (member & within.unsqueeze(-1)).any(-2).double()
    return selected / selected.sum(-1, keepdim=True)


def _grow(gram: Tensor, strength: Tensor, start: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return users in the order in which a set grows from a user, and the sum rates on the way, (drops, most)."""
    order, sum_rates = start, torch.log2(1 + strength.gather(-1, start))
    for count in range(2, most + 1):
        rate = _uplink_sum_rates(gram, strength, order, count).scatter(-1, order, -torch.inf)
        best, user = rate.nan_to_num(-torch.inf, -torch.inf).max(-1, keepdim=True)
        order, sum_rates = torch.cat([order, user], -1), torch.cat([sum_rates, best], -1)
    return order, sum_rates


def _uplink_sum_rates(gram: Tensor, strength: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Return the sum rate of the chosen users and one more, of power 1 / count each, for each user that may be added.

    By the Schur complement, with A = (count I + Gamma_S)^-1, x = A g_k and s = count + ||h_k||^2 - g_k^H x, the mean
    squared errors are count / s for user k, and count (A_ii + |x_i|^2 / s) for the others.

    Parameters
    ----------
    gram, strength
        Gamma, complex128 (drops, users, users), and its diagonal.
    chosen
        Indices of count - 1 users, int64 (drops, count - 1).
    count
        Number of users.

    Returns
    -------
    Tensor
        Float64 (drops, users).
    """
    rows = gram.gather(-2, chosen.unsqueeze(-1).expand(-1, -1, gram.shape[-1]))
    inner = rows.gather(-1, chosen.unsqueeze(-2).expand(-1, count - 1, -1))
    identity = torch.eye(count - 1, dtype=gram.dtype, device=gram.device)
    solved = torch.linalg.solve_ex(count * identity + inner, torch.cat([identity.expand_as(inner), rows], -1))[0]
    inverse, filtered = solved[..., : count - 1], solved[..., count - 1 :]
    schur = count + strength - (rows.conj() * filtered).sum(-2).real
    errors = inverse.diagonal(dim1=-2, dim2=-1).real.unsqueeze(-1) + squared_magnitude(filtered) / schur.unsqueeze(-2)
    return -torch.log2(count * errors).sum(-2) - torch.log2(count / schur)
