"""Powers that keep the promises: projection onto C1-C4 for fixed beam directions.

For fixed directions all four constraints are linear in the power shares q = P_k / P: C1 sum q <= 1, C2 q >= 0,
C3 sum_near q <= alpha_c, and C4 F_kk q_k >= t (1 + sum_{j != k} F_kj q_j) with t = 2^R_min - 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def limit_power_fractions(power_fractions: Tensor, near_field: Tensor, alpha_c: Tensor | None) -> Tensor:
    """Scale shares >= 0 so that C1 and C3 hold and no power is left over that C3 doesn't forbid using.

    Near-field users keep their proportions, as do the others; power taken from the near-field users goes to the
    others. A drop whose users are all near-field uses alpha_c of the power.

    shares: real (drops, users); near_field: bool (drops, users); alpha_c: real (drops or 1,), None: C3 never binds.
    """
    if alpha_c is None or _nowhere(alpha_c < 1):
        return power_fractions / _or_one(power_fractions.sum(-1, keepdim=True))
    groups = torch.stack([power_fractions * near_field, power_fractions * ~near_field])
    sums = groups.sum(-1)
    near = sums[0] / _or_one(sums.sum(0))
    kept = torch.minimum(near, alpha_c)
    # A drop with near-field users only leaves the rest unused: its other group is empty and stays so.
    totals = torch.stack([kept, 1 - kept])
    limited = groups / _or_one(sums).unsqueeze(-1) * totals.unsqueeze(-1)
    return limited.sum(0)


def _nowhere(binds: Tensor) -> bool:
    """True if it is known to bind nowhere; a GPU isn't asked, which would hold it up for longer than computing does."""
    return not binds.is_cuda and not bool(binds.any())


def _or_one(sums: Tensor) -> Tensor:
    """The sums, 1 where nothing was summed: 0 / 1 has a gradient, 0 / tiny has none."""
    return torch.where(sums > 0, sums, torch.ones_like(sums))


def minimum_power_fractions(effective_gains: Tensor, min_sinr: Tensor) -> tuple[Tensor, Tensor]:
    """The least powers with which every user reaches SINR ``min_sinr`` over fixed directions.

    Solves F_kk q_k - t sum_{j != k} F_kj q_j = t. The matrix is an M-matrix, so if any q >= 0 reaches the target,
    the solution is the smallest in every component; otherwise it has a negative component.

    couplings: F, real (drops, users, users); min_sinr: t, real (drops or 1,).
    Returns (q, reachable): real (drops, users), and bool (drops,); q is 0 where the target can't be reached.
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
    """The wanted shares, moved as little as a straight line allows until C1-C4 hold for these directions.

    C1-C3 are met by `limit_power_fractions`. If C4 then fails, the answer is the point nearest to them on the segment to
    the minimum powers (scaled up to the power limits), which lies inside the polytope C1-C4 whenever that is not
    empty: shares meeting all four exist if and only if `minimum_power_fractions` fits into C1 and C3.

    couplings: real (drops, users, users); shares: real (drops, users), the wanted q; near_field: bool (drops,
    users); alpha_c, min_rate: real (drops or 1,), None where C3, C4 never binds.
    Returns (shares, feasible): real (drops, users) with C1-C3 on every drop, and bool (drops,): C4 holds too.
    """
    wanted = limit_power_fractions(power_fractions, near_field, alpha_c)
    if min_rate is None or _nowhere(min_rate > 0):
        return wanted, torch.ones(power_fractions.shape[0], dtype=torch.bool, device=power_fractions.device)
    min_sinr = torch.exp2(min_rate) - 1
    least, reachable = minimum_power_fractions(effective_gains, min_sinr)
    tiny = torch.finfo(power_fractions.dtype).tiny
    room = 1 / least.sum(-1).clamp(min=tiny)
    if alpha_c is not None:
        room = torch.minimum(room, alpha_c / (least * near_field).sum(-1).clamp(min=tiny))
    feasible = (reachable & (room >= 1)) | (min_sinr <= 0)
    safe = least * torch.where(feasible, room, torch.ones_like(room)).clamp(max=1 / tiny).unsqueeze(-1)
    safe = torch.where((min_sinr > 0).expand(safe.shape[0]).unsqueeze(-1), safe, wanted)

    system = _rate_system(effective_gains, min_sinr)
    target = min_sinr.reshape(-1, 1)
    slack_wanted = (system @ wanted.unsqueeze(-1)).squeeze(-1) - target
    slack_safe = ((system @ safe.unsqueeze(-1)).squeeze(-1) - target).clamp(min=0)
    fraction = torch.where(slack_wanted < 0, slack_safe / (slack_safe - slack_wanted).clamp(min=tiny), 1.0)
    step = fraction.amin(-1, keepdim=True)
    moved = safe + step * (wanted - safe)
    return torch.where(feasible.unsqueeze(-1), moved, wanted), feasible


def _rate_system(effective_gains: Tensor, min_sinr: Tensor) -> Tensor:
    """M with (M q)_k = F_kk q_k - t sum_{j != k} F_kj q_j, so that C4 reads M q >= t."""
    own = torch.diag_embed(effective_gains.diagonal(dim1=-2, dim2=-1))
    return own - min_sinr.reshape(-1, 1, 1) * (effective_gains - own)


def water_filling(gain: Tensor) -> Tensor:
    """Shares q_k = max(0, level - 1 / gain_k) with sum q = 1; gain: real (drops, users), SNR at full power."""
    floor, order = torch.sort(1 / gain.clamp(min=1e-30), dim=-1)
    count = torch.arange(1, gain.shape[-1] + 1, device=gain.device, dtype=gain.dtype)
    level = (1 + floor.cumsum(-1)) / count
    active = (level > floor).sum(-1, keepdim=True).clamp(min=1)
    water = level.gather(-1, active - 1)
    filled = (water - floor).clamp(min=0)
    return torch.zeros_like(gain).scatter(-1, order, filled)
