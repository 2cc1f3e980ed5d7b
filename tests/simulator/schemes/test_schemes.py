"""Every scheme against plain numpy written from its definition, and the figures published for them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import simulator.schemes as registry
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.candidates import Candidate
from simulator.downlink.capacity import dirty_paper_capacity
from simulator.downlink.constraints import check_constraints
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.steering import near_field_steering
from simulator.schemes import needs_sic, scheme, scheme_names
from simulator.schemes.codebooks import DFT_CURVATURES, codewords
from simulator.schemes.registry import REGISTRY
from simulator.schemes.superposition import coherent_groups
from simulator.schemes.wmmse import wmmse
from tests.simulator.definitions import (
    Array,
    channel_sets,
    draw_channels,
    sic_sinr_by_definition,
    structured_beams,
    sum_rate,
    unit_rows,
    water_filling_rate,
    wmmse_iteration,
)

CLASSICAL = ("ldma", "mrt", "noma", "rzf", "sdma", "wmmse", "zf")
CODEBOOKS = ("ldma", "sdma")  # beams are sums of codewords, not of channels


def assert_same_directions(found: Array, expected: Array, tolerance: float = 1e-6) -> None:
    """Equal up to a phase of each row."""
    overlap = np.abs(np.sum(unit_rows(found).conj() * unit_rows(expected), -1))
    np.testing.assert_allclose(overlap, 1, rtol=tolerance)


def far(channels: torch.Tensor) -> ChannelBatch:
    return ChannelBatch(channels, torch.zeros(channels.shape[:2], dtype=torch.bool))


def test_mrt_is_matched_to_each_user() -> None:
    channels = draw_channels(1, users=4, antennas=8, drops=3, spread_db=10)
    answer = scheme("mrt")(far(channels), LinkBudget(2.0, 0.1))
    np.testing.assert_allclose(answer.precoder, unit_rows(channels.numpy()), atol=1e-6)
    np.testing.assert_allclose(answer.power, 0.5, rtol=1e-12)
    assert answer.uplink_power.isnan().all()


@pytest.mark.parametrize("users", [1, 3, 8])
def test_zf_is_the_pseudo_inverse_and_leaves_no_interference(users: int) -> None:
    channels = draw_channels(2, users, antennas=8, drops=3, spread_db=30)
    answer = scheme("zf")(far(channels), LinkBudget(1.0, 1e-3))
    for drop in range(3):
        h = channels[drop].numpy().astype(complex)
        assert_same_directions(answer.precoder[drop].numpy(), np.linalg.pinv(h.conj()).T)
        received = np.abs(unit_rows(h).conj() @ answer.precoder[drop].numpy().T)
        assert (received - np.diag(np.diag(received))).max() < 2e-6 / np.diag(received).min()
        snr = np.diag(np.abs(h.conj() @ unit_rows(np.linalg.pinv(h.conj()).T).T)) ** 2 / users / 1e-3
        np.testing.assert_allclose(answer.sinr[drop], snr, rtol=1e-5)


def test_rzf_is_the_mmse_inverse_with_equal_powers() -> None:
    channels = draw_channels(3, users=5, antennas=8, drops=3, spread_db=10)
    answer = scheme("rzf")(far(channels), LinkBudget(2.0, 0.05))
    for drop in range(3):
        expected = structured_beams(channels[drop].numpy().astype(complex), np.full(5, 2 / 5), 0.05)
        np.testing.assert_allclose(answer.precoder[drop], unit_rows(expected), atol=2e-6)
    np.testing.assert_allclose(answer.power, 0.4, rtol=1e-12)
    np.testing.assert_allclose(answer.uplink_power, 0.4, rtol=1e-12)


@pytest.mark.parametrize("iterations", [1, 5, 60])
def test_wmmse_is_the_textbooks_started_from_rzf(iterations: int) -> None:
    power, noise = 2.0, 0.05
    channels = draw_channels(4, users=4, antennas=6, drops=2, spread_db=10)
    answer = wmmse(far(channels), LinkBudget(power, noise), iterations)
    for drop in range(2):
        h = channels[drop].numpy().astype(complex)
        beams = np.sqrt(power / 4) * unit_rows(structured_beams(h, np.full(4, power / 4), noise))
        for _ in range(iterations):
            beams = wmmse_iteration(h, beams, power, noise)
        np.testing.assert_allclose(answer.power[drop], np.sum(np.abs(beams) ** 2, 1), rtol=1e-4, atol=1e-8)
        assert float(answer.sum_rate[drop]) == pytest.approx(sum_rate(h, beams, noise), rel=1e-6)
        used = answer.power[drop].numpy() > 1e-6
        assert_same_directions(answer.precoder[drop].numpy()[used], beams[used])


@settings(max_examples=40)
@given(
    channels=channel_sets(drops=3),
    snr_db=st.floats(-10, 30),
    alpha_c=st.sampled_from([0.1, 0.4, 1.0]),
    min_rate=st.sampled_from([0.0, 0.1, 0.6]),
    near=st.integers(0, 2**24 - 1),
)
def test_every_scheme_holds_the_constraints_it_claims(
    channels: torch.Tensor, snr_db: float, alpha_c: float, min_rate: float, near: int
) -> None:
    drops, users, _ = channels.shape
    labels = torch.tensor([bool(near >> bit & 1) for bit in range(drops * users)]).reshape(drops, users)
    budget = LinkBudget(3.0, 3.0 * 10 ** (-snr_db / 10), alpha_c, min_rate)
    for name in CLASSICAL:
        answer = scheme(name)(ChannelBatch(channels, labels), budget)
        assert torch.equal(answer.near_field, labels)
        check = check_constraints(channels, answer.precoder, answer.power, labels, budget)
        for held in (check.total_power, check.negative_power, check.near_share, check.beam_norm):
            assert bool((held <= 1e-5).all()), name
        torch.testing.assert_close(answer.sum_rate, answer.rate.sum(-1))
        torch.testing.assert_close(answer.rate, torch.log2(1 + answer.sinr))
        if answer.needs_sic:
            assert bool((answer.rate >= min_rate - 1e-5)[answer.feasible].all()), name
            assert_rates_are_those_of_sic(channels, answer, budget)
            continue
        assert bool((check.min_rate <= 1e-5)[answer.feasible].all()), name
        achieved = rates(achieved_sinr(channels, answer.precoder, answer.power, budget.noise_power))
        torch.testing.assert_close(achieved, answer.rate, rtol=1e-4, atol=1e-4)


def assert_rates_are_those_of_sic(channels: torch.Tensor, answer: Precoding, budget: LinkBudget) -> None:
    """By loops, from the beams and powers returned; drops where rounding decides who of a group decodes first aside."""
    heads = coherent_groups(normalised_gram(channels, budget), 0.5).numpy()
    parts = (channels, answer.precoder, answer.power, answer.rate)
    for h, w, power, rate, head in zip(*(part.numpy() for part in parts), heads, strict=True):
        effective_gains = np.abs(h.astype(complex).conj() @ w.T) ** 2 * budget.power / budget.noise_power
        power_fractions = power / budget.power
        same = np.equal.outer(head, head)
        np.testing.assert_allclose(np.abs(w.conj() @ w.T)[same], 1, atol=1e-5)
        gain = np.diag(effective_gains) / (1 + np.sum(effective_gains * power_fractions * ~same, -1))
        close = np.abs(np.subtract.outer(gain, gain)) < 1e-3 * gain
        if not (close & same & ~np.eye(len(h), dtype=bool)).any():
            order = np.argsort(np.argsort(gain))
            expected = np.log2(1 + sic_sinr_by_definition(effective_gains, power_fractions, head, order))
            np.testing.assert_allclose(rate, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("antennas", [16, 64])
@pytest.mark.parametrize("noise", [0.1, 1e-3])
def test_sdma_serves_users_on_the_dft_grid_without_loss(antennas: int, noise: float) -> None:
    """Orthogonal plane waves: every user gets log2(1 + SNR / K)."""
    numbers = torch.tensor([[3, 0, 9, antennas - 1]])
    channels = codewords(numbers, DFT_CURVATURES, antennas).to(torch.complex64)
    answer = scheme("sdma")(far(channels), LinkBudget(2.0, noise))
    np.testing.assert_allclose(answer.rate, np.log2(1 + 2.0 / noise / 4), rtol=1e-5)
    assert_same_directions(answer.precoder.numpy(), channels.numpy())


def test_ldma_tells_users_of_one_direction_apart_by_distance() -> None:
    """Three users straight ahead: plane waves can hardly tell them apart, distances can. Conjugated CSI is as good."""
    array = UniformLinearArray(256, 30e9)
    distance = torch.tensor([[6.0, 12.0, 200.0]], dtype=torch.float64)
    channels = near_field_steering(array, torch.zeros_like(distance), distance)

    def reached(name: str, received: torch.Tensor) -> float:
        return float(scheme(name)(far(received), LinkBudget()).sum_rate)

    assert reached("ldma", channels) > reached("sdma", channels) + 3
    assert reached("ldma", channels.conj().resolve_conj()) == pytest.approx(reached("ldma", channels), rel=1e-4)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_hybrid_zero_forcing_leaves_no_interference(name: str) -> None:
    channels = draw_channels(9, users=6, antennas=64, drops=4, spread_db=20)
    answer = scheme(name)(far(channels), LinkBudget(1.0, 0.01))
    for h, w, sinr in zip(channels.numpy().astype(complex), answer.precoder.numpy(), answer.sinr.numpy(), strict=True):
        received = np.abs(unit_rows(h).conj() @ w.T)
        assert (received - np.diag(np.diag(received))).max() < 1e-5 * np.diag(received).min()
        np.testing.assert_allclose(sinr, np.abs(np.sum(h.conj() * w, -1)) ** 2 / 6 / 0.01, rtol=1e-4)


@pytest.mark.parametrize("snr", [1.0, 100.0, 1e6])
@pytest.mark.parametrize("gain_db", [1.0, 7.0, 100.0])
def test_noma_of_two_coherent_users_is_the_textbooks(snr: float, gain_db: float) -> None:
    """R_strong = log2(1 + p_s g_s), R_weak = log2(1 + p_w g_w / (p_s g_w + 1)) on the strong user's matched beam, and
    neither gets less than half of the time alone on the beam would give it."""
    strong = unit_rows(draw_channels(10, users=1, antennas=16)[0].numpy().astype(complex))[0]
    other = unit_rows(draw_channels(11, users=1, antennas=16)[0].numpy().astype(complex))[0]
    weak = 10 ** (-gain_db / 20) * unit_rows(strong + 0.2 * other)
    channels = torch.from_numpy(np.stack([weak * 1j, strong])[None].astype(np.complex64))
    answer = scheme("noma")(far(channels), LinkBudget(2.0, 2.0 / snr))
    assert_same_directions(answer.precoder[0].numpy(), np.stack([strong, strong]))
    g_s, g_w = snr, snr * abs(weak.conj() @ strong) ** 2
    p_s = (np.sqrt(1 + g_w) - 1) / g_w if g_w > 1e-3 else 0.5 - g_w / 8
    p_w = 1 - p_s
    np.testing.assert_allclose(answer.power[0], [2 * p_w, 2 * p_s], rtol=1e-5)
    expected = [np.log2(1 + p_w * g_w / (p_s * g_w + 1)), np.log2(1 + p_s * g_s)]
    np.testing.assert_allclose(answer.rate[0], expected, rtol=1e-5)
    in_turn = np.log2(1 + np.array([g_w, g_s])) / 2
    assert (answer.rate[0].numpy() >= in_turn * (1 - 1e-5)).all()
    assert float(answer.rate[0, 0]) == pytest.approx(in_turn[0], rel=1e-5)


def test_noma_without_coherent_users_is_zero_forcing_with_water_filling() -> None:
    channels = draw_channels(12, users=5, antennas=64, drops=3, spread_db=20)
    answer = scheme("noma")(far(channels), LinkBudget(1.0, 0.1))
    zero_forcing = scheme("zf")(far(channels), LinkBudget(1.0, 0.1))
    assert_same_directions(answer.precoder.numpy(), zero_forcing.precoder.numpy())
    for h, w, rate in zip(channels.numpy(), zero_forcing.precoder.numpy(), answer.sum_rate, strict=True):
        gains = np.abs(np.sum(h.conj() * w, -1)) ** 2 / 0.1
        assert float(rate) == pytest.approx(water_filling_rate(gains), rel=1e-5)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    users=st.integers(1, 6),
    kind=st.sampled_from(["gaussian", "identical", "rank-deficient", "orthogonal"]),
    snr_db=st.floats(-10, 20),
)
def test_codebook_schemes_and_noma_follow_permutations_and_ignore_phases(
    seed: int, users: int, kind: str, snr_db: float
) -> None:
    channels = draw_channels(seed, users, 24, kind, spread_db=10)
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(rng.permutation(users))
    phase = torch.from_numpy(np.exp(2j * np.pi * rng.random((users, 1))).astype(np.complex64))
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10))
    for name in (*CODEBOOKS, "noma"):
        original = scheme(name)(far(channels), budget)
        moved = scheme(name)(far((channels * phase)[:, order]), budget)
        torch.testing.assert_close(moved.sum_rate, original.sum_rate, rtol=1e-3, atol=1e-4)
        if name != "noma" or kind != "identical":  # of users with one channel somebody has to decode first
            torch.testing.assert_close(moved.rate, original.rate[:, order], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ldma", "noma", "sdma"])
def test_users_100_db_apart_get_finite_rates(name: str) -> None:
    channels = draw_channels(13, users=5, antennas=16, drops=2)
    channels = channels * 10 ** (-torch.arange(5)[:, None] * 25 / 20)
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1, 3]):
        answer = scheme(name)(far(channels[:, order]), LinkBudget(1.0, 1e-8))
        assert bool(answer.rate.isfinite().all())
        assert bool((answer.rate[:, order.index(0)] > 10).all())
        assert float(answer.power.sum(-1).max()) == pytest.approx(1, abs=1e-9)


def test_answers_tell_whether_receivers_need_sic_as_the_registry_does() -> None:
    channels = draw_channels(14, users=3, antennas=8)
    answers = {name: scheme(name)(far(channels), LinkBudget()) for name in CLASSICAL}
    assert {name for name, answer in answers.items() if answer.needs_sic} == {"noma"}
    assert {name for name in CLASSICAL if needs_sic(name)} == {"noma"}
    assert not needs_sic("no such scheme")


@settings(max_examples=25)
@given(channels=channel_sets(drops=1), snr_db=st.floats(-10, 30), seed=st.integers(0, 1000))
def test_schemes_follow_permutations_and_ignore_phases(channels: torch.Tensor, snr_db: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(channels.shape[1], generator=generator)
    phase = torch.polar(torch.ones(channels.shape[1]), 6.3 * torch.rand(channels.shape[1], generator=generator))
    budget = LinkBudget(1.0, 10 ** (-snr_db / 10))
    for name in ("mrt", "rzf", "wmmse"):
        original = scheme(name)(far(channels), budget)
        moved = scheme(name)(far((channels * phase[:, None])[:, order]), budget)
        rtol = 1e-4 if name == "rzf" else 1e-5  # in single precision
        torch.testing.assert_close(moved.sum_rate, original.sum_rate, rtol=rtol, atol=1e-5)
        if name != "wmmse":  # identical users leave WMMSE a choice
            torch.testing.assert_close(moved.rate, original.rate[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize(
    ("kind", "users", "antennas"),
    [
        ("gaussian", 1, 8),
        ("gaussian", 1, 1),
        ("gaussian", 6, 2),
        ("identical", 3, 8),
        ("rank-deficient", 6, 8),
        ("near-parallel", 4, 8),
        ("identical", 4, 1),
    ],
)
@pytest.mark.parametrize("noise", [1e-6, 0.01, 100.0])
def test_degenerate_channels_give_finite_answers(name: str, kind: str, users: int, antennas: int, noise: float) -> None:
    channels = draw_channels(5, users, antennas, kind, drops=2)
    answer = scheme(name)(far(channels), LinkBudget(1.0, noise))
    for value in (answer.precoder, answer.power, answer.sinr, answer.sum_rate):
        assert bool(torch.isfinite(value).all())
    np.testing.assert_allclose(torch.linalg.vector_norm(answer.precoder, dim=-1), 1, atol=1e-5)
    if users == 1 and name not in CODEBOOKS:
        np.testing.assert_allclose(answer.sinr, 1 / noise, rtol=1e-5)
        assert_same_directions(answer.precoder.numpy(), channels.numpy())


@pytest.mark.parametrize("name", CLASSICAL)
def test_unit_of_the_channels_changes_nothing(name: str) -> None:
    channels = draw_channels(6, users=4, antennas=8, spread_db=10)
    reference = scheme(name)(far(channels), LinkBudget(1.0, 0.01))
    for unit in (1e-9, 1e-6, 1e6):
        scaled = scheme(name)(far(channels * unit), LinkBudget(1.0, 0.01 * unit**2))
        torch.testing.assert_close(scaled.precoder, reference.precoder, rtol=0, atol=1e-5)
        torch.testing.assert_close(scaled.rate, reference.rate, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CLASSICAL)
def test_budget_per_drop_is_the_budget_of_each_drop(name: str) -> None:
    channels = draw_channels(8, users=3, antennas=8, drops=4)
    labels = torch.arange(12).reshape(4, 3) % 2 == 0
    budget = LinkBudget(
        torch.tensor([1.0, 2.0, 0.5, 1.0]),
        torch.tensor([0.01, 0.1, 0.02, 1.0]),
        torch.tensor([1.0, 0.3, 0.4, 0.2]),
        torch.tensor([0.0, 0.4, 1.0, 0.0]),
    )
    together = scheme(name)(ChannelBatch(channels, labels), budget)
    for drop in range(4):
        part = slice(drop, drop + 1)
        alone = scheme(name)(ChannelBatch(channels[part], labels[part]), budget.slice(drop, drop + 1))
        torch.testing.assert_close(together.precoder[part], alone.precoder, rtol=0, atol=1e-5)
        torch.testing.assert_close(together.power[part], alone.power, rtol=1e-5, atol=1e-7)
        assert together.feasible[part].tolist() == alone.feasible.tolist()


def test_a_feasible_candidate_beats_an_infeasible_one_whatever_the_sum_rate() -> None:
    """In four drops each of the two is feasible or not; ours has the larger sum rate in all of them."""

    def made(sinr: float, feasible: list[bool]) -> Candidate:
        ones = torch.ones(4, 2, dtype=torch.float64)
        return Candidate(torch.ones(4, 2, 2, dtype=torch.complex128), ones, ones, sinr * ones, torch.tensor(feasible))

    ours, theirs = made(7.0, [True, True, False, False]), made(3.0, [True, False, True, False])
    best, other_won = ours.better_of(theirs)
    assert other_won.tolist() == [False, False, True, False]
    assert best.feasible.tolist() == [True, True, True, False]
    assert best.sum_rate.tolist() == [6.0, 6.0, 4.0, 6.0]
    _, ours_won = theirs.better_of(ours)
    assert ours_won.tolist() == [True, True, False, True]
    _, won_by_itself = ours.better_of(ours)
    assert not won_by_itself.any()


def test_registry_lists_the_classical_schemes() -> None:
    assert set(CLASSICAL) <= set(scheme_names())
    assert scheme_names() == sorted(scheme_names())


def test_unknown_scheme_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown scheme 'mmse'.*ldma.*mrt.*noma.*rzf.*sdma.*wmmse.*zf"):
        scheme("mmse")


def test_a_file_adds_a_scheme_whose_name_is_the_decorators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other_stem.py").write_text(
        "from simulator.schemes import register\n@register('random-beams')\ndef beams(batch, budget):\n    return 42\n"
    )
    monkeypatch.setattr(registry, "__path__", [*registry.__path__, str(tmp_path)])
    monkeypatch.setattr(REGISTRY, "loaded", dict(REGISTRY.loaded))
    monkeypatch.delitem(sys.modules, "simulator.schemes.other_stem", raising=False)
    assert "random-beams" in scheme_names()
    assert scheme("random-beams")(None, None) == 42  # type: ignore[arg-type, comparison-overlap]
    sys.modules.pop("simulator.schemes.other_stem", None)


def published(users: int, drops: int = 300) -> torch.Tensor:
    scene = replace(scenario("paper", users=users, antennas=256), angle="absolute")
    return scene.draw(drops, torch.Generator().manual_seed(2024)).channels


def assert_mean(values: torch.Tensor, figure: float, rounding: float = 0.05) -> None:
    """The mean agrees with a published figure within three standard errors of ours and its rounding."""
    error = float(values.std()) / len(values) ** 0.5
    assert error < 0.17
    assert abs(float(values.mean()) - figure) < 3 * error + rounding


@pytest.mark.parametrize(("users", "capacity", "wmmse_rate"), [(5, 21.2, 20.8), (8, 28.4, 27.5), (10, 32.1, 31.0)])
def test_published_capacity_and_wmmse(users: int, capacity: float, wmmse_rate: float) -> None:
    channels = published(users)
    bound = dirty_paper_capacity(channels, LinkBudget())
    reached = wmmse(far(channels), LinkBudget(), 100).sum_rate
    assert_mean(bound, capacity)
    assert_mean(reached, wmmse_rate)
    # the ratio has far less spread than the rates themselves
    assert float(reached.mean() / bound.mean()) == pytest.approx(wmmse_rate / capacity, abs=0.005)


def test_published_rzf_at_ten_users() -> None:
    assert_mean(scheme("rzf")(far(published(10, 500)), LinkBudget()).sum_rate, 29.1)


@pytest.mark.parametrize(("users", "power_dbw"), [(5, 0), (8, 0), (10, -10), (10, 0), (10, 10)])
def test_the_near_fields_schemes_stand_in_the_published_order(users: int, power_dbw: int) -> None:
    channels, budget = published(users, 150), LinkBudget(10 ** (power_dbw / 10))
    mean = {name: float(scheme(name)(far(channels), budget).sum_rate.mean()) for name in ("sdma", "ldma", "noma")}
    best = float(wmmse(far(channels), budget, 100).sum_rate.mean())
    assert mean["sdma"] < mean["ldma"] < best
    assert mean["sdma"] < mean["noma"] < best < float(dirty_paper_capacity(channels, budget).mean())
