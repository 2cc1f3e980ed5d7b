"""Make the precoding problem of a channel file from the options of a command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matlab_io.errors import NflaeError
from nflae_bridge.files.budget.choice import BudgetChoice, BudgetRequest, choose_budget
from simulator.downlink.budget import DEFAULT_POWER, LinkBudget
from simulator.problems.options import OPTION_NAMES, describe_problem, total_power
from simulator.problems.problem import PrecodingProblem, ProblemError

if TYPE_CHECKING:  # numpy is not imported for the options of a command
    import numpy as np
    import numpy.typing as npt

    from matlab_io import ChannelFile
    from matlab_io.writing.mat_writer import Value
    from nflae_bridge.files.blocks import Block
    from nflae_bridge.files.budget.user_snr import Progress

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
    power_per_antenna : str, optional
        Name of a variable, or numbers with commas between them, W.
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
    power_per_antenna: str | None = None
    antenna_groups: int | None = None
    rf_chains: int | None = None
    phase_bits: int | None = None
    connection: str | None = None
    streams: int | None = None


def choose_problem(
    request: ProblemRequest, budget: BudgetRequest, file: ChannelFile, progress: Progress | None = None
) -> tuple[PrecodingProblem, BudgetChoice]:
    """Choose the link budget and make the problem of a channel file.

    Parameters
    ----------
    request, budget : ProblemRequest, BudgetRequest
        Options of the command.
    file : ChannelFile
        Open file.
    progress : callable, optional
        As for `choose_budget`.

    Returns
    -------
    problem : PrecodingProblem
        Problem.
    choice : BudgetChoice
        Chosen link budget; where none is stated, the power is the sum of the antennas' limits.

    Raises
    ------
    NflaeError
        If a quantity is out of its range, makes no sense without another, or does not fit the channels.
    """
    options: dict[str, Any] = dict(vars(request))
    limits = _numbers_or_variable("power_per_antenna", request.power_per_antenna, file)
    choice = choose_budget(budget, file, progress, limits)
    subcarriers = 1
    if choice.power_scope == "total":
        if file.drop_letters[:1] != "f" or file.drop_letters.count("f") > 1:
            raise NflaeError(
                f"{file.path}: {file.variable}: --power-scope total needs the subcarriers before the drops, as in nkfs;"
                f" the layout is {file.layout}: permute the array, or pass --power-scope equal"
            )
        subcarriers = choice.subcarriers
    options["weights"] = _numbers_or_variable("weights", request.weights, file)
    options["power_per_antenna"] = limits
    if limits is not None and choice.power_scope == "equal" and choice.power.is_default:
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
        raise ProblemError(_with_variables(_with_options(str(error)), request, file)) from None
    return problem, choice


def drawn_problem(request: ProblemRequest, users: int, antennas: int) -> PrecodingProblem:
    """Make the problem of drawn channels, P = 1 W; it is left out where the antennas' limits sum to less.

    Parameters
    ----------
    request : ProblemRequest
        Options of the command; weights and limits are numbers.
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
    limits = _numbers_or_variable("power_per_antenna", request.power_per_antenna)
    weights = _numbers_or_variable("weights", request.weights)
    options: dict[str, Any] = {**vars(request), "weights": weights, "power_per_antenna": limits}
    has_total = limits is None or limits.mean() * antennas > DEFAULT_POWER
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


def _with_variables(message: str, request: ProblemRequest, file: ChannelFile) -> str:
    """Return a message that begins with file and variable in place of an option whose values were read from them."""
    for option, text in (("--weights", request.weights), ("--power-per-antenna", request.power_per_antenna)):
        if text is not None and _numbers(text) is None and message.startswith(f"{option} must"):
            message = f"{file.path}: {text}{message.removeprefix(option)}; correct it in the file, or pass {option}"
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


def _numbers_or_variable(
    name: str, text: str | None, file: ChannelFile | None = None
) -> npt.NDArray[np.float64] | None:
    """Parse numbers with commas between them, or read a variable."""
    if text is None:
        return None
    numbers = _numbers(text)
    if numbers is not None:
        return numbers
    if "," in text or file is None:
        raise ProblemError(
            _with_options(f"{name} must be numbers with commas between them, or a variable, got {text!r}")
        )
    from nflae_bridge.files.budget.variables import read_antenna_limits, read_weights

    return read_weights(file, text) if name == "weights" else read_antenna_limits(file, text)


def _numbers(text: str) -> npt.NDArray[np.float64] | None:
    import numpy as np

    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        return None
