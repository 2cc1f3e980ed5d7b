"""A WMMSE without inverses, the rival made for GPUs: accelerated gradient steps, a K x K product each.

It follows the idea of A-MMMSE (Gao, Wang, Zhang, Duan, Xue, "An Accelerated Mixed Weighted-Unweighted MMSE Approach
for MU-MIMO Beamforming", arXiv 2510.20507): receivers and weights in closed form as in WMMSE, in place of the solve for
the precoder one gradient step, products only, and first some steps on the unweighted sum of MSEs. It is no transcript
of that paper: only its abstract was at hand, so step size, extrapolation and start below are ours, and how many steps
are unweighted is chosen on the very drops it competes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TINY = float(np.finfo(np.float32).tiny)
_WARM_STARTS = (0, 1, 2, 5, 10, 20)


def gradient_coefficients(gram: Any, identity: Any, iterations: int, unweighted: int = 0) -> Any:
    """X of the precoder V = H X after ``iterations`` steps from matched filters, the first few ``unweighted``: w_k = 1.

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
        weight = received / (received - power) if step >= unweighted else 1
        uplink = weight * power / received**2
        noise = uplink.sum(-1)
        curvature = noise + _largest(uplink * reach)
        before, coefficients = coefficients, ahead * (1 - noise / curvature)[..., None, None]
        coefficients -= (uplink / curvature[..., None])[..., None] * seen
        diagonal = coefficients.reshape(*coefficients.shape[:-2], users * users)[..., :: users + 1]
        diagonal += weight * signal / (received * curvature[..., None])
    return coefficients


def warm_starts(gram: Tensor, iterations: Sequence[int]) -> dict[int, int]:
    """How many unweighted steps give the largest sum rate on these drops, for each number of iterations.

    gram: Gamma, complex (drops, users, users).
    """
    gram = gram.to(torch.complex128)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)

    def sum_rate(steps: int, unweighted: int) -> float:
        coefficients = gradient_coefficients(gram, identity, steps, unweighted)
        seen = gram @ coefficients
        energy = (coefficients.conj() * seen).real.sum((-2, -1))
        magnitude = seen.abs().square()
        received = magnitude.sum(-1) + energy.unsqueeze(-1)
        return float(torch.log2(received / (received - magnitude.diagonal(0, -2, -1))).sum())

    return {
        steps: max((few for few in _WARM_STARTS if few <= steps), key=partial(sum_rate, steps)) for steps in iterations
    }


def _largest(values: Any) -> Any:
    return values.amax(-1) if isinstance(values, Tensor) else values.max(-1)
