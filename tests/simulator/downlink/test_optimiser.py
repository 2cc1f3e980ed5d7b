"""The per-drop optimiser over (lambda, p): closed forms, constraints, and no worse than what it competes with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import check_constraints
from simulator.downlink.optimiser import optimise
from simulator.downlink.precoding import ChannelBatch
from simulator.schemes import scheme
from tests.simulator.definitions import best_worst_sinr, draw_channels, water_filling_rate


def far(channels: torch.Tensor) -> ChannelBatch:
    return ChannelBatch(channels, torch.zeros(channels.shape[:2], dtype=torch.bool))


def test_one_user_gets_everything() -> None:
    channels = draw_channels(0, users=1, antennas=8, drops=3)
    answer = optimise(far(channels), LinkBudget(2.0, 0.1), steps=5)
    np.testing.assert_allclose(answer.sum_rate, np.log2(1 + 20), rtol=1e-6)
    np.testing.assert_allclose(answer.power, 2.0, rtol=1e-9)
    overlap = (answer.precoder.conj() * channels).sum(-1).abs() / torch.linalg.vector_norm(channels, dim=-1)
    np.testing.assert_allclose(overlap, 1, atol=1e-6)


@pytest.mark.parametrize("gains", [[1.0, 0.3], [1.0, 0.004]])
def test_two_orthogonal_users_are_water_filled(gains: list[float]) -> None:
    channels = draw_channels(1, users=2, antennas=8, kind="orthogonal")
    channels = channels * torch.tensor(gains).sqrt()[:, None]
    answer = optimise(far(channels), LinkBudget(1.0, 0.01), steps=120)
    assert float(answer.sum_rate) == pytest.approx(water_filling_rate(np.array(gains) / 0.01), rel=1e-5)


def test_near_field_limit_and_demanded_rates_of_orthogonal_users_are_met_at_the_optimum() -> None:
    """Users 0 near, 1 and 2 far; by hand: C3 binds, and C4 binds for the weak user 2; user 1 takes what is left."""
    channels = draw_channels(2, users=3, antennas=8, kind="orthogonal")
    gains = np.array([1.0, 1.0, 0.02])
    channels = channels * torch.from_numpy(np.sqrt(gains)).float()[:, None]
    budget = LinkBudget(1.0, 0.01, alpha_c=0.2, min_rate=1.0)
    answer = optimise(ChannelBatch(channels, torch.tensor([[True, False, False]])), budget, steps=200)
    weak = 1 / (gains[2] / 0.01)  # SINR 1; more power is worth more to user 1
    expected = np.array([0.2, 0.8 - weak, weak])
    rate = np.log2(1 + expected * gains / 0.01)
    assert bool(answer.feasible)
    assert float(answer.sum_rate) == pytest.approx(rate.sum(), rel=1e-4)
    np.testing.assert_allclose(answer.power[0], expected, atol=3e-3)


@pytest.mark.parametrize(("alpha_c", "min_rate"), [(1.0, 0.0), (0.4, 0.6), (0.2, 1.5)])
def test_optimiser_holds_the_constraints_and_beats_the_schemes_under_them(alpha_c: float, min_rate: float) -> None:
    drops = scenario("paper", users=5, antennas=64).draw(6, torch.Generator().manual_seed(4))
    batch = ChannelBatch(drops.channels, drops.near_field)
    budget = LinkBudget(1.0, 0.01, alpha_c, min_rate)
    answer = optimise(batch, budget, steps=100)
    check = check_constraints(batch.channels, answer.precoder, answer.power, batch.near_field, budget)
    for held in (check.total_power, check.negative_power, check.near_share, check.beam_norm):
        assert bool((held <= 1e-5).all())
    assert bool((check.min_rate <= 1e-5)[answer.feasible].all())
    for name in ("rzf", "wmmse"):
        other = scheme(name)(batch, budget)
        assert bool((answer.feasible | ~other.feasible).all()), "infeasible where a scheme isn't"
        assert bool((answer.sum_rate >= other.sum_rate * (1 - 1e-6))[other.feasible].all()), name
    assert bool((answer.sum_rate > 1.001 * scheme("rzf")(batch, budget).sum_rate).any())


def test_demanded_rates_are_met_wherever_they_can_be_from_the_first_step() -> None:
    """R_min at 95 % of what the weakest user can have; the schemes miss that on almost half of the drops."""
    channels = draw_channels(4, users=4, antennas=6, drops=12, spread_db=20)
    reachable = [best_worst_sinr(h.numpy().astype(complex), 1.0, 0.05) for h in channels]
    budget = LinkBudget(1.0, 0.05, 1.0, 0.95 * torch.log2(1 + torch.tensor(reachable, dtype=torch.float64)))
    answer = optimise(far(channels), budget, steps=1)
    assert bool(answer.feasible.all())
    check = check_constraints(channels, answer.precoder, answer.power, answer.near_field, budget)
    assert float(check.min_rate.max()) <= 1e-5
    others = torch.stack([scheme(name)(far(channels), budget).feasible for name in ("rzf", "wmmse", "mrt")])
    assert float(others.any(0).double().mean()) < 0.6


def test_optimiser_is_finite_on_degenerate_drops() -> None:
    for kind in ("identical", "rank-deficient", "near-parallel"):
        answer = optimise(far(draw_channels(3, 3, 6, kind)), LinkBudget(1.0, 0.01, 0.5, 0.2), steps=20)
        assert bool(answer.sum_rate.isfinite().all() and answer.precoder.isfinite().all())


@pytest.mark.slow
@pytest.mark.parametrize(("users", "figure"), [(8, 26.55), (10, 29.70)])
def test_published_optimum_under_both_constraints(users: int, figure: float) -> None:
    scene = replace(scenario("paper", users=users), angle="absolute")
    drops = scene.draw(100, torch.Generator().manual_seed(21))
    answer = optimise(ChannelBatch(drops.channels, drops.near_field), LinkBudget(1.0, 0.01, 0.4, 0.6), steps=150)
    error = float(answer.sum_rate.std()) / 10
    assert abs(float(answer.sum_rate.mean()) - figure) < 3 * error
    assert float((~answer.feasible).double().mean()) <= 0.05
