"""A WMMSE without inverses, the rival made for GPUs: accelerated gradient steps, a K x K product each.

It follows the idea of A-MMMSE (Gao, Wang, Zhang, Duan, Jiang, "An Accelerated Mixed Weighted-Unweighted MMSE Approach
for MU-MIMO Beamforming", arXiv 2510.20507): receivers and weights in closed form as in WMMSE, and in place of the
solve for the precoder one gradient step, products only. It is no transcript of that paper: only its abstract was at
hand, so step size, extrapolation and start below are ours. Its warm start, steps on the unweighted sum of MSEs first,
is left out: on our drops every such step was worth less than one of the weighted kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

_TINY = float(np.finfo(np.float32).tiny)


def gradient_coefficients(gram: Any, identity: Any, iterations: int) -> Any:
    """X of the precoder V = H X after ``iterations`` steps from matched filters with equal powers.

    With S = Gamma X, e = Re tr(X^H S) (the power constraint folded into the noise) and what is received,
    r_k = e + sum_j |S_kj|^2, receivers and weights are u_k = S_kk / r_k and w_k = r_k / (r_k - |S_kk|^2) = 1 + SINR_k.
    The weighted sum of MSEs has the gradient H D,

        D = diag(mu) S + beta X - diag(u w),    mu_k = w_k |u_k|^2,  beta = sum_k mu_k,

    and no curvature above L = beta + max_k mu_k sum_j |Gamma_kj| (row sums bound an eigenvalue). A step goes by -D / L
    from X + k / (k + 3) (X - X_before), Nesterov's extrapolation; without it the sum rate would never fall, with it it
    gets there in far fewer steps. The scale of X means nothing.

    gram: Gamma, (..., users, users), complex; a tensor or a NumPy array, as ``identity``, the unit matrix.
    """
    users = gram.shape[-1]
    magnitudes = abs(gram)
    reach = magnitudes.sum(-1)
    own = magnitudes.diagonal(0, -2, -1)
    coefficients = before = identity * ((own + _TINY) ** -0.5)[..., None]
    for step in range(iterations):
        ahead = coefficients + (step / (step + 3)) * (coefficients - before)
        seen = gram @ ahead
        energy = (ahead.real * seen.real + ahead.imag * seen.imag).sum(-1).sum(-1)
        received = (seen.real**2 + seen.imag**2).sum(-1) + energy[..., None]
        signal = seen.diagonal(0, -2, -1)
        power = signal.real**2 + signal.imag**2
        weight = received / (received - power)
        uplink = weight * power / received**2
        noise = uplink.sum(-1)
        curvature = noise + _largest(uplink * reach)
        before, coefficients = coefficients, ahead * (1 - noise / curvature)[..., None, None]
        coefficients -= (uplink / curvature[..., None])[..., None] * seen
        diagonal = coefficients.reshape(*coefficients.shape[:-2], users * users)[..., :: users + 1]
        diagonal += weight * signal / (received * curvature[..., None])
    return coefficients


def _largest(values: Any) -> Any:
    return values.amax(-1) if isinstance(values, Tensor) else values.max(-1)
