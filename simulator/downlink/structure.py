"""The optimal linear precoder's structure, in K x K matrices.

For every point on the rate region's boundary w_k ~ (I_N + sum_i lambda_i / sigma^2 h_i h_i^H)^-1 h_k with
sum_i lambda_i = P (Bjornson, Bengtsson, Ottersten, IEEE SPM 2014, eq. 10): an MMSE receiver for a virtual uplink in
which user i sends with power lambda_i. By the push-through identity w_k is column k of
H (I_K + Lambda G / sigma^2)^-1, so nothing larger than K x K is ever solved.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.sinr import effective_gains_and_beam_energy, sinr


def structured_coefficients(gram: Tensor, dual_power_fractions: Tensor) -> Tensor:
    """C = (I + diag(mu) Gamma)^-1, so that the precoder's columns are those of H C.

    gram: Gamma, complex (drops, users, users); uplink_shares: mu = lambda / P >= 0, real (drops, users).
    Returns complex (drops, users, users). I + diag(mu) Gamma has eigenvalues >= 1 whatever the channels' rank.
    """
    users = gram.shape[-1]
    identity = torch.eye(users, dtype=gram.dtype, device=gram.device)
    system = identity + dual_power_fractions.unsqueeze(-1) * gram
    coefficients: Tensor = torch.linalg.solve_ex(system, identity.expand_as(gram))[0]  # never singular: not asked
    return coefficients


@dataclass(frozen=True)
class Beams:
    """Directions of the optimal structure, ready to be judged.

    coefficients: C, complex (drops, users, users). couplings: F, energy: ||H c_k||^2 P / sigma^2; real (drops, users,
    users) and (drops, users).
    """

    coefficients: Tensor
    effective_gains: Tensor
    energy: Tensor


def structured_beams(gram: Tensor, dual_power_fractions: Tensor) -> Beams:
    """The beams of `structured_coefficients`, with what they couple into whom."""
    coefficients = structured_coefficients(gram, dual_power_fractions)
    return Beams(coefficients, *effective_gains_and_beam_energy(gram, coefficients))


def wmmse_step(gram: Tensor, beams: Beams, power_fractions: Tensor) -> tuple[Tensor, Beams, Tensor]:
    """One iteration of WMMSE (Shi et al., IEEE TSP 2011) on (mu, q) = (lambda / P, P_k / P).

    With the power constraint folded into the noise term (Zhao et al., IEEE TSP 2023), every iterate has the optimal
    structure: receivers u_k and weights w_k = 1 + SINR_k give mu_k ~ w_k |u_k|^2, and
    v_k = u_k w_k (I + sum mu h h^H)^-1 h_k gives q_k ~ ||v_k||^2. The sum rate never falls.

    gram as in `structured_coefficients`; beams: of the current mu; shares: q, real (drops, users), summing to 1.
    Returns the next (uplink_shares, beams, shares); a step costs one K x K solve.
    """
    effective_gains = beams.effective_gains
    weight = 1 + sinr(effective_gains, power_fractions)
    received = 1 + (effective_gains * power_fractions.unsqueeze(-2)).sum(-1)
    receiver = effective_gains.diagonal(dim1=-2, dim2=-1) * power_fractions / received**2
    uplink = weight * receiver
    # All weight on users without power would be 0/0; the floor keeps such a drop where it is.
    uplink = uplink / uplink.sum(-1, keepdim=True).clamp(min=torch.finfo(uplink.dtype).tiny)
    beams = structured_beams(gram, uplink)
    share = weight * weight * receiver * beams.energy
    return uplink, beams, share / share.sum(-1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)


def wmmse_power_fractions(gram: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """(lambda / P, P_k / P) after ``iterations`` steps from regularised zero forcing; real (drops, users) each."""
    uplink, _, power_fractions = wmmse_iterations(gram, iterations)
    return uplink, power_fractions


def wmmse_iterations(gram: Tensor, iterations: int) -> tuple[Tensor, Beams, Tensor]:
    uplink = power_fractions = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    beams = structured_beams(gram, uplink)
    for _ in range(iterations):
        uplink, beams, power_fractions = wmmse_step(gram, beams, power_fractions)
    return uplink, beams, power_fractions
