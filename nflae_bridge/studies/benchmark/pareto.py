"""Find the Pareto front of times and sum rates, and ratios of the competitors' times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nflae_bridge.studies.benchmark.competitors import FLOOR

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
    sum_rate
        Mean sum rate, bps/Hz; NaN for the floor.
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
    sum_rate: float

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
    """Find the Pareto front; the floor, which has no sum rate, is never on it.

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
        no_worse = other.median <= row.median and other.sum_rate >= row.sum_rate
        return no_worse and (other.median < row.median or other.sum_rate > row.sum_rate)

    return [not math.isnan(row.sum_rate) and not any(dominates(other, row) for other in rows) for row in rows]


def largest_not_above(rows: Sequence[Measurement], scheme: str, sum_rate: float) -> Measurement | None:
    """Find an iterative scheme's measurement with the most iterations among those not above a sum rate.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    scheme
        Name of the iterative scheme.
    sum_rate
        Limit, bps/Hz.

    Returns
    -------
    Measurement or None
        None if all exceed the limit.
    """
    below = [row for row in rows if row.scheme == scheme and row.sum_rate <= sum_rate * (1 + _ROUNDING)]
    return max(below, key=lambda row: row.iterations or 0, default=None)


def fastest_reaching(rows: Sequence[Measurement], sum_rate: float) -> Measurement | None:
    """Find the fastest measurement, apart from ``nflae``, with at least this sum rate.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    sum_rate
        Least sum rate, bps/Hz.

    Returns
    -------
    Measurement or None
        None if none reaches it.
    """
    reaching = [row for row in rows if row.scheme != "nflae" and row.sum_rate >= sum_rate * (1 - _ROUNDING)]
    return min(reaching, key=lambda row: row.median, default=None)


def ratios(rows: Sequence[Measurement], ours: Measurement) -> list[Ratio]:
    """Compute ratios of median times: other schemes over the network, and the network over the floor.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    ours
        The network's measurement among them.

    Returns
    -------
    list of Ratio
        The same quantities in the same order for every ``ours`` of the rows.
    """

    def over_ours(quantity: str, row: Measurement | None) -> Ratio:
        return Ratio(quantity, row.name if row else None, row.median / ours.median if row else None)

    def of_scheme(name: str) -> list[Measurement]:
        return [row for row in rows if row.scheme == name]

    found = [
        over_ours(f"{scheme} at an equal or lower sum rate", largest_not_above(rows, scheme, ours.sum_rate))
        for scheme in ("wmmse", "inversion-free")
        if of_scheme(scheme)
    ]
    found += [over_ours(row.name, row) for row in of_scheme("wmmse") if row.iterations == 20]
    if any(row.scheme not in ("nflae", FLOOR) for row in rows):
        found.append(over_ours("fastest scheme at an equal or higher sum rate", fastest_reaching(rows, ours.sum_rate)))
    found += [Ratio("nflae over the floor", row.name, ours.median / row.median) for row in of_scheme(FLOOR)]
    return found


def share_of_wmmse(rows: Sequence[Measurement], row: Measurement) -> float | None:
    """Compute a sum rate over that of WMMSE with 100 iterations.

    Parameters
    ----------
    rows
        Measurements on one device with one batch size.
    row
        The measurement.

    Returns
    -------
    float or None
        The ratio; None without WMMSE-100 among the rows or for the floor.
    """
    converged = next((other for other in rows if other.scheme == "wmmse" and other.iterations == 100), None)
    return None if converged is None or math.isnan(row.sum_rate) else row.sum_rate / converged.sum_rate
