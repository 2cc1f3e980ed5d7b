"""Solve the precoding problems of requests, and estimate their times."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io.errors import NflaeError
from matlab_io.result import RESULT_NAMES
from nflae_bridge.engine.devices import drops_per_block
from nflae_bridge.engine.engine import Engine
from nflae_bridge.files.labels import LabelSource, fitted_labels, named_panel, precode_labelled
from nflae_bridge.files.validation import Channels
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.messages import PrecodeRequest
from nflae_bridge.live.server.computation.micro_batches import ProblemKey
from simulator.downlink.budget import LinkBudget
from simulator.problems.combinations import check_combination
from simulator.problems.dispatch import ProblemScheme, check_problem_scheme, scheme_options
from simulator.problems.problem import PrecodingProblem, ProblemError
from simulator.problems.solution import solution_arrays
from simulator.schemes.options import SchemeError, SchemeOption, split_spec

Arrays = dict[str, npt.NDArray[Any]]

_TRIAL = (8, 64)  # most users and antennas of a trial: the classical schemes of larger problems take seconds
_TRIAL_STREAMS = 2  # receive antennas, streams, and drops that are solved together, in trials


def check_problem(problem: PrecodingProblem, budget: LinkBudget, spec: str) -> None:
    """Check that a scheme solves a problem.

    Parameters
    ----------
    problem, budget
        Problem and link budget.
    spec : str
        Scheme, with options or without.

    Raises
    ------
    WireError
        ``bad_request``, if it does not, or an option is wrong.
    """
    try:
        if problem.is_plain:
            check_combination(problem, budget, split_spec(spec)[0])
        else:
            check_problem_scheme(problem, budget, spec)
    except (ProblemError, SchemeError) as error:
        raise WireError("bad_request", str(error)) from None


def check_panel(name: str, antennas: int) -> None:
    """Check the panel by which labels are found.

    Parameters
    ----------
    name : str
        Name of the panel.
    antennas : int
        Number of antennas of the channels.

    Raises
    ------
    WireError
        ``bad_request``, if there is no such panel, or it has another number of antennas.
    """
    try:
        named_panel(name, antennas)
    except NflaeError as error:
        raise WireError("bad_request", f"near_field: {error}") from None


def label_source(request: PrecodeRequest, engine: Engine) -> LabelSource:
    """Return the source of the labels of a request where none are given.

    Parameters
    ----------
    request : PrecodeRequest
        Request.
    engine : Engine
        Network.

    Returns
    -------
    LabelSource
        Waves fitted to the panel that the request names, else the network.
    """
    if isinstance(request.near_field, str):
        return fitted_labels(named_panel(request.near_field, request.channels.shape[-1]))
    return LabelSource(score=engine.near_field_score, tests_waves=False)


def solve_request(
    engine: Engine, request: PrecodeRequest, channels: Channels, device: torch.device, interrupt: Callable[[], None]
) -> Arrays:
    """Solve the problem of a request, in blocks of limited memory, as `nflae_bridge.precode` does.

    Parameters
    ----------
    engine : Engine
        Network, refined as the request has it.
    request : PrecodeRequest
        Request.
    channels : numpy.ndarray
        Its channels h_k, complex64, (drops, users, antennas) or (drops, users, receive antennas, antennas).
    device : torch.device
        Device.
    interrupt : callable
        Called between the blocks.

    Returns
    -------
    dict
        Arrays by name, drops first; at least those that are wanted.
    """
    scheme = ProblemScheme(request.problem, engine, request.scheme)
    labels = label_source(request, engine)
    drops, users, *receive, antennas = channels.shape
    together = request.problem.drops_together
    step = drops_per_block(users * (receive[0] if receive else 1), antennas)
    step = max(step - step % together, together)
    parts = []
    for start in range(0, drops, step):
        if start:
            interrupt()
        part = torch.from_numpy(channels[start : start + step]).to(device)
        given = request.near_field[start : start + step] if isinstance(request.near_field, np.ndarray) else None
        solver = scheme.of_drops(start, np.ones(len(part), np.bool_))
        found = precode_labelled(solver, part, request.budget, labels, given)
        parts.append(solution_arrays(found, names=[name for name in request.want if name in RESULT_NAMES]))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def is_finite(arrays: Arrays) -> bool:
    """Return whether the arrays of a result are finite, by those that are if the others are.

    Parameters
    ----------
    arrays : dict
        Arrays by name.

    Returns
    -------
    bool
    """
    for name in ("sum_rate", "precoder", "power"):
        if name in arrays:
            return cmath.isfinite(np.add.reduce(arrays[name], None))
    return True


def trial_name(key: ProblemKey, spec: str) -> str:
    """Return the name of the trial batches of a kind of problem and a scheme.

    Parameters
    ----------
    key : ProblemKey
        Key of the problem.
    spec : str
        Scheme, with options or without.

    Returns
    -------
    str
    """
    return f"{'+'.join(key.parts)}/{split_spec(spec)[0]}"


def trial_request(name: str, channels: Channels) -> PrecodeRequest:
    """Make a trial request of the name of `trial_name`.

    Parameters
    ----------
    name : str
        Name.
    channels : numpy.ndarray
        Channels of one drop, complex64 (1, users, antennas); the sizes are limited to those of trials.

    Returns
    -------
    PrecodeRequest
        Request of one or two drops.
    """
    joined, _, scheme = name.partition("/")
    parts = joined.split("+")
    drop = channels[:, : _TRIAL[0], : _TRIAL[1]]
    users, antennas = drop.shape[1:]
    problem = _trial_problem(parts, users, antennas)
    if problem.joint_receivers:
        drop = np.stack([drop, np.flip(drop, -1)], 2)
    drops = np.ascontiguousarray(np.repeat(drop, problem.drops_together, 0))
    request = PrecodeRequest("", drops, scheme=scheme, problem=problem)
    return replace(request, receive_antennas="joint") if problem.joint_receivers else request


def _trial_problem(parts: Collection[str], users: int, antennas: int) -> PrecodingProblem:
    objectives = [name for name in ("max-min", "proportional-fair") if name in parts]
    return PrecodingProblem(
        objective=objectives[0] if objectives else "sum-rate",  # type: ignore[arg-type]
        weights=np.arange(1.0, users + 1) if "weights" in parts else None,
        window=_TRIAL_STREAMS if "proportional-fair" in parts else 1,
        antenna_power=np.array([1 / antennas]) if "antenna limits" in parts else None,
        total_power="antenna limits" not in parts,
        rf_chains=users if "hybrid array" in parts else None,
        joint_receivers="receive antennas" in parts,
        power_scope="total" if "subcarrier power" in parts else "each",
        subcarriers=_TRIAL_STREAMS if "subcarrier power" in parts else 1,
    )


def problem_work(key: ProblemKey, users: int, antennas: int) -> float:
    """Return the work of a problem relative to that of the large trial of its kind.

    Parameters
    ----------
    key : ProblemKey
        Key of the problem.
    users, antennas : int
        K and N.

    Returns
    -------
    float
        Work, proportional to L R N + 8 L^2 + L^3 with L the larger of the numbers of streams and of RF chains, and R
        receive antennas.
    """
    lines = max(users * key.streams, key.chains)
    trial = _TRIAL[0] * (_TRIAL_STREAMS if key.receive > 1 else 1)
    receive = _TRIAL_STREAMS if key.receive > 1 else 1
    return _work(lines, key.receive * antennas) / _work(trial, receive * _TRIAL[1])


def _work(lines: int, antennas: int) -> float:
    return lines * antennas + 8 * lines**2 + lines**3


def problem_growth(key: ProblemKey, spec: str) -> float:
    """Return the product of the ratios of the options of a scheme to their defaults, at least 1 each.

    Parameters
    ----------
    key : ProblemKey
        Key of the problem.
    spec : str
        Scheme with options.

    Returns
    -------
    float
    """
    name, given = split_spec(spec)
    if not given:
        return 1.0
    return growth_of(given, scheme_options(_trial_problem(key.parts, 1, key.chains or 1), name))


def growth_of(given: Mapping[str, str], options: Sequence[SchemeOption]) -> float:
    """Return the product of the ratios of the given whole numbers to their defaults, at least 1 each.

    Parameters
    ----------
    given : mapping
        Texts of the values by the names of the options.
    options : sequence of SchemeOption
        Options of the scheme.

    Returns
    -------
    float
        Growth of the time over that without options.
    """
    growth = 1.0
    for option in options:
        if option.type is int and option.name in given and option.default:
            growth *= max(1.0, float(given[option.name]) / float(option.default))
    return growth
