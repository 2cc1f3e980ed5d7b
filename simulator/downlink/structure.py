"""Form the optimal linear precoder's structure in K x K matrices, and iterate WMMSE on its parameters.

For every point on the boundary of the rate region w_k ~ (I_N + sum_i lambda_i / sigma^2 h_i h_i^H)^-1 h_k with
sum_i lambda_i = P (Bjornson, Bengtsson and Ottersten 2014): the MMSE receiver of a virtual uplink in which user i
transmits with power lambda_i. By the push-through identity w_k is column k of H (I_K + Lambda G / sigma^2)^-1, so no
system larger than K x K is solved.

References
----------
* E. Bjornson, M. Bengtsson, B. Ottersten, "Optimal multiuser transmit beamforming", IEEE Signal Processing
  Magazine, 2014, eq. 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.downlink.sinr import effective_gains_and_beam_energy, sinr
from simulator.interruption import check_interrupt


def structured_coefficients(gram: Tensor, dual_power_fractions: Tensor) -> Tensor:
    """Compute C = (I + diag(mu) Gamma)^-1, for which the precoder's columns are those of H C.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).
    dual_power_fractions : Tensor
        mu = lambda / P >= 0, real (drops, users).

    Returns
    -------
    Tensor
        C, complex (drops, users, users).

    Notes
    -----
    I + diag(mu) Gamma has eigenvalues >= 1 for channels of any rank, so the solver's singularity flag is not read.
    """
    users = gram.shape[-1]
    identity = torch.eye(users, dtype=gram.dtype, device=gram.device)
    system = identity + dual_power_fractions.unsqueeze(-1) * gram
    coefficients: Tensor = torch.linalg.solve_ex(system, identity.expand_as(gram))[0]
    return coefficients


def mmse_filter_gains(gram: Tensor, coefficients: Tensor) -> Tensor:
    """Compute s_k = h_k^H (I + sum_i mu_i h_i h_i^H)^-1 h_k = [Gamma C]_kk, h_k in units of the noise.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).
    coefficients : Tensor
        C of mu, see `structured_coefficients`.

    Returns
    -------
    Tensor
        s, real (drops, users).
    """
    return (gram * coefficients.transpose(-1, -2)).sum(-1).real


@dataclass(frozen=True)
class Beams:
    """Hold beam directions of the optimal structure with their effective gains.

    Parameters
    ----------
    coefficients : Tensor
        C, complex (drops, users, users).
    effective_gains : Tensor
        F of the unit-norm beams, real (drops, users, users), see `sinr.effective_gain_matrix`.
    energy : Tensor
        ||H c_k||^2 P / sigma^2, real (drops, users).
    """

    coefficients: Tensor
    effective_gains: Tensor
    energy: Tensor


def structured_beams(gram: Tensor, dual_power_fractions: Tensor) -> Beams:
    """Compute the beams of `structured_coefficients` with their effective gains and energies.

    Parameters
    ----------
    gram, dual_power_fractions : Tensor
        As in `structured_coefficients`.

    Returns
    -------
    Beams
        Beams of every drop.
    """
    coefficients = structured_coefficients(gram, dual_power_fractions)
    return Beams(coefficients, *effective_gains_and_beam_energy(gram, coefficients))


def wmmse_step(
    gram: Tensor, beams: Beams, power_fractions: Tensor, weights: Tensor | None = None, together: int = 1
) -> tuple[Tensor, Beams, Tensor]:
    """Perform one iteration of WMMSE on (mu, q) = (lambda / P, P_k / P), at the cost of one K x K solve.

    With the power constraint folded into the noise term (Zhao et al. 2023), every iterate of WMMSE (Shi et al. 2011)
    has the optimal structure: receivers u_k and weights w_k = a_k (1 + SINR_k) give mu_k ~ w_k |u_k|^2, and
    v_k = u_k w_k (I + sum mu h h^H)^-1 h_k gives q_k ~ ||v_k||^2. The weighted sum rate sum_k a_k R_k never falls.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).
    beams : Beams
        Beams of the current mu.
    power_fractions : Tensor
        Current q, real (drops, users), of sum 1.
    weights : Tensor, optional
        a >= 0, real (drops or 1, users), of any scale; 1 by default.
    together : int
        Consecutive drops with one power for all of them: mu and q have the sum 1 over these.

    Returns
    -------
    dual_power_fractions : Tensor
        Next mu, real (drops, users), of sum 1.
    beams : Beams
        Its beams.
    power_fractions : Tensor
        Next q, real (drops, users), of sum 1.

    References
    ----------
    * Q. Shi, M. Razaviyayn, Z.-Q. Luo, C. He, "An iteratively weighted MMSE approach to distributed sum-utility
      maximization for a MIMO interfering broadcast channel", IEEE Transactions on Signal Processing, 2011.
    * X. Zhao, S. Lu, Q. Shi, Z.-Q. Luo, "Rethinking WMMSE: can its complexity scale linearly with the number of
      BS antennas?", IEEE Transactions on Signal Processing, 2023.
    """
    effective_gains = beams.effective_gains
    weight = 1 + sinr(effective_gains, power_fractions)
    if weights is not None:
        weight = weights * weight
    received = 1 + (effective_gains * power_fractions.unsqueeze(-2)).sum(-1)
    receiver = effective_gains.diagonal(dim1=-2, dim2=-1) * power_fractions / received**2
    dual = weight * receiver
    dual = dual / _total(dual, together)
    beams = structured_beams(gram, dual)
    primal = weight * weight * receiver * beams.energy
    return dual, beams, primal / _total(primal, together)


def _total(values: Tensor, together: int) -> Tensor:
    """Sum values over users and the drops that belong together, (drops, 1)."""
    total = values.sum(-1, keepdim=True)
    if together > 1:
        total = total.reshape(-1, together).sum(-1).repeat_interleave(together).unsqueeze(-1)
    # All weight on users without power would be 0/0; the floor leaves such a drop unchanged.
    return total.clamp(min=torch.finfo(values.dtype).tiny)


def wmmse_iterations(gram: Tensor, iterations: int) -> tuple[Tensor, Beams, Tensor]:
    """Perform WMMSE iterations from regularised zero forcing, mu = q = 1 / K.

    Parameters
    ----------
    gram : Tensor
        Gamma, complex (drops, users, users).
    iterations : int
        Number of iterations.

    Returns
    -------
    dual_power_fractions : Tensor
        mu = lambda / P, real (drops, users).
    beams : Beams
        Its beams.
    power_fractions : Tensor
        q = P_k / P, real (drops, users).
    """
    dual = power_fractions = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    beams = structured_beams(gram, dual)
    for _ in range(iterations):
        check_interrupt()
        dual, beams, power_fractions = wmmse_step(gram, beams, power_fractions)
    return dual, beams, power_fractions


def wmmse_power_fractions(gram: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Return the power fractions of `wmmse_iterations`.

    Parameters
    ----------
    gram, iterations
        As in `wmmse_iterations`.

    Returns
    -------
    dual_power_fractions, power_fractions : Tensor
        mu and q, real (drops, users).
    """
    dual, _, power_fractions = wmmse_iterations(gram, iterations)
    return dual, power_fractions
