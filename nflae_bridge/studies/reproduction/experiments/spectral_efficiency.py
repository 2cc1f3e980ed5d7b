"""Reproduce Figs. 6 to 9: the sum rate of every scheme while one quantity of the operating point varies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import draw_by_constraints, empty_figure, legend_beside, symbols
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.scheme_metrics import SchemeMetrics, evaluate_scheme
from nflae_bridge.studies.reproduction.study import CLASSICAL, CONSTRAINED, LEARNED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, named
from nflae_bridge.studies.reproduction.work_plan import expected_schemes
from simulator.downlink.capacity import dirty_paper_capacity

_REMARKS = (
    "Capacity, WMMSE, LDMA, NOMA and SDMA have the power limit alone, as in the papers; the others keep alpha_c and "
    "R_min, all by the true labels, so that a wrong label is no advantage. In the CSV, `of_optimiser` compares means "
    "over the same drops; `missed` counts drops on which C1, C2, C3 or C5 is broken, or on which a user gets less than "
    "R_min although some scheme shows that the drop allows it; `flagged` counts those that the scheme itself reports "
    "as infeasible.",
)


def sweep(
    name: str, title: str, source: str, quantity: str, points: Sequence[float], at: Callable[[float], OperatingPoint]
) -> Experiment:
    """Make the experiment that varies one quantity.

    Parameters
    ----------
    name, title, source
        As in `Experiment`.
    quantity
        Label of the abscissa, with its unit.
    points
        Values of the quantity.
    at
        From a value to the operating point.

    Returns
    -------
    Experiment
        The experiment.
    """

    def units(study: Study) -> list[Unit]:
        order = *CLASSICAL, *CONSTRAINED
        return [
            Unit(f"{value:g}", partial(_point, study, value, at(value)), expected_schemes(study, order, at(value)))
            for value in points
        ]

    def draw(study: Study, rows: pd.DataFrame) -> Figure:
        figure = empty_figure(f"{title} ({source})", experiment.cuts(study), width=10.5)
        axes = figure.subplots()
        draw_by_constraints(axes, rows, "value", rows["scheme"].isin(CONSTRAINED))
        axes.set_xticks(list(points))
        axes.set_xlabel(symbols(quantity))
        axes.set_ylabel("mean spectral efficiency [bps/Hz]")
        legend_beside(axes)
        return figure

    def table(rows: pd.DataFrame) -> pd.DataFrame:
        wide = rows.pivot(index="scheme", columns="value", values="sum_rate").loc[rows["scheme"].unique()]
        return wide.rename(index=label).rename_axis(f"bps/Hz; columns: {quantity}")

    experiment = Experiment(
        name,
        title,
        source,
        units,
        draw,
        table,
        _checks,
        _REMARKS,
        LEARNED,
        "200 test drops per point instead of 1,000; networks of the published setting at every point",
    )
    return experiment


def _point(study: Study, value: float, point: OperatingPoint, note: Note) -> list[Row]:
    drops = point.draw(study.compute_budget.test_drops, study.seed + point.users)
    channels, near = drops.channels.to(study.device), drops.near_field.to(study.device)
    found: dict[str, SchemeMetrics] = {}
    for name in (*CLASSICAL, *CONSTRAINED):
        scheme = study.scheme(name, point, note)
        budget = point.constrained if name in CONSTRAINED else point.free
        found[name] = evaluate_scheme(scheme, channels, near, budget, note=named(note, label(name)))
    possible = torch.stack([~found[name].short & ~found[name].broken for name in CONSTRAINED]).any(0)
    note("capacity")
    capacity = float(dirty_paper_capacity(drops.channels, point.free).mean())
    rows: list[Row] = [{"value": value, "scheme": "capacity", "sum_rate": capacity}]
    for name, metrics in found.items():
        row: Row = {"value": value, "scheme": name, "sum_rate": metrics.mean, "half_width_95": metrics.half_width}
        if name in CONSTRAINED:
            row |= {
                "of_optimiser": metrics.mean / found["optimiser"].mean,
                "flagged": int((~metrics.feasible).sum()),
                "missed": int((metrics.broken | metrics.short & possible).sum()),
                "possible": int(possible.sum()),
            }
        rows.append({**row, "drops": len(near)})
    return rows


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    rate = rows.pivot(index="value", columns="scheme", values="sum_rate")
    small = rows[rows["scheme"] == "small"]
    checks = [
        _ordered(rate, better, worse)
        for better, worse in (
            ("capacity", "wmmse"),
            ("wmmse", "ldma"),
            ("wmmse", "noma"),
            ("ldma", "sdma"),
            ("noma", "sdma"),
        )
    ]
    checks += [_ordered(rate, "optimiser", name) for name in CONSTRAINED[1:]]
    checks += [_ordered(rate, "small", name) for name in LEARNED]
    least = small["of_optimiser"].min()
    checks.append(
        Check(
            "ours, small: at least 99.0 % of the per-drop optimiser at every point", bool(least >= 0.99), f"{least:.2%}"
        )
    )
    missed = int(small["missed"].sum())
    checks.append(
        Check(
            "ours, small: no constraint missed on a drop that allows it",
            missed == 0,
            f"{missed} of {int(small['possible'].sum())} drops",
        )
    )
    return checks


def _ordered(rate: pd.DataFrame, better: str, worse: str) -> Check:
    margin = (rate[better] - rate[worse]).to_numpy()
    least = int(margin.argmin())
    return Check(
        f"{label(better)} > {label(worse)} at every point",
        bool(margin[least] > 0),
        f"{margin[least]:+.3f} at {rate.index[least]:g}",
    )


BY_USERS = sweep(
    "se-users",
    "Spectral efficiency against the number of users",
    "Fig. 6",
    "users K",
    range(5, 11),
    lambda users: replace(PUBLISHED, users=int(users)),
)

BY_ALPHA_C = sweep(
    "se-alpha",
    "Spectral efficiency against the near-field users' share of the power, K = 10",
    "Fig. 7",
    "alpha_c",
    [tenths / 10 for tenths in range(1, 10)],
    lambda alpha_c: replace(PUBLISHED, alpha_c=alpha_c),
)

BY_MIN_RATE = sweep(
    "se-minrate",
    "Spectral efficiency against the rate every user must get, K = 10",
    "Fig. 8",
    "R_min [bps/Hz]",
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
    lambda min_rate: replace(PUBLISHED, min_rate=min_rate),
)

BY_POWER = sweep(
    "se-power",
    "Spectral efficiency against the power budget, K = 10",
    "Fig. 9",
    "P [dBW]",
    [-10.0, -5.0, 0.0, 5.0, 10.0],
    lambda power_dbw: replace(PUBLISHED, power_dbw=power_dbw),
)
