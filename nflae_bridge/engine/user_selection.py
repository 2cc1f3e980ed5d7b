"""Select users to serve in overloaded cells, those with as many users as antennas or more.

At most N users can be separated there, and which ones decides the sum rate more than their powers do. A set grows
greedily by the user that adds most to the sum rate of the virtual uplink with MMSE receivers and equal powers,
sum_k -log2 [(I + Gamma_S / |S|)^-1]_kk, which the downlink reaches as well by duality. Of all sets on the way, the one
of the largest sum rate is taken. A second set starts from the strongest user outside of the first.

References
----------
* G. Dimic, N. D. Sidiropoulos, "On downlink beamforming with greedy user selection: performance analysis and a simple
  new algorithm", IEEE Transactions on Signal Processing, 2005: the same with zero forcing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.gram import squared_magnitude

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


def select_users(gram: Tensor, antennas: int) -> tuple[Tensor, Tensor]:
    """Select two sets of users, and divide the power equally among the users of each.

    Parameters
    ----------
    gram
        Gamma, complex128 (drops, users, users).
    antennas
        Number of antennas.

    Returns
    -------
    first, second : Tensor
        P_k / P, float64 (drops, users), 0 for users outside of the set.
    """
    strength = gram.diagonal(dim1=-2, dim2=-1).real
    most = min(gram.shape[-1], antennas, MOST_SELECTED)
    first = _grow(gram, strength, strength.argmax(-1), most)
    outside = strength - first * (strength.amax(-1, keepdim=True) + 1)
    second = _grow(gram, strength, outside.argmax(-1), most)
    return first / first.sum(-1, keepdim=True), second / second.sum(-1, keepdim=True)


def _grow(gram: Tensor, strength: Tensor, start: Tensor, most: int) -> Tensor:
    """Return the set of the largest sum rate among those grown from a user, 0 or 1, float64 (drops, users)."""
    order = start.unsqueeze(-1)
    sum_rates = torch.log2(1 + strength.gather(-1, order))
    for count in range(2, most + 1):
        rate = _uplink_sum_rates(gram, strength, order, count).scatter(-1, order, -torch.inf)
        best, user = rate.nan_to_num(-torch.inf, -torch.inf).max(-1, keepdim=True)
        order, sum_rates = torch.cat([order, user], -1), torch.cat([sum_rates, best], -1)
    size = sum_rates.argmax(-1, keepdim=True)
    within = torch.arange(most, device=gram.device) <= size
    users = torch.arange(gram.shape[-1], device=gram.device)
    return ((order.unsqueeze(-1) == users) & within.unsqueeze(-1)).any(-2).double()


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
