"""The link budget of a file: one set of rules for options, files and Python, and the origin of every quantity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from matlab_io import open_channels
from matlab_io.errors import NflaeError
from nflae_bridge import precode
from nflae_bridge.files.budget.choice import BudgetRequest, choose_budget
from simulator.downlink.budget import BudgetError, LinkBudget
from tests.channel_files import Run, WriteMat, random_channels

# quantity, value (W, share, bps/Hz), the option that states it and its value, or None where an option cannot state it
BAD_QUANTITIES = [
    ("power", 1e40, ("--power-dbw", 400)),
    ("power", 1e-40, ("--power-dbw", -400)),
    ("power", 0.0, ("--power-dbw", -np.inf)),
    ("power", -1.0, None),
    ("noise_power", 1e40, ("--noise-dbw", 400)),
    ("noise_power", 1e-40, ("--noise-dbw", -400)),
    ("noise_power", 0.0, ("--noise-dbw", -np.inf)),
    ("alpha_c", 0.0, ("--alpha-c", 0)),
    ("alpha_c", 1.01, ("--alpha-c", 1.01)),
    ("alpha_c", -0.5, ("--alpha-c", -0.5)),
    ("min_rate", -0.1, ("--min-rate", -0.1)),
]
NOT_FINITE = [
    (quantity, value, (option, value))
    for quantity, option in [
        ("power", "--power-dbw"),
        ("noise_power", "--noise-dbw"),
        ("alpha_c", "--alpha-c"),
        ("min_rate", "--min-rate"),
    ]
    for value in (np.nan, np.inf)
]
EVERY_BAD_QUANTITY = [*BAD_QUANTITIES, *NOT_FINITE]


@pytest.mark.parametrize(("quantity", "value", "option"), EVERY_BAD_QUANTITY)
def test_python_refuses(quantity: str, value: float, option: object) -> None:
    for refuse in (lambda: LinkBudget(**{quantity: value}), lambda: precode(random_channels(), **{quantity: value})):
        with pytest.raises(BudgetError, match=f"^{quantity} must be ") as caught:
            refuse()
        assert isinstance(caught.value, NflaeError)
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("quantity", "value", "option"), EVERY_BAD_QUANTITY)
@pytest.mark.parametrize("version", ["7", "7.3"])
def test_a_file_is_refused_by_its_variable(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, version: str, quantity: str, value: float, option: object
) -> None:
    from matlab_io import write_channels

    source, output = tmp_path / "in.mat", tmp_path / "out.mat"
    blocks = [random_channels()]
    write_channels(source, blocks, users=3, antennas=16, drops=6, version=version, extra={quantity: value})
    done = nflae("precode", source, "-o", output, "--scheme", "rzf")
    assert done.exit_code == 1
    assert f"{source}: {quantity}" in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(("quantity", "value", "option"), [bad for bad in EVERY_BAD_QUANTITY if bad[2]])
def test_the_command_line_refuses_by_the_option(
    nflae: Run, write_mat: WriteMat, tmp_path: Path, quantity: str, value: float, option: tuple[str, float]
) -> None:
    output = tmp_path / "out.mat"
    done = nflae("precode", write_mat(random_channels()), "-o", output, "--scheme", "rzf", *option)
    assert done.exit_code == 1
    assert f"error: {option[0]} {option[1]:g}: " in done.stderr
    assert not output.exists()


@pytest.mark.parametrize(
    ("quantity", "value"),
    [("power", 1e30), ("power", 1e-30), ("noise_power", 1e30), ("alpha_c", 1.0), ("alpha_c", 1e-12), ("min_rate", 0.0)],
)
def test_the_ends_of_the_ranges_are_accepted(write_mat: WriteMat, quantity: str, value: float) -> None:
    source = write_mat(random_channels(), **{quantity: value})
    with open_channels(source) as file:
        choice = choose_budget(BudgetRequest(), file)
    assert getattr(choice.link_budget(), quantity) == value
    assert getattr(LinkBudget(**{quantity: value}), quantity) == value


def test_ends_of_the_dbw_range() -> None:
    choice = choose_budget(BudgetRequest(power_dbw=300, noise_dbw=-300))
    assert choice.link_budget() == LinkBudget(1e30, 1e-30)


def test_the_variable_is_named_as_in_the_file(write_mat: WriteMat) -> None:
    H = random_channels().T
    source = write_mat(site={"chan": {"H": H, "Noise_dBW": -310.0}, "power": 3.0}, Alpha_C=0.5, layout="nks")
    with open_channels(source) as file, pytest.raises(NflaeError) as caught:
        choose_budget(BudgetRequest(), file)
    assert str(caught.value).startswith(f"{source}: site.chan.Noise_dBW: noise_power must be positive")
    assert str(caught.value).endswith("correct it in the file or pass --noise-dbw")
    with open_channels(source) as file:
        choice = choose_budget(BudgetRequest(noise_dbw=-10), file)
    assert (choice.noise_power.origin, choice.alpha_c.origin, choice.power.origin) == (
        "--noise-dbw",
        "in.mat: Alpha_C",
        "in.mat: site.power",
    )


def test_options_count_more_than_the_file_and_the_file_more_than_defaults(write_mat: WriteMat) -> None:
    source = write_mat(random_channels(), power=4.0, noise_power=0.5, min_rate=0.25)
    with open_channels(source) as file:
        choice = choose_budget(BudgetRequest(power_dbw=10, alpha_c=0.75), file)
    assert choice.link_budget() == LinkBudget(10.0, 0.5, 0.75, 0.25)
    assert choice.lines() == [
        "power = 10 W (10 dBW; --power-dbw)",
        "noise_power = 0.5 W (-3.01 dBW; in.mat: noise_power)",
        "alpha_c = 0.75 (--alpha-c)",
        "min_rate = 0.25 bps/Hz (in.mat: min_rate)",
    ]


def test_the_defaults() -> None:
    choice = choose_budget(BudgetRequest())
    assert choice.link_budget() == LinkBudget()
    settings = (choice.power, choice.noise_power, choice.alpha_c, choice.min_rate)
    assert {setting.origin for setting in settings} == {"default"}
    assert choice.lines()[:2] == ["power = 1 W (0 dBW; default)", "noise_power = 0.01 W (-20 dBW; default)"]
