"""Directions for drops on which the minimum rates are hard to reach: the weakest user's SINR as large as it can be."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.candidates import Candidate, make_candidate
from simulator.downlink.powers import minimum_power_fractions
from simulator.downlink.sinr import effective_gain_matrix
from simulator.downlink.structure import structured_coefficients

# Near-field users' lambda against the others', in turn, beside the balanced one: the more a user has, the more the
# others' beams spare it.
_NEAR_FAR_WEIGHTS = (0.3, 3.0, 0.1, 10.0, 0.03, 30.0)


def max_min_dual_powers(gram: Tensor, iterations: int = 20) -> Tensor:
    """Lambda / P of the directions over which the worst user's SINR is largest, when powers are chosen for that.

    In the virtual uplink with MMSE receivers all SINRs are equal where lambda_k s_k is, with
    s_k = h_k^H (I + sum_i lambda_i h_i h_i^H)^-1 h_k; hence the fixed point lambda_k ~ 1 / s_k, sum lambda = P
    (Schubert and Boche, IEEE TVT 2004). By duality the downlink reaches the same SINRs with the same total power: if
    these directions can't give everyone some rate under C1 alone, none can.

    SINR_k = lambda_k d_k, d_k the same without user k in the sum, so lambda_k ~ 1 / d_k has the same solution. That is
    exact at once for orthogonal users, where the other crawls, and swings for ever between two parallel ones, where the
    other is exact at once: they take turns.

    gram: Gamma, complex (drops, users, users). Returns real (drops, users), summing to 1.
    """
    uplink = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    tiny = torch.finfo(uplink.dtype).tiny
    for iteration in range(iterations):
        coefficients = structured_coefficients(gram, uplink)
        wanted = 1 / (gram @ coefficients).diagonal(dim1=-2, dim2=-1).real.clamp(min=tiny)
        if iteration % 2 == 0:  # 1 - lambda_k s_k = s_k / d_k is what the coefficients have on their diagonal
            wanted = wanted * coefficients.diagonal(dim1=-2, dim2=-1).real.clamp(min=tiny)
        uplink = wanted / wanted.sum(-1, keepdim=True)
    return uplink


def max_min_candidate(
    gram: Tensor, target_power_fractions: Tensor, near_field: Tensor, budget: LinkBudget
) -> Candidate:
    """The best answer over balanced directions; under C3 also over those that favour near-field users or the others.

    For drops that no other directions served. With C1 alone it is feasible wherever any precoder is; how far lambda has
    to lean under C3 is found by trying.

    Shapes as in `precoding.make_candidate`.
    """
    max_min = max_min_dual_powers(gram)
    best = make_candidate(
        gram, structured_coefficients(gram, max_min), target_power_fractions, near_field, budget, max_min
    )
    least, reachable = minimum_power_fractions(
        effective_gain_matrix(gram, best.coefficients), torch.exp2(per_drop(budget.min_rate, max_min)) - 1
    )
    limited = reachable & (least.sum(-1) <= 1) & (per_drop(budget.alpha_c, max_min) < 1)
    if not bool(limited.any()):
        return best
    gram, target_power_fractions, near_field = gram[limited], target_power_fractions[limited], near_field[limited]
    max_min, budget, leading = max_min[limited], budget.select(limited), best.select(limited)
    for tilt in _NEAR_FAR_WEIGHTS:
        leaning = max_min * torch.where(near_field, tilt, 1.0)
        leaning = leaning / leaning.sum(-1, keepdim=True)
        other = make_candidate(
            gram, structured_coefficients(gram, leaning), target_power_fractions, near_field, budget, leaning
        )
        leading, _ = leading.better_of(other)
    return best.replaced(limited, leading)
