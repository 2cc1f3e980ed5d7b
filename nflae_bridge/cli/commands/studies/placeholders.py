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

_SMALLEST = 4  # error rates fall from 0.1 by factors of ten, this many times


def link_points(schemes: Sequence[str], snr_db: Sequence[float], drops: int) -> list[Point]:
    """Make the points of a link study.

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
    list of Point
        All schemes have the same error rates, which fall with the SNR.
    """
    from nflae_bridge.studies.link.sweep import Point
    from nflae_bridge.studies.link.unit_journal import Outcome

    points = []
    for place, snr in enumerate(sorted(snr_db)):
        rate = 10.0 ** -(1 + min(place, _SMALLEST))
        sums, series = dict.fromkeys(schemes, _tally(1, rate)), dict.fromkeys(schemes, _tally(drops, rate))
        points.append(Point(snr, 1, outcomes={0: Outcome(snr, 0, sums, series)}, counted=1, sums=sums))
    return points


def _tally(entries: int, error_rate: float) -> Tally:
    counts = {each.name: np.full(entries, 1e6) for each in fields(Tally)}
    few = ("block_errors", "bit_errors", "error_energy", "inverse_sinr")
    return Tally(**counts | {name: np.full(entries, 1e6 * error_rate) for name in few})


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
