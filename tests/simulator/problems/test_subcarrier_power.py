"""One power over subcarriers against water-filling, a joint search, and the textbook."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.powers import water_filling
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import rates
from simulator.problems.algorithms.subcarrier_power import fill_shares, fit_curve
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels

INNER = scheme("wmmse:iterations=50")


def subcarriers(count: int) -> PrecodingProblem:
    return PrecodingProblem(power_scope="total", subcarriers=count)


@pytest.mark.parametrize("spec", ["nflae", "wmmse", "zf"])
def test_one_user_gets_water_filling(spec: str) -> None:
    """With one user the problem is that of parallel channels, whose solution is closed."""
    channels = draw_channels(2, users=1, antennas=4, drops=12) * torch.logspace(-1, 0.5, 12).reshape(12, 1, 1)
    gain = channels.abs().square().sum(-1).double().reshape(2, 6) * 5.0 / 0.7
    optimum = rates(gain * water_filling(gain)).sum(-1)
    spec = "wmmse:iterations=3000" if spec == "wmmse" else spec
    found = solve(ChannelBatch(channels), LinkBudget(5.0, 0.7), subcarriers(6), INNER, spec)
    torch.testing.assert_close(found.objective, optimum.repeat_interleave(6), rtol=2e-4, atol=0)
    torch.testing.assert_close(found.sum_rate.reshape(2, 6).sum(-1), optimum, rtol=2e-4, atol=0)
    assert (found.power.reshape(2, 6).sum(-1) <= 5.0 * (1 + 1e-6)).all()
    assert (found.power.reshape(2, 6) < 1e-6).any()  # a subcarrier is off, so that the closed form is not equal shares


def test_curve_of_a_single_channel_is_the_channel_itself() -> None:
    gain = np.array([1e-4, 0.1, 3.0, 200.0, 1e8]).reshape(-1, 1, 1)
    scale, knee = fit_curve(gain, np.ones((5, 1)), 0.25)
    assert np.allclose(scale, 1, rtol=1e-6, atol=0)
    assert np.allclose(knee, 0.25 / gain.reshape(-1), rtol=1e-6, atol=0)


def test_shares_beat_every_share_of_a_search() -> None:
    rng = np.random.default_rng(3)
    scale, knee = rng.uniform(0.05, 2, (2, 30))
    shares = fill_shares(scale, knee, 3)

    def value(candidate: np.ndarray) -> np.ndarray:
        return (scale * np.log1p(candidate / knee)).reshape(-1, 3).sum(-1)

    best = value(shares)
    for trial in rng.dirichlet([0.7] * 3, 500):
        assert (value(np.tile(trial, 10)) <= best + 1e-12).all()
    assert np.allclose(shares.reshape(-1, 3).sum(-1), 1)
    assert (shares == 0).any()


def test_never_below_equal_shares_and_at_the_joint_optimum() -> None:
    batch = ChannelBatch(draw_channels(5, users=3, antennas=8, spread_db=15, drops=16))
    for noise in (1.0, 0.01):
        budget = LinkBudget(4.0, noise)
        found = solve(batch, budget, subcarriers(8), INNER)
        equal = INNER(batch, LinkBudget(0.5, noise)).sum_rate.reshape(2, 8).sum(-1).repeat_interleave(8)
        joint = solve(batch, budget, subcarriers(8), INNER, "wmmse:iterations=500").objective
        textbook = solve(batch, budget, subcarriers(8), INNER, "rzf").objective
        assert (found.objective >= torch.maximum(equal, textbook) * (1 - 1e-6)).all()
        assert (found.objective >= joint * 0.995).all()
        assert (found.power.reshape(2, -1).sum(-1) <= 4.0 * (1 + 1e-6)).all()
