"""Reproduce LLM4CP, channel prediction antenna by antenna on GPT-2, beside classical predictors.

References
----------
Liu, Liu, Gao, Cheng, Yang, "LLM4CP: Adapting Large Language Models for Channel Prediction", arXiv:2406.14440.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.network.trunks.tokens import TokenNetwork, complex_of, real_parts
from nflae_bridge.plots.style import empty_figure, grid_axes, legend_beside
from nflae_bridge.studies.csi.comparison import HISTORY, Observation, Row, compare_predictors
from nflae_bridge.studies.csi.measures import USERS
from nflae_bridge.studies.csi.predictors import predictor
from nflae_bridge.studies.csi.settings import SETTINGS, Setting, draw_series
from nflae_bridge.studies.csi.small_networks import fit, study_backbone
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Unit
from nflae_bridge.studies.reproduction.experiments.csi.prediction import CLASSICAL, LOOKS
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from nflae_bridge.tasks.predict import load_predictor

_NAME = "LLM4CP-like"
_AHEAD, _PATCH = 4, 4
_ROWS = 256  # series of single antennas per step
_TRAINING_USERS = 600
_STEPS = 3  # times those of ``tiny``
_SETTINGS = (SETTINGS[1], SETTINGS[4])
_SNR_DB = (0, 10, 20)


class AntennaPredictor(nn.Module):
    """Predict the series of one antenna from patches of its snapshots.

    Parameters
    ----------
    backbone
        The trunk.
    """

    def __init__(self, backbone: BackboneConfig) -> None:
        super().__init__()
        self.network = TokenNetwork(2 * _PATCH, 2 * _AHEAD, HISTORY // _PATCH, backbone)

    def forward(self, history: Tensor) -> Tensor:
        """Predict.

        Parameters
        ----------
        history
            complex64 (rows, history).

        Returns
        -------
        Tensor
            complex64 (rows, ahead): the last value plus the mean of the output tokens. Scale and phase of each series
            are removed before and put back after.
        """
        scale = history.abs().square().mean(-1, keepdim=True).sqrt().clamp(min=1e-12)
        turn = history.sum(-1, keepdim=True)
        turn = turn / turn.abs().clamp(min=1e-12)
        series = history / scale * turn.conj()
        tokens = real_parts(series.reshape(len(series), -1, _PATCH))
        step = complex_of(self.network(tokens).mean(1))
        predicted: Tensor = (series[:, -1:] + step) * scale * turn
        return predicted


def _units(study: Study) -> list[Unit]:
    budget = study.compute_budget
    expected = [  # s, one core
        Activity("series for training", 5.0),
        Activity("step", 0.05 * _STEPS * budget.steps["tiny"]),
        *(Activity(_comparison(snr_db), 0.018 * USERS * budget.test_drops) for snr_db in _SNR_DB),
    ]
    return [Unit(setting.name, partial(_at, study, setting), expected) for setting in _SETTINGS]


def _comparison(snr_db: int) -> str:
    return f"comparison at {snr_db} dB"


def _at(study: Study, setting: Setting, note: Note) -> list[Row]:
    """Train on other users of the same setting, then compare."""
    note("series for training")
    series = draw_series(setting, _TRAINING_USERS, HISTORY + _AHEAD, study.seed + 1)
    rows = series.swapaxes(1, 2).flatten(0, 1) * setting.antennas**0.5
    torch.manual_seed(study.seed)
    network = AntennaPredictor(study_backbone(study.backbone))

    def loss(generator: torch.Generator) -> Tensor:
        chosen = rows[torch.randint(len(rows), (_ROWS,), generator=generator)]
        deviation = 10 ** -(torch.rand(_ROWS, 1, generator=generator))  # 0 to 20 dB
        noise = torch.randn(_ROWS, HISTORY, dtype=torch.complex64, generator=generator)
        error: Tensor = network(chosen[:, :HISTORY] + deviation * noise) - chosen[:, HISTORY:]
        power = chosen[:, HISTORY:].abs().square().sum(-1)
        relative: Tensor = error.abs().square().sum(-1).mean() / power.mean()
        return relative.log10()

    fit(network, loss, _STEPS * study.compute_budget.steps["tiny"], study.seed, note)
    methods = {name: predictor(name) for name in CLASSICAL}
    methods |= {"auto": predictor("auto", load_predictor("auto")), _NAME: partial(_predict, network)}
    found: list[Row] = []
    for snr_db in _SNR_DB:
        note(_comparison(snr_db))
        users = USERS * study.compute_budget.test_drops
        found += compare_predictors(setting, methods, study.engines["tiny"], snr_db, (1, _AHEAD), users, study.seed)
    count = sum(each.numel() for each in network.parameters())
    return [{**row, "parameters": count if row["method"] == _NAME else None} for row in found]


@torch.no_grad()
def _predict(network: AntennaPredictor, observed: Observation, ahead: int) -> Tensor:
    series = observed.history.swapaxes(1, 2)
    predicted: Tensor = network(series.flatten(0, 1)).reshape(*series.shape[:2], -1)
    return predicted[..., :ahead].swapaxes(1, 2)


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure(EXPERIMENT.title, EXPERIMENT.cuts(study), 11, 5)
    looks = LOOKS | {_NAME: (_NAME, {"color": "#000000", "linestyle": "-", "marker": "X"})}
    panels = figure.subplots(1, len(_SETTINGS), sharey=True)
    for axes, setting in zip(panels, _SETTINGS, strict=True):
        shown = rows[(rows["setting"] == setting.name) & (rows["ahead"] == _AHEAD)]
        for name in shown["method"].unique():
            text, look = looks[name]
            selected = shown[shown["method"] == name]
            axes.plot(selected["snr_db"], selected["percent"], label=text, **look)
        axes.set_title(setting.name, fontsize="medium")
        axes.set_xticks(sorted(rows["snr_db"].unique()))
        axes.set_xlabel("SNR per antenna [dB]")
        grid_axes(axes)
    panels[0].set_ylabel(f"sum rate {_AHEAD} snapshots ahead\n[% of that from perfect CSI]")
    legend_beside(panels[-1] if panels[-1].lines else panels[0])
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows[rows["ahead"] == _AHEAD].copy()
    shown["where"] = shown["setting"] + ", " + shown["snr_db"].astype(str) + " dB"
    shown["cell"] = [f"{row.percent:.1f} ({row.nmse_db:.1f} dB)" for row in shown.itertuples()]
    wide = shown.pivot(index="method", columns="where", values="cell").loc[shown["method"].unique()]
    return wide.rename_axis("% of perfect CSI (NMSE), 4 ahead", axis=0).rename_axis(None, axis=1)


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    wide = rows.pivot(index=["setting", "snr_db", "ahead"], columns="method", values="percent")
    margin = wide[_NAME] - wide[list(CLASSICAL)].max(axis=1)
    return [
        Check(
            f"{_NAME}: above the best classical predictor at every point",
            bool(margin.min() > 0),
            f"{margin.min():+.1f} to {margin.max():+.1f} points",
        )
    ]


EXPERIMENT = Experiment(
    "llm4cp",
    "Channel prediction antenna by antenna on GPT-2 blocks (LLM4CP)",
    "arXiv:2406.14440, at another size",
    _units,
    _draw,
    _table,
    _checks,
    (
        "The published idea: each antenna's series by itself, normalised, in patches of four snapshots, through GPT-2 "
        "to the next four. Trained on 600 other users of the same setting, which favours it; the other predictors have "
        "seen none of them. Unless `--backbone` names a folder, the trunk is three GPT-2 blocks of width 64 with "
        "random weights. The published figures are for wideband channels of another generator and are not comparable.",
    ),
    takes_backbone=True,
    cut="200 test drops per point instead of 1,000; 900 training steps instead of 12,000",
)
