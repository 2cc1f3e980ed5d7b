"""Share one total power between the subcarriers of a snapshot for the largest sum rate over all of them.

The scheme inside precodes every subcarrier at an equal share s. There its sum rate R(s) and the price of power
nu = dR / ds = sum_k w_k |u_k|^2 / s, w and u the weights and receivers of WMMSE, define the curve m ln(1 + s / c) of
the same value and slope. Water-filling over these curves, s = max(0, m / level - c), gives the shares of a second call.
WMMSE iterations with one power for all subcarriers follow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.powers import water_filling
from simulator.downlink.precoding import ChannelBatch, Precoding, Scheme
from simulator.downlink.sinr import precoder_gain_matrix
from simulator.problems.algebra import (
    TINY,
    Beams,
    Real,
    diagonal,
    rates,
    sinr,
    structured_beams,
)
from simulator.problems.algorithms.weights import optional_weights, textbook_allocation, weighted_start, weighted_sum
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, guarded, make_solution
from simulator.problems.structured import (
    NEGLIGIBLE,
    Allocation,
    structured_solution,
    user_gram,
)
from simulator.problems.wmmse import wmmse_steps
from simulator.schemes.options import Between
from simulator.schemes.rzf import rzf
from simulator.schemes.zf import zf

_LEAST_SHARE = 1e-9  # of the power: a subcarrier that is off still needs beams
_NEWTON_STEPS = 12


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
    users = user_gram(batch, budget)
    gram, share, weights = users.gram, 1 / together, optional_weights(problem, users)
    antennas = batch.channels.shape[-1]
    first = weighted_start(gram * share, weights, inner, antennas=antennas)
    beams = structured_beams(gram * share, first.dual)
    curve = fit_curve(beams.effective_gains, first.power, share, weights)
    shares = np.maximum(fill_shares(*curve, together), _LEAST_SHARE)
    scale = shares[:, None]
    second = weighted_start(gram * scale[..., None], weights, inner, antennas=antennas)
    start = Allocation(second.dual * scale, second.power * scale)
    dual, refined, power = wmmse_steps(gram, start.dual, start.power, steps, weights, together)
    found = structured_solution(batch, budget, problem, users, Allocation(dual, power), refined)
    # The two at equal shares are formed only where they come close to the result.
    equal = textbook_allocation(gram, weights).dual * share
    rivals = (first.dual * share, first.power * share), (equal, equal)
    for rival in (Allocation(*each) for each in rivals):
        rival_beams = structured_beams(gram, rival.dual)
        reached = _sum_rates(rival_beams, rival.power, together, weights)
        if (reached > _sum_rates(refined, power, together, weights) * (1 - NEGLIGIBLE)).any():
            found = guarded(found, structured_solution(batch, budget, problem, users, rival, rival_beams))
    return found


def fit_curve(effective_gains: Real, power: Real, share: float, weights: Real | None = None) -> tuple[Real, Real]:
    """Fit m ln(1 + s / c) to a (weighted) sum rate and its slope at one share of the power.

    Parameters
    ----------
    effective_gains : ndarray
        F at that share, float64 (drops, users, users).
    power : ndarray
        q of the share, float64 (drops, users), of sum 1.
    share : float
        s, of the total power.
    weights : ndarray, optional
        a, float64 (drops, users).

    Returns
    -------
    scale : ndarray
        m, nats, float64 (drops,).
    knee : ndarray
        c, float64 (drops,), in shares of the total power.
    """
    reached = sinr(effective_gains, power)
    received = 1 + np.matvec(effective_gains, power)
    each = (1 + reached) * diagonal(effective_gains) * power / received**2
    price = weighted_sum(each, weights)  # times s
    # (1 + 1/x) ln(1 + x) = R / (nu s) for x = s / c. With u = ln(1 + x), u = target (1 - exp(-u)), a convex difference:
    # Newton's method falls to the root from 2 (target - 1) and from the target, which are above it.
    target = np.maximum(weighted_sum(np.log1p(reached), weights) / np.maximum(price, TINY), 1 + 1e-9)
    exponent = np.minimum(target, 2 * (target - 1))
    for _ in range(_NEWTON_STEPS):
        decayed = target * np.exp(-exponent)
        exponent -= (exponent - target + decayed) / np.maximum(1 - decayed, TINY)
    knee = share / np.expm1(np.clip(exponent, 1e-9, 60))
    return price / share * (knee + share), knee


def fill_shares(scale: Real, knee: Real, together: int) -> Real:
    """Maximise sum_f m_f ln(1 + s_f / c_f) over shares of sum 1.

    Parameters
    ----------
    scale, knee : ndarray
        m and c > 0, float64 (drops,).
    together : int
        Consecutive drops that share the power.

    Returns
    -------
    ndarray
        s, float64 (drops,), of sum 1 over every `together` drops.
    """
    scale, knee = scale.reshape(-1, together), knee.reshape(-1, together)
    # Sorted by the slope m / c at zero: the level is that of the largest set of subcarriers above it.
    order = np.argsort(-scale / knee, axis=1)
    sorted_scale, sorted_knee = np.take_along_axis(scale, order, 1), np.take_along_axis(knee, order, 1)
    level = sorted_scale.cumsum(1) / (1 + sorted_knee.cumsum(1))
    active = np.maximum((sorted_scale / sorted_knee > level).sum(1, keepdims=True), 1)
    shares = np.maximum(scale / np.take_along_axis(level, active - 1, 1) - knee, 0)
    result: Real = (shares / shares.sum(1, keepdims=True)).reshape(-1)
    return result


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
    users = user_gram(batch, budget)
    weights = optional_weights(problem, users)
    equal = textbook_allocation(users.gram, weights).dual / problem.subcarriers
    dual, beams, power = wmmse_steps(users.gram, equal, equal, iterations, weights, problem.subcarriers)
    return structured_solution(batch, budget, problem, users, Allocation(dual, power), beams)


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
    if problem.weights is not None:
        users = user_gram(batch, budget)
        dual = textbook_allocation(users.gram, optional_weights(problem, users)).dual / problem.subcarriers
        return structured_solution(batch, budget, problem, users, Allocation(dual, dual))
    equal = _with_shares(budget, _equal_shares(batch, problem.subcarriers))
    return _solution(batch, budget, problem, rzf(batch, equal))


def _sum_rates(beams: Beams, power: Real, together: int, weights: Real | None) -> Real:
    """Return the (weighted) sum rate of every snapshot, float64 (snapshots,)."""
    result: Real = weighted_sum(rates(sinr(beams.effective_gains, power)), weights).reshape(-1, together).sum(1)
    return result


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
