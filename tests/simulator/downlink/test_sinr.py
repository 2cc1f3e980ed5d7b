"""SINRs and effective gains against loops over their definitions."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.sinr import achieved_sinr, effective_gain_matrix, rates, sinr
from tests.simulator.definitions import channel_sets, draw_channels, sinr_by_definition, unit_rows


def random_answer(channels: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(channels.shape, generator=generator, dtype=torch.complex64)
    w = w / torch.linalg.vector_norm(w, dim=-1, keepdim=True)
    return w, torch.rand(channels.shape[:2], generator=generator, dtype=torch.float64)


@given(channels=channel_sets(max_users=5, max_antennas=6), noise=st.floats(1e-4, 10))
def test_achieved_sinr_is_the_definition(channels: torch.Tensor, noise: float) -> None:
    w, power = random_answer(channels)
    found = achieved_sinr(channels, w, power, noise)
    for drop in range(len(channels)):
        expected = sinr_by_definition(
            channels[drop].numpy().astype(complex), w[drop].numpy().astype(complex), power[drop].numpy(), noise
        )
        np.testing.assert_allclose(found[drop], expected, rtol=1e-9)


def test_received_signal_has_the_sinr_it_should() -> None:
    """y = h^H x + n simulated symbol by symbol: pins which side is conjugated and where the noise goes."""
    rng = np.random.default_rng(3)
    channels = draw_channels(1, users=3, antennas=4)
    w, power = random_answer(channels, 2)
    noise, symbols = 0.05, 200_000

    def gaussian(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / math.sqrt(2)

    s = gaussian(3, symbols)
    x = w[0].numpy().T @ (np.sqrt(power[0].numpy())[:, None] * s)
    y = channels[0].numpy().conj() @ x + math.sqrt(noise) * gaussian(3, symbols)
    wanted = np.array([np.vdot(s[k], y[k]) / np.vdot(s[k], s[k]) for k in range(3)])
    rest = np.mean(np.abs(y - wanted[:, None] * s) ** 2, axis=1)
    measured = np.abs(wanted) ** 2 / rest
    np.testing.assert_allclose(measured, achieved_sinr(channels, w, power, noise)[0], rtol=0.02)


@given(channels=channel_sets(), snr_db=st.floats(-10, 40), seed=st.integers(0, 100))
def test_gram_domain_coupling_is_the_antenna_domain_one(channels: torch.Tensor, snr_db: float, seed: int) -> None:
    budget = LinkBudget(power=2.0, noise_power=2.0 * 10 ** (-snr_db / 10))
    users = channels.shape[1]
    coefficients = torch.randn(
        len(channels), users, users, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128
    )
    found = effective_gain_matrix(normalised_gram(channels, budget), coefficients).numpy()
    for drop in range(len(channels)):
        h = channels[drop].numpy().astype(complex)
        beams = np.stack([sum(complex(coefficients[drop, i, j]) * h[i] for i in range(users)) for j in range(users)])
        if np.linalg.norm(beams, axis=1).min() < 1e-4 * np.linalg.norm(h):
            continue  # the beam cancels to nothing
        expected = np.abs(h.conj() @ unit_rows(beams).T) ** 2 * 10 ** (snr_db / 10)
        np.testing.assert_allclose(found[drop], expected, rtol=1e-5, atol=1e-7 * expected.max())


def test_null_beam_couples_into_nobody() -> None:
    gram = normalised_gram(torch.zeros(1, 2, 4, dtype=torch.complex64), LinkBudget())
    effective_gains = effective_gain_matrix(gram, torch.eye(2, dtype=torch.complex128)[None])
    assert effective_gains.eq(0).all()
    assert rates(sinr(effective_gains, torch.full((1, 2), 0.5, dtype=torch.float64))).eq(0).all()


def test_sinr_of_strong_users_is_not_lost_in_rounding() -> None:
    effective_gains = torch.tensor([[[1e12, 1e-3], [2e-3, 1e12]]], dtype=torch.float64)
    found = sinr(effective_gains, torch.full((1, 2), 0.5, dtype=torch.float64))
    np.testing.assert_allclose(found[0], [0.5e12 / 1.0005, 0.5e12 / 1.001], rtol=1e-12)


def test_rates_are_base_two() -> None:
    assert rates(torch.tensor([0.0, 1.0, 3.0, 1023.0])).tolist() == [0.0, 1.0, 2.0, 10.0]
