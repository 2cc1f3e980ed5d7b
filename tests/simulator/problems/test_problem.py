"""The description of a precoding problem: what is refused, and in which words."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.problems.combinations import SOLVERS, check_combination
from simulator.problems.dispatch import solve
from simulator.problems.problem import PrecodingProblem, ProblemError
from simulator.problems.violations import is_below, violates_limits
from simulator.schemes import scheme


@pytest.mark.parametrize(
    ("quantities", "message"),
    [
        ({"weights": [1, -2]}, "weights must be finite and not negative; value 2 is -2"),
        ({"weights": [[1, 2], [np.nan, 1]]}, "weights must be finite and not negative; value drop 2, user 1 is nan"),
        ({"weights": [0, 0]}, "weights must not all be zero; those are"),
        ({"weights": [[1, 0], [0, 0]]}, "weights must not all be zero; those of drop 2 are"),
        (
            {"weights": [1e300, 1, 1]},
            "weights must be 0, or from 1e-12 to 1e+12 and within a factor of 1e+09; those",
        ),
        ({"weights": [[1, 1], [3e9, 1]]}, "those of drop 2 are 1 to 3e+09: scale them, or set the small ones to 0"),
        ({"weights": [1e-13, 0]}, "those are 1e-13 to 1e-13"),
        ({"weights": [1e13, 1e13]}, "those are 1e+13 to 1e+13"),
        ({"weights": ["a"]}, "weights must be real numbers, got ['a']"),
        ({"weights": [1, 2j]}, "weights must be real numbers, got [1, 2j]"),
        ({"weights": [1, 2], "objective": "max-min"}, "weights apply to objective='sum-rate' only"),
        ({"objective": "fair"}, "objective must be one of sum-rate, max-min, proportional-fair, got 'fair'"),
        ({"antenna_power": [0.0]}, "power_per_antenna must be positive and finite, W; value 1 is 0"),
        ({"antenna_power": [[1.0]]}, "power_per_antenna must have one axis"),
        ({"antenna_groups": 8}, "antenna_groups applies together with power_per_antenna only"),
        ({"rf_chains": 8, "phase_bits": 0}, "phase_bits must be a whole number of at least 1, got 0"),
        ({"rf_chains": 8, "phase_bits": 17}, "phase_bits must be at most 16, got 17"),
        ({"rf_chains": True}, "rf_chains must be a whole number of at least 1, got True"),
        ({"phase_bits": 3}, "phase_bits applies together with rf_chains only"),
        ({"connection": "sub"}, "connection='sub' applies together with rf_chains only"),
        ({"streams": 2}, "streams applies together with receive_antennas='joint' only"),
        ({"window": 4}, "window applies together with objective='proportional-fair' only"),
        ({"total_power": False}, "a power that is not limited in total applies together with power_per_antenna only"),
    ],
)
def test_a_quantity_that_makes_no_sense_is_named(quantities: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError) as caught:
        PrecodingProblem(**quantities)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("quantities", "message"),
    [
        (
            {"weights": [1, 2, 3]},
            "weights must hold one value for each of the 4 users, or one per drop and user, (6, 4)",
        ),
        ({"weights": np.ones((5, 4))}, "got shape (5, 4)"),
        ({"antenna_power": np.ones(7)}, "power_per_antenna must hold one value, or one for each of the 16 antennas"),
        ({"antenna_power": [1.0], "antenna_groups": 5}, "antenna_groups must divide the 16 antennas, got groups of 5"),
        ({"rf_chains": 3}, "rf_chains must be from 4, the number of streams, to 16"),
        ({"rf_chains": 17}, "to 16, that of antennas; got 17"),
        ({"rf_chains": 5, "connection": "sub"}, "rf_chains must divide the 16 antennas with connection='sub', got 5"),
        ({"joint_receivers": True, "streams": 3}, "streams must be at most the 2 receive antennas of a user, got 3"),
        ({"joint_receivers": True, "rf_chains": 7}, "rf_chains must be from 8, the number of streams"),
        ({"power_scope": "total", "subcarriers": 4}, "subcarriers must divide the 6 drops, got 4"),
        ({"objective": "proportional-fair", "window": 4}, "window must divide the 6 drops, got 4"),
    ],
)
def test_a_problem_that_does_not_fit_the_channels_is_named(quantities: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError) as caught:
        PrecodingProblem(**quantities).check(drops=6, users=4, antennas=16, receive_antennas=2)
    assert message in str(caught.value)


def test_a_problem_that_fits_passes() -> None:
    for quantities in ({"weights": np.ones((6, 4))}, {"antenna_power": np.ones(16)}, {"rf_chains": 4}):
        PrecodingProblem(**quantities).check(drops=6, users=4, antennas=16)


def test_weights_follow_the_drops() -> None:
    weights = np.arange(1, 13, dtype=float).reshape(6, 2)
    kept = np.array([True, False, True, False, False, True])
    assert PrecodingProblem(weights=weights).of_drops(kept).weights.tolist() == weights[[0, 2, 5]].tolist()
    assert PrecodingProblem(weights=weights).of_drops(slice(2, 4)).weights.tolist() == weights[2:4].tolist()
    assert PrecodingProblem(weights=[3, 1]).of_drops(slice(2, 4)).weights.tolist() == [3, 1]


PARTS: dict[str, dict[str, Any]] = {
    "weights": {"weights": [1.0, 2.0]},
    "max-min": {"objective": "max-min"},
    "proportional-fair": {"objective": "proportional-fair", "window": 2},
    "antenna limits": {"antenna_power": [0.1]},
    "hybrid array": {"rf_chains": 5},
    "receive antennas": {"joint_receivers": True},
    "subcarrier power": {"power_scope": "total", "subcarriers": 2},
}
SCHEMES = {"nflae", "wmmse", "rzf", "zf", "mrt", "omp", "pe-altmin", "eigen", "bd", "sdma"}
PAGE = Path(__file__).parents[3] / "docs" / "how_to" / "problems.md"


def documented_combinations() -> dict[frozenset[str], tuple[set[str], set[str]]]:
    """Return schemes and constraints of the page's table by the parts of the problem."""
    table = PAGE.read_text().partition("| problem | schemes | constraints beside |\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    quoted = re.compile("`([^`]+)`")
    return {
        frozenset(parts.split(" + ")): (set(quoted.findall(schemes)), set(quoted.findall(constraints)))
        for parts, schemes, constraints in rows
    }


@pytest.mark.parametrize("count", range(1, len(PARTS) + 1))
def test_combinations_are_solved_or_refused_as_the_page_states(count: int) -> None:
    documented = documented_combinations()
    for parts in itertools.combinations(PARTS, count):
        if {"max-min", "proportional-fair"} <= set(parts):
            continue  # values of one option
        options = {name: value for part in parts for name, value in PARTS[part].items()}
        schemes, constraints = documented.get(frozenset(parts), (set(), set()))
        for name in SCHEMES:
            if name in schemes:
                check_combination(PrecodingProblem(**options), LinkBudget(), name)
                continue
            with pytest.raises(ProblemError) as caught:
                check_combination(PrecodingProblem(**options), LinkBudget(), name)
            named = " + ".join(sorted(parts))
            expected = f"scheme {name} does not solve {named}" if schemes else f"{named} cannot be solved together"
            if "weights" in parts and {"max-min", "proportional-fair"} & set(parts):
                expected = "weights apply to objective='sum-rate' only"
            assert expected in str(caught.value)
        for constraint, value in (("alpha_c", 0.5), ("min_rate", 0.1)):
            if schemes and constraint not in constraints:
                with pytest.raises(ProblemError, match=f"{constraint} cannot be held with"):
                    check_combination(PrecodingProblem(**options), LinkBudget(**{constraint: value}))
            elif schemes:
                check_combination(PrecodingProblem(**options), LinkBudget(**{constraint: value}))


@pytest.mark.parametrize("parts", documented_combinations(), ids=lambda parts: "+".join(sorted(parts)))
def test_every_scheme_of_the_page_solves_its_problem(parts: frozenset[str]) -> None:
    problem = PrecodingProblem(**{name: value for part in parts for name, value in PARTS[part].items()})
    shape = (2, 2, 2, 8) if problem.joint_receivers else (2, 2, 8)
    channels = torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(3))
    batch, budget = ChannelBatch(channels), LinkBudget(1.0, 0.5)
    found = {name: solve(batch, budget, problem, scheme("rzf"), name) for name in documented_combinations()[parts][0]}
    for solution in found.values():
        assert not violates_limits(solution, budget, problem).any()
        assert torch.isfinite(solution.objective).all()
    assert not is_below(found["nflae"], found["rzf"]).any()


def test_a_combination_without_algorithm_is_refused_with_those_that_exist() -> None:
    problem = PrecodingProblem(objective="max-min", rf_chains=8)
    with pytest.raises(ProblemError, match=r"hybrid array \+ max-min cannot be solved together; there are .*weights"):
        check_combination(problem, LinkBudget())


def test_a_scheme_that_does_not_solve_the_problem_is_refused() -> None:
    with pytest.raises(ProblemError, match="scheme mrt does not solve weights; there are nflae, wmmse, rzf"):
        check_combination(PrecodingProblem(weights=[1, 2]), LinkBudget(), "mrt")


def test_every_problem_names_its_parts() -> None:
    names = set().union(*(solvers.parts for solvers in SOLVERS))
    full = PrecodingProblem(weights=[1], antenna_power=[1], rf_chains=1, joint_receivers=True)
    subcarriers = PrecodingProblem(power_scope="total", subcarriers=2)
    objectives = [PrecodingProblem(objective=each) for each in ("max-min", "proportional-fair")]
    assert names <= full.parts.union(subcarriers.parts, *(each.parts for each in objectives))
    assert PrecodingProblem().is_plain
    assert not full.is_plain


def test_more_streams_than_antennas_of_a_hybrid_array_are_named_without_an_empty_range() -> None:
    with pytest.raises(ProblemError, match="4 antennas serves at most 4 streams, got 6; serve fewer users"):
        PrecodingProblem(rf_chains=4).check(drops=2, users=6, antennas=4)
