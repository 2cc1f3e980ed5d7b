"""Compute a WMMSE without inverses, suited to GPUs: accelerated gradient steps, one K x K product each.

The idea is that of A-MMMSE [1]_: receivers and weights in closed form as in WMMSE, one gradient step of products only
in place of the solve for the precoder, and some first steps on the unweighted sum of MSEs. It does not transcribe that
paper, of which only the abstract was available: step size, extrapolation and start are this project's, and the number
of unweighted steps is chosen on the drops of the comparison.

Receivers and weights restate those of `simulator.downlink.structure.wmmse_step` for arrays of PyTorch or NumPy;
``test_gradient_steps_and_wmmse_have_the_same_fixed_point`` tests that the two agree.

References
----------
.. [1] Gao, Wang, Zhang, Duan, Xue, "An Accelerated Mixed Weighted-Unweighted MMSE Approach for MU-MIMO Beamforming",
   arXiv 2510.20507.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulator.downlink.sinr import effective_gains_and_beam_energy, rates, sinr

_TINY = float(np.finfo(np.float32).tiny)
_WARM_STARTS = (0, 1, 2, 5, 10, 20)


def gradient_coefficients(gram: Any, identity: Any, iterations: int, unweighted: int = 0) -> Any:
    """Compute X of the precoder V = H X after some gradient steps from matched filters.

    With S = Gamma X, e = Re tr(X^H S) (the power constraint folded into the noise) and the received power
    r_k = e + sum_j |S_kj|^2, receivers and weights are u_k = S_kk / r_k and w_k = r_k / (r_k - |S_kk|^2) = 1 + SINR_k.
    The weighted sum of MSEs has the gradient H D,

        D = diag(mu) S + beta X - diag(u w),    mu_k = w_k |u_k|^2,  beta = sum_k mu_k,

    and no curvature above L = beta + max_k mu_k sum_j |Gamma_kj| (row sums bound an eigenvalue). A step goes by -D / L
    from X + k / (k + 3) (X - X_before), Nesterov's extrapolation: without it the sum rate would never fall, with it far
    fewer steps suffice. The scale of X is arbitrary.

    Parameters
    ----------
    gram
        Gamma, complex (..., users, users); a tensor or a NumPy array.
    identity
        The unit matrix (users, users), of the same kind and dtype.
    iterations
        Number of steps.
    unweighted
        Number of first steps with w_k = 1.

    Returns
    -------
    Tensor or ndarray
        X, complex (..., users, users).
    """
    users = gram.shape[-1]
    magnitudes = abs(gram)
    row_sums = magnitudes.sum(-1)
    gain = magnitudes.diagonal(0, -2, -1)
    coefficients = before = identity * ((gain + _TINY) ** -0.5)[..., None]
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
        curvature = noise + _largest(uplink * row_sums)
        before, coefficients = coefficients, ahead * (1 - noise / curvature)[..., None, None]
        coefficients -= (uplink / curvature[..., None])[..., None] * seen
        diagonal = coefficients.reshape(*coefficients.shape[:-2], users * users)[..., :: users + 1]
        diagonal += weight * signal / (received * curvature[..., None])
    return coefficients


def warm_starts(gram: Tensor, iterations: Sequence[int]) -> dict[int, int]:
    """Choose the number of unweighted steps with the largest sum rate on these drops.

    Parameters
    ----------
    gram
        Gamma, complex (drops, users, users).
    iterations
        Numbers of steps to choose for.

    Returns
    -------
    dict
        The number of unweighted steps by the number of steps.
    """
    gram = gram.to(torch.complex128)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)

    def sum_rate(steps: int, unweighted: int) -> float:
        coefficients = gradient_coefficients(gram, identity, steps, unweighted)
        effective_gains, energy = effective_gains_and_beam_energy(gram, coefficients)
        return float(rates(sinr(effective_gains, energy / energy.sum(-1, keepdim=True))).sum())

    return {
        steps: max((few for few in _WARM_STARTS if few <= steps), key=partial(sum_rate, steps)) for steps in iterations
    }


def _largest(values: Any) -> Any:
    return values.amax(-1) if isinstance(values, Tensor) else values.max(-1)
