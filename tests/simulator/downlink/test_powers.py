"""The projection onto C1-C4 against linear programming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from simulator.downlink.powers import (
    limit_power_fractions,
    minimum_power_fractions,
    project_power_fractions,
    water_filling,
)

Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@st.composite
def cases(draw: st.DrawFn, drops: int = 3) -> Case:
    """(couplings, wanted shares, labels, alpha_c, min_rate), from easily feasible to hopeless."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    users = draw(st.integers(1, 6))
    leakage = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5]))
    gain = 10 ** rng.uniform(-0.5, 3, (drops, users, 1))
    effective_gain_matrix = gain * np.where(np.eye(users), 1.0, leakage * rng.random((drops, users, users)))
    wanted = rng.dirichlet(np.full(users, draw(st.sampled_from([0.1, 1.0]))), drops)
    near = rng.random((drops, users)) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    alpha = np.where(rng.random(drops) < 0.3, 1.0, rng.uniform(0.05, 1, drops))
    rate = np.where(rng.random(drops) < 0.2, 0.0, rng.uniform(0.01, 3, drops))
    return tuple(torch.from_numpy(value) for value in (effective_gain_matrix, wanted, near, alpha, rate))  # type: ignore[return-value]


def rate_rows(effective_gain_matrix: np.ndarray, target: float) -> np.ndarray:
    """C4 as A q >= target: F_kk q_k - t sum_{j != k} F_kj q_j."""
    return np.where(np.eye(len(effective_gain_matrix)), effective_gain_matrix, -target * effective_gain_matrix)


def lowest_slack(effective_gain_matrix: np.ndarray, near: np.ndarray, alpha: float, rate: float) -> float:
    """Largest s with every constraint of C1, C3, C4 (relative to its size) met with s to spare; >= 0 is feasible."""
    users, target = len(effective_gain_matrix), 2**rate - 1
    own = np.diag(effective_gain_matrix)[:, None]
    a = np.vstack([-rate_rows(effective_gain_matrix, target) / own, np.ones((1, users)), near[None].astype(float)])
    b = np.concatenate([-target / own[:, 0], [1.0, alpha]])
    result = linprog(
        np.append(np.zeros(users), -1.0),
        A_ub=np.hstack([a, np.ones((len(a), 1))]),
        b_ub=b,
        bounds=[(0, None)] * users + [(None, None)],
        method="highs",
    )
    assert result.status == 0
    return float(-result.fun)


def rates_of(effective_gain_matrix: np.ndarray, power_fractions: np.ndarray) -> np.ndarray:
    others = [
        sum(c * q for j, (c, q) in enumerate(zip(row, power_fractions, strict=True)) if j != k)
        for k, row in enumerate(effective_gain_matrix)
    ]
    return np.log2(1 + np.diag(effective_gain_matrix) * power_fractions / (1 + np.array(others)))


@settings(max_examples=200)
@given(case=cases())
def test_feasible_flag_is_linear_programming_feasibility(case: Case) -> None:
    effective_gain_matrix, wanted, near, alpha, rate = case
    _, feasible = project_power_fractions(effective_gain_matrix, wanted, near, alpha, rate)
    for drop in range(len(effective_gain_matrix)):
        slack = lowest_slack(
            effective_gain_matrix[drop].numpy(), near[drop].numpy(), float(alpha[drop]), float(rate[drop])
        )
        assume(abs(slack) > 1e-7 or float(rate[drop]) == 0)  # on the border rounding decides
        assert bool(feasible[drop]) == (slack >= -1e-12)


@settings(max_examples=300)
@given(case=cases())
def test_projection_holds_all_constraints(case: Case) -> None:
    effective_gain_matrix, wanted, near, alpha, rate = case
    power_fractions, feasible = project_power_fractions(effective_gain_matrix, wanted, near, alpha, rate)
    for drop in range(len(effective_gain_matrix)):
        q = power_fractions[drop].numpy()
        assert q.sum() <= 1 + 1e-9
        assert (q >= 0).all()
        assert q[near[drop].numpy()].sum() <= float(alpha[drop]) + 1e-9
        if feasible[drop]:
            assert (rates_of(effective_gain_matrix[drop].numpy(), q) >= float(rate[drop]) - 1e-9).all()


@settings(max_examples=200)
@given(case=cases())
def test_shares_that_hold_everything_stay_as_they_are(case: Case) -> None:
    effective_gain_matrix, wanted, near, alpha, rate = case
    power_fractions, feasible = project_power_fractions(effective_gain_matrix, wanted, near, alpha, rate)
    again, still = project_power_fractions(
        effective_gain_matrix, 7.3 * wanted, near, alpha, rate
    )  # only proportions count
    torch.testing.assert_close(again, power_fractions)
    for drop in range(len(effective_gain_matrix)):
        q, few = wanted[drop].numpy(), near[drop].numpy()
        holds = q[few].sum() <= float(alpha[drop]) - 1e-9
        holds &= bool((rates_of(effective_gain_matrix[drop].numpy(), q) >= float(rate[drop]) + 1e-9).all())
        if holds:
            assert bool(feasible[drop])
            assert bool(still[drop])
            np.testing.assert_allclose(power_fractions[drop], q, atol=1e-12)


@given(case=cases())
def test_no_power_is_left_that_the_near_field_limit_does_not_forbid(case: Case) -> None:
    _, wanted, near, alpha, _ = case
    allowed = torch.where((~near).any(-1), torch.ones_like(alpha), alpha)
    used = limit_power_fractions(wanted.clamp(min=1e-6), near, alpha).sum(-1)
    torch.testing.assert_close(used, allowed, rtol=1e-9, atol=1e-9)


def test_a_drop_of_near_field_users_uses_alpha_c_of_the_power() -> None:
    wanted = torch.tensor([[0.2, 0.8], [0.2, 0.8]], dtype=torch.float64)
    near = torch.tensor([[True, True], [False, False]])
    limited = limit_power_fractions(wanted, near, torch.tensor([0.4, 0.4], dtype=torch.float64))
    np.testing.assert_allclose(limited, [[0.08, 0.32], [0.2, 0.8]], atol=1e-15)


def test_power_taken_from_near_users_goes_to_the_others_in_proportion() -> None:
    wanted = torch.tensor([[0.6, 0.2, 0.1, 0.1]], dtype=torch.float64)
    near = torch.tensor([[True, True, False, False]])
    limited = limit_power_fractions(wanted, near, torch.tensor([0.4], dtype=torch.float64))
    np.testing.assert_allclose(limited, [[0.3, 0.1, 0.3, 0.3]], atol=1e-15)


@pytest.mark.parametrize("faint", [1e-3, 1e-9, 1e-14, 1e-17, 1e-30, 1e-300])
def test_near_users_keep_their_share_however_faint_the_others(faint: float) -> None:
    """The far user takes what is left over even if almost nothing was wanted for him."""
    wanted = torch.tensor([[0.5, 0.5, faint]], dtype=torch.float64)
    near = torch.tensor([[True, True, False]])
    limited = limit_power_fractions(wanted, near, torch.tensor([0.4], dtype=torch.float64))
    np.testing.assert_allclose(limited, [[0.2, 0.2, 0.6]], rtol=1e-3)


def test_faint_others_keep_their_proportions() -> None:
    wanted = torch.tensor([[1.0, 3e-14, 1e-14]], dtype=torch.float64)
    near = torch.tensor([[True, False, False]])
    limited = limit_power_fractions(wanted, near, torch.tensor([0.4], dtype=torch.float64))
    np.testing.assert_allclose(limited, [[0.4, 0.45, 0.15]], rtol=1e-6)


@settings(max_examples=50)
@given(case=cases(drops=2))
def test_minimum_shares_are_the_least_of_every_user(case: Case) -> None:
    effective_gain_matrix, _, _, _, rate = case
    target = torch.exp2(rate) - 1
    least, reachable = minimum_power_fractions(effective_gain_matrix, target)
    for drop in range(len(effective_gain_matrix)):
        f, t = effective_gain_matrix[drop].numpy(), float(target[drop])
        own = np.diag(f)
        rows, users = rate_rows(f, t) / own[:, None], len(f)
        spectral = np.abs(np.linalg.eigvals(t * np.where(np.eye(users), 0, f) / own[:, None])).max()
        assume(abs(spectral - 1) > 1e-3)
        assert bool(reachable[drop]) == (spectral < 1)
        if not reachable[drop]:
            continue
        for user in range(users):
            best = linprog(np.eye(users)[user], A_ub=-rows, b_ub=-t / own, bounds=[(0, None)] * users)
            assert best.status == 0
            assert float(least[drop, user]) == pytest.approx(best.fun, rel=1e-5, abs=1e-9)


def test_user_whom_no_beam_reaches_makes_only_drops_that_demand_rates_infeasible() -> None:
    effective_gain_matrix = torch.tensor([[[10.0, 0.0], [0.0, 0.0]]] * 2, dtype=torch.float64)
    wanted = torch.tensor([[0.5, 0.5]] * 2, dtype=torch.float64)
    near, alpha = torch.zeros(2, 2, dtype=torch.bool), torch.ones(1, dtype=torch.float64)
    power_fractions, feasible = project_power_fractions(
        effective_gain_matrix, wanted, near, alpha, torch.tensor([0.0, 0.5], dtype=torch.float64)
    )
    assert feasible.tolist() == [True, False]
    np.testing.assert_allclose(power_fractions, wanted)


@settings(max_examples=100)
@given(case=cases())
def test_a_batch_is_its_drops_one_by_one(case: Case) -> None:
    together, flags = project_power_fractions(*case)
    for drop in range(len(together)):
        alone, flag = project_power_fractions(*(value[drop : drop + 1] for value in case))
        torch.testing.assert_close(together[drop : drop + 1], alone, rtol=1e-9, atol=1e-12)
        assert bool(flag[0]) == bool(flags[drop])


@settings(max_examples=50)
@given(case=cases())
def test_projection_has_finite_gradients(case: Case) -> None:
    effective_gain_matrix, wanted, near, alpha, rate = case
    leaf = wanted.clamp(min=1e-12).requires_grad_()
    power_fractions, _ = project_power_fractions(effective_gain_matrix, leaf, near, alpha, rate)
    (power_fractions**2).sum().backward()
    assert leaf.grad is not None
    assert bool(leaf.grad.isfinite().all())


# Cases on the border, exact in binary arithmetic


def project(gains: list[list[float]], target: list[float], near: list[bool], alpha: float, rate: float):  # type: ignore[no-untyped-def]
    power_fractions, feasible = project_power_fractions(
        torch.tensor([gains], dtype=torch.float64),
        torch.tensor([target], dtype=torch.float64),
        torch.tensor([near]),
        torch.tensor([alpha], dtype=torch.float64),
        torch.tensor([rate], dtype=torch.float64),
    )
    return power_fractions[0].tolist(), bool(feasible[0])


@pytest.mark.parametrize(("gain", "feasible"), [(3.0, True), (3.0 - 1e-12, False), (3.0 + 1e-12, True)])
def test_a_minimum_power_of_exactly_the_budget_is_feasible(gain: float, feasible: bool) -> None:
    assert project([[gain]], [1.0], [False], 1.0, 2.0) == ([1.0], feasible)


@pytest.mark.parametrize(("alpha", "feasible"), [(0.25, True), (0.24, False)])
def test_a_minimum_power_of_exactly_alpha_c_is_feasible(alpha: float, feasible: bool) -> None:
    assert project([[4.0, 0.0], [0.0, 4.0]], [0.5, 0.5], [True, False], alpha, 1.0) == ([alpha, 1 - alpha], feasible)


def test_the_point_nearest_to_the_target_on_the_segment_is_taken() -> None:
    """Orthogonal users with gains 4 and 4: q >= 1/4 each, scaled up to (1/2, 1/2), and the target (1, 0)."""
    assert project([[4.0, 0.0], [0.0, 4.0]], [1.0, 0.0], [False, False], 1.0, 1.0) == ([0.75, 0.25], True)
    # with C3 the limited target is (1/2, 0): the power taken has no proportions to be divided by
    assert project([[4.0, 0.0], [0.0, 4.0]], [1.0, 0.0], [True, False], 0.5, 1.0) == ([0.5, 0.25], True)


def test_minimum_powers_count_interference() -> None:
    """4 q_1 - q_2 = 1 and 2 q_2 - q_1 / 2 = 1 for t = 1: q = (2 / 5, 3 / 5) by hand."""
    gains = torch.tensor([[[4.0, 1.0], [0.5, 2.0]]], dtype=torch.float64)
    least, reachable = minimum_power_fractions(gains, torch.ones(1, dtype=torch.float64))
    np.testing.assert_allclose(least, [[0.4, 0.6]], rtol=1e-14)
    assert bool(reachable)
    assert project([[4.0, 1.0], [0.5, 2.0]], [1.0, 0.0], [False, False], 1.0, 1.0)[1]


def test_users_without_gain_have_no_minimum_powers() -> None:
    gains = torch.tensor([[[4.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 2.0]]], dtype=torch.float64)
    least, reachable = minimum_power_fractions(gains, torch.ones(1, dtype=torch.float64))
    assert reachable.tolist() == [False, True]
    assert least.tolist() == [[0.0, 0.0], [0.25, 0.5]]


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_limits_that_bind_on_no_drop_are_as_none(rate: float) -> None:
    gains = torch.diag_embed(torch.full((2, 3), 100.0, dtype=torch.float64))
    target = torch.tensor([[0.2, 0.5, 0.3], [3.0, 0.0, 1.0]], dtype=torch.float64)
    near = torch.tensor([[True, False, False], [True, True, True]])
    one, rates = torch.ones(2, dtype=torch.float64), torch.full((2,), rate, dtype=torch.float64)
    without = project_power_fractions(gains, target, near, None, None if rate == 0 else rates)
    for found, expected in zip(project_power_fractions(gains, target, near, one, rates), without, strict=True):
        torch.testing.assert_close(found, expected)
    assert bool(without[1].all())


def test_a_drop_without_demand_keeps_its_target_beside_one_with() -> None:
    gains = torch.diag_embed(torch.full((2, 2), 4.0, dtype=torch.float64))
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found, feasible = project_power_fractions(
        gains, target, torch.zeros(2, 2, dtype=torch.bool), None, torch.tensor([0.0, 1.0], dtype=torch.float64)
    )
    assert found.tolist() == [[1.0, 0.0], [0.75, 0.25]]
    assert bool(feasible.all())


def test_powers_of_nothing_are_nothing() -> None:
    zero, near = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[True, False]])
    assert limit_power_fractions(zero, near, None).tolist() == [[0.0, 0.0]]
    assert limit_power_fractions(zero, near, torch.full((1,), 0.5, dtype=torch.float64)).tolist() == [[0.0, 0.0]]
    assert water_filling(zero).tolist() == [[0.0, 0.0]]


@given(gain=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=6))
def test_water_filling_meets_the_optimality_conditions(gain: list[float]) -> None:
    """Kuhn and Tucker: 1 / gain + q is the water level where q > 0, and 1 / gain at least that elsewhere."""
    q = water_filling(torch.tensor([gain], dtype=torch.float64))[0].numpy()
    assert q.sum() == pytest.approx(1, rel=1e-9)
    assert (q >= 0).all()
    floor = 1 / np.array(gain)
    level = (floor + q)[q > 0]
    np.testing.assert_allclose(level, level[0], rtol=1e-9)
    assert (floor[q == 0] >= level[0] * (1 - 1e-9)).all()


def test_water_filling_by_hand() -> None:
    gain = torch.tensor([[1.0, 2.0, 0.5], [4.0, 4.0, 4.0], [100.0, 1.0, 1.0]], dtype=torch.float64)
    expected = [[0.25, 0.75, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(water_filling(gain)[:2], expected, rtol=1e-14)
    np.testing.assert_allclose(water_filling(gain)[2], [(2.01 + 1) / 3 - 0.01, *[(2.01 + 1) / 3 - 1] * 2], rtol=1e-12)


def test_only_proportions_of_the_target_count() -> None:
    near = torch.tensor([[True, False, False]])
    target = torch.tensor([[6.0, 1.0, 1.0]], dtype=torch.float64)
    assert limit_power_fractions(target, near, None).tolist() == [[0.75, 0.125, 0.125]]
    assert limit_power_fractions(target, near, torch.tensor([0.5]).double()).tolist() == [[0.5, 0.25, 0.25]]
    assert limit_power_fractions(target, near, torch.tensor([0.875]).double()).tolist() == [[0.75, 0.125, 0.125]]


def test_little_slack_moves_the_target_far() -> None:
    """Gains 3, t = 1: q >= 1/3 each; the scaled minimum (1/2, 1/2) has slack 1/2, the target (1, 0) lacks 1."""
    power_fractions, feasible = project([[3.0, 0.0], [0.0, 3.0]], [1.0, 0.0], [False, False], 1.0, 1.0)
    assert power_fractions == pytest.approx([2 / 3, 1 / 3], rel=1e-14)
    assert feasible
