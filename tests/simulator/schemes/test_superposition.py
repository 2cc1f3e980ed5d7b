"""Groups, SIC and power splits against loops over their definitions and the two-user closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.sinr import sinr
from simulator.schemes.superposition import (
    coherent_groups,
    decoding_ranks,
    gains_after_cancellation,
    guaranteed_power_fractions,
    sic_sinr,
)
from tests.simulator.definitions import Array, channel_sets, draw_channels, sic_sinr_by_definition

GAINS = st.lists(st.floats(-50, 50), min_size=1, max_size=6).map(lambda db: 10 ** (np.array(db) / 10))


def one_group(gains: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """(gains, heads) of a drop whose users all share the first one's beam."""
    return torch.from_numpy(gains)[None], torch.zeros(1, len(gains), dtype=torch.int64)


@given(gains=GAINS, power=st.floats(0.01, 1))
def test_weaker_users_get_what_time_sharing_gives_and_the_strongest_no_less(gains: Array, power: float) -> None:
    gain, head = one_group(gains)
    users = len(gains)
    power_fractions = guaranteed_power_fractions(torch.full_like(gain, power), gain, head)[0].numpy()
    assert (power_fractions >= 0).all()
    assert power_fractions.sum() == pytest.approx(power, rel=1e-9)
    in_turn = np.log2(1 + power * gains) / users
    order = np.argsort(gains, kind="stable")
    for place, user in enumerate(order):
        later = power_fractions[order[place + 1 :]].sum()
        rate = np.log2(1 + gains[user] * power_fractions[user] / (1 + gains[user] * later))
        if place < users - 1:
            assert rate == pytest.approx(in_turn[user], rel=1e-6, abs=1e-12)
        assert rate >= in_turn[user] * (1 - 1e-6)


@pytest.mark.parametrize("power", [0.1, 1.0])
@pytest.mark.parametrize(("weak", "strong"), [(0.5, 3.0), (10.0, 1e4), (1e-6, 1e6), (7.0, 7.0)])
def test_two_users_against_the_closed_form(power: float, weak: float, strong: float) -> None:
    """1 + p_s g_w = sqrt(1 + P g_w): the strong user's power is (sqrt(1 + P g_w) - 1) / g_w."""
    gain, head = one_group(np.array([strong, weak]))
    power_fractions = guaranteed_power_fractions(torch.full_like(gain, power), gain, head)[0].numpy()
    expected = power / (np.sqrt(1 + power * weak) + 1)
    if weak < strong:
        np.testing.assert_allclose(power_fractions, [expected, power - expected], rtol=1e-9)
    else:
        np.testing.assert_allclose(sorted(power_fractions), sorted([expected, power - expected]), rtol=1e-9)


def test_groups_keep_to_their_own_power() -> None:
    gain = torch.tensor([[3.0, 50.0, 20.0, 4.0, 9.0]], dtype=torch.float64)
    head = torch.tensor([[1, 1, 2, 2, 4]])
    whole = torch.tensor([[0.5, 0.5, 0.3, 0.3, 0.2]], dtype=torch.float64)
    power_fractions = guaranteed_power_fractions(whole, gain, head)[0]
    for users in ([0, 1], [2, 3], [4]):
        alone = guaranteed_power_fractions(
            whole[:, users], gain[:, users], torch.zeros(1, len(users), dtype=torch.int64)
        )[0]
        torch.testing.assert_close(power_fractions[users], alone)


@settings(max_examples=60)
@given(channels=channel_sets(drops=3), coherence=st.sampled_from([0.2, 0.5, 0.9]))
def test_groups_are_headed_by_their_strongest_and_hold_all_coherent_with_it(
    channels: torch.Tensor, coherence: float
) -> None:
    head = coherent_groups(normalised_gram(channels, LinkBudget()), coherence).numpy()
    for h, heads in zip(channels.numpy().astype(complex), head, strict=True):
        gain = np.sum(np.abs(h) ** 2, -1)
        alike = np.abs(h.conj() @ h.T) ** 2 / np.outer(gain, gain)
        leaders = [user for user in range(len(h)) if heads[user] == user]
        assert set(heads) == set(leaders)
        for user, its_head in enumerate(heads):
            assert gain[user] <= gain[its_head] * 10**0.011  # 0.1 dB count as equal
            assert user == its_head or alike[user, its_head] > coherence
        for one in leaders:
            for other in leaders:
                assert one == other or alike[one, other] <= coherence


@settings(max_examples=60)
@given(channels=channel_sets(), seed=st.integers(0, 1000))
def test_what_sic_reaches_is_the_least_over_those_who_must_decode(channels: torch.Tensor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drops, users, _ = channels.shape
    effective_gains = rng.exponential(size=(drops, users, users)) * 10 ** rng.uniform(-3, 3, (drops, users, 1))
    power_fractions = rng.dirichlet(np.ones(users), drops)
    head = rng.integers(0, 2, (drops, users)) * (users - 1)
    order = rng.permuted(np.tile(np.arange(users), (drops, 1)), axis=1)
    found = sic_sinr(*(torch.from_numpy(part) for part in (effective_gains, power_fractions, head, order)))
    for drop in range(drops):
        expected = sic_sinr_by_definition(effective_gains[drop], power_fractions[drop], head[drop], order[drop])
        np.testing.assert_allclose(found[drop], expected, rtol=1e-9)


def test_decoding_in_order_of_gain_is_bounded_by_each_message_own_user() -> None:
    """On one beam every stronger user sees every message at a higher SINR, so cancellation costs nobody a rate."""
    rng = np.random.default_rng(3)
    gain = torch.from_numpy(rng.exponential(size=(5, 4)))
    effective_gains = gain.unsqueeze(-1).expand(5, 4, 4)
    head, rank = torch.zeros(5, 4, dtype=torch.int64), decoding_ranks(gain)
    power_fractions = torch.from_numpy(rng.dirichlet(np.ones(4), 5))
    torch.testing.assert_close(
        sic_sinr(effective_gains, power_fractions, head, rank),
        sinr(gains_after_cancellation(effective_gains, head, rank), power_fractions),
    )


def test_users_apart_cancel_nothing() -> None:
    gram = normalised_gram(draw_channels(4, users=4, antennas=64, drops=2), LinkBudget())
    head = coherent_groups(gram, 0.5)
    assert head.tolist() == [[0, 1, 2, 3]] * 2
    effective_gains = gram.abs()
    rank = decoding_ranks(effective_gains.diagonal(dim1=-2, dim2=-1))
    assert torch.equal(gains_after_cancellation(effective_gains, head, rank), effective_gains)
