"""Choose powers for fixed beam directions: projection onto C1-C4, minimum powers, water-filling.

For fixed directions all four constraints are linear in the power fractions q_k = P_k / P: C1 sum q <= 1, C2 q >= 0,
C3 sum_near q <= alpha_c, and C4 F_kk q_k >= t (1 + sum_{j != k} F_kj q_j) with t = 2^R_min - 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.sinr import required_sinr


def limit_power_fractions(power_fractions: Tensor, near_field: Tensor, alpha_c: Tensor | None) -> Tensor:
    """Scale power fractions so that C1 and C3 hold and all power is used that C3 allows.

    The near-field users keep their proportions, and so do the others, to which the power taken from the near-field
    users goes. A drop whose users are all near-field uses alpha_c of the power.

    Parameters
    ----------
    power_fractions : Tensor
        q >= 0 of any sum, real (drops, users).
    near_field : Tensor
        Near-field labels, bool (drops, users).
    alpha_c : Tensor or None
        Largest fraction for near-field users, real (drops or 1,); None if C3 binds on no drop.

    Returns
    -------
    Tensor
        Limited q, real (drops, users).
    """
    if alpha_c is None or _binds_nowhere(alpha_c < 1):
        return power_fractions / _or_one(power_fractions.sum(-1, keepdim=True))
    groups = torch.stack([power_fractions * near_field, power_fractions * ~near_field])
    sums = groups.sum(-1)
    near = sums[0] / _or_one(sums.sum(0))
    kept = torch.minimum(near, alpha_c)
    # A drop with near-field users only leaves the rest unused: its other group is empty and stays so.
    totals = torch.stack([kept, 1 - kept])
    limited = groups / _or_one(sums).unsqueeze(-1) * totals.unsqueeze(-1)
    return limited.sum(0)


def _binds_nowhere(binds: Tensor) -> bool:
    """Return whether a constraint is known to bind on no drop; False on a GPU, where reading would synchronise."""
    return binds.device.type == "cpu" and not bool(binds.any())


def _or_one(sums: Tensor) -> Tensor:
    """Return the sums, with 1 in place of 0: 0 / 1 has a gradient, 0 / tiny has none."""
    return torch.where(sums > 0, sums, torch.ones_like(sums))


def minimum_power_fractions(effective_gains: Tensor, min_sinr: Tensor) -> tuple[Tensor, Tensor]:
    """Solve F_kk q_k - t sum_{j != k} F_kj q_j = t for the least powers with SINR t for every user.

    The matrix is an M-matrix: if any q >= 0 reaches the target, the solution is the smallest in every component;
    otherwise it has a negative component.

    Parameters
    ----------
    effective_gains : Tensor
        F, real (drops, users, users).
    min_sinr : Tensor
        t, linear, real (drops or 1,).

    Returns
    -------
    power_fractions : Tensor
        q, real (drops, users); 0 where the target cannot be reached.
    reachable : Tensor
        bool (drops,).
    """
    system = _rate_system(effective_gains, min_sinr)
    target = min_sinr.reshape(-1, 1).expand(effective_gains.shape[:-1])
    # Rows can differ by 100 dB between users; scaled by F_kk they are all of order one.
    own = effective_gains.diagonal(dim1=-2, dim2=-1)
    usable = (own > 0).all(-1)
    own = torch.where(own > 0, own, torch.ones_like(own)).unsqueeze(-1)
    identity = torch.eye(own.shape[-2], dtype=system.dtype, device=system.device)
    solution, info = torch.linalg.solve_ex(
        torch.where(usable.reshape(-1, 1, 1), system / own, identity), (target.unsqueeze(-1) / own)
    )
    power_fractions = solution.squeeze(-1)
    reachable = usable & (info == 0) & (power_fractions >= 0).all(-1) & power_fractions.isfinite().all(-1)
    return torch.where(reachable.unsqueeze(-1), power_fractions, torch.zeros_like(power_fractions)), reachable


def project_power_fractions(
    effective_gains: Tensor,
    power_fractions: Tensor,
    near_field: Tensor,
    alpha_c: Tensor | None,
    min_rate: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Project target power fractions onto C1-C4 for fixed directions, along a straight line.

    `limit_power_fractions` meets C1-C3. If C4 then fails, the result is the point nearest to the limited target on the
    segment to the minimum powers, scaled up to the power limits. The segment's end lies inside the polytope C1-C4
    whenever that is not empty: fractions that meet all four exist if and only if `minimum_power_fractions` meets C1
    and C3.

    Parameters
    ----------
    effective_gains : Tensor
        F, real (drops, users, users).
    power_fractions : Tensor
        Target q, real (drops, users).
    near_field : Tensor
        Near-field labels, bool (drops, users).
    alpha_c, min_rate : Tensor or None
        Limits of C3 and of C4 (bps/Hz), real (drops or 1,); None if the constraint binds on no drop.

    Returns
    -------
    power_fractions : Tensor
        Projected q, real (drops, users); meets C1-C3 on every drop.
    feasible : Tensor
        Drops on which it meets C4 too, bool (drops,).
    """
    target = limit_power_fractions(power_fractions, near_field, alpha_c)
    if min_rate is None or _binds_nowhere(min_rate > 0):
        return target, torch.ones(power_fractions.shape[0], dtype=torch.bool, device=power_fractions.device)
    min_sinr = required_sinr(min_rate)
    least, reachable = minimum_power_fractions(effective_gains, min_sinr)
    tiny = torch.finfo(power_fractions.dtype).tiny
    headroom = 1 / least.sum(-1).clamp(min=tiny)
    if alpha_c is not None:
        headroom = torch.minimum(headroom, alpha_c / (least * near_field).sum(-1).clamp(min=tiny))
    feasible = (reachable & (headroom >= 1)) | (min_sinr <= 0)
    safe = least * torch.where(feasible, headroom, torch.ones_like(headroom)).clamp(max=1 / tiny).unsqueeze(-1)
    safe = torch.where((min_sinr > 0).expand(safe.shape[0]).unsqueeze(-1), safe, target)

    system = _rate_system(effective_gains, min_sinr)
    demand = min_sinr.reshape(-1, 1)
    slack_target = (system @ target.unsqueeze(-1)).squeeze(-1) - demand
    slack_safe = ((system @ safe.unsqueeze(-1)).squeeze(-1) - demand).clamp(min=0)
    fraction = torch.where(slack_target < 0, slack_safe / (slack_safe - slack_target).clamp(min=tiny), 1.0)
    step = fraction.amin(-1, keepdim=True)
    moved = safe + step * (target - safe)
    return torch.where(feasible.unsqueeze(-1), moved, target), feasible


def _rate_system(effective_gains: Tensor, min_sinr: Tensor) -> Tensor:
    """Form M with (M q)_k = F_kk q_k - t sum_{j != k} F_kj q_j, so that C4 reads M q >= t."""
    own = torch.diag_embed(effective_gains.diagonal(dim1=-2, dim2=-1))
    return own - min_sinr.reshape(-1, 1, 1) * (effective_gains - own)


def water_filling(gain: Tensor) -> Tensor:
    """Water-fill q_k = max(0, level - 1 / gain_k) with sum q = 1 over parallel channels.

    Parameters
    ----------
    gain : Tensor
        SNR at full power, real (drops, users).

    Returns
    -------
    Tensor
        q, real (drops, users).
    """
    floor, order = torch.sort(1 / gain.clamp(min=1e-30), dim=-1)
    count = torch.arange(1, gain.shape[-1] + 1, device=gain.device, dtype=gain.dtype)
    level = (1 + floor.cumsum(-1)) / count
    active = (level > floor).sum(-1, keepdim=True).clamp(min=1)
    water = level.gather(-1, active - 1)
    filled = (water - floor).clamp(min=0)
    return torch.zeros_like(gain).scatter(-1, order, filled)
