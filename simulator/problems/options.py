"""Make a precoding problem of the options that every interface states under the same names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from simulator.downlink.budget import DEFAULT_POWER
from simulator.problems.problem import PrecodingProblem, ProblemError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "OPTION_NAMES",
    "ProblemOptions",
    "check_option_names",
    "describe_array_problem",
    "describe_problem",
    "total_power",
]

JOINT = "joint"
"""Value of ``receive_antennas`` that makes the combiners part of the problem."""


class ProblemOptions(TypedDict, total=False):
    """Name the options of a precoding problem; those that are left out are as in the plain problem.

    Attributes
    ----------
    objective : {"sum-rate", "max-min", "proportional-fair"}
        Weighted sum rate; smallest rate; or sum over users of the logarithm of the mean rate over `window` drops.
    weights : array_like
        Weights of the users' rates, (users,) or (drops, users), not negative.
    window : int
        Consecutive drops over which rates are averaged for ``"proportional-fair"``.
    power_per_antenna : array_like
        Largest power of each antenna, W: one number, or (antennas,). The total power then holds only where it is given.
    antenna_groups : int
        Antennas per group, consecutive: a group has the sum of its antennas' limits in common.
    rf_chains, phase_bits : int
        RF chains of a hybrid array, and bits of its phase shifters, continuous by default.
    connection : {"full", "sub"}
        Every RF chain feeds every antenna, or a block of antennas of its own.
    streams : int
        Streams per user with ``receive_antennas="joint"``; as many as receive antennas by default.
    power_scope : {"each", "total"}
        The power is that of every subcarrier, or that of all subcarriers of a snapshot together.
    """

    objective: str
    weights: npt.ArrayLike
    window: int
    power_per_antenna: npt.ArrayLike
    antenna_groups: int
    rf_chains: int
    phase_bits: int
    connection: str
    streams: int
    power_scope: str


OPTION_NAMES = tuple(ProblemOptions.__annotations__)


def check_option_names(options: ProblemOptions | Mapping[str, Any]) -> None:
    """Check the names of the options of `precode`.

    Parameters
    ----------
    options : mapping
        Options by name.

    Raises
    ------
    TypeError
        If one is not of a problem.
    """
    unknown = set(options) - set(OPTION_NAMES)
    if unknown:
        raise TypeError(f"precode() got an unexpected keyword argument {min(unknown)!r}")


def describe_problem(
    options: ProblemOptions | Mapping[str, Any],
    *,
    receive_antennas: str | None = None,
    has_total: bool = True,
    subcarriers: int = 1,
) -> PrecodingProblem:
    """Make the problem of given options.

    Parameters
    ----------
    options : mapping
        Options of `ProblemOptions`; None counts as left out.
    receive_antennas : str, optional
        ``"joint"`` makes the receive combiners part of the problem; other treatments precede it.
    has_total : bool
        A total power is given; without one, limits of antennas hold alone.
    subcarriers : int
        Subcarriers of one snapshot.

    Returns
    -------
    PrecodingProblem

    Raises
    ------
    ProblemError
        If a quantity is out of its range or makes no sense without another.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    limits = given.pop("power_per_antenna", None)
    if given.get("power_scope") == "total":
        given["subcarriers"] = subcarriers
    return PrecodingProblem(
        **given,
        antenna_power=limits,
        total_power=has_total or limits is None,
        joint_receivers=receive_antennas == JOINT,
    )


def describe_array_problem(
    options: ProblemOptions | Mapping[str, Any],
    receive_antennas: str | None,
    has_total: bool,
    layout: str | None,
    shape: tuple[int, ...],
) -> PrecodingProblem:
    """Make the problem of given options for an array whose subcarriers are the last drop axis of its layout.

    Parameters
    ----------
    options, receive_antennas, has_total
        As for `describe_problem`.
    layout : str or None
        Axes of the array, see `matlab_io.reading.layout`.
    shape : tuple of int
        Shape of the array.

    Returns
    -------
    PrecodingProblem

    Raises
    ------
    ProblemError
        As for `describe_problem`, and if one power is shared by subcarriers that the array does not have in that place.
    """
    subcarriers = 1
    if options.get("power_scope") == "total":
        if layout is None or "f" not in layout:
            raise ProblemError("power_scope='total' needs a subcarrier axis; name it f in layout")
        if layout.count("f") > 1 or "s" in layout[layout.index("f") :]:
            raise ProblemError(
                f"power_scope='total' needs one subcarrier axis after the axes of drops, layout is {layout!r}; pass"
                " channels with these axes in the order s, f"
            )
        subcarriers = shape[layout.index("f")] if len(shape) == len(layout) else 1
    return describe_problem(options, receive_antennas=receive_antennas, has_total=has_total, subcarriers=subcarriers)


def total_power(problem: PrecodingProblem, antennas: int, power: float | None) -> float:
    """Return the total power of a problem's link budget.

    Parameters
    ----------
    problem : PrecodingProblem
        Problem.
    antennas : int
        Number of antennas.
    power : float or None
        P as given, W.

    Returns
    -------
    float
        P, W; where none is given, the sum of the antennas' limits, or 1 W without limits.

    Raises
    ------
    ProblemError
        If the limits are neither one nor as many as the antennas.
    """
    if power is not None:
        return power
    limits = problem.antenna_power
    if limits is None:
        return DEFAULT_POWER
    if len(limits) not in (1, antennas):
        raise ProblemError(
            f"power_per_antenna must hold one value, or one for each of the {antennas} antennas; got {len(limits)}"
            " values"
        )
    return float(limits.sum() * (antennas if len(limits) == 1 else 1))
