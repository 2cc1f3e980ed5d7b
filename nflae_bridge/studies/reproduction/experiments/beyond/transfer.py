"""Evaluate one checkpoint in unseen settings against the raw encoder retrained for each, beyond the papers."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import empty_figure, style
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED, OperatingPoint
from nflae_bridge.studies.reproduction.scheme_metrics import evaluate_scheme, label_accuracy, own_labels
from nflae_bridge.studies.reproduction.study import SHIPPED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, named
from nflae_bridge.studies.reproduction.work_plan import expected_schemes, expected_solution, expected_training
from simulator.downlink.precoding import Scheme
from simulator.geometry.arrays import UniformLinearArray

_PUBLISHED = "as published"
_CLASSICAL = ("wmmse", "rzf")


def _with_array(**changed: float) -> OperatingPoint:
    return replace(PUBLISHED, array=replace(UniformLinearArray(), **changed))  # type: ignore[arg-type]


_SETTINGS = {
    _PUBLISHED: PUBLISHED,
    "K = 4": replace(PUBLISHED, users=4),
    "K = 16": replace(PUBLISHED, users=16),
    "P = -10 dBW": replace(PUBLISHED, power_dbw=-10.0),
    "P = 10 dBW": replace(PUBLISHED, power_dbw=10.0),
    "N = 128": _with_array(antennas=128),
    "N = 512": _with_array(antennas=512),
    "7 GHz": _with_array(carrier=7e9),
    "60 GHz": _with_array(carrier=60e9),
    "tilt 20 deg": _with_array(tilt=math.radians(20)),
    "mast 40 m": _with_array(height=40.0),
}
# Settings a quick run retrains the raw encoder for, with a Transformer: GPT-2 would take hours on a CPU.
_QUICK = (_PUBLISHED, "K = 4", "N = 128", "mast 40 m")


def _raw(study: Study) -> str:
    return "paper" if study.compute_budget.per_point else "transformer"


def _units(study: Study) -> list[Unit]:
    return [Unit(where, partial(_at, study, where), _expected(study, where)) for where in _SETTINGS]


def _trainings(study: Study, where: str) -> dict[str, OperatingPoint]:
    """Return the operating points at which the raw encoder of a setting is trained, by what it is called there."""
    point, found = _SETTINGS[where], {}
    if point.array.antennas == PUBLISHED.array.antennas:
        found[f"{_raw(study)}, not retrained"] = PUBLISHED
    if study.compute_budget.per_point or where in _QUICK:
        found[f"{_raw(study)}, retrained"] = point
    return found


def _expected(study: Study, where: str) -> list[Activity]:
    trainings, point, drops = _trainings(study, where), _SETTINGS[where], study.compute_budget.test_drops
    activities = [expected_training(study, _raw(study), trained_at) for trained_at in trainings.values()]
    activities += expected_schemes(study, ("optimiser", *SHIPPED, *_CLASSICAL), point)
    return activities + [Activity(_name(name), expected_solution(_raw(study), drops, point)) for name in trainings]


def _at(study: Study, where: str, note: Note) -> list[Row]:
    point = _SETTINGS[where]
    drops = point.draw(study.compute_budget.test_drops, study.seed)
    schemes: dict[str, Scheme] = {"optimiser": study.scheme("optimiser", point, note), **study.engines}
    schemes |= {name: study.scheme(name, point, note) for name in _CLASSICAL}
    schemes |= {
        name: study.retrained(_raw(study), trained_at, note) for name, trained_at in _trainings(study, where).items()
    }
    rows: list[Row] = []
    best = math.nan
    for name, scheme in schemes.items():
        noted = named(note, _name(name))
        found = evaluate_scheme(scheme, drops.channels, drops.near_field, point.constrained, note=noted)
        best = found.mean if name == "optimiser" else best
        row: Row = {"setting": where, "scheme": name, "sum_rate": found.mean, "of_optimiser": found.mean / best}
        if name not in ("optimiser", *_CLASSICAL):
            row["accuracy"] = label_accuracy(own_labels(scheme, drops.channels), drops.near_field)
        rows.append({**row, "near_share": float(drops.near_field.double().mean()), "drops": len(drops.channels)})
    return rows


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("One checkpoint where it was not trained", EXPERIMENT.cuts(study), 11, 7.5)
    rate, accuracy = figure.subplots(2, 1, sharex=True)
    positions = {where: position for position, where in enumerate(_SETTINGS)}
    raw = _raw(study)
    looks = {
        "small": style("small"),
        "tiny": style("tiny"),
        **{name: style(name) for name in _CLASSICAL},
        f"{raw}, retrained": style(raw),
        f"{raw}, not retrained": {**style(raw), "mfc": "none"},
    }
    for axes, column in ((rate, "of_optimiser"), (accuracy, "accuracy")):
        for name, look in looks.items():
            selected = rows[(rows["scheme"] == name)].dropna(subset=column)
            axes.plot(
                selected["setting"].map(positions),
                100 * selected[column],
                label=_name(name),
                markersize=8,
                **{**look, "linestyle": ""},
            )
        axes.grid(color="#DDDDDD", linewidth=0.8)
        axes.set_axisbelow(True)
    rate.axhline(100, color="black", linestyle=":")
    rate.set_ylabel("sum rate over the\nper-drop optimiser's [%]")
    accuracy.set_ylabel("users with the right label [%]")
    accuracy.set_xticks(list(positions.values()), list(positions), rotation=25, ha="right")
    rate.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _name(scheme: str) -> str:
    network, _, what = scheme.partition(", ")
    raw = {"paper": "raw encoder (GPT-2)", "transformer": "raw encoder (Transformer)"}
    return f"{raw[network]}, {what}" if what else label(scheme)


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    wide = rows.pivot(index="setting", columns="scheme", values="of_optimiser").loc[list(_SETTINGS)]
    return wide[rows["scheme"].unique()].rename(columns=_name)


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    checks = []
    for name in SHIPPED:
        ratio = rows[rows["scheme"] == name].set_index("setting")["of_optimiser"]
        checks.append(
            Check(
                f"{label(name)}: at least 99.0 % of the per-drop optimiser in every setting",
                bool(ratio.min() >= 0.99),
                f"{ratio.min():.2%}, {ratio.idxmin()}",
            )
        )
    share = rows.pivot(index="setting", columns="scheme", values="of_optimiser")
    margin = (share["small"] - share[f"{_raw(study)}, retrained"]).dropna()
    checks.append(
        Check(
            "ours, small: above the raw encoder retrained for the setting",
            bool((margin > 0).all()),
            f"at least {100 * margin.min():+.2f} points, {margin.idxmin()}",
        )
    )
    return checks


EXPERIMENT = Experiment(
    "transfer",
    "One checkpoint in settings it has not seen, against the raw encoder retrained for each",
    "beyond the papers",
    _units,
    _draw,
    _table,
    _checks,
    (
        "alpha_c = 0.4 and R_min = 0.6 bps/Hz everywhere. The raw encoder reads one number of antennas, so with "
        "another it can only be retrained. `small` was trained with N from 2 to 320, K up to 16, -4 to 34 dB, and "
        "other tilts and heights; never with 512 antennas, and its features do not depend on the carrier.",
    ),
    ("transformer",),
    "the raw encoder feeds the Transformer instead of GPT-2, and is retrained for 4 settings of 11; "
    "200 test drops instead of 1,000",
    ("paper",),
)
