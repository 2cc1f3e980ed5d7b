"""Optimise (lambda, p) drop by drop: the most that the optimal structure gives under all constraints.

A reference for tests and evaluation, not a practical scheme: hundreds of gradient steps from several starts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.downlink.balancing import max_min_dual_powers
from simulator.downlink.budget import LinkBudget, per_drop
from simulator.downlink.candidates import Candidate, assemble, make_candidate
from simulator.downlink.gram import normalised_gram
from simulator.downlink.powers import limit_power_fractions, project_power_fractions
from simulator.downlink.precoding import ChannelBatch, Precoding, constrained_labels
from simulator.downlink.sinr import effective_gain_matrix, rates, sinr
from simulator.downlink.structure import structured_coefficients, wmmse_power_fractions

_MIN_FRACTION = 1e-9  # a start has to be positive: gradient steps act on its logarithm


def optimise(batch: ChannelBatch, budget: LinkBudget, steps: int = 400, rate: float = 0.05) -> Precoding:
    """Maximise each drop's sum rate over (lambda, p) under C1-C4 by gradient ascent on their logarithms.

    The objective is the sum rate after projection onto the constraints; while C4 cannot be met for the directions, the
    missing rates are subtracted. Starts are RZF, WMMSE after 5 and 200 iterations, matched filters and, under C4,
    max-min directions. Every iterate is compared as an answer, and the best is returned.

    Parameters
    ----------
    batch : ChannelBatch
        Channels.
    budget : LinkBudget
        Link budget.
    steps : int
        Gradient steps per start.
    rate : float
        Learning rate of Adam.

    Returns
    -------
    Precoding
        Best precoding of every drop.
    """
    gram = normalised_gram(batch.channels, budget)
    near_field = constrained_labels(batch, budget)
    best: Candidate | None = None
    for dual, power_fractions in _starts(gram, budget):
        found = _ascend(gram, near_field, budget, torch.stack([dual, power_fractions]), steps, rate)
        best = found if best is None else best.better_of(found)[0]
    assert best is not None
    return assemble(batch, best, budget)


def _starts(gram: Tensor, budget: LinkBudget) -> list[tuple[Tensor, Tensor]]:
    equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    max_min = [(max_min_dual_powers(gram), equal)] if budget.demands_rates else []
    return [
        (equal, equal),
        wmmse_power_fractions(gram, 5),
        wmmse_power_fractions(gram, 200),
        (torch.full_like(equal, 1e-3 / gram.shape[-1]), equal),
        *max_min,
    ]


def _ascend(gram: Tensor, near_field: Tensor, budget: LinkBudget, start: Tensor, steps: int, rate: float) -> Candidate:
    alpha_c, min_rate = per_drop(budget.alpha_c, gram), per_drop(budget.min_rate, gram)
    logits = torch.log(start.clamp(min=_MIN_FRACTION)).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=rate)
    best_rate = torch.full(gram.shape[:1], -torch.inf, dtype=torch.float64, device=gram.device)
    best = logits.detach().clone()
    for step in range(steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, 2 * (1 - step / (steps + 1)))
        # lambda need not sum to P under C3 and C4: its scale is optimised too
        effective_gains = effective_gain_matrix(gram, structured_coefficients(gram, logits[0].exp()))
        target = torch.softmax(logits[1], -1)
        projected, feasible = project_power_fractions(effective_gains, target, near_field, alpha_c, min_rate)
        sum_rate = rates(sinr(effective_gains, projected)).sum(-1)
        limited_rate = rates(sinr(effective_gains, limit_power_fractions(target, near_field, alpha_c)))
        missing = (min_rate.unsqueeze(-1) - limited_rate).clamp(min=0).sum(-1)
        with torch.no_grad():
            # an iterate that misses C4 ranks below every one that meets it
            score = torch.where(feasible, sum_rate, sum_rate - 1e6 * (1 + missing))
            better = score > best_rate
            best_rate = torch.where(better, score, best_rate)
            best = torch.where(better.reshape(1, -1, 1), logits, best)
        objective = torch.where(feasible, sum_rate, sum_rate - 10 * missing) - 0.1 * missing
        optimiser.zero_grad()
        (-objective.sum()).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        logits.grad.nan_to_num_()
        optimiser.step()
    with torch.no_grad():
        dual = best[0].exp()
        return make_candidate(
            gram, structured_coefficients(gram, dual), torch.softmax(best[1], -1), near_field, budget, dual
        )
