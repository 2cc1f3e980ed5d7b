"""Dirty-paper capacity against closed forms and a general-purpose optimiser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from simulator.downlink.budget import LinkBudget
from simulator.downlink.capacity import dirty_paper_capacity
from simulator.downlink.powers import water_filling
from simulator.downlink.precoding import ChannelBatch
from simulator.schemes import scheme, scheme_names
from tests.simulator.definitions import KINDS, channel_sets, draw_channels, water_filling_rate


@pytest.mark.parametrize("snr", [1e-3, 1.0, 100.0, 1e6])
def test_capacity_of_one_user_is_shannons(snr: float) -> None:
    channels = 3 * draw_channels(1, users=1, antennas=8)
    capacity = dirty_paper_capacity(channels, LinkBudget(2.0, 18.0 / snr))
    assert float(capacity) == pytest.approx(np.log2(1 + snr), rel=1e-6)


@pytest.mark.parametrize("noise", [10.0, 1.0, 0.1, 0.001])
def test_capacity_of_orthogonal_users_is_water_filling(noise: float) -> None:
    channels = draw_channels(2, users=4, antennas=8, kind="orthogonal")
    gains = np.array([1.0, 0.3, 2.0, 0.05])
    scaled = channels * torch.from_numpy(np.sqrt(gains)).float()[:, None]
    capacity = dirty_paper_capacity(scaled, LinkBudget(1.0, noise))
    assert float(capacity) == pytest.approx(water_filling_rate(gains / noise), rel=1e-6)


@pytest.mark.parametrize("users", [1, 2, 6])
@pytest.mark.parametrize("snr", [1e-2, 1.0, 1e3])
def test_capacity_of_orthogonal_users_of_one_gain_is_that_of_equal_powers(users: int, snr: float) -> None:
    channels = draw_channels(4, users, antennas=8, kind="orthogonal")
    capacity = dirty_paper_capacity(channels, LinkBudget(3.0, 3.0 / snr))
    assert float(capacity) == pytest.approx(users * np.log2(1 + snr / users), rel=1e-5)


@given(gains=st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=7))
def test_water_filling_is_the_best_split(gains: list[float]) -> None:
    g = np.array(gains)
    power_fractions = water_filling(torch.from_numpy(g)[None])[0].numpy()
    assert power_fractions.sum() == pytest.approx(1, abs=1e-9)
    assert (power_fractions >= 0).all()
    assert np.log2(1 + g * power_fractions).sum() == pytest.approx(water_filling_rate(g), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("users", "antennas"), [(2, 4), (4, 4), (5, 3)])
def test_capacity_is_the_dual_uplinks_optimum(kind: str, users: int, antennas: int) -> None:
    """max log2 det(I_N + sum q_k P / sigma^2 h_k h_k^H) over the simplex, by sequential quadratic programming."""
    channels = draw_channels(3, users, antennas, kind, spread_db=10.0)
    h = channels[0].numpy().astype(complex)

    def negative(q: np.ndarray) -> float:
        matrix = np.eye(antennas, dtype=complex)
        for share, row in zip(q, h, strict=True):
            matrix += share * 50.0 * np.outer(row, row.conj())
        return -float(np.linalg.slogdet(matrix)[1]) / np.log(2)

    best = minimize(
        negative,
        np.full(users, 1 / users),
        bounds=[(0, 1)] * users,
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    capacity = float(dirty_paper_capacity(channels, LinkBudget(1.0, 0.02)))
    assert capacity == pytest.approx(-best.fun, rel=2e-5)


@settings(max_examples=25)
@given(channels=channel_sets(), snr_db=st.floats(-10, 30), alpha_c=st.sampled_from([0.3, 1.0]))
def test_no_scheme_passes_capacity(channels: torch.Tensor, snr_db: float, alpha_c: float) -> None:
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10), alpha_c)
    capacity = dirty_paper_capacity(channels, budget)
    for name in scheme_names():
        reached = scheme(name)(ChannelBatch(channels), budget).sum_rate
        assert bool((reached <= capacity * (1 + 1e-6) + 1e-9).all()), name


@settings(max_examples=20)
@given(channels=channel_sets(max_users=5), snr_db=st.floats(-10, 20))
def test_capacity_grows_with_power_and_with_users(channels: torch.Tensor, snr_db: float) -> None:
    noise = 10 ** (-snr_db / 10)
    capacity = dirty_paper_capacity(channels, LinkBudget(1.0, noise))
    assert bool((dirty_paper_capacity(channels, LinkBudget(2.0, noise)) > capacity).all())
    if channels.shape[1] > 1:
        fewer = dirty_paper_capacity(channels[:, 1:], LinkBudget(1.0, noise))
        assert bool((fewer <= capacity * (1 + 1e-4)).all())
