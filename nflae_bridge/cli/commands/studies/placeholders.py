"""Make results of no measurement, which plots are drawn of before the work, to refuse a size without room.

They have the panels and names of the results; what depends on the values, such as ticks, is checked again at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from simulator.link_level.counting import Tally

if TYPE_CHECKING:
    from nflae_bridge.studies.benchmark.comparison import Settings
    from nflae_bridge.studies.benchmark.pareto import Measurement
    from nflae_bridge.studies.benchmark.scaling import Scaled
    from nflae_bridge.studies.link.sweep import Point

_FALLING = (0.1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)  # error rates, by rising SNR; the last one stays
_ERROR_RATES = (_FALLING, (0.0,), (0.4,))
_LARGEST_RATE, _LEAST_RATE = 12.0, 0.002  # bps/Hz of a user, whose ticks are the widest


def link_points(schemes: Sequence[str], snr_db: Sequence[float], drops: int) -> list[list[Point]]:
    """Make the points of link studies whose plots need the most room.

    Parameters
    ----------
    schemes : sequence of str
        Names of the schemes.
    snr_db : sequence of float
        SNRs, dB.
    drops : int
        Drops of a timeline; 0 without one.

    Returns
    -------
    list of list of Point
        Error rates, the same for all schemes, that fall with the SNR to none, that are 0, and that are large.
    """
    from nflae_bridge.studies.link.sweep import Point
    from nflae_bridge.studies.link.unit_journal import Outcome

    studies = []
    for rates in _ERROR_RATES:
        points = []
        for place, snr in enumerate(sorted(snr_db)):
            rate = rates[min(place, len(rates) - 1)]
            sums, series = dict.fromkeys(schemes, _tally(1, rate)), dict.fromkeys(schemes, _tally(drops, rate))
            points.append(Point(snr, 1, outcomes={0: Outcome(snr, 0, sums, series)}, counted=1, sums=sums))
        studies.append(points)
    return studies


def _tally(entries: int, error_rate: float) -> Tally:
    """Make sums of 1e6 blocks, with an EVM of -30 to -10 dB, and small rates where most blocks are lost."""
    counts = {each.name: np.full(entries, 1e6) for each in fields(Tally)}
    few = ("block_errors", "bit_errors", "errors_squared", "errors_times_bits")
    counts |= {name: np.full(entries, 1e6 * error_rate) for name in few}
    energy = 1e6 * min(0.1, max(error_rate, 1e-3))
    counts |= {name: np.full(entries, energy) for name in ("error_energy", "inverse_sinr")}
    se = _LEAST_RATE if error_rate > _FALLING[0] else _LARGEST_RATE
    counts |= {name: np.full(entries, 1e6 * se) for name in ("rate", "expected_rate", "delivered_bits")}
    return Tally(**counts)


def bench_rows(settings: Settings) -> list[Measurement]:
    """Make the measurements of a comparison.

    Parameters
    ----------
    settings : Settings
        The comparison.

    Returns
    -------
    list of Measurement
        Every scheme once, the network once per number of refinement steps.
    """
    sizes = settings.users, settings.antennas
    return [row for device in settings.devices for batch in settings.batches
            for row in _rows(settings, str(device), batch, *sizes)]  # fmt: skip


def scaled_rows(settings: Settings, axes: Mapping[str, Sequence[int]]) -> list[Scaled]:
    """Make the measurements of a comparison along every axis.

    Parameters
    ----------
    settings : Settings
        The comparison.
    axes : mapping of str to sequence of int
        Values by axis.

    Returns
    -------
    list of Scaled
    """
    from nflae_bridge.studies.benchmark.scaling import Scaled

    found = []
    for axis, values in axes.items():
        for value in values:
            usual = {"batch": 1, "users": settings.users, "antennas": settings.antennas, axis: value}
            for device in settings.devices:
                found += [Scaled(axis, row) for row in _rows(settings, str(device), **usual)]
    return found


def _rows(settings: Settings, device: str, batch: int, users: int, antennas: int) -> list[Measurement]:
    from nflae_bridge.studies.benchmark.competitors import FLOOR, WITHOUT_OBJECTIVE
    from nflae_bridge.studies.benchmark.pareto import Measurement

    names = [(name, 100 if name == "wmmse" else None) for name in (FLOOR, *settings.schemes) if name != "nflae"]
    compared = [*names, *(("nflae", steps) for steps in settings.refinements if "nflae" in settings.schemes)]
    rows = []
    for place, (name, steps) in enumerate(compared):
        objective = math.nan if name in WITHOUT_OBJECTIVE else 10.0 + 0.1 * place
        rows.append(Measurement(device, batch, users, antennas, name, steps, "", 1e-5 * 10**place, 1e-3, 1, objective))
    return rows
