"""List the precoding problems that can be solved, with the schemes that solve each; refuse the others by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simulator.downlink.budget import LinkBudget
from simulator.problems.problem import PrecodingProblem, ProblemError

NETWORK = "nflae"
TEXTBOOK = "rzf"
"""Scheme of the textbook solution of every problem."""

_FULLY_CONNECTED = ("omp", "pe-altmin")  # their phases are those of whole beams


@dataclass(frozen=True)
class Solvers:
    """Hold the algorithms of one kind of problem.

    Parameters
    ----------
    parts : frozenset of str
        All that the problem has beyond the plain one, see `PrecodingProblem.parts`.
    schemes : mapping of str to str
        Function, ``module:name`` in `simulator.problems.algorithms`, by the name of its scheme.
    constraints : frozenset of str
        Constraints of the link budget that hold beside: ``alpha_c`` (C3) and ``min_rate`` (C4).
    """

    parts: frozenset[str]
    schemes: Mapping[str, str]
    constraints: frozenset[str] = frozenset()


_SINGLE: tuple[Solvers, ...] = (
    Solvers(
        frozenset({"weights"}),
        {"nflae": "weights:precode_weighted", "wmmse": "weights:weighted_wmmse", "rzf": "weights:weighted_rzf"},
        frozenset({"alpha_c", "min_rate"}),
    ),
    Solvers(frozenset({"max-min"}), {"nflae": "max_min:precode_max_min", "rzf": "max_min:balanced_rzf"}),
    Solvers(
        frozenset({"proportional-fair"}),
        {
            "nflae": "proportional_fair:precode_proportional_fair",
            "wmmse": "proportional_fair:fair_wmmse",
            "rzf": "proportional_fair:fair_rzf",
        },
    ),
    Solvers(
        frozenset({"subcarrier power"}),
        {
            "nflae": "subcarrier_power:precode_subcarriers",
            "wmmse": "subcarrier_power:joint_wmmse",
            "zf": "subcarrier_power:zf_water_filling",
            "rzf": "subcarrier_power:rzf_at_equal_shares",
        },
    ),
    Solvers(
        frozenset({"antenna limits"}),
        {
            "nflae": "antenna_limits:precode_antenna_limited",
            "wmmse": "antenna_limits:antenna_limited_wmmse",
            "rzf": "antenna_limits:antenna_limited_rzf",
        },
    ),
    Solvers(
        frozenset({"hybrid array"}),
        {
            "nflae": "hybrid_arrays.descent:precode_hybrid",
            "wmmse": "hybrid_arrays.classical:hybrid_wmmse",
            "omp": "hybrid_arrays.classical:omp",
            "pe-altmin": "hybrid_arrays.classical:pe_altmin",
            "rzf": "hybrid_arrays.descent:user_phases_rzf",
        },
    ),
    Solvers(
        frozenset({"receive antennas"}),
        {
            "nflae": "receive_antennas.joint:precode_streams",
            "wmmse": "receive_antennas.joint:stream_wmmse",
            "eigen": "receive_antennas.joint:eigen_combining",
            "bd": "receive_antennas.block_diagonalisation:block_diagonalisation",
            "rzf": "receive_antennas.joint:eigen_rzf",
        },
    ),
)
_TAKE_WEIGHTS = {  # schemes whose objective may be the weighted sum rate
    "subcarrier power": ("nflae", "wmmse", "rzf"),
    "antenna limits": ("nflae", "wmmse", "rzf"),
    "hybrid array": ("nflae", "wmmse", "omp", "pe-altmin", "rzf"),
}


def _with_weights(solvers: Solvers) -> Iterator[Solvers]:
    for part in solvers.parts & set(_TAKE_WEIGHTS):
        schemes = {name: solvers.schemes[name] for name in _TAKE_WEIGHTS[part]}
        yield Solvers(solvers.parts | {"weights"}, schemes)


SOLVERS = (*_SINGLE, *(weighted for each in _SINGLE for weighted in _with_weights(each)))
"""Every problem that can be solved, beside the plain one, which every scheme of the registry solves."""


def find_solvers(problem: PrecodingProblem) -> Solvers:
    """Return the algorithms of a problem.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem, not plain.

    Returns
    -------
    Solvers
        Entry of `SOLVERS`.

    Raises
    ------
    ProblemError
        If no algorithm solves the combination; the message lists those that can be solved.
    """
    for solvers in SOLVERS:
        if solvers.parts == problem.parts:
            return solvers
    known = "; ".join(_named(solvers.parts) for solvers in SOLVERS)
    raise ProblemError(f"{_named(problem.parts)} cannot be solved together; there are {known}")


def solving_schemes(problem: PrecodingProblem) -> tuple[str, ...]:
    """Return the names of the schemes that solve a problem.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem, not plain.

    Returns
    -------
    tuple of str

    Raises
    ------
    ProblemError
        If no algorithm solves the combination.
    """
    left_out = _FULLY_CONNECTED if problem.connection == "sub" else ()
    return tuple(name for name in find_solvers(problem).schemes if name not in left_out)


def check_combination(problem: PrecodingProblem, budget: LinkBudget, name: str = NETWORK) -> None:
    """Check that a scheme solves a problem under the constraints of a budget.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem; a plain one passes with every scheme but those of particular problems.
    budget : LinkBudget
        Link budget.
    name : str
        Name of the scheme, without options.

    Raises
    ------
    ProblemError
        If no algorithm, or not this scheme, solves the problem, or C3 or C4 do not hold with it.
    """
    if problem.is_plain:
        if name in problem_schemes():
            solved = ", ".join(_named(each.parts) for each in _SINGLE if name in each.schemes)
            raise ProblemError(f"scheme {name} solves {solved} only; the problem has none of it")
        return
    solvers, schemes = find_solvers(problem), solving_schemes(problem)
    if name not in schemes:
        array = " with connection='sub'" if name in solvers.schemes else ""
        raise ProblemError(
            f"scheme {name} does not solve {_named(solvers.parts)}{array}; there are {', '.join(schemes)}"
        )
    binding = {"alpha_c": budget.constrains_near_field, "min_rate": budget.demands_rates}
    for constraint, binds in binding.items():
        if binds and constraint not in solvers.constraints:
            held = [_named(each.parts) for each in SOLVERS if constraint in each.constraints]
            held = ["the plain sum rate", *held]
            raise ProblemError(
                f"{constraint} cannot be held with {_named(solvers.parts)}; it can with {', '.join(held)}"
            )


def problem_schemes() -> tuple[str, ...]:
    """Return the names of schemes that solve particular problems only: those of no scheme of the registry."""
    from simulator.schemes.registry import scheme_names

    named = dict.fromkeys(name for solvers in SOLVERS for name in solvers.schemes)
    return tuple(name for name in named if name != NETWORK and name not in scheme_names())


def _named(parts: frozenset[str]) -> str:
    return " + ".join(sorted(parts))


def combinations_table() -> str:
    """Return the reference table of the problems that can be solved, in Markdown."""
    rows = ["| problem | schemes | constraints beside |", "| --- | --- | --- |"]
    for solvers in SOLVERS:
        names = ", ".join(f"`{name}`" for name in solvers.schemes)
        held = ", ".join(f"`{name}`" for name in sorted(solvers.constraints)) or "none"
        rows.append(f"| {_named(solvers.parts)} | {names} | {held} |")
    return "\n".join(rows)
