"""Reproduce Fig. 5: training and validation loss by epoch."""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.engine.engine import Engine
from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import empty_figure, legend_beside, style
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.study import LEARNED, SHIPPED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, baseline_recipe
from nflae_bridge.studies.reproduction.work_plan import expected_solution, expected_training
from nflae_bridge.training.data import TrainingBatch
from nflae_bridge.training.loop import LOG
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme

_REFERENCES = ("optimiser", "wmmse", *SHIPPED)


def _units(study: Study) -> list[Unit]:
    budget = study.compute_budget
    networks = [
        Unit(network, partial(_losses, study, network), [expected_training(study, network, PUBLISHED)])
        for network in LEARNED
    ]
    return networks + [
        Unit(
            name,
            partial(_level, study, name),
            [Activity(label(name), expected_solution(name, budget.validation_drops, block=budget.batch))],
        )
        for name in _REFERENCES
    ]


def _level(study: Study, name: str, note: Note) -> list[Row]:
    """Compute the loss of finished answers on the validation drops.

    Restates `nflae_bridge.training.loss.precoding_loss`, which takes a network's outputs, for the rates of an answer.
    """
    scheme = study.scheme(name, PUBLISHED, note)
    note(label(name))
    recipe = baseline_recipe("cnn", PUBLISHED, study.compute_budget, study.backbone, study.seed)
    weights, losses = recipe.loss, []
    for batch in recipe.data.validation():
        budget = LinkBudget(1.0, 1.0, batch.alpha_c, batch.min_rate)
        answer = scheme(ChannelBatch(batch.channels, batch.near_field), budget)
        unmet = (batch.min_rate.unsqueeze(-1) - answer.rate.cpu()).clamp(min=0).sum(-1)
        loss = (weights.min_rate * unmet - answer.sum_rate.cpu()).mean()
        losses.append(loss + weights.near_field * _near_far_error(scheme, batch))
    return [{"scheme": name, "validation_loss": float(torch.stack(losses).mean())}]


def _near_far_error(scheme: Scheme, batch: TrainingBatch) -> Tensor:
    """Compute the mean squared error of a network's near-field scores; 0 for schemes without scores."""
    if not isinstance(scheme, Engine):
        return torch.zeros(())
    score = scheme(ChannelBatch(batch.channels), LinkBudget(1.0, 1.0)).near_field_score.cpu()
    return (score - batch.near_field.double()).square().mean()


def _losses(study: Study, network: str, note: Note) -> list[Row]:
    _, folder = study.run_of(network, PUBLISHED, note)
    log = pd.read_csv(folder / LOG).dropna(subset="validation_loss")
    steps_per_epoch = study.compute_budget.train_drops / study.compute_budget.batch
    return [
        {
            "scheme": network,
            "step": int(row["step"]),
            "epoch": row["step"] / steps_per_epoch,
            "training_loss": row["loss"],
            "validation_loss": row["validation_loss"],
        }
        for _, row in log.iterrows()
    ]


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("Training and validation loss (Fig. 5)", EXPERIMENT.cuts(study), 10.5)
    axes = figure.subplots()
    for name in _REFERENCES:
        (level,) = rows[rows["scheme"] == name]["validation_loss"]
        axes.axhline(level, label=label(name), **{"linewidth": 1.2, **style(name), "marker": ""})
    for network in LEARNED:
        selected, look = rows[rows["scheme"] == network], style(network)
        axes.plot(
            selected["epoch"],
            selected["training_loss"],
            color=look["color"],
            linestyle=":",
            label=f"{label(network)}, training",
        )
        axes.plot(
            selected["epoch"],
            selected["validation_loss"],
            color=look["color"],
            marker=look["marker"],
            markersize=4,
            label=f"{label(network)}, validation",
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.grid(color="#DDDDDD", linewidth=0.8)
    legend_beside(axes)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    grouped = rows[rows["scheme"].isin(LEARNED)].groupby("scheme", sort=False)
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
    levels = rows[rows["scheme"].isin(_REFERENCES)].set_index("scheme")[["validation_loss"]]
    both = pd.concat([shown, levels.rename(columns={"validation_loss": "best validation loss"})])
    return both.rename(index=label).rename_axis("network")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    checks = []
    for network in LEARNED:
        loss = rows[rows["scheme"] == network]["validation_loss"]
        checks.append(
            Check(
                f"{label(network)}: the validation loss falls",
                bool(loss.min() < loss.iloc[0]),
                f"{loss.iloc[0]:.3f} to {loss.min():.3f}",
            )
        )
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
        "networks start from regularised zero forcing (equal lambda and powers). Horizontal: the same loss of "
        "finished answers on the validation drops; those of the per-drop optimiser and WMMSE have no near/far error.",
    ),
    LEARNED,
)
