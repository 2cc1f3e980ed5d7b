"""Limits of a problem, violated one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution
from simulator.problems.violations import is_below, violates_limits
from simulator.schemes.registry import scheme
from tests.channel_files import random_channels

DROP = torch.tensor([False, True, False, False])


def solved(budget: LinkBudget, problem: PrecodingProblem, spec: str = "rzf") -> ProblemSolution:
    inner: Scheme = scheme("rzf")
    near = torch.tensor([True, False, False]).expand(4, 3)
    return solve(ChannelBatch(torch.from_numpy(random_channels(drops=4)), near), budget, problem, inner, spec)


@pytest.mark.parametrize(
    ("problem", "budget", "field", "factor"),
    [
        (PrecodingProblem(weights=np.ones(3)), LinkBudget(2.0, 0.1), "power", 1 + 3e-5),
        (PrecodingProblem(weights=np.ones(3)), LinkBudget(2.0, 0.1), "power", -1),
        (PrecodingProblem(weights=np.array([9.0, 1, 1])), LinkBudget(2.0, 0.1, alpha_c=0.2), "near", 1.001),
        (PrecodingProblem(antenna_power=np.array([0.1]), total_power=False), LinkBudget(1.6, 0.1), "power", 1.001),
        (PrecodingProblem(rf_chains=4), LinkBudget(1.0, 0.1), "analog", 1.001),
        (PrecodingProblem(rf_chains=4), LinkBudget(1.0, 0.1), "digital", 1.001),
        (PrecodingProblem(rf_chains=4, phase_bits=3), LinkBudget(1.0, 0.1), "analog", np.exp(0.01j)),
        (PrecodingProblem(rf_chains=4, connection="sub"), LinkBudget(1.0, 0.1), "analog", 1.001),
    ],
)
def test_each_limit_is_seen_where_it_is_violated(
    problem: PrecodingProblem, budget: LinkBudget, field: str, factor: complex
) -> None:
    good = solved(budget, problem)
    assert not violates_limits(good, budget, problem).any()
    if field == "near":  # the total is kept
        power = good.power.clone()
        power[DROP] = torch.tensor([0.2 * factor, 0.4, 0.3], dtype=power.dtype) * 2
        bad = replace(good, power=power)
    else:
        values = getattr(good, field)
        scale = torch.where(DROP.reshape(-1, *[1] * (values.ndim - 1)), factor, 1.0)
        bad = replace(good, **{field: (values * scale).to(values.dtype)})
    assert violates_limits(bad, budget, problem).tolist() == DROP.tolist()


def test_one_power_of_several_subcarriers() -> None:
    problem, budget = PrecodingProblem(power_scope="total", subcarriers=2), LinkBudget(2.0, 0.1)
    good = solved(budget, problem)
    moved = good.power * torch.tensor([1.5, 0.5, 1, 1], dtype=torch.float64).unsqueeze(-1)
    assert not violates_limits(replace(good, power=moved), budget, problem).any()
    more = good.power * torch.tensor([1, 1.001, 1, 1], dtype=torch.float64).unsqueeze(-1)
    assert violates_limits(replace(good, power=more), budget, problem).tolist() == [True, True, False, False]


def test_below_the_textbook_by_objective_and_by_the_minimum_rate() -> None:
    textbook = solved(LinkBudget(1.0, 0.1), PrecodingProblem(weights=np.ones(3)))
    scale = torch.tensor([1 - 1e-8, 1 - 1e-5, 1, 1 + 1e-3], dtype=torch.float64)
    assert is_below(replace(textbook, objective=textbook.objective * scale), textbook).tolist() == DROP.tolist()
    assert is_below(replace(textbook, feasible=~DROP), textbook).tolist() == DROP.tolist()
    assert not is_below(textbook, replace(textbook, feasible=~DROP)).any()
