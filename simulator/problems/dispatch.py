"""Solve a precoding problem by the scheme of a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module
from inspect import signature
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.combinations import NETWORK, check_combination, find_solvers
from simulator.problems.problem import PrecodingProblem
from simulator.problems.solution import ProblemSolution, best_of
from simulator.schemes.options import SchemeOption, options_of, parse_options, split_spec

_PACKAGE = "simulator.problems.algorithms"
_JOINT_AXES = 4  # drops, users, receive antennas, antennas


def solve(
    batch: ChannelBatch, budget: LinkBudget, problem: PrecodingProblem, inner: Scheme, spec: str = NETWORK
) -> ProblemSolution:
    """Solve a precoding problem.

    Parameters
    ----------
    batch : ChannelBatch
        Channels, complex64 (drops, users, antennas); (drops, users, receive antennas, antennas) for joint receivers.
    budget : LinkBudget
        Link budget.
    problem : PrecodingProblem
        Problem, not plain.
    inner : Scheme
        Scheme inside the algorithm, for ``nflae``: the network's engine, or any other. Where it has ``refinements``,
        which raise the plain sum rate, the problem is solved with and without them and the better solution returned.
    spec : str
        Scheme that solves the problem, ``NAME`` or ``NAME:OPTION=VALUE:...``: ``nflae``, or a classical rival.

    Returns
    -------
    ProblemSolution
        Solution of every drop.

    Raises
    ------
    ProblemError
        If the problem does not fit the channels, or the scheme does not solve it.
    SchemeError
        If an option of the scheme is unknown or out of range.
    """
    shape = batch.channels.shape
    problem.check(shape[0], shape[1], shape[-1], shape[2] if len(shape) == _JOINT_AXES else 1)
    solver = _bound(problem, budget, inner, spec)
    found = solver(batch, budget)
    inside: Any = solver.keywords.get("inner")
    if not getattr(inside, "refinements", 0):
        return found
    return best_of(found, solver(batch, budget, inner=inside.refined(0)))


@dataclass(frozen=True)
class ProblemScheme:
    """Solve one problem as a scheme: ``scheme(batch, budget) -> ProblemSolution``.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem, not plain.
    inner : Scheme
        As in `solve`.
    spec : str
        As in `solve`.
    """

    problem: PrecodingProblem
    inner: Scheme
    spec: str = NETWORK

    def __call__(self, batch: ChannelBatch, budget: LinkBudget) -> ProblemSolution:
        """Solve the problem for a batch.

        Parameters
        ----------
        batch : ChannelBatch
            Channels.
        budget : LinkBudget
            Link budget.

        Returns
        -------
        ProblemSolution
        """
        return solve(batch, budget, self.problem, self.inner, self.spec)

    def of_drops(self, start: int, good: npt.NDArray[np.bool_]) -> ProblemScheme:
        """Return the scheme of the good ones of consecutive drops.

        Parameters
        ----------
        start : int
            First drop, counted from 0.
        good : numpy.ndarray
            Good drops among those from the first one, bool (drops,).

        Returns
        -------
        ProblemScheme
        """
        problem = self.problem.of_drops(slice(start, start + len(good))).of_drops(good)
        return replace(self, problem=problem)


def check_problem_scheme(problem: PrecodingProblem, budget: LinkBudget, spec: str) -> None:
    """Check a problem, the scheme that is to solve it, and the scheme's options, before any work.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem, not plain.
    budget : LinkBudget
        Link budget.
    spec : str
        ``NAME`` or ``NAME:OPTION=VALUE:...``.

    Raises
    ------
    ProblemError
        If the scheme does not solve the problem.
    SchemeError
        If an option of the scheme is unknown or out of range.
    """
    _bound(problem, budget, None, spec)


def scheme_options(problem: PrecodingProblem, name: str) -> tuple[SchemeOption, ...]:
    """Return the options that a scheme has for a problem.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem, not plain.
    name : str
        Name of a scheme that solves it.

    Returns
    -------
    tuple of SchemeOption
        Options in the order of the parameters.
    """
    return options_of(_unbound(find_solvers(problem).schemes[name])[0])


def _bound(problem: PrecodingProblem, budget: LinkBudget, inner: Scheme | None, spec: str) -> partial[ProblemSolution]:
    """Load the function of a scheme with problem, inner scheme and options set."""
    name, _ = split_spec(spec)
    check_combination(problem, budget, name)
    found, takes_inner, options = _parsed(find_solvers(problem).schemes[name], spec)
    around = {"inner": inner} if takes_inner else {}
    return partial(found, problem=problem, **around, **options)


@lru_cache(maxsize=64)
def _parsed(place: str, spec: str) -> tuple[Callable[..., ProblemSolution], bool, dict[str, Any]]:
    """Return a scheme's function, whether it takes an inner scheme, and the options of a specification."""
    solver, takes_inner = _unbound(place)
    return solver.func, takes_inner, parse_options(*split_spec(spec), options_of(solver))


def _unbound(place: str) -> tuple[partial[ProblemSolution], bool]:
    """Import a scheme's function without problem and inner scheme; return whether it takes an inner scheme."""
    module, _, function = place.partition(":")
    found = getattr(import_module(f"{_PACKAGE}.{module}"), function)
    takes_inner = "inner" in signature(found).parameters
    return partial(found, problem=None, **({"inner": None} if takes_inner else {})), takes_inner
