"""Project powers onto C1-C4 for fixed directions, in Triton: `simulator.downlink.powers` on one drop."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from nflae_bridge.engine.triton_kernels.arithmetic import diagonal

_TINY = tl.constexpr(torch.finfo(torch.float64).tiny)
_HUGE = tl.constexpr(1 / torch.finfo(torch.float64).tiny)


@triton.jit
def project_powers(effective_gains, target, near, alpha_c, min_rate, there, K, P: tl.constexpr):
    """Compute `simulator.downlink.powers.project_power_fractions`.

    Parameters
    ----------
    effective_gains, target
        F, (P, P), and the target fractions, (P,).
    near, there
        Whether a user counts under C3, and whether there is one, (P,).
    alpha_c, min_rate
        Limits of C3, and of C4 in bps/Hz.
    K, P
        Users, and padded.

    Returns
    -------
    tuple
        P_k / P, (P,), and whether C4 holds, 0 or 1.
    """
    power_fractions = _limit(target, near, alpha_c)
    feasible = tl.sum(tl.zeros([P], tl.int32), 0) + 1
    if min_rate > 0:
        ratio = tl.exp2(min_rate) - 1
        least, reachable = _minimum(effective_gains, ratio, there, K, P)
        headroom = 1 / tl.maximum(tl.sum(least, 0), _TINY)
        headroom = tl.minimum(headroom, alpha_c / tl.maximum(tl.sum(tl.where(near, least, 0.0), 0), _TINY))
        feasible = reachable & (headroom >= 1).to(tl.int32)
        safe = least * tl.minimum(tl.where(feasible > 0, headroom, 1.0), _HUGE)
        slack = _slack(effective_gains, power_fractions, ratio, P)
        slack_safe = tl.maximum(_slack(effective_gains, safe, ratio, P), 0.0)
        fraction = tl.where(there & (slack < 0), slack_safe / tl.maximum(slack_safe - slack, _TINY), 1.0)
        moved = safe + tl.min(fraction, 0) * (power_fractions - safe)
        power_fractions = tl.where(feasible > 0, moved, power_fractions)
    return power_fractions, feasible


@triton.jit
def _limit(target, near, alpha_c):
    """Return `powers.limit_power_fractions`."""
    of_near, of_far = tl.sum(tl.where(near, target, 0.0), 0), tl.sum(tl.where(near, 0.0, target), 0)
    total = of_near + of_far
    kept = tl.minimum(of_near / tl.where(total > 0, total, 1.0), alpha_c)
    scale_near = kept / tl.where(of_near > 0, of_near, 1.0)
    scale_far = (1 - kept) / tl.where(of_far > 0, of_far, 1.0)
    return target * tl.where(near, scale_near, scale_far)


@triton.jit
def _minimum(effective_gains, ratio, there, K, P: tl.constexpr):
    """Return `powers.minimum_power_fractions`: the least fractions, (P,), and whether there are such, 0 or 1.

    The scaled matrix is an M-matrix, of which elimination has positive pivots without exchanges, or no fractions exist.
    """
    index = tl.arange(0, P)
    own = diagonal(effective_gains, P)
    usable = own > 0
    by = tl.where(usable, own, 1.0)
    row = -ratio * effective_gains / by[:, None]
    row = tl.where(index[:, None] == index[None, :], 1.0, tl.where((there & usable)[:, None], row, 0.0))
    right = tl.where(there & usable, ratio / by, 0.0)
    reachable = tl.min(tl.where(there, usable.to(tl.int32), 1), 0)
    for k in tl.range(K):
        at = index == k
        line = tl.sum(tl.where(at[:, None], row, 0.0), 0)
        pivot = tl.sum(tl.where(at, line, 0.0), 0)
        reachable = tl.where(pivot > 0, reachable, 0)
        scale = 1 / tl.where(pivot > 0, pivot, 1.0)
        line, value = line * scale, tl.sum(tl.where(at, right, 0.0), 0) * scale
        column = tl.where(at, 0.0, tl.sum(tl.where(at[None, :], row, 0.0), 1))
        row = tl.where(at[:, None], line[None, :], row - column[:, None] * line[None, :])
        right = tl.where(at, value, right - column * value)
    finite = tl.max(tl.abs(right), 0) < _HUGE
    reachable = tl.where((tl.min(right, 0) >= 0) & finite, reachable, 0)
    return tl.where(reachable > 0, right, 0.0), reachable


@triton.jit
def _slack(effective_gains, power_fractions, ratio, P: tl.constexpr):
    """Return F_kk q_k - t (1 + sum of F_kj q_j over the others), at least 0 where C4 holds, (P,)."""
    index = tl.arange(0, P)
    received = effective_gains * power_fractions[None, :]
    interference = tl.sum(tl.where(index[:, None] == index[None, :], 0.0, received), 1)
    return diagonal(received, P) - ratio * (interference + 1)
