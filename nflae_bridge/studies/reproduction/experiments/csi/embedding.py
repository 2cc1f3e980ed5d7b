"""Judge the embedding of the preset ``mask-tiny`` by what is learned from it with few labels."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.network.encoders.masked import MaskConfig, MaskedChannelNetwork, canonical_channels
from nflae_bridge.network.trunks.tokens import real_parts
from nflae_bridge.plots.style import empty_figure, grid_axes, legend_beside
from nflae_bridge.studies.csi.probes import accuracy_cells, handmade_features, probe_accuracy
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, finished_mark, train_baseline
from nflae_bridge.tasks.mask import MASK
from nflae_bridge.training.recipe import Recipe
from nflae_bridge.training.sources.snapshots import Snapshots, draw_snapshots
from simulator.geometry.near_field import far_field_test

_NAME = "mask-tiny"
_PRESET = MASK.presets[_NAME].recipe
_ANTENNAS, _SNR_DB = 256, (0.0, 20.0)
_LABELLED, _POOL = (20, 100, 500), 1_000
_TEST_PER_DROP = 10  # channels per test drop of the compute budget
_STEPS = 10  # times those of ``tiny``
_EMBEDDING, _FFT = "embedding", "FFT test, no labels"
_PROBLEMS = ("near field", "line of sight")


def _units(study: Study) -> list[Unit]:
    chosen = _recipe(study)
    drawn = _POOL + _TEST_PER_DROP * study.compute_budget.test_drops
    expected = [  # s, one core
        Activity(f"training {_NAME}", 0.08 * chosen.steps, finished_mark(study.folder / "runs", chosen)),
        Activity("features", 4e-3 * drawn),
    ]
    return [Unit("few labels", partial(_judged, study), expected)]


def _recipe(study: Study) -> Recipe:
    steps = _STEPS * study.compute_budget.steps["tiny"]
    return replace(_PRESET, steps=steps, validate_every=min(_PRESET.validate_every, steps), seed=study.seed)


def _judged(study: Study, note: Note) -> list[Row]:
    checkpoint, _ = train_baseline(_NAME, _recipe(study), study.folder / "runs", study.device, note)
    assert isinstance(checkpoint.network, MaskedChannelNetwork)
    torch.manual_seed(study.seed + 1)
    untrained = MaskedChannelNetwork(MaskConfig()).eval()
    test = _TEST_PER_DROP * study.compute_budget.test_drops
    drawn = draw_snapshots(_POOL + test, _ANTENNAS, _SNR_DB, torch.Generator().manual_seed(study.seed + 2))
    note("features")
    features = {
        _EMBEDDING: _embedded(checkpoint.network.cpu(), drawn.channels),
        "random weights": _embedded(untrained, drawn.channels),
        "raw channels": real_parts(canonical_channels(drawn.channels)),
        "three features": handmade_features(drawn.channels),
    }
    return [row for problem in _PROBLEMS for row in _accuracies(problem, features, drawn, test)]


@torch.no_grad()
def _embedded(network: MaskedChannelNetwork, channels: Tensor) -> Tensor:
    return torch.cat([network.embed(part) for part in torch.split(channels, 500)])


def _accuracies(problem: str, features: dict[str, Tensor], drawn: Snapshots, test: int) -> list[Row]:
    labels = drawn.near_field if problem == _PROBLEMS[0] else drawn.line_of_sight
    found = {
        (name, labelled): probe_accuracy(values, labels, labelled, test)
        for name, values in features.items()
        for labelled in _LABELLED
    }
    if problem == _PROBLEMS[0]:
        right = far_field_test(drawn.channels[-test:].unsqueeze(1))[:, 0] == labels[-test:]
        found |= {(_FFT, labelled): (float(right.float().mean()), 0.0) for labelled in _LABELLED}
    return [
        {"what": problem, "method": name, "labels": labelled, "accuracy": mean, "spread": spread}
        for (name, labelled), (mean, spread) in found.items()
    ]


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure(EXPERIMENT.title, EXPERIMENT.cuts(study), 11, 4.6)
    panels = figure.subplots(1, len(_PROBLEMS), sharey=True)
    for axes, problem in zip(panels, _PROBLEMS, strict=True):
        shown = rows[rows["what"] == problem]
        for index, name in enumerate(rows["method"].unique()):
            selected = shown[shown["method"] == name]
            style = {"label": name, "color": f"C{index}"}
            if name == _FFT:
                axes.plot(selected["labels"], 100 * selected["accuracy"], linestyle="--", **style)
                continue
            error = 100 * selected["spread"]
            axes.errorbar(selected["labels"], 100 * selected["accuracy"], error, marker="o", capsize=3, **style)
        axes.set_xscale("log")
        axes.set_xticks(_LABELLED, [str(labelled) for labelled in _LABELLED])
        axes.minorticks_off()
        axes.set_xlabel("labelled channels")
        axes.set_title(problem, fontsize="medium")
        grid_axes(axes)
    panels[0].set_ylabel("labels found [% of the users]")
    legend_beside(panels[-1])
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.copy()
    shown["cell"] = accuracy_cells(rows)
    shown["column"] = shown["what"] + ", " + shown["labels"].astype(str) + " labels"
    wide = shown.pivot(index="method", columns="column", values="cell").fillna("")
    return wide.loc[shown["method"].unique(), shown["column"].unique()].rename_axis("labels found, %")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    wide = 100 * rows.pivot(index=["what", "labels"], columns="method", values="accuracy")
    margin = wide[_EMBEDDING] - wide.drop(columns=_EMBEDDING).max(axis=1)
    found = "; ".join(
        f"{problem}: {margin[problem].min():+.1f} to {margin[problem].max():+.1f} points" for problem in _PROBLEMS
    )
    return [Check("embedding: above all other features", bool(margin.min() > 0), found)]


EXPERIMENT = Experiment(
    "embedding",
    "Few labels from the embedding of masked channels",
    "beyond the papers",
    _units,
    _draw,
    _table,
    _checks,
    (
        f"The network of `nflae train --preset mask-tiny`, whose embedding `nflae embed` writes. Users of the "
        f"low-altitude scenario, {_ANTENNAS} antennas, SNR per antenna {_SNR_DB[0]:g} to {_SNR_DB[1]:g} dB, four in "
        "ten with a blocked line of sight; the network is pretrained on channels of the same kind, without labels. "
        "Raw channels have their scale and common phase removed. Accuracies are those of logistic regression or 5 "
        "nearest neighbours, the better one, for each kind of features: mean and standard deviation over five draws of "
        "the labelled channels. The FFT test classifies near and far users without any labels.",
    ),
    cut="2,000 test channels instead of 10,000; 3,000 training steps instead of 40,000",
)
