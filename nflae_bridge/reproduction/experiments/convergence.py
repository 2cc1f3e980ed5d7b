"""Fig. 5: training and validation loss by epoch."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.reproduction.experiment import Check, Experiment, Note, Row, Unit
from nflae_bridge.reproduction.figures import empty_figure, label, style
from nflae_bridge.reproduction.setting import PUBLISHED
from nflae_bridge.reproduction.study import LEARNED, Study
from nflae_bridge.training.loop import LOG


def _units(study: Study) -> list[Unit]:
    return [Unit(network, partial(_losses, study, network)) for network in LEARNED]


def _losses(study: Study, network: str, note: Note) -> list[Row]:
    _, folder = study.run_of(network, PUBLISHED, note)
    log = pd.read_csv(folder / LOG).dropna(subset="validation_loss")
    an_epoch = study.effort.train_drops / study.effort.batch
    return [
        {
            "scheme": network,
            "step": int(row["step"]),
            "epoch": row["step"] / an_epoch,
            "training_loss": row["loss"],
            "validation_loss": row["validation_loss"],
        }
        for _, row in log.iterrows()
    ]


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("Training and validation loss (Fig. 5)", study.cuts(EXPERIMENT), 10.5)
    axes = figure.subplots()
    for network in rows["scheme"].unique():
        of, look = rows[rows["scheme"] == network], style(network)
        axes.plot(of["epoch"], of["training_loss"], color=look["color"], linestyle=":",
                  label=f"{label(network)}, training")  # fmt: skip
        axes.plot(of["epoch"], of["validation_loss"], color=look["color"], marker=look["marker"], markersize=4,
                  label=f"{label(network)}, validation")  # fmt: skip
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.legend(loc="upper right", frameon=True)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    grouped = rows.groupby("scheme", sort=False)
    best = rows.loc[grouped["validation_loss"].idxmin()].set_index("scheme")
    last = grouped.last()
    shown = pd.DataFrame(
        {
            "best validation loss": best["validation_loss"],
            "at step": best["step"],
            "last validation loss": last["validation_loss"],
            "last training loss": last["training_loss"],
        }
    )
    return shown.rename(index=label).rename_axis("network")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    checks = []
    for network in rows["scheme"].unique():
        loss = rows[rows["scheme"] == network]["validation_loss"]
        checks.append(
            Check(f"{label(network)}: the validation loss falls", bool(loss.min() < loss.iloc[0]),
                  f"{loss.iloc[0]:.3f} to {loss.min():.3f}")
        )  # fmt: skip
    return checks


EXPERIMENT = Experiment(
    "convergence",
    "Training and validation loss by epoch",
    "Fig. 5",
    _units,
    _draw,
    _table,
    _checks,
    (
        "The loss is gamma_2 x MSE(score) - sum rate + gamma_1 x unmet minimum rates, in bps/Hz; most of it is the sum "
        "rate. Half of the drops' CSI is noisy. The training loss is the mean over the steps since the last point. All "
        "networks start from regularised zero forcing (equal lambda and powers).",
    ),
    LEARNED,
)
