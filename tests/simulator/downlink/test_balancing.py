"""Directions balanced for the weakest user, against closed forms and the classical power control by N x N inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.downlink.balancing import max_min_candidate, max_min_dual_powers
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import assemble, make_candidate
from simulator.downlink.constraints import check_constraints
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.structure import structured_coefficients
from simulator.schemes.rzf import rzf_candidate
from tests.simulator.definitions import (
    KINDS,
    Array,
    best_worst_sinr,
    channel_sets,
    draw_channels,
    least_uplink_power,
    structured_beams,
    unit_rows,
)


def at_snr(snr_db: float) -> LinkBudget:
    return LinkBudget(1.0, 10 ** (-snr_db / 10))


def worst_uplink_sinr(h: Array, uplink: Array, noise: float) -> float:
    """In the uplink with MMSE receivers: lambda_k h_k^H (sigma^2 I + sum_{i != k} lambda_i h_i h_i^H)^-1 h_k."""
    found = []
    for k in range(len(h)):
        matrix = noise * np.eye(h.shape[1], dtype=complex)
        for i in range(len(h)):
            if i != k:
                matrix += uplink[i] * np.outer(h[i], h[i].conj())
        found.append(uplink[k] * (h[k].conj() @ np.linalg.inv(matrix) @ h[k]).real)
    return float(min(found))


def served(channels: torch.Tensor, near: torch.Tensor, budget: LinkBudget) -> Precoding:
    """The balanced answer where the power not needed is wanted equally."""
    equal = torch.full(near.shape, 1 / near.shape[1], dtype=torch.float64)
    found = max_min_candidate(normalised_gram(channels, budget), equal, near, budget)
    return assemble(ChannelBatch(channels, near), found, budget)


def far(channels: torch.Tensor) -> torch.Tensor:
    return torch.zeros(channels.shape[:2], dtype=torch.bool)


# The directions


@given(channels=channel_sets(), snr_db=st.floats(-10, 40))
def test_uplink_powers_are_shares(channels: torch.Tensor, snr_db: float) -> None:
    uplink = max_min_dual_powers(normalised_gram(channels, at_snr(snr_db)))
    assert uplink.shape == channels.shape[:2]
    assert uplink.dtype == torch.float64
    assert bool((uplink > 0).all())
    np.testing.assert_allclose(uplink.sum(-1), 1, rtol=1e-12)


@given(snr_db=st.floats(-20, 60))
def test_one_user_gets_all(snr_db: float) -> None:
    uplink = max_min_dual_powers(normalised_gram(draw_channels(0, 1, 4, drops=3), at_snr(snr_db)))
    np.testing.assert_allclose(uplink, 1, rtol=1e-12)


@pytest.mark.parametrize("snr_db", [-10, 10, 40])
@pytest.mark.parametrize("spread_db", [0, 30])
def test_orthogonal_users_invert_their_channels(snr_db: float, spread_db: float) -> None:
    """lambda_k s_k = x_k / (1 + x_k) with x_k = lambda_k ||h_k||^2 / sigma^2: alike where lambda_k ~ 1 / ||h_k||^2."""
    channels = draw_channels(1, users=5, antennas=8, kind="orthogonal", spread_db=spread_db, drops=4)
    inverse = 1 / torch.linalg.vector_norm(channels, dim=-1).double() ** 2
    uplink = max_min_dual_powers(normalised_gram(channels, at_snr(snr_db)))
    np.testing.assert_allclose(uplink, inverse / inverse.sum(-1, keepdim=True), rtol=1e-5)


@pytest.mark.parametrize("users", [2, 5])
@pytest.mark.parametrize("snr_db", [-10, 10, 40])
@pytest.mark.parametrize("spread_db", [0, 30])
def test_users_on_one_line_invert_their_channels_too(users: int, snr_db: float, spread_db: float) -> None:
    """s_k = g_k / (1 + sum_i lambda_i g_i), and the denominator is everybody's."""
    channels = draw_channels(2, users, antennas=6, kind="identical", spread_db=spread_db, drops=4)
    inverse = 1 / torch.linalg.vector_norm(channels, dim=-1).double() ** 2
    uplink = max_min_dual_powers(normalised_gram(channels, at_snr(snr_db)))
    np.testing.assert_allclose(uplink, inverse / inverse.sum(-1, keepdim=True), rtol=1e-3)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    users=st.integers(1, 5),
    antennas=st.integers(2, 8),
    kind=st.sampled_from(KINDS),
    spread_db=st.sampled_from([0.0, 10.0, 20.0]),
    snr_db=st.floats(-10, 20),
)
def test_nobody_can_lift_the_weakest_user_further(
    seed: int, users: int, antennas: int, kind: str, spread_db: float, snr_db: float
) -> None:
    channels, budget = draw_channels(seed, users, antennas, kind, spread_db), at_snr(snr_db)
    h, noise = channels[0].numpy().astype(complex), float(budget.noise_power)
    uplink = max_min_dual_powers(normalised_gram(channels, budget))[0].numpy()
    reached, best = worst_uplink_sinr(h, uplink, noise), best_worst_sinr(h, 1.0, noise)
    assert reached <= best * (1 + 2e-4)
    assert reached >= best * (1 - 0.02)


@pytest.mark.parametrize(("users", "antennas"), [(2, 4), (5, 6), (8, 64)])
@pytest.mark.parametrize("kind", ["gaussian", "orthogonal", "identical"])
@pytest.mark.parametrize("snr_db", [0, 30])
def test_all_users_have_the_same_sinr_even_far_from_the_noise(
    users: int, antennas: int, kind: str, snr_db: float
) -> None:
    channels = draw_channels(3, users, antennas, kind, spread_db=30, drops=5)
    noise = 10 ** (-snr_db / 10)
    uplink = max_min_dual_powers(normalised_gram(channels, at_snr(snr_db)))
    for drop in range(5):
        h = channels[drop].numpy().astype(complex)
        beams = structured_beams(h, uplink[drop].numpy(), noise)
        seen = uplink[drop].numpy() / noise * np.einsum("kn,kn->k", h.conj(), beams).real
        sinr = seen / (1 - seen)
        assert sinr.max() / sinr.min() < 1.002


# The answers


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    users=st.integers(1, 5),
    antennas=st.integers(2, 8),
    kind=st.sampled_from(KINDS),
    snr_db=st.floats(-10, 20),
    near_share=st.sampled_from([0.0, 0.5, 1.0]),
    ease=st.sampled_from([0.5, 0.9, 0.97, 1.01, 2.0]),
)
def test_without_c3_it_is_feasible_exactly_where_any_precoder_is(
    seed: int, users: int, antennas: int, kind: str, snr_db: float, near_share: float, ease: float
) -> None:
    """R_min a little below, or above, the best that the weakest user can have."""
    channels, noise = draw_channels(seed, users, antennas, kind, spread_db=10), 10 ** (-snr_db / 10)
    best = best_worst_sinr(channels[0].numpy().astype(complex), 1.0, noise)
    budget = LinkBudget(1.0, noise, 1.0, float(np.log2(1 + ease * best)))
    near = torch.from_numpy(np.random.default_rng(seed).random((1, users)) < near_share)
    found = served(channels, near, budget)
    assert bool(found.feasible) == (ease < 1)
    check = check_constraints(channels, found.precoder, found.power, near, budget)
    assert float(check.total_power) <= 1e-6
    assert float(check.min_rate) <= 1e-5 or not bool(found.feasible)


def test_it_serves_drops_that_zero_forcing_cannot() -> None:
    """R_min at 95 % of what the weakest user can have, drop by drop."""
    channels = draw_channels(4, users=4, antennas=6, drops=60, spread_db=20)
    reachable = [best_worst_sinr(h.numpy().astype(complex), 1.0, 0.05) for h in channels]
    rate = 0.95 * torch.log2(1 + torch.tensor(reachable, dtype=torch.float64))
    budget = LinkBudget(1.0, 0.05, 1.0, rate)
    textbook = rzf_candidate(normalised_gram(channels, budget), far(channels), budget)
    assert 0.2 < float(textbook.feasible.double().mean()) < 0.95
    found = served(channels, far(channels), budget)
    assert bool(found.feasible.all())
    check = check_constraints(channels, found.precoder, found.power, far(channels), budget)
    assert float(check.min_rate.max()) <= 1e-5


@settings(max_examples=60)
@given(
    channels=channel_sets(max_users=8, drops=4),
    seed=st.integers(0, 2**31),
    snr_db=st.floats(-10, 30),
)
def test_constraints_hold_with_c3_and_a_budget_for_each_drop(channels: torch.Tensor, seed: int, snr_db: float) -> None:
    rng = np.random.default_rng(seed)
    near = torch.from_numpy(rng.random(channels.shape[:2]) < 0.5)
    alpha, rate, power = (torch.from_numpy(rng.uniform(*ends, 4)) for ends in ((0.05, 1), (0.0, 1.2), (0.1, 10)))
    budget = LinkBudget(power, power * 10 ** (-snr_db / 10), alpha, rate)
    found = served(channels, near, budget)
    check = check_constraints(channels, found.precoder, found.power, near, budget)
    for name in ("total_power", "negative_power", "near_share", "beam_norm"):
        assert bool((getattr(check, name) <= 1e-5).all()), name
    assert bool((check.min_rate <= 1e-5)[found.feasible].all())
    for drop in range(4):  # flagged feasible, so some precoder must be, even without C3
        if bool(found.feasible[drop]):
            h, ratio = channels[drop].numpy().astype(complex), 10 ** (-snr_db / 10)
            assert np.isfinite(least_uplink_power(h, float(2 ** rate[drop] - 1) * (1 - 1e-6), ratio, 1 + 1e-6))


def test_leaning_directions_serve_near_field_users_within_their_limit() -> None:
    """Pairs of a near and a far user: balanced directions want more for the near one than C3 leaves it."""
    channels = draw_channels(5, users=2, antennas=4, drops=300)
    near = torch.tensor([[True, False]]).expand(300, 2)
    budget = LinkBudget(1.0, 0.1, 0.3, 1.8)
    gram = normalised_gram(channels, budget)
    straight = max_min_dual_powers(gram)
    equal = torch.full_like(straight, 0.5)
    upright = make_candidate(gram, structured_coefficients(gram, straight), equal, near, budget, straight)
    leaning = max_min_candidate(gram, equal, near, budget)
    assert bool((leaning.feasible | ~upright.feasible).all())
    assert int((leaning.feasible & ~upright.feasible).sum()) >= 5
    found = assemble(ChannelBatch(channels, near), leaning, budget)
    check = check_constraints(channels, found.precoder, found.power, near, budget)
    assert bool((check.min_rate <= 1e-5)[found.feasible].all())
    assert float(check.near_share.max()) <= 1e-6


def test_a_batch_is_its_drops_one_by_one() -> None:
    """Hopeless ones, easy ones, and ones that need leaning directions, under C3 or not."""
    channels = draw_channels(5, users=3, antennas=4, drops=60)
    near = torch.arange(180).reshape(60, 3) % 2 == 0
    alpha, rate = torch.tensor([0.2, 0.5, 1.0]).repeat(20).double(), torch.linspace(0, 3, 60).double()
    together = served(channels, near, LinkBudget(1.0, 0.1, alpha, rate))
    assert 0.2 < float(together.feasible.double().mean()) < 0.9
    for drop in range(60):
        part = slice(drop, drop + 1)
        alone = served(channels[part], near[part], LinkBudget(1.0, 0.1, alpha[part], rate[part]))
        torch.testing.assert_close(alone.power[0], together.power[drop], rtol=1e-9, atol=1e-12)
        assert bool(alone.feasible) == bool(together.feasible[drop])


def test_returned_uplink_powers_are_those_of_the_directions() -> None:
    channels = draw_channels(6, users=4, antennas=6, drops=20, spread_db=10)
    near = torch.arange(4).expand(20, 4) % 2 == 0
    found = served(channels, near, LinkBudget(2.0, 0.1, 0.3, 0.9))
    np.testing.assert_allclose(found.uplink_power.sum(-1), 2, rtol=1e-9)
    for drop in range(20):
        beams = structured_beams(channels[drop].numpy().astype(complex), found.uplink_power[drop].numpy(), 0.1)
        np.testing.assert_allclose(found.precoder[drop], unit_rows(beams), atol=1e-5)


def test_without_c3_the_directions_are_the_max_min_ones_and_with_it_where_rates_are_out_of_reach() -> None:
    channels = draw_channels(8, users=3, antennas=4, drops=40, spread_db=10)
    near = torch.arange(3).expand(40, 3) % 2 == 0
    rate = torch.linspace(0.1, 6, 40).double()
    gram = normalised_gram(channels, at_snr(10))
    max_min = max_min_dual_powers(gram)
    equal = torch.full_like(max_min, 1 / 3)
    free = max_min_candidate(gram, equal, near, LinkBudget(1.0, 0.1, 1.0, rate))
    torch.testing.assert_close(free.dual_power_fractions, max_min, rtol=0, atol=0)
    limited = max_min_candidate(gram, equal, near, LinkBudget(1.0, 0.1, 0.3, rate))
    assert 5 < int(free.feasible.sum()) < 35
    changed = (limited.dual_power_fractions != max_min).any(-1)
    assert not bool(changed[~free.feasible].any())
    assert bool(changed[free.feasible].any())


@pytest.mark.parametrize("weight", [0.3, 3.0, 0.1, 10.0, 0.03, 30.0])
def test_every_weight_of_the_near_field_users_is_tried(weight: float) -> None:
    """Some drop's best candidate has that weight, and no candidate of any weight is better."""
    channels = draw_channels(9, users=3, antennas=4, drops=400, spread_db=15)
    near = torch.arange(3).expand(400, 3) % 2 == 0
    budget = LinkBudget(1.0, 0.05, 0.25, 0.7)
    gram = normalised_gram(channels, budget)
    max_min = max_min_dual_powers(gram)
    equal = torch.full_like(max_min, 1 / 3)
    dual = max_min * torch.where(near, weight, 1.0)
    dual = dual / dual.sum(-1, keepdim=True)
    other = make_candidate(gram, structured_coefficients(gram, dual), equal, near, budget, dual)
    found = max_min_candidate(gram, equal, near, budget)
    free = max_min_candidate(gram, equal, near, LinkBudget(1.0, 0.05, 1.0, 0.7)).feasible
    assert bool(torch.isclose(found.dual_power_fractions, dual, rtol=1e-12, atol=0).all(-1).any())
    assert not bool((other.feasible & ~found.feasible)[free].any())
    alike = free & (other.feasible == found.feasible)
    assert bool((found.sum_rate >= other.sum_rate * (1 - 1e-8))[alike].all())


def test_max_min_iterations_alternate_between_the_two_fixed_points() -> None:
    """First lambda_k ~ 1 / d_k, then lambda_k ~ 1 / s_k, and so on."""
    channels, noise = draw_channels(10, users=3, antennas=3, spread_db=10), 0.1
    h = channels[0].numpy().astype(complex)
    gram = normalised_gram(channels, LinkBudget(1.0, noise))

    def gains(dual: Array, without_own: bool) -> Array:
        found = []
        for k in range(3):
            others = [i for i in range(3) if i != k or not without_own]
            matrix = noise * np.eye(3) + sum(dual[i] * np.outer(h[i], h[i].conj()) for i in others)
            found.append((h[k].conj() @ np.linalg.inv(matrix) @ h[k]).real)
        return np.array(found)

    dual = np.full(3, 1 / 3)
    for iteration in range(4):
        dual = 1 / gains(dual, iteration in (0, 2))
        dual = dual / dual.sum()
        np.testing.assert_allclose(max_min_dual_powers(gram, iteration + 1)[0], dual, rtol=1e-6)
