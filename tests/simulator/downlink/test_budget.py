"""The link budget: ranges, parts of a batch, precision."""

from __future__ import annotations

import math

import pytest
import torch

from simulator.downlink.budget import BudgetError, LinkBudget, per_drop, watts_from_dbw
from simulator.downlink.precoding import ChannelBatch


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


@pytest.mark.parametrize("name", ["power", "noise_power"])
def test_powers_are_within_300_dbw(name: str) -> None:
    for value in (1e30, 1e-30):
        assert getattr(LinkBudget(**{name: value}), name) == value
    for value in (1e40, 1.001e30, 0.999e-30, 10**400):
        with pytest.raises(BudgetError, match=f"{name} must be positive and finite, within 300 dBW of 1 W"):
            LinkBudget(**{name: value})


@pytest.mark.parametrize("value", ["1", None, [1.0], 1 + 0j, {}])
def test_budget_refuses_what_is_no_number(value: object) -> None:
    for name in ("power", "noise_power", "alpha_c", "min_rate"):
        with pytest.raises(BudgetError, match=f"{name} must be "):
            LinkBudget(**{name: value})  # type: ignore[arg-type]


def test_the_message_shows_the_value_out_of_range() -> None:
    for values, shown in (([0.5, 2.0, 0.1], "2.0"), ([0.5, -1.0], "-1.0")):
        with pytest.raises(BudgetError, match=rf"alpha_c must be a share of the power in \(0, 1\], got {shown}$"):
            LinkBudget(alpha_c=torch.tensor(values))


def test_the_borders_of_the_ranges_are_allowed() -> None:
    budget = LinkBudget(alpha_c=1.0, min_rate=0.0)
    assert not budget.constrains_near_field
    assert not budget.demands_rates
    assert LinkBudget(alpha_c=torch.tensor([1.0, 0.9])).constrains_near_field
    assert LinkBudget(min_rate=torch.tensor([0.0, 0.1])).demands_rates


def test_watts_come_from_dbw() -> None:
    assert watts_from_dbw(-20) == pytest.approx(0.01)
    assert watts_from_dbw(300) == 1e30
    for dbw in (300.1, -300.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="within -300 and 300"):
            watts_from_dbw(dbw)
