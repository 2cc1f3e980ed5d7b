"""Violations of C1-C5 as measured by `check_constraints`."""

from __future__ import annotations

import math

import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import check_constraints
from tests.simulator.definitions import draw_channels

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
