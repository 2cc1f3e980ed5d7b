"""Maximise the weakest user's SINR, for drops on which the minimum rates are hard to reach."""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.candidates import Candidate, make_candidate
from simulator.downlink.powers import minimum_power_fractions
from simulator.downlink.sinr import effective_gain_matrix, required_sinr
from simulator.downlink.structure import mmse_filter_gains, structured_coefficients
from simulator.interruption import check_interrupt

# Near-field users' lambda relative to the others', tried in turn beside the max-min lambda: the larger a user's lambda,
# the less interference the others' beams cause to it.
_NEAR_FAR_WEIGHTS = (0.3, 3.0, 0.1, 10.0, 0.03, 30.0)


def max_min_dual_powers(gram: Tensor, iterations: int = 20) -> Tensor:
    """Compute lambda / P of the directions that maximise the smallest SINR, with powers chosen for that.

    In the virtual uplink with MMSE receivers all SINRs are equal where lambda_k s_k is, with
    s_k = h_k^H (I + sum_i lambda_i h_i h_i^H)^-1 h_k; hence the fixed point lambda_k ~ 1 / s_k, sum lambda = P
    (Schubert and Boche 2004). By duality the downlink reaches the same SINRs with the same total power: if no powers
    over these directions give every user some rate under C1 alone, no precoder does.

    SINR_k = lambda_k d_k, with d_k the same expression without user k in the sum, so lambda_k ~ 1 / d_k has the same
    solution. That iteration is exact at once for orthogonal users, where the first converges slowly, and oscillates
    without end between two parallel users, where the first is exact at once: the two alternate.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).
    iterations : int
        Number of fixed-point iterations.

    Returns
    -------
    Tensor
        lambda / P, real (drops, users), of sum 1.

    References
    ----------
    * M. Schubert, H. Boche, "Solution of the multiuser downlink beamforming problem with individual SINR
      constraints", IEEE Transactions on Vehicular Technology, 2004.
    """
    dual = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    tiny = torch.finfo(dual.dtype).tiny
    for iteration in range(iterations):
        check_interrupt()
        coefficients = structured_coefficients(gram, dual)
        inverse_gain = 1 / mmse_filter_gains(gram, coefficients).clamp(min=tiny)
        if iteration % 2 == 0:  # the diagonal of the coefficients is 1 - lambda_k s_k = s_k / d_k
            inverse_gain = inverse_gain * coefficients.diagonal(dim1=-2, dim2=-1).real.clamp(min=tiny)
        dual = inverse_gain / inverse_gain.sum(-1, keepdim=True)
    return dual


def max_min_candidate(
    gram: Tensor, target_power_fractions: Tensor, near_field: Tensor, budget: LinkBudget
) -> Candidate:
    """Compute the best candidate over max-min directions, and under C3 over weighted ones too.

    For drops on which no other directions meet C4. With C1 alone the candidate is feasible wherever any precoder is;
    under C3, near-field and other users' lambda are weighted against each other by `_NEAR_FAR_WEIGHTS` in turn.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).
    target_power_fractions : Tensor
        Target q, real (drops, users).
    near_field : Tensor
        Near-field labels, bool (drops, users).
    budget : LinkBudget
        Link budget.

    Returns
    -------
    Candidate
        Best candidate of every drop.
    """
    max_min = max_min_dual_powers(gram)
    best = make_candidate(
        gram, structured_coefficients(gram, max_min), target_power_fractions, near_field, budget, max_min
    )
    least, reachable = minimum_power_fractions(
        effective_gain_matrix(gram, best.coefficients), required_sinr(per_drop(budget.min_rate, max_min))
    )
    limited = reachable & (least.sum(-1) <= 1) & (per_drop(budget.alpha_c, max_min) < 1)
    if not bool(limited.any()):
        return best
    gram, target_power_fractions, near_field = gram[limited], target_power_fractions[limited], near_field[limited]
    max_min, budget, leading = max_min[limited], budget.select(limited), best.select(limited)
    for weight in _NEAR_FAR_WEIGHTS:
        check_interrupt()
        weighted = max_min * torch.where(near_field, weight, 1.0)
        weighted = weighted / weighted.sum(-1, keepdim=True)
        other = make_candidate(
            gram, structured_coefficients(gram, weighted), target_power_fractions, near_field, budget, weighted
        )
        leading, _ = leading.better_of(other)
    return best.replaced(limited, leading)
