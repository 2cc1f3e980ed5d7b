"""Find the Pareto front of times and objectives, and ratios of the competitors' times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nflae_bridge.studies.benchmark.competitors import FLOOR, PLAIN_CALL, WITHOUT_OBJECTIVE
from simulator.problems.problem import PrecodingProblem

# Where several reach the same optimum, rounding must not decide the comparison.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Measurement:
    """One competitor on one device, with one size of drops and one number of drops per call.

    Parameters
    ----------
    device
        Name of the device.
    batch
        Drops per call.
    users, antennas
        K and N.
    scheme, iterations, implementation
        As in `Competitor`.
    median, p99
        Time per drop, s.
    calls
        Number of calls timed.
    objective
        Mean objective, bps/Hz: the sum rate, or that of the problem; NaN for competitors that are timed only.
    """

    device: str
    batch: int
    users: int
    antennas: int
    scheme: str
    iterations: int | None
    implementation: str
    median: float
    p99: float
    calls: int
    objective: float

    @property
    def name(self) -> str:
        """The scheme, with its iterations where it has some: ``wmmse-20``, ``nflae+1``."""
        if self.iterations is None:
            return self.scheme
        if self.scheme == "nflae":
            return f"nflae+{self.iterations}" if self.iterations else "nflae"
        return f"{self.scheme}-{self.iterations}"


@dataclass(frozen=True)
class Ratio:
    """Ratio of two times per drop.

    Parameters
    ----------
    quantity
        Name of the ratio.
    rival
        Name of the measurement compared with; None where none qualifies.
    times
        The ratio; None where none qualifies.
    """

    quantity: str
    rival: str | None
    times: float | None


def on_front(rows: Sequence[Measurement]) -> list[bool]:
    """Find the Pareto front; competitors that are timed only are never on it.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.

    Returns
    -------
    list of bool
        For each row, true if no other is as fast and as good, and better in one of the two.
    """

    def dominates(other: Measurement, row: Measurement) -> bool:
        no_worse = other.median <= row.median and other.objective >= row.objective
        return no_worse and (other.median < row.median or other.objective > row.objective)

    return [not math.isnan(row.objective) and not any(dominates(other, row) for other in rows) for row in rows]


def largest_not_above(rows: Sequence[Measurement], scheme: str, objective: float) -> Measurement | None:
    """Find an iterative scheme's measurement with the most iterations among those not above an objective.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    scheme
        Name of the iterative scheme.
    objective
        Limit, bps/Hz.

    Returns
    -------
    Measurement or None
        None if all exceed the limit.
    """
    below = [row for row in rows if row.scheme == scheme and row.objective <= objective * (1 + _ROUNDING)]
    return max(below, key=lambda row: row.iterations or 0, default=None)


def fastest_reaching(rows: Sequence[Measurement], objective: float) -> Measurement | None:
    """Find the fastest measurement, apart from ``nflae``, with at least this objective.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    objective
        Least objective, bps/Hz.

    Returns
    -------
    Measurement or None
        None if none reaches it.
    """
    reaching = [row for row in rows if row.scheme != "nflae" and row.objective >= objective * (1 - _ROUNDING)]
    return min(reaching, key=lambda row: row.median, default=None)


def ratios(rows: Sequence[Measurement], ours: Measurement, name: str = "sum rate") -> list[Ratio]:
    """Compute ratios of median times: others over the network, and the network over the floor and its plain call.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    ours
        The network's measurement among them.
    name
        Name of the objective.

    Returns
    -------
    list of Ratio
        The same quantities in the same order for every ``ours`` of the rows.
    """

    def over_ours(quantity: str, row: Measurement | None) -> Ratio:
        return Ratio(quantity, row.name if row else None, row.median / ours.median if row else None)

    def of_scheme(scheme: str) -> list[Measurement]:
        return [row for row in rows if row.scheme == scheme]

    found = [
        over_ours(f"{scheme} at an equal or lower {name}", largest_not_above(rows, scheme, ours.objective))
        for scheme in ("wmmse", "inversion-free")
        if of_scheme(scheme)
    ]
    found += [over_ours(row.name, row) for row in of_scheme("wmmse") if row.iterations == 20]
    if any(row.scheme not in ("nflae", *WITHOUT_OBJECTIVE) for row in rows):
        found.append(over_ours(f"fastest scheme at an equal or higher {name}", fastest_reaching(rows, ours.objective)))
    found += [Ratio("nflae over the floor", row.name, ours.median / row.median) for row in of_scheme(FLOOR)]
    found += [Ratio("nflae over its plain call", row.name, ours.median / row.median) for row in of_scheme(PLAIN_CALL)]
    return found


def reference(rows: Sequence[Measurement], problem: PrecodingProblem) -> Measurement | None:
    """Find the measurement whose objective the shares refer to.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    problem
        Problem that the schemes solve.

    Returns
    -------
    Measurement or None
        WMMSE with 100 iterations, of other problems than the plain sum rate the best scheme apart from ``nflae``; None
        without it among the rows.
    """
    if problem.is_plain:
        return next((row for row in rows if row.scheme == "wmmse" and row.iterations == 100), None)
    rivals = [row for row in rows if row.scheme != "nflae" and not math.isnan(row.objective)]
    return max(rivals, key=lambda row: row.objective, default=None)


def share_of_reference(rows: Sequence[Measurement], row: Measurement, problem: PrecodingProblem) -> float | None:
    """Compute an objective over that of `reference`.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    row
        The measurement.
    problem
        Problem that the schemes solve.

    Returns
    -------
    float or None
        The ratio; None without a reference among the rows or an objective of the row.
    """
    compared = reference(rows, problem)
    return None if compared is None or math.isnan(row.objective) else row.objective / compared.objective


def objective_name(problem: PrecodingProblem) -> str:
    """Return the name of a problem's objective in tables and plots.

    Parameters
    ----------
    problem
        Problem of drops that are solved alone.

    Returns
    -------
    str
        ``sum rate``, ``weighted sum rate`` or ``smallest rate``.
    """
    if problem.objective == "max-min":
        return "smallest rate"
    return "sum rate" if problem.weights is None else "weighted sum rate"
