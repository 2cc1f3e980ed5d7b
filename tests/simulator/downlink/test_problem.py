"""Link quantities against loops over their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulator.downlink.budget import LinkBudget
from simulator.downlink.problem import (
    ChannelBatch,
    achieved_sinr,
    check_constraints,
    effective_gains_of,
    normalised_gram,
    per_drop,
    rates,
    sinr,
)
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
    found = effective_gains_of(normalised_gram(channels, budget), coefficients).numpy()
    for drop in range(len(channels)):
        h = channels[drop].numpy().astype(complex)
        beams = np.stack([sum(complex(coefficients[drop, i, j]) * h[i] for i in range(users)) for j in range(users)])
        if np.linalg.norm(beams, axis=1).min() < 1e-4 * np.linalg.norm(h):
            continue  # the beam cancels to nothing
        expected = np.abs(h.conj() @ unit_rows(beams).T) ** 2 * 10 ** (snr_db / 10)
        np.testing.assert_allclose(found[drop], expected, rtol=1e-5, atol=1e-7 * expected.max())


def test_null_beam_couples_into_nobody() -> None:
    gram = normalised_gram(torch.zeros(1, 2, 4, dtype=torch.complex64), LinkBudget())
    effective_gains = effective_gains_of(gram, torch.eye(2, dtype=torch.complex128)[None])
    assert effective_gains.eq(0).all()
    assert rates(sinr(effective_gains, torch.full((1, 2), 0.5, dtype=torch.float64))).eq(0).all()


def test_gram_is_hermitian_and_in_units_of_the_noise() -> None:
    channels = draw_channels(0, users=3, antennas=5, drops=2)
    power, noise = torch.tensor([1.0, 4.0]), torch.tensor([0.01, 0.5])
    gram = normalised_gram(channels, LinkBudget(power, noise)).numpy()
    for drop, ratio in enumerate((100.0, 8.0)):
        h = channels[drop].numpy().astype(complex)
        expected = [[ratio * np.vdot(h[i], h[j]) for j in range(3)] for i in range(3)]
        np.testing.assert_allclose(gram[drop], expected, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_unit_of_the_channels_cancels_against_the_noise(unit: float) -> None:
    channels = draw_channels(0, users=4, antennas=6)
    reference = normalised_gram(channels, LinkBudget(1.0, 0.01))
    scaled = normalised_gram(channels * unit, LinkBudget(1.0, 0.01 * unit**2))
    torch.testing.assert_close(scaled, reference, rtol=1e-5, atol=1e-5)


def test_sinr_of_strong_users_is_not_lost_in_rounding() -> None:
    effective_gains = torch.tensor([[[1e12, 1e-3], [2e-3, 1e12]]], dtype=torch.float64)
    found = sinr(effective_gains, torch.full((1, 2), 0.5, dtype=torch.float64))
    np.testing.assert_allclose(found[0], [0.5e12 / 1.0005, 0.5e12 / 1.001], rtol=1e-12)


def test_rates_are_base_two() -> None:
    assert rates(torch.tensor([0.0, 1.0, 3.0, 1023.0])).tolist() == [0.0, 1.0, 2.0, 10.0]


GOOD_POWER = torch.tensor([[0.3, 0.2, 0.5]], dtype=torch.float64)
NEAR = torch.tensor([[True, False, False]])


def check(powers: torch.Tensor = GOOD_POWER, scale: float = 1.0, **budget: float):  # type: ignore[no-untyped-def]
    channels = draw_channels(0, users=3, antennas=8, kind="orthogonal")
    return check_constraints(
        channels, channels * scale, powers, NEAR, LinkBudget(**({"power": 1.0, "noise_power": 0.1} | budget))
    )


VIOLATIONS = ("total_power", "negative_power", "near_share", "min_rate", "beam_norm")


def violated(result: object) -> set[str]:
    return {name for name in VIOLATIONS if not bool((getattr(result, name) <= 1e-6).all())}


def test_check_passes_an_answer_that_holds_everything() -> None:
    assert violated(check(alpha_c=0.3, min_rate=1.5)) == set()  # the weakest user has log2(1 + 2) = 1.58


def test_check_measures_excess_power() -> None:
    result = check(torch.tensor([[0.3, 0.2, 0.6]]).double())
    assert violated(result) == {"total_power"}
    assert float(result.total_power) == pytest.approx(0.1)
    assert float(check(GOOD_POWER * 3, power=2.0).total_power) == pytest.approx(0.5)  # as a share of P


def test_check_measures_negative_power() -> None:
    result = check(torch.tensor([[0.3, -0.2, 0.5]]).double())
    assert "negative_power" in violated(result)
    assert float(result.negative_power) == pytest.approx(0.2)


def test_check_measures_the_near_field_users_share() -> None:
    result = check(alpha_c=0.25)
    assert violated(result) == {"near_share"}
    assert float(result.near_share) == pytest.approx(0.05)


def test_check_measures_missing_rate_of_the_worst_user() -> None:
    result = check(min_rate=1.7)
    assert violated(result) == {"min_rate"}
    assert float(result.min_rate) == pytest.approx(1.7 - math.log2(3), abs=1e-6)


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_check_measures_beam_norms(scale: float) -> None:
    assert float(check(scale=scale).beam_norm) == pytest.approx(0.1, abs=1e-6)
    assert violated(check(scale=scale)) == {"beam_norm"}


def test_check_flags_nan() -> None:
    assert "total_power" in violated(check(torch.full((1, 3), math.nan, dtype=torch.float64)))


def test_check_takes_a_budget_per_drop() -> None:
    channels = draw_channels(4, users=3, antennas=8, kind="orthogonal", drops=2)
    budget = LinkBudget(
        torch.tensor([1.0, 0.8]), torch.tensor([0.1, 0.05]), torch.tensor([0.3, 0.2]), torch.tensor([1.5, 5.0])
    )
    whole = check_constraints(channels, channels, GOOD_POWER.expand(2, 3), NEAR.expand(2, 3), budget)
    for drop in range(2):
        alone = check_constraints(
            channels[drop : drop + 1], channels[drop : drop + 1], GOOD_POWER, NEAR, budget.slice(drop, drop + 1)
        )
        for name in VIOLATIONS:
            assert float(getattr(whole, name)[drop]) == pytest.approx(float(getattr(alone, name)), abs=1e-12)
    assert whole.total_power.tolist() == pytest.approx([0.0, 0.25], abs=1e-7)
    assert whole.near_share.tolist() == pytest.approx([0.0, 0.3 / 0.8 - 0.2], abs=1e-7)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("power", [0.0, -1.0, math.inf, math.nan]),
        ("noise_power", [0.0, -1e-9, math.inf, math.nan]),
        ("alpha_c", [0.0, -0.1, 1.0001, math.nan]),
        ("min_rate", [-0.1, math.inf, math.nan]),
    ],
)
def test_budget_refuses_impossible_values_and_names_them(name: str, values: list[float]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=name):
            LinkBudget(**{name: value})
        with pytest.raises(ValueError, match=name):
            LinkBudget(**{name: torch.tensor([0.5, value])})


def test_budget_slices_tensors_and_keeps_numbers() -> None:
    budget = LinkBudget(2.0, torch.tensor([1.0, 2.0, 3.0]), torch.tensor(0.5), torch.tensor([0.0, 0.1, 0.2]))
    part = budget.slice(1, 3)
    assert part.power == 2.0
    assert isinstance(part.noise_power, torch.Tensor)
    assert part.noise_power.tolist() == [2.0, 3.0]
    assert float(part.alpha_c) == 0.5
    assert budget.constrains_near_field
    assert budget.demands_rates
    assert not LinkBudget().constrains_near_field
    assert not LinkBudget().demands_rates


def test_budget_selects_drops_and_keeps_numbers() -> None:
    budget = LinkBudget(2.0, torch.tensor([1.0, 2.0, 3.0]), torch.tensor(0.5), torch.tensor([0.0, 0.1, 0.2]))
    part = budget.select(torch.tensor([True, False, True]))
    assert part.power == 2.0
    assert isinstance(part.noise_power, torch.Tensor)
    assert part.noise_power.tolist() == [1.0, 3.0]
    assert float(part.alpha_c) == 0.5
    assert isinstance(part.min_rate, torch.Tensor)
    torch.testing.assert_close(part.min_rate, torch.tensor([0.0, 0.2]))


def test_per_drop_takes_the_precision_of_its_like() -> None:
    assert per_drop(0.1, torch.zeros(2, dtype=torch.complex128)).dtype == torch.float64
    assert per_drop(0.1, torch.zeros(2, dtype=torch.complex64)).dtype == torch.float32
    assert per_drop(torch.tensor([1.0, 2.0]), torch.zeros(2)).shape == (2,)
    assert ChannelBatch(torch.zeros(1, 1, 1)).near_field is None
