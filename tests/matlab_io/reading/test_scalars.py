"""The link budget found beside the channels."""

from __future__ import annotations

from pathlib import Path

import pytest

from matlab_io.containers.variable import Variable
from matlab_io.errors import MatFileError
from matlab_io.reading.scalars import link_budget


def budget(channel: str, **values: float) -> dict[str, float]:
    names = {name.replace("__", "."): value for name, value in values.items()}
    variables = [Variable(name, (1, 1), "double", False) for name in names]
    found = link_budget(Path("x.mat"), Variable(channel, (8, 2), "double", True), variables, names.__getitem__, [])
    assert all(scalar.variable in names for scalar in found.values())
    return {quantity: scalar.value for quantity, scalar in found.items()}


def test_linear_and_dbw_figures_are_watts() -> None:
    assert budget("H", power_dbw=3.0, noise_dbw=-20.0, alpha_c=0.4, min_rate=0.6) == pytest.approx(
        {"power": 1.9953, "noise_power": 0.01, "alpha_c": 0.4, "min_rate": 0.6}, rel=1e-4
    )
    assert budget("H", noise_power_dBW=-30.0) == pytest.approx({"noise_power": 1e-3})


def test_of_two_that_agree_the_linear_one_counts() -> None:
    assert budget("H", power=0.5, power_dbw=-3.01) == {"power": 0.5}
    assert budget("H", power_dbw=-3.01, power=0.5) == {"power": 0.5}


def test_a_contradiction_is_an_error() -> None:
    with pytest.raises(MatFileError, match=r"power and power_dbw contradict each other \(1 W and 10 W\)"):
        budget("H", power=1.0, power_dbw=10.0)


def test_the_channels_own_struct_counts_more_than_the_top_level() -> None:
    assert budget("c.H", power=1.0, c__power=2.0, alpha_c=0.5) == {"power": 2.0, "alpha_c": 0.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_an_error(value: float) -> None:
    with pytest.raises(MatFileError, match=r"noise_power = .*finite"):
        budget("H", noise_power=value)


def test_an_absurd_level_is_an_error_not_an_overflow() -> None:
    with pytest.raises(MatFileError, match="power_dbw"):
        budget("H", power_dbw=1e5)


def test_an_array_of_that_name_is_noted_and_not_used() -> None:
    notes: list[str] = []
    powers = Variable("power", (3, 10), "double", False)
    found = link_budget(Path("x"), Variable("H", (8, 2), "double", True), [powers], lambda _: 1.0, notes)
    assert (found, notes) == ({}, ["power (3 x 10 double) is not a real scalar and is ignored"])
