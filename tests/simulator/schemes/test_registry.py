"""Schemes and their options by name: read from the source text, they are those of the functions."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any

import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.schemes import Between, SchemeError, check_scheme, needs_sic, register, scheme, scheme_names
from simulator.schemes.options import SchemeOption, options_of, parse_options, split_spec
from simulator.schemes.registry import REGISTRY, known_options, needs_sic_as_declared
from tests.simulator.definitions import draw_channels


@pytest.mark.parametrize("name", scheme_names())
def test_declared_options_are_those_of_the_function(name: str) -> None:
    assert known_options(name) == options_of(REGISTRY.load(name))
    assert needs_sic_as_declared(name) == needs_sic(name)


def test_every_optional_parameter_of_a_scheme_is_an_option() -> None:
    options = {name: [option.name for option in known_options(name)] for name in scheme_names()}
    parameters = {name: list(inspect.signature(REGISTRY.load(name)).parameters)[2:] for name in scheme_names()}
    assert options == parameters
    assert options["wmmse"] == ["iterations"]


def test_options_reach_the_scheme() -> None:
    batch = ChannelBatch(draw_channels(0, users=4, antennas=8, drops=3))
    few = scheme("wmmse:iterations=2")(batch, LinkBudget())
    torch.testing.assert_close(few.power, REGISTRY.load("wmmse")(batch, LinkBudget(), iterations=2).power)  # type: ignore[call-arg]
    assert (few.sum_rate < scheme("wmmse")(batch, LinkBudget()).sum_rate).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mmse", "unknown scheme 'mmse': there are ldma, mrt, noma, rzf, sdma, wmmse, zf"),
        ("wmmse:steps=3", r"no option 'steps'; options of wmmse: iterations=200 \(whole number, 1 to 10000\)"),
        ("wmmse:iterations=0", "iterations has to be a whole number from 1 to 10000, got '0'"),
        ("wmmse:iterations=10001", "from 1 to 10000"),
        ("wmmse:iterations=2.5", "a whole number"),
        ("wmmse:iterations=", "a whole number"),
        ("wmmse:iterations", "write NAME:OPTION=VALUE"),
        ("wmmse:=3", "write NAME:OPTION=VALUE"),
        ("wmmse:iterations=1:iterations=2", "each option once"),
        ("ldma:coherence=nan", "a number from 0.25 to 0.99"),
        ("noma:coherence=inf", "a number from 0 to 1"),
        ("rzf:x=1", "scheme rzf has no option 'x'; it has no options"),
        ("", "unknown scheme ''"),
    ],
)
def test_bad_specifications_are_refused_in_one_line(spec: str, message: str) -> None:
    for use in (scheme, check_scheme):
        with pytest.raises(SchemeError, match=message) as refused:
            use(spec)
        assert "\n" not in str(refused.value)


def test_specifications_are_checked_without_other_spaces_and_with_other_names() -> None:
    assert check_scheme(" wmmse : iterations = 5 ") == "wmmse:iterations=5"
    assert check_scheme("nflae", ("nflae",)) == "nflae"
    with pytest.raises(SchemeError, match="scheme nflae has no option 'refine'; it has no options"):
        check_scheme("nflae:refine=2", ("nflae",))
    with pytest.raises(SchemeError, match="there are nflae, ldma"):
        check_scheme("mmse", ("nflae",))
    assert split_spec("a:b=c=d") == ("a", {"b": "c=d"})


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(int, "-3", -3), (float, "1e-3", 1e-3), (bool, "Yes", True), (bool, "0", False), (str, "x y", "x y")],
)
def test_values_are_read_by_type(kind: type, text: str, value: object) -> None:
    assert parse_options("s", {"o": text}, [SchemeOption("o", kind, kind())]) == {"o": value}


def test_options_come_from_annotations() -> None:
    def function(
        batch: Any,
        budget: Any,
        count: Annotated[int, "note", Between(1, 3)] = 2,
        name: str = "a",
        callback: Callable[[], None] | None = None,
        *,
        exact: bool = True,
        **rest: Any,
    ) -> None: ...

    assert [option.describe() for option in options_of(function)] == [
        "count=2 (whole number, 1 to 3)",
        "name=a (text)",
        "exact=true (true or false)",
    ]
    with pytest.raises(TypeError, match="missing a required argument"):
        options_of(lambda batch, budget, more: None)


def test_a_scheme_registered_at_run_time_has_name_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "loaded", dict(REGISTRY.loaded))

    @register("mine", needs_sic=True)
    def mine(batch: Any, budget: Any, gain: float = 1.0) -> Any:
        return gain

    assert "mine" in scheme_names()
    assert needs_sic("mine:gain=2")
    assert scheme("mine") is mine
    assert scheme("mine:gain=2")(None, None) == 2.0  # type: ignore[arg-type, comparison-overlap]
    assert not needs_sic("nflae")


def test_receivers_of_a_scheme_that_is_not_loaded_yet() -> None:
    code = "from simulator.schemes.registry import needs_sic; print(needs_sic('noma'), needs_sic('zf'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
