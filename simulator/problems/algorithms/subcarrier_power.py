"""Share one total power between the subcarriers of a snapshot for the largest sum rate over all of them.

The scheme inside precodes every subcarrier at an equal share s. There its sum rate R(s) and the price of power
nu = dR / ds = sum_k w_k |u_k|^2 / s, w and u the weights and receivers of WMMSE, define the curve m ln(1 + s / c) of
the same value and slope. Water-filling over these curves, s = max(0, m / level - c), gives the shares of a second call.
WMMSE iterations with one power for all subcarriers follow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.gram import normalised_gram
from simulator.downlink.powers import water_filling
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import precoder_gain_matrix, sinr
from simulator.downlink.structure import structured_beams, wmmse_step
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, best_of, guarded, make_solution
from simulator.problems.structured import Allocation, structured_solution
from simulator.schemes.options import Between
from simulator.schemes.rzf import rzf
from simulator.schemes.zf import zf

_LEAST_SHARE = 1e-9  # of the power: a subcarrier that is off still needs beams
_BISECTIONS = 80


def precode_subcarriers(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    inner: Scheme,
    steps: Annotated[int, Between(0, 1000)] = 2,
) -> ProblemSolution:
    """Share the power by fitted rate curves, with a scheme inside.

    Parameters
    ----------
    batch : ChannelBatch
        Channels; the subcarriers of a snapshot are consecutive drops.
    budget : LinkBudget
        Link budget; P is that of all subcarriers of a snapshot.
    problem : PrecodingProblem
        Problem with `subcarriers`.
    inner : Scheme
        Scheme of the plain sum rate.
    steps : int
        WMMSE iterations over all subcarriers after the second call.

    Returns
    -------
    ProblemSolution
        Never below the scheme at equal shares nor below regularised zero forcing at equal shares; `fallback` marks the
        snapshots on which one of the two is returned.
    """
    together = problem.subcarriers
    equal = _with_shares(budget, _equal_shares(batch, together))
    first = inner(batch, equal)
    gains = precoder_gain_matrix(batch.channels, first.precoder, equal)
    fractions = first.power / per_drop(equal.power, first.power).unsqueeze(-1)
    shares = fill_shares(*fit_curve(gains, fractions, 1 / together), together)
    second = inner(batch, _with_shares(budget, shares))
    total = per_drop(budget.power, shares).unsqueeze(-1)
    power = second.power / total
    dual = second.uplink_power / total
    start = Allocation(torch.where(dual.isfinite().all(-1, keepdim=True), dual, power), power)
    gram = normalised_gram(batch.channels, budget)
    refined = structured_solution(batch, budget, problem, gram, _joint_steps(gram, start, steps, together))
    found = best_of(_solution(batch, budget, problem, second), refined)
    textbook = rzf_at_equal_shares(batch, budget, problem)
    return guarded(found, best_of(_solution(batch, budget, problem, first), textbook))


def fit_curve(effective_gains: Tensor, power_fractions: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Fit m ln(1 + s / c) to a sum rate and its slope at one share of the power.

    Parameters
    ----------
    effective_gains : Tensor
        F at that share, float64 (drops, users, users).
    power_fractions : Tensor
        q of the share, float64 (drops, users), of sum 1.
    share : float
        s, of the total power.

    Returns
    -------
    scale : Tensor
        m, nats, float64 (drops,).
    knee : Tensor
        c, float64 (drops,), in shares of the total power.
    """
    reached = sinr(effective_gains, power_fractions)
    received = 1 + (effective_gains * power_fractions.unsqueeze(-2)).sum(-1)
    own = effective_gains.diagonal(dim1=-2, dim2=-1)
    price = ((1 + reached) * own * power_fractions / received.square()).sum(-1)  # times s
    # (1 + 1/x) ln(1 + x) = R / (nu s) for x = s / c, solved for ln x by bisection: it rises from 1 without bound.
    target = (torch.log1p(reached).sum(-1) / price.clamp(min=torch.finfo(price.dtype).tiny)).clamp(min=1 + 1e-9)
    low, high = torch.full_like(target, -20.0), torch.full_like(target, 60.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        ratio = torch.exp(middle)
        below = (1 + 1 / ratio) * torch.log1p(ratio) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    knee = share * torch.exp(-(low + high) / 2)
    return price / share * (knee + share), knee


def fill_shares(scale: Tensor, knee: Tensor, together: int) -> Tensor:
    """Maximise sum_f m_f ln(1 + s_f / c_f) over shares of sum 1.

    Parameters
    ----------
    scale, knee : Tensor
        m and c > 0, float64 (drops,).
    together : int
        Consecutive drops that share the power.

    Returns
    -------
    Tensor
        s, float64 (drops,), of sum 1 over every `together` drops.
    """
    scale, knee = scale.reshape(-1, together), knee.reshape(-1, together)
    # Sorted by the slope m / c at zero: the level is that of the largest set of subcarriers above it.
    order = torch.argsort(scale / knee, dim=-1, descending=True)
    sorted_scale, sorted_knee = scale.gather(-1, order), knee.gather(-1, order)
    level = sorted_scale.cumsum(-1) / (1 + sorted_knee.cumsum(-1))
    active = (sorted_scale / sorted_knee > level).sum(-1, keepdim=True).clamp(min=1)
    shares = (scale / level.gather(-1, active - 1) - knee).clamp(min=0)
    return (shares / shares.sum(-1, keepdim=True)).reshape(-1)


def joint_wmmse(
    batch: ChannelBatch,
    budget: LinkBudget,
    problem: PrecodingProblem,
    iterations: Annotated[int, Between(1, 10_000)] = 200,
) -> ProblemSolution:
    """Maximise the sum rate over all subcarriers by WMMSE with one power constraint.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_subcarriers`.
    iterations : int
        Number of iterations from regularised zero forcing at equal shares.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    gram = normalised_gram(batch.channels, budget)
    equal = Allocation.equal(gram).dual / problem.subcarriers
    found = _joint_steps(gram, Allocation(equal, equal), iterations, problem.subcarriers)
    return structured_solution(batch, budget, problem, gram, found)


def zf_water_filling(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Water-fill the power over all users and subcarriers on the beams of zero forcing.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_subcarriers`.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    precoding = zf(batch, budget)
    gains = precoder_gain_matrix(batch.channels, precoding.precoder, budget).diagonal(dim1=-2, dim2=-1)
    fractions = water_filling(gains.reshape(len(gains) // problem.subcarriers, -1)).reshape(gains.shape)
    power = fractions * per_drop(budget.power, fractions).unsqueeze(-1)
    return make_solution(batch, budget, problem, precoding.precoder, power)


def rzf_at_equal_shares(batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem) -> ProblemSolution:
    """Regularise zero forcing on every subcarrier with an equal share of the power.

    Parameters
    ----------
    batch, budget, problem
        As in `precode_subcarriers`.

    Returns
    -------
    ProblemSolution
        Solution of every drop.
    """
    equal = _with_shares(budget, _equal_shares(batch, problem.subcarriers))
    return _solution(batch, budget, problem, rzf(batch, equal))


def _joint_steps(gram: Tensor, start: Allocation, steps: int, together: int) -> Allocation:
    """Iterate WMMSE under one power for consecutive drops."""
    dual, power = start.dual, start.power
    beams = structured_beams(gram, dual)
    for _ in range(steps):
        dual, beams, power = wmmse_step(gram, beams, power, together=together)
    return Allocation(dual, power)


def _equal_shares(batch: ChannelBatch, together: int) -> Tensor:
    return torch.full((len(batch.channels),), 1 / together, dtype=torch.float64, device=batch.channels.device)


def _with_shares(budget: LinkBudget, shares: Tensor) -> LinkBudget:
    return replace(budget, power=shares.clamp(min=_LEAST_SHARE) * per_drop(budget.power, shares))


def _solution(
    batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem, precoding: Precoding
) -> ProblemSolution:
    """Form the solution of a scheme's precoding, with the sum of powers of a snapshot at most P."""
    used = precoding.power.reshape(len(precoding.power) // problem.subcarriers, -1).sum(-1)
    total = per_drop(budget.power, used).expand(len(precoding.power))[:: problem.subcarriers]
    scale = (total / used).clamp(max=1).repeat_interleave(problem.subcarriers).unsqueeze(-1)
    uplink, power = precoding.uplink_power * scale, precoding.power * scale
    return make_solution(batch, budget, problem, precoding.precoder, power, uplink_power=uplink)
