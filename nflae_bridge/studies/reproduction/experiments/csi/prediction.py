"""Evaluate the sum rate from predicted CSI: on moving users of several models, and against the age of the CSI."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.plots.style import OURS, empty_figure, grid_axes, legend_beside
from nflae_bridge.studies.csi.comparison import Row, compare_predictors
from nflae_bridge.studies.csi.measures import USERS
from nflae_bridge.studies.csi.predictors import predictor
from nflae_bridge.studies.csi.settings import SETTINGS, Setting
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from nflae_bridge.tasks.predict import load_predictor
from simulator.csi.prediction.registry import METHODS

_SNR_DB = (0, 10, 20)
_HORIZONS = (1, 4)
_AGE_SETTING, _AGE_SNR_DB, _AGES = SETTINGS[1], 10, (1, 2, 3, 4, 6, 8)
_BUDGET_DROPS_PER_DROP = 5  # six methods at 25 points, each with predictions of every user
# Seconds per user on two cores: of the channels, by source, and of the predictions, per horizon.
_DRAW_SECONDS, _PREDICTION_SECONDS = {"flight": 1e-3, "cdl": 3e-3, "umi": 1e-2}, 4e-4
CLASSICAL = tuple(name for name in METHODS if name not in ("auto", "hold", "nflae"))
LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "hold": ("latest snapshot (hold)", {"color": "#999999", "linestyle": "--", "marker": "D"}),
    "ar": ("vector AR, strong beams", {"color": "#0072B2", "linestyle": "--", "marker": "^"}),
    "ar-global": ("vector AR, all antennas", {"color": "#56B4E9", "linestyle": "--", "marker": "v"}),
    "esprit": ("ESPRIT", {"color": "#009E73", "linestyle": "--", "marker": "P"}),
    "kalman": ("Kalman filter", {"color": "#CC79A7", "linestyle": "--", "marker": "s"}),
    "auto": ("ours, guarded", {"color": OURS, "linestyle": "-", "marker": "o", "linewidth": 2.6}),
}


def _units(study: Study) -> list[Unit]:
    points = [
        Unit(
            f"{setting.name}, {snr_db} dB",
            partial(_at, study, setting, snr_db, _HORIZONS),
            _expected(study, setting, _HORIZONS),
        )
        for setting in SETTINGS
        for snr_db in _SNR_DB
    ]
    aged = _expected(study, _AGE_SETTING, _AGES)
    return [Unit("age", partial(_at, study, _AGE_SETTING, _AGE_SNR_DB, _AGES), aged), *points]


def _expected(study: Study, setting: Setting, horizons: tuple[int, ...]) -> list[Activity]:
    seconds = _DRAW_SECONDS[setting.source] + _PREDICTION_SECONDS * len(horizons)
    return [Activity(setting.name, seconds * _users(study))]


def _users(study: Study) -> int:
    return USERS * study.compute_budget.test_drops // _BUDGET_DROPS_PER_DROP


def _at(study: Study, setting: Setting, snr_db: int, horizons: tuple[int, ...], note: Note) -> list[Row]:
    note(setting.name)
    methods = {name: predictor(name) for name in CLASSICAL}
    methods["auto"] = predictor("auto", load_predictor("auto"))
    rows = compare_predictors(setting, methods, study.engines["tiny"], snr_db, horizons, _users(study), study.seed)
    return [{"kind": "age" if horizons == _AGES else "point", **row} for row in rows]


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    title = f"Sum rate against the age of the CSI: {_AGE_SETTING.name}, {_AGE_SNR_DB} dB per antenna"
    figure = empty_figure(title, EXPERIMENT.cuts(study), 10, 5)
    axes = figure.subplots()
    aged = rows[rows["kind"] == "age"]
    for name, (text, look) in LOOKS.items():
        selected = aged[aged["method"] == name]
        if selected.empty:
            continue
        age = 1e3 * _AGE_SETTING.slot_seconds * selected["ahead"]
        axes.plot(age, selected["percent"], label=text, **look)
        axes.fill_between(age, selected["low"], selected["high"], color=look["color"], alpha=0.15, linewidth=0)
    axes.axhline(100, color="black", linestyle=":", label="perfect CSI")
    axes.set_xlabel("age of the latest snapshot [ms]")
    axes.set_ylabel("sum rate [% of that from perfect CSI]")
    grid_axes(axes)
    legend_beside(axes)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    points = rows[rows["kind"] == "point"].copy()
    points["cell"] = [
        f"{row.percent:.2f} ({row.low:.2f} to {row.high:.2f})" if row.method == "auto" else f"{row.percent:.2f}"
        for row in points.itertuples()
    ]
    wide = points.pivot(index=["setting", "snr_db", "ahead"], columns="method", values="cell")
    wide.index = pd.Index([_named(where) for where in wide.index])
    shown = wide[[name for name in LOOKS if name in wide]].rename(columns=lambda name: LOOKS[name][0])
    return shown.rename_axis("sum rate, % of perfect CSI", axis=0).rename_axis(None, axis=1)


def _named(point: tuple[str, int, int]) -> str:
    setting, snr_db, ahead = point
    return f"{setting}, {snr_db} dB, {ahead} ahead"


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    points = rows[rows["kind"] == "point"]
    wide = points.pivot(index=["setting", "snr_db", "ahead"], columns="method", values="percent")
    margin = wide["auto"] - wide[["hold", *CLASSICAL]].max(axis=1)
    worse = points[points["method"] == "auto"]["worse_percent"]
    return [
        Check(
            "ours: at most 0.2 points below the best classical method at every point",
            bool(margin.min() >= -0.2),
            f"{margin.min():+.2f} points, {_named(margin.index[int(margin.argmin())])}",
        ),
        Check(
            "ours: on the mean over all points at least 0.8 points above it",
            bool(margin.mean() >= 0.8),
            f"{margin.mean():+.2f} points",
        ),
        Check(
            "ours: at most 1 % of the drops made worse than by the latest snapshot by more than 1 %",
            bool(worse.max() <= 1),
            f"at most {worse.max():.1f} %",
        ),
    ]


EXPERIMENT = Experiment(
    "csi-prediction",
    "Sum rate from predicted CSI",
    "beyond the papers",
    _units,
    _draw,
    _table,
    _checks,
    (
        "Six users of unit mean gain per drop, P / sigma^2 = 20 dB, precoders of `tiny` from the CSI, rates on the "
        "true channels. 16 noisy snapshots are known; the SNR is per antenna and snapshot. All users are independent. "
        "The 95 % interval of ours is that of the ratio, by a bootstrap over drops.",
    ),
    cut="40 test drops per point instead of 200",
)
