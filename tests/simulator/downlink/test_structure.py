"""The K x K form of the optimal structure and of WMMSE against N x N matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.sinr import effective_gain_matrix, rates, sinr
from simulator.downlink.structure import structured_beams, structured_coefficients, wmmse_step
from tests.simulator.definitions import (
    channel_sets,
    draw_channels,
    sum_rate,
    unit_rows,
    wmmse_iteration,
)
from tests.simulator.definitions import (
    structured_beams as beams_by_definition,
)


def form_beams(channels: torch.Tensor, coefficients: torch.Tensor) -> np.ndarray:
    """Rows of (H C)^T in the antenna domain; (drops, users, antennas)."""
    return (coefficients.transpose(-1, -2) @ channels.to(torch.complex128)).numpy()


@given(
    channels=channel_sets(),
    snr_db=st.floats(-10, 30),
    seed=st.integers(0, 1000),
    silent=st.booleans(),
)
def test_structure_equals_the_antenna_sized_inverse(
    channels: torch.Tensor, snr_db: float, seed: int, silent: bool
) -> None:
    power, noise = 3.0, 3.0 * 10 ** (-snr_db / 10)
    power_fractions = np.random.default_rng(seed).dirichlet(np.ones(channels.shape[1]), len(channels))
    if silent:
        power_fractions[:, 0] = 0.0  # lambda_k = 0 is allowed
    gram = normalised_gram(channels, LinkBudget(power, noise))
    found = form_beams(channels, structured_coefficients(gram, torch.from_numpy(power_fractions)))
    for drop in range(len(channels)):
        h = channels[drop].numpy().astype(complex)
        expected = beams_by_definition(h, power_fractions[drop] * power, noise)
        np.testing.assert_allclose(found[drop], expected, atol=1e-7 * np.abs(h).max(), rtol=1e-6)


def test_structure_without_uplink_power_is_the_matched_filter() -> None:
    channels = draw_channels(0, users=4, antennas=6)
    gram = normalised_gram(channels, LinkBudget())
    found = form_beams(channels, structured_coefficients(gram, torch.zeros(1, 4, dtype=torch.float64)))
    np.testing.assert_allclose(found, channels.numpy(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "identical", "near-parallel", "rank-deficient"])
@pytest.mark.parametrize(("users", "antennas"), [(1, 8), (2, 8), (5, 16), (6, 3)])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_wmmse_step_is_a_textbook_iteration(kind: str, users: int, antennas: int, snr_db: float) -> None:
    channels = draw_channels(7, users, antennas, kind, spread_db=6.0)
    power, noise = 2.0, 2.0 * 10 ** (-snr_db / 10)
    gram = normalised_gram(channels, LinkBudget(power, noise))
    uplink = power_fractions = torch.full((1, users), 1 / users, dtype=torch.float64)
    h = channels[0].numpy().astype(complex)
    directions = structured_beams(gram, uplink)
    beams = np.sqrt(power / users) * unit_rows(beams_by_definition(h, np.full(users, power / users), noise))
    for _ in range(5):
        uplink, directions, power_fractions = wmmse_step(gram, directions, power_fractions)
        beams = wmmse_iteration(h, beams, power, noise)
        ours = unit_rows(form_beams(channels, structured_coefficients(gram, uplink))[0])
        ours = ours * np.sqrt(power * power_fractions[0].numpy())[:, None]
        assert sum_rate(h, ours, noise) == pytest.approx(sum_rate(h, beams, noise), rel=1e-7)
        np.testing.assert_allclose(power * power_fractions[0], np.sum(np.abs(beams) ** 2, 1), rtol=1e-5, atol=1e-9)
        overlap = np.abs(np.sum(ours.conj() * beams, 1))
        np.testing.assert_allclose(overlap, np.linalg.norm(ours, axis=1) * np.linalg.norm(beams, axis=1), rtol=1e-6)


@settings(max_examples=60)
@given(channels=channel_sets(drops=3), snr_db=st.floats(-10, 30), seed=st.integers(0, 1000))
def test_wmmse_step_never_lowers_the_sum_rate_and_keeps_sums(channels: torch.Tensor, snr_db: float, seed: int) -> None:
    gram = normalised_gram(channels, LinkBudget(1.0, 10 ** (-snr_db / 10)))
    rng = np.random.default_rng(seed)
    uplink, power_fractions = (
        torch.from_numpy(rng.dirichlet(np.full(channels.shape[1], 0.5), len(channels))) for _ in range(2)
    )

    def rate() -> torch.Tensor:
        return rates(sinr(effective_gain_matrix(gram, structured_coefficients(gram, uplink)), power_fractions)).sum(-1)

    before, beams = rate(), structured_beams(gram, uplink)
    for _ in range(6):
        uplink, beams, power_fractions = wmmse_step(gram, beams, power_fractions)
        after = rate()
        torch.testing.assert_close(
            beams.effective_gains, effective_gain_matrix(gram, structured_coefficients(gram, uplink))
        )
        assert bool((after >= before * (1 - 1e-9)).all())
        torch.testing.assert_close(power_fractions.sum(-1), torch.ones(len(channels), dtype=torch.float64))
        torch.testing.assert_close(uplink.sum(-1), torch.ones(len(channels), dtype=torch.float64))
        assert bool((power_fractions >= 0).all() and (uplink >= 0).all())
        before = after


def test_wmmse_step_is_finite_on_null_channels() -> None:
    gram = normalised_gram(torch.zeros(1, 3, 4, dtype=torch.complex64), LinkBudget())
    equal = torch.full((1, 3), 1 / 3, dtype=torch.float64)
    uplink, _, power_fractions = wmmse_step(gram, structured_beams(gram, equal), equal)
    assert bool(uplink.isfinite().all() and power_fractions.isfinite().all())
