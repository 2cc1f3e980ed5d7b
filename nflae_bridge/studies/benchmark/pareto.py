"""What the times and sum rates say: the Pareto front, and how many times as long a rival takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nflae_bridge.studies.benchmark.competitors import FLOOR

# Where all reach the same optimum, rounding shall not decide who reaches whom.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Measurement:
    """One competitor on one device, with drops of one size and one number of them a call.

    batch: drops a call. users, antennas: K, N. iterations: of nflae its refinement steps. median, p99: s a drop, of so
    many calls. sum_rate: mean, bps/Hz, NaN for the floor. The others as in `Competitor`.
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
        """The scheme, with its iterations where it has some: wmmse-20, nflae+1."""
        if self.iterations is None:
            return self.scheme
        if self.scheme == "nflae":
            return f"nflae+{self.iterations}" if self.iterations else "nflae"
        return f"{self.scheme}-{self.iterations}"


@dataclass(frozen=True)
class Ratio:
    """times: a time over another, `quantity` names it. rival: whose it is, None where nothing measured qualifies."""

    quantity: str
    rival: str | None
    times: float | None


def on_front(rows: Sequence[Measurement]) -> list[bool]:
    """For each: whether no other is as fast and as good, and better in one of them. The floor is no scheme."""

    def beats(other: Measurement, row: Measurement) -> bool:
        no_worse = other.median <= row.median and other.sum_rate >= row.sum_rate
        return no_worse and (other.median < row.median or other.sum_rate > row.sum_rate)

    return [not math.isnan(row.sum_rate) and not any(beats(other, row) for other in rows) for row in rows]


def largest_not_above(rows: Sequence[Measurement], scheme: str, sum_rate: float) -> Measurement | None:
    """Of an iterative scheme's rows the one of most iterations whose sum rate does not exceed this; None: all do."""
    below = [row for row in rows if row.scheme == scheme and row.sum_rate <= sum_rate * (1 + _ROUNDING)]
    return max(below, key=lambda row: row.iterations or 0, default=None)


def fastest_reaching(rows: Sequence[Measurement], sum_rate: float) -> Measurement | None:
    """The fastest of the rivals, nflae's rows left out, whose sum rate is at least this; None: no rival's is."""
    reaching = [row for row in rows if row.scheme != "nflae" and row.sum_rate >= sum_rate * (1 - _ROUNDING)]
    return min(reaching, key=lambda row: row.median, default=None)


def ratios(rows: Sequence[Measurement], ours: Measurement) -> list[Ratio]:
    """A rival's time over ours, for the rivals worth naming, and ours over the floor's. rows: of one batch size."""

    def over_ours(quantity: str, row: Measurement | None) -> Ratio:
        return Ratio(quantity, row.name if row else None, row.median / ours.median if row else None)

    def those(name: str) -> list[Measurement]:
        return [row for row in rows if row.scheme == name]

    found = [
        over_ours(f"{scheme} at an equal or lower sum rate", largest_not_above(rows, scheme, ours.sum_rate))
        for scheme in ("wmmse", "inversion-free")
        if those(scheme)
    ]
    found += [over_ours(row.name, row) for row in those("wmmse") if row.iterations == 20]
    if any(row.scheme not in ("nflae", FLOOR) for row in rows):
        found.append(over_ours("the fastest rival that reaches its sum rate", fastest_reaching(rows, ours.sum_rate)))
    found += [Ratio("ours over the floor", row.name, ours.median / row.median) for row in those(FLOOR)]
    return found


def share_of_wmmse(rows: Sequence[Measurement], row: Measurement) -> float | None:
    """The sum rate over that of WMMSE with 100 iterations; None without one."""
    whole = next((other for other in rows if other.scheme == "wmmse" and other.iterations == 100), None)
    return None if whole is None or math.isnan(row.sum_rate) else row.sum_rate / whole.sum_rate
