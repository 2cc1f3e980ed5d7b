"""Proportional fairness against a search, and its optimality condition over windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels
from tests.simulator.problems.two_users import all_rates

INNER = scheme("wmmse:iterations=20")


def test_two_users_reach_the_best_of_a_search() -> None:
    channels = draw_channels(6, users=2, antennas=4, spread_db=10, drops=4)
    for snr in (1.0, 100.0):
        found = solve(
            ChannelBatch(channels), LinkBudget(1.0, 1 / snr), PrecodingProblem(objective="proportional-fair"), INNER
        )
        best = np.array(
            [np.log(np.maximum(all_rates(h, snr), 1e-9)).sum(-1).max() for h in channels.numpy().astype(complex)]
        )
        torch.testing.assert_close(found.objective, torch.log(found.rate).sum(-1))
        assert (found.objective.numpy() >= best - 5e-3).all()
        assert (found.objective.numpy() <= best + 2e-2).all()


@pytest.mark.parametrize("window", [1, 4])
def test_the_objective_is_that_of_mean_rates_over_windows_and_above_the_textbook(window: int) -> None:
    batch = ChannelBatch(draw_channels(8, users=3, antennas=8, kind="near-parallel", spread_db=20, drops=8))
    problem, budget = PrecodingProblem(objective="proportional-fair", window=window), LinkBudget(2.0, 0.02)
    found, textbook = (solve(batch, budget, problem, INNER, spec) for spec in ("nflae", "rzf"))
    for start in range(0, 8, window):
        value = found.rate[start : start + window].mean(0).log().sum()
        torch.testing.assert_close(found.objective[start : start + window], value.expand(window))
    assert (found.objective >= textbook.objective - 1e-9).all()
    assert (found.power.sum(-1) <= 2.0 * (1 + 1e-6)).all()


def test_a_window_serves_each_user_when_its_channel_is_good() -> None:
    """With one user strong per drop, the mean rates over the window exceed those of drops on their own."""
    channels = draw_channels(9, users=2, antennas=2, kind="identical", drops=2)
    channels = channels * torch.tensor([[1.0, 0.1], [0.1, 1.0]]).unsqueeze(-1)
    budget = LinkBudget(1.0, 0.01)
    alone, window = (
        solve(ChannelBatch(channels), budget, PrecodingProblem(objective="proportional-fair", window=each), INNER)
        for each in (1, 2)
    )
    assert (window.rate.mean(0) > alone.rate.mean(0) * 1.1).all()
