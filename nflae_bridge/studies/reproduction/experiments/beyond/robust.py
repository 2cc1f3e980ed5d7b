"""Evaluate spectral efficiency with noisy CSI at the precoder, beyond the papers."""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import draw_by_constraints, draw_lines, empty_figure, legend_beside, symbols
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.scheme_metrics import evaluate_scheme
from nflae_bridge.studies.reproduction.study import CLASSICAL, CONSTRAINED, LEARNED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, named
from nflae_bridge.studies.reproduction.work_plan import expected_schemes
from simulator.csi.impairments import noisy_csi
from simulator.downlink.capacity import dirty_paper_capacity

_SNR_DB = (-5, 0, 5, 10, 15, 20, 25, 30)
# Without NOMA: the rates of successive decoding need the decoding order on the true channels.
_SCHEMES = (*(name for name in (*CLASSICAL, "rzf") if name != "noma"), *CONSTRAINED)


def _units(study: Study) -> list[Unit]:
    return [Unit(f"{snr_db} dB", partial(_at, study, snr_db), expected_schemes(study, _SCHEMES)) for snr_db in _SNR_DB]


def _at(study: Study, snr_db: int, note: Note) -> list[Row]:
    drops = PUBLISHED.draw(study.compute_budget.test_drops, study.seed)
    csi = noisy_csi(drops.channels, float(snr_db), torch.Generator().manual_seed(study.seed + 40 + snr_db))
    capacity = float(dirty_paper_capacity(drops.channels, PUBLISHED.free).mean())
    rows: list[Row] = [{"snr_db": snr_db, "scheme": "capacity", "sum_rate": capacity}]
    for name in _SCHEMES:
        scheme = study.scheme(name, PUBLISHED, note)
        constrained = name in CONSTRAINED
        budget = PUBLISHED.constrained if constrained else PUBLISHED.free
        found = evaluate_scheme(scheme, drops.channels, drops.near_field, budget, csi, named(note, label(name)))
        row: Row = {"snr_db": snr_db, "scheme": name, "sum_rate": found.mean, "half_width_95": found.half_width}
        if constrained:
            row["short_of_min_rate"] = float(found.short.double().mean())
        rows.append({**row, "drops": len(csi)})
    return rows


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("Spectral efficiency when the CSI is noisy, K = 10", EXPERIMENT.cuts(study), 10.5, 8)
    rate, short = figure.subplots(2, 1, height_ratios=[2, 1], sharex=True)
    draw_by_constraints(rate, rows, "snr_db", rows["scheme"].isin(CONSTRAINED))
    rate.set_ylabel("mean spectral efficiency on\nthe true channels [bps/Hz]")
    legend_beside(rate)
    draw_lines(short, rows.dropna(subset="short_of_min_rate"), "snr_db", "short_of_min_rate")
    short.set_ylabel(symbols("fraction of drops in which\na user misses R_min"))
    short.set_xlabel("SNR of the CSI per antenna [dB]")
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    wide = rows.pivot(index="scheme", columns="snr_db", values="sum_rate").loc[rows["scheme"].unique()]
    return wide.rename(index=label).rename_axis("bps/Hz; columns: SNR per antenna [dB]")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    rate = rows.pivot(index="snr_db", columns="scheme", values="sum_rate")
    loss = (rate["optimiser"] - rate["small"]) / rate["optimiser"]
    return [
        Check(
            "ours, small: within 1 % of the per-drop optimiser on the same CSI",
            bool(loss.max() <= 0.01),
            f"at most {loss.max():.2%} below, at {loss.idxmax()} dB",
        )
    ]


EXPERIMENT = Experiment(
    "robust",
    "Spectral efficiency when the CSI is noisy",
    "beyond the papers",
    _units,
    _draw,
    _table,
    _checks,
    (
        "Every scheme computes with the noisy CSI; rates are those on the true channels, by their definition. "
        "Constraints hold on the noisy CSI, so with noise R_min is missed on the true channel: the lower part shows "
        "how often. WMMSE, LDMA, SDMA and RZF have the power limit alone, the others C3 and C4 as well.",
    ),
    LEARNED,
    "200 test drops per point instead of 1,000",
)
