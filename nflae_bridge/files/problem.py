"""Make the precoding problem of a channel file from the options of a command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matlab_io.errors import NflaeError
from simulator.downlink.budget import DEFAULT_POWER, LinkBudget
from simulator.problems.options import OPTION_NAMES, describe_problem, total_power
from simulator.problems.problem import PrecodingProblem, ProblemError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from matlab_io import ChannelFile
    from matlab_io.writing.mat_writer import Value
    from nflae_bridge.files.blocks import Block
    from nflae_bridge.files.budget.choice import BudgetChoice

__all__ = [
    "ProblemRequest",
    "check_together",
    "choose_problem",
    "drawn_problem",
    "problem_budget",
    "problem_info",
    "streams_of",
]


@dataclass(frozen=True)
class ProblemRequest:
    """Hold the options of a precoding problem; see the options of the same names.

    Attributes
    ----------
    objective : str, optional
        ``sum-rate``, ``max-min`` or ``proportional-fair``.
    weights : str, optional
        Name of a variable, or numbers with commas between them.
    window : int, optional
        Drops per mean rate.
    power_per_antenna : float, optional
        W.
    antenna_groups, rf_chains, phase_bits : int, optional
        Antennas per group; RF chains; bits of the phase shifters.
    connection : str, optional
        ``full`` or ``sub``.
    streams : int, optional
        Streams per user.
    """

    objective: str | None = None
    weights: str | None = None
    window: int | None = None
    power_per_antenna: float | None = None
    antenna_groups: int | None = None
    rf_chains: int | None = None
    phase_bits: int | None = None
    connection: str | None = None
    streams: int | None = None


def choose_problem(request: ProblemRequest, file: ChannelFile, choice: BudgetChoice) -> PrecodingProblem:
    """Make the problem of a channel file.

    Parameters
    ----------
    request : ProblemRequest
        Options of the command.
    file : ChannelFile
        Open file.
    choice : BudgetChoice
        Chosen link budget.

    Returns
    -------
    PrecodingProblem

    Raises
    ------
    NflaeError
        If a quantity is out of its range, makes no sense without another, or does not fit the channels.
    """
    options: dict[str, Any] = dict(vars(request))
    subcarriers = 1
    if choice.power_scope == "total":
        if file.drop_letters[:1] != "f" or file.drop_letters.count("f") > 1:
            raise NflaeError(
                f"{file.path}: {file.variable}: --power-scope total needs the subcarriers before the drops, as in nkfs;"
                f" the layout is {file.layout}: permute the array, or pass --power-scope equal"
            )
        subcarriers = choice.subcarriers
    if request.weights is not None:
        options["weights"] = _weights(request.weights, file)
    if request.power_per_antenna is not None and choice.power_scope == "equal" and choice.power.is_default:
        raise NflaeError("--power-scope equal shares P: pass --power-dbw beside --power-per-antenna, or leave it out")
    try:
        problem = describe_problem(
            {**options, "power_scope": "total" if choice.power_scope == "total" else "each"},
            receive_antennas=file.receive_mode,
            has_total=not choice.power.is_default,
            subcarriers=subcarriers,
        )
        problem.check(file.drops, file.users, file.antennas, file.receive_antennas)
    except ProblemError as error:
        raise ProblemError(_with_options(str(error))) from None
    return problem


def drawn_problem(request: ProblemRequest, users: int, antennas: int) -> PrecodingProblem:
    """Make the problem of drawn channels, P = 1 W; it is left out where the antennas' limits sum to less.

    Parameters
    ----------
    request : ProblemRequest
        Options of the command; weights are numbers.
    users, antennas : int
        K and N.

    Returns
    -------
    PrecodingProblem

    Raises
    ------
    ProblemError
        If a quantity is out of its range, makes no sense without another, or does not fit the channels.
    """
    options: dict[str, Any] = dict(vars(request))
    if request.weights is not None:
        options["weights"] = [float(part) for part in request.weights.split(",")]
    limit = request.power_per_antenna
    has_total = limit is None or limit * antennas > DEFAULT_POWER
    try:
        problem = describe_problem(options, receive_antennas=None, has_total=has_total, subcarriers=1)
        problem.check(1, users, antennas)
    except ProblemError as error:
        raise ProblemError(_with_options(str(error))) from None
    return problem


def _with_options(message: str) -> str:
    """Return a message with the options of the command line in place of those of Python."""
    for name in ("receive_antennas", *OPTION_NAMES):
        option = f"--{name.replace('_', '-')}"
        message = re.sub(rf"\b{name}='([\w-]+)'", rf"{option} \1", message)
        message = re.sub(rf"^{name}\b|(?<=leave ){name}(?= out)", option, message)
        if "_" in name:
            message = re.sub(rf"\b{name}\b", option, message)
    return message


def check_together(problem: PrecodingProblem, file: ChannelFile, block: Block) -> None:
    """Check that no drop of a block is bad where drops are solved together.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.
    file : ChannelFile
        Open file.
    block : Block
        Block of the file.

    Raises
    ------
    NflaeError
        If one is; the message names it.
    """
    together = problem.drops_together
    if together == 1 or block.good.all():
        return
    from nflae_bridge.files.blocks import drop_name

    drop = drop_name(file, block.start + int((~block.good).argmax()))
    raise NflaeError(
        f"{file.path}: {file.variable}: {drop} cannot be skipped: {together} drops are solved together; correct the"
        " channels"
    )


def problem_budget(problem: PrecodingProblem, choice: BudgetChoice, antennas: int) -> LinkBudget:
    """Return the link budget of a problem.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.
    choice : BudgetChoice
        Chosen link budget.
    antennas : int
        Number of antennas.

    Returns
    -------
    LinkBudget
        That of one subcarrier, or of all where these share the power.
    """
    if problem.subcarriers > 1:
        power = choice.power.value
    else:
        power = total_power(problem, antennas, choice.power_per_subcarrier if problem.total_power else None)
    return LinkBudget(power, choice.noise_power.value, choice.alpha_c.value, choice.min_rate.value)


def problem_info(problem: PrecodingProblem) -> dict[str, Value]:
    """Return the fields of ``nflae_info`` that state a problem: all that it has beyond the plain one.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.

    Returns
    -------
    dict
        Values by name.
    """
    return {
        ("power_per_antenna" if name == "antenna_power" else name): each for name, each in problem.describe().items()
    }


def streams_of(problem: PrecodingProblem, receive_antennas: int, antennas: int) -> int:
    """Return the number of streams per user.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.
    receive_antennas, antennas : int
        Receive antennas of each user, and transmit antennas.

    Returns
    -------
    int
    """
    if not problem.joint_receivers:
        return 1
    return problem.streams or min(receive_antennas, antennas)


def _weights(text: str, file: ChannelFile) -> npt.NDArray[np.float64] | list[float]:
    """Parse numbers with commas between them, or read a variable."""
    from nflae_bridge.files.labels import read_weights

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        if "," in text:
            raise ProblemError(
                f"weights must be numbers with commas between them, or a variable, got {text!r}"
            ) from None
        return read_weights(file, text)
