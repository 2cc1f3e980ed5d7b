"""User selection in overloaded cells: the sets against their definition, and the answers that come of them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

import nflae_bridge.engine.comparison as comparison
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.user_selection import MOST_SELECTED, STARTS, is_overloaded, select_users
from nflae_bridge.network.checkpoint import load_checkpoint
from nflae_bridge.network.shipped import SHIPPED
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import make_candidate
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.downlink.structure import structured_beams, wmmse_step
from simulator.schemes import scheme
from tests.simulator.definitions import draw_channels

SNR_20_DB = LinkBudget(1.0, 0.01)


@cache
def engine(backend: str = "torch") -> Engine:
    return Engine(load_checkpoint(SHIPPED / "tiny"), backend=backend)


def uplink_sum_rate(h: np.ndarray, chosen: list[int], noise: float) -> float:
    """Sum rate at equal uplink powers behind N x N MMSE receivers, from its definition; h: (users, antennas)."""
    total = 0.0
    for user in chosen:
        others = [h[other] for other in chosen if other != user]
        covariance = noise * len(chosen) * np.eye(h.shape[1], dtype=complex)
        for each in others:
            covariance += np.outer(each, each.conj())
        total += np.log2(1 + (h[user].conj() @ np.linalg.solve(covariance, h[user])).real)
    return total


def best_set(h: np.ndarray, noise: float) -> set[int]:
    """Best set on the way of greedy growth from each of the strongest users, by trying every user at every step."""
    passed = []
    for start in np.argsort(-np.linalg.norm(h, axis=1))[:STARTS]:
        chosen = [int(start)]
        passed.append((uplink_sum_rate(h, chosen, noise), set(chosen)))
        while len(chosen) < min(h.shape):
            rest = [user for user in range(len(h)) if user not in chosen]
            rate, user = max((uplink_sum_rate(h, [*chosen, user], noise), user) for user in rest)
            chosen = [*chosen, user]
            passed.append((rate, set(chosen)))
    return max(passed, key=lambda each: each[0])[1]


@pytest.mark.parametrize(("users", "antennas"), [(6, 6), (9, 4), (5, 2), (3, 1)])
@pytest.mark.parametrize("snr_db", [0, 20])
def test_sets_are_those_of_the_greedy_search_by_definition(users: int, antennas: int, snr_db: float) -> None:
    channels = draw_channels(users, users, antennas, spread_db=20, drops=8)
    noise = 10 ** (-snr_db / 10)
    shares = select_users(normalised_gram(channels, LinkBudget(1.0, noise)), antennas)
    for drop, h in enumerate(channels.numpy().astype(complex)):
        assert set(np.flatnonzero(shares[drop])) == best_set(h, noise)
    torch.testing.assert_close(shares.sum(-1), torch.ones(8, dtype=torch.float64))
    assert float((shares.amax(-1) * (shares > 0).sum(-1) - 1).abs().max()) < 1e-12


def test_sets_are_limited_in_size() -> None:
    users = MOST_SELECTED + 8
    gram = 1e6 * torch.eye(users, dtype=torch.complex128).expand(1, users, users)
    assert int((select_users(gram, users) > 0).sum()) == MOST_SELECTED


def test_users_are_selected_from_as_many_users_as_antennas_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [is_overloaded(*size) for size in ((1, 1), (2, 2), (3, 2), (2, 3), (16, 8))] == [
        False,
        True,
        True,
        False,
        True,
    ]
    calls = []
    monkeypatch.setattr(comparison, "select_users", lambda *given: calls.append(given) or select_users(*given))
    for users, count in ((7, 0), (8, 1)):
        engine()(ChannelBatch(draw_channels(1, users, 8, drops=2)), SNR_20_DB)
        assert len(calls) == count


def converged(gram: torch.Tensor, dual: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Sum rate after 150 iterations of WMMSE."""
    beams = structured_beams(gram, dual)
    for _ in range(150):
        dual, beams, power = wmmse_step(gram, beams, power)
    received = beams.effective_gains * power.unsqueeze(-2)
    signal = received.diagonal(dim1=-2, dim2=-1)
    return torch.log2(1 + signal / (1 + received.sum(-1) - signal)).sum(-1)


@pytest.mark.parametrize(("users", "antennas"), [(8, 8), (16, 8)])
def test_overloaded_cells_reach_99_percent_of_converged_wmmse_from_three_starts(users: int, antennas: int) -> None:
    channels = draw_channels(users, users, antennas, drops=60)
    gram = normalised_gram(channels, SNR_20_DB)
    equal = torch.full((60, users), 1 / users, dtype=torch.float64)
    selected = select_users(gram, antennas)
    best = torch.stack(
        [converged(gram, *each) for each in ((equal * 1e-6, equal), (equal, equal), (selected, selected))]
    )
    found = engine()(ChannelBatch(channels), SNR_20_DB)
    achieved = rates(achieved_sinr(channels, found.precoder, found.power, SNR_20_DB.noise_power)).sum(-1)
    assert float(achieved.mean() / best.amax(0).mean()) > 0.99
    assert bool(found.fallback.any())
    assert not bool(found.fallback.all())


@pytest.mark.parametrize("kind", ["gaussian", "identical", "near-parallel", "rank-deficient"])
@pytest.mark.parametrize("snr_db", [-20, 20, 80])
def test_no_answer_is_below_rzf_of_selected_users_or_the_network(kind: str, snr_db: float) -> None:
    """At 80 dB drops are compared by the gains of the beams as they are returned."""
    channels = draw_channels(3, 10, 5, kind=kind, spread_db=10, drops=6)
    budget = LinkBudget(2.0, 2 * 10 ** (-snr_db / 10))
    found = engine()(ChannelBatch(channels), budget)
    alone = Engine(engine().checkpoint, with_fallback=False, backend="torch")(ChannelBatch(channels), budget)

    def achieved(precoder: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
        return rates(achieved_sinr(channels, precoder, power, budget.noise_power)).sum(-1)

    ours, least = achieved(found.precoder, found.power), achieved(alone.precoder, alone.power)
    chosen = [torch.nonzero(drop).flatten() for drop in select_users(normalised_gram(channels, budget), 5)]
    textbook = [scheme("rzf")(ChannelBatch(channels[[i]][:, each]), budget) for i, each in enumerate(chosen)]
    least = torch.maximum(least, torch.stack([each.sum_rate[0] for each in textbook]))
    assert bool((ours >= least * (1 - 2e-5)).all())
    assert bool((found.power >= 0).all())
    assert bool((found.power.sum(-1) <= 2 * (1 + 1e-9)).all())
    assert bool(found.precoder.isfinite().all())


def test_order_and_company_of_drops_and_users_change_nothing() -> None:
    channels = draw_channels(5, 12, 6, spread_db=10, drops=8)
    whole = engine()(ChannelBatch(channels), SNR_20_DB)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    permuted = engine()(ChannelBatch(channels[:, order]), SNR_20_DB)
    torch.testing.assert_close(permuted.power, whole.power[:, order], rtol=1e-4, atol=1e-6)
    for backend in ("torch", "numpy"):
        for drop in range(8):
            alone = engine(backend)(ChannelBatch(channels[[drop]]), SNR_20_DB)
            torch.testing.assert_close(alone.power[0], whole.power[drop], rtol=1e-4, atol=1e-6)
            assert bool(alone.fallback[0] == whole.fallback[drop])


def test_minimum_rates_are_not_lost_to_selected_users() -> None:
    """RZF of selected users leaves others without power, and wins only where it meets C3 and C4 after projection."""
    channels = draw_channels(9, 6, 6, spread_db=10, drops=40)
    budget = LinkBudget(1.0, 0.001, 1.0, 0.5)
    alone = Engine(engine().checkpoint, with_fallback=False, backend="torch")(ChannelBatch(channels), budget)
    found = engine()(ChannelBatch(channels), budget)
    assert bool((found.feasible | ~alone.feasible).all())
    assert int(found.feasible.sum()) > 10
    assert bool((found.rate[found.feasible] >= 0.5 - 1e-5).all())


def test_rzf_of_all_users_stays_marked_where_selecting_does_not_improve_on_it() -> None:
    """For orthogonal users of equal gains it is optimal, and every user is selected; the network serves one user."""
    channels = draw_channels(2, 6, 6, kind="orthogonal", drops=4)
    gram, near = normalised_gram(channels, SNR_20_DB), torch.zeros(4, 6, dtype=torch.bool)
    equal, one = torch.full((4, 6), 1 / 6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)[:1].expand(4, 6)
    torch.testing.assert_close(select_users(gram, 6), equal)
    served, by_all = (
        make_candidate(gram, structured_beams(gram, share).coefficients, share, near, SNR_20_DB)
        for share in (one, equal)
    )
    assert bool(comparison._best_of(served, served.feasible, [by_all, served])[1].all())
