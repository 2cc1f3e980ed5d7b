"""The weighted sum rate against a search over all precoders of two users, and against the textbook."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels
from tests.simulator.problems.two_users import all_rates


@pytest.fixture(scope="module")
def inner() -> Scheme:
    return scheme("wmmse:iterations=20")


@pytest.mark.parametrize("weights", [(1.0, 4.0), (3.0, 1.0), (0.0, 2.0)])
@pytest.mark.parametrize(("spec", "antennas"), [("nflae", 4), ("wmmse", 16)])
def test_two_users_reach_the_best_of_a_search(
    inner: Scheme, spec: str, antennas: int, weights: tuple[float, float]
) -> None:
    channels = draw_channels(3, users=2, antennas=antennas, drops=3)
    for snr in (1.0, 30.0):
        found = solve(
            ChannelBatch(channels), LinkBudget(2.0, 2.0 / snr), PrecodingProblem(weights=np.array(weights)), inner, spec
        )
        best = [(all_rates(h, snr) @ np.array(weights)).max() for h in channels.numpy().astype(complex)]
        ratio = found.objective.numpy() / np.array(best)
        assert (ratio > 0.999).all()
        assert (ratio < 1.002).all()


@pytest.mark.parametrize("kind", ["gaussian", "identical", "near-parallel", "rank-deficient"])
def test_never_below_the_textbook_and_within_the_power(inner: Scheme, kind: str) -> None:
    batch = ChannelBatch(draw_channels(5, users=4, antennas=8, kind=kind, spread_db=15, drops=12))
    rng = np.random.default_rng(2)
    problem = PrecodingProblem(weights=np.exp(rng.uniform(-2, 2, (12, 4))))
    for noise in (1.0, 1e-3):
        budget = LinkBudget(3.0, noise)
        found, textbook = (solve(batch, budget, problem, inner, spec) for spec in ("nflae", "rzf"))
        sinr = achieved_sinr(batch.channels, found.precoder, found.power, noise)
        value = (torch.as_tensor(problem.weights) * rates(sinr)).sum(-1)
        torch.testing.assert_close(value, found.objective)
        assert (value >= textbook.objective * (1 - 1e-9)).all()
        assert (found.power.sum(-1) <= 3.0 * (1 + 1e-6)).all()
        torch.testing.assert_close(found.precoder.abs().square().sum(-1), torch.ones(12, 4))


def test_equal_weights_of_any_scale_give_the_plain_sum_rate(inner: Scheme) -> None:
    batch, budget = ChannelBatch(draw_channels(7, users=4, antennas=16, drops=6)), LinkBudget(1.0, 0.05)
    plain = scheme("wmmse:iterations=200")(batch, budget)
    found = solve(batch, budget, PrecodingProblem(weights=np.full(4, 7.0)), inner, "wmmse:iterations=200")
    torch.testing.assert_close(found.sum_rate, plain.sum_rate, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.objective, 7 * plain.sum_rate, rtol=1e-6, atol=0)


def test_minimum_rates_hold_beside_the_weights(inner: Scheme) -> None:
    batch = ChannelBatch(draw_channels(9, users=4, antennas=16, drops=8))
    problem = PrecodingProblem(weights=np.array([8.0, 1.0, 1.0, 0.1]))
    free = solve(batch, LinkBudget(1.0, 0.3), problem, inner)
    found = solve(batch, LinkBudget(1.0, 0.3, min_rate=0.5), problem, inner)
    assert (free.rate.amin(-1) < 0.5).any()
    assert found.feasible.all()
    assert (found.rate >= 0.5 * (1 - 1e-5)).all()
    assert (found.objective <= free.objective * (1 + 1e-9)).all()
