"""A slow optimiser over (lambda, p), drop by drop: what the optimal structure can give under all constraints.

The reference for tests and evaluation, not a scheme to run: hundreds of gradient steps from several starts.
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

_LEAST = 1e-9  # a share's start must be positive: its logarithm is what moves


def optimise(batch: ChannelBatch, budget: LinkBudget, steps: int = 400, rate: float = 0.05) -> Precoding:
    """Maximise each drop's sum rate over (lambda, p) under C1-C4 by gradient ascent on their logarithms.

    The sum rate is taken after the projection onto the constraints; while C4 can't be met for the directions, the
    missing rates are weighed in instead. Starts: RZF, WMMSE after 5 and 200 iterations, matched filters, and, where
    rates are demanded, directions balanced for the weakest user. Every step is judged as an answer; the best is
    returned.

    batch, budget: as for every scheme. steps: gradient steps a start. rate: their size (Adam).
    """
    gram = normalised_gram(batch.channels, budget)
    near = constrained_labels(batch, budget)
    best: Candidate | None = None
    for uplink, power_fractions in _starts(gram, budget):
        found = _ascend(gram, near, budget, uplink, power_fractions, steps, rate)
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


def _ascend(
    gram: Tensor, near: Tensor, budget: LinkBudget, uplink: Tensor, power_fractions: Tensor, steps: int, rate: float
) -> Candidate:
    alpha_c, min_rate = per_drop(budget.alpha_c, gram), per_drop(budget.min_rate, gram)
    logits = torch.log(torch.stack([uplink, power_fractions]).clamp(min=_LEAST)).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=rate)
    best_rate = torch.full(gram.shape[:1], -torch.inf, dtype=torch.float64, device=gram.device)
    best = logits.detach().clone()
    for step in range(steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, 2 * (1 - step / (steps + 1)))
        # lambda needn't sum to P under C3 and C4: its scale is one more thing to optimise
        effective_gains = effective_gain_matrix(gram, structured_coefficients(gram, logits[0].exp()))
        wanted = torch.softmax(logits[1], -1)
        held, feasible = project_power_fractions(effective_gains, wanted, near, alpha_c, min_rate)
        served = rates(sinr(effective_gains, held)).sum(-1)
        rate_unheld = rates(sinr(effective_gains, limit_power_fractions(wanted, near, alpha_c)))
        unmet = (min_rate.unsqueeze(-1) - rate_unheld).clamp(min=0).sum(-1)
        with torch.no_grad():
            # an answer that misses C4 ranks below every one that meets it
            judged = torch.where(feasible, served, served - 1e6 * (1 + unmet))
            better = judged > best_rate
            best_rate = torch.where(better, judged, best_rate)
            best = torch.where(better.reshape(1, -1, 1), logits, best)
        objective = torch.where(feasible, served, served - 10 * unmet) - 0.1 * unmet
        optimiser.zero_grad()
        (-objective.sum()).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        logits.grad.nan_to_num_()
        optimiser.step()
    with torch.no_grad():
        uplink = best[0].exp()
        return make_candidate(
            gram, structured_coefficients(gram, uplink), torch.softmax(best[1], -1), near, budget, uplink
        )
