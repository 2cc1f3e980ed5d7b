"""Reproduce Table I: near/far classification against the SNR of the CSI."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import draw_lines, empty_figure, legend_beside, style
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.published_values import ACCURACY
from nflae_bridge.studies.reproduction.scheme_metrics import label_accuracy, own_labels
from nflae_bridge.studies.reproduction.study import LEARNED, SHIPPED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from nflae_bridge.studies.reproduction.work_plan import expected_solution, expected_training
from simulator.csi.impairments import noisy_csi
from simulator.geometry.localization import most_likely_labels
from simulator.geometry.near_field import far_field_test

_SNR_DB = (0, 5, 10, 15, 20)
_LIKELIHOOD, _FFT = "maximum likelihood", "FFT test"
_DROPS = 1_000
_LABELS_SECONDS = 3e-3  # per drop, maximum likelihood, on two cores


def _units(study: Study) -> list[Unit]:
    expected = [expected_training(study, network, PUBLISHED) for network in LEARNED]
    expected += [Activity(label(_LIKELIHOOD), _LABELS_SECONDS * _DROPS), Activity(label(_FFT), 0.0)]
    expected += [Activity(label(name), expected_solution(name, _DROPS)) for name in (*SHIPPED, *LEARNED)]
    return [Unit(f"{snr_db} dB", partial(_at, study, snr_db), expected) for snr_db in _SNR_DB]


def _at(study: Study, snr_db: int, note: Note) -> list[Row]:
    # Labels are cheap: a quick run takes the whole test set, too, or chance would exceed the differences.
    drops = PUBLISHED.draw(_DROPS, study.seed)
    csi = noisy_csi(drops.channels, float(snr_db), torch.Generator().manual_seed(study.seed + 1 + snr_db))
    labellers: dict[str, Callable[[Tensor], Tensor]] = {
        _LIKELIHOOD: partial(most_likely_labels, PUBLISHED.array),
        _FFT: far_field_test,
    }
    for name in (*SHIPPED, *LEARNED):
        labellers[name] = partial(own_labels, study.scheme(name, PUBLISHED, note))
    rows: list[Row] = []
    users = drops.near_field.numel()
    for name, labels in labellers.items():
        note(label(name))
        accuracy = label_accuracy(labels(csi), drops.near_field)
        rows.append(
            {
                "snr_db": snr_db,
                "scheme": name,
                "accuracy": accuracy,
                "half_width_95": 1.96 * math.sqrt(accuracy * (1 - accuracy) / users),
                "published": ACCURACY.get(name, {}).get(snr_db),
                "users": users,
            }
        )
    return rows


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("Near/far classification against the CSI's SNR (Table I)", EXPERIMENT.cuts(study), 10.5)
    axes = figure.subplots()
    draw_lines(axes, rows.assign(wrong=100 * (1 - rows["accuracy"])), "snr_db", "wrong")
    for network, by_snr in ACCURACY.items():
        wrong = [100 * (1 - share) for share in by_snr.values()]
        axes.plot(
            list(by_snr),
            wrong,
            color=style(network)["color"],
            linestyle=":",
            linewidth=1.2,
            label=f"{label(network)}, published",
        )
    # On a linear axis all accuracies from 97 % up would coincide.
    axes.set_yscale("log", nonpositive="mask")
    axes.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    axes.minorticks_off()
    axes.set_xticks(rows["snr_db"].unique())
    axes.set_xlabel("SNR of the CSI per antenna [dB]")
    axes.set_ylabel("users with a wrong label [%]")
    legend_beside(axes)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    wide = rows.pivot(index="scheme", columns="snr_db", values="accuracy").loc[rows["scheme"].unique()]
    published = pd.DataFrame(ACCURACY).T
    published.index = [f"{label(name)}, published" for name in published.index]
    table = pd.concat([wide.rename(index=label), published.rename_axis(columns="snr_db")])
    return table.rename_axis("accuracy; columns: SNR per antenna [dB]")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    found = rows.pivot(index="snr_db", columns="scheme", values="accuracy")
    published = pd.Series(ACCURACY["paper"])
    checks = []
    for name in SHIPPED:
        behind: pd.Series[float] = found[_LIKELIHOOD] - found[name]
        ahead: pd.Series[float] = found[name] - found[_FFT]
        reachable = published[found[_LIKELIHOOD] > published].index
        over = (found[name] - published)[reachable]
        checks += [
            Check(
                f"{label(name)}: within 0.3 points of maximum likelihood at every SNR",
                bool(behind.max() <= 0.003),
                f"at most {100 * behind.max():.2f} points behind, at {behind.idxmax()} dB",
            ),
            Check(
                f"{label(name)}: above the FFT test at every SNR",
                bool(ahead.min() > 0),
                f"at least {100 * ahead.min():+.2f} points, at {ahead.idxmin()} dB",
            ),
            Check(
                f"{label(name)}: above the published line where maximum likelihood is",
                bool((over > 0).all()),
                f"at least {100 * over.min():+.2f} points, at {', '.join(map(str, reachable))} dB",
            ),
        ]
    return checks


EXPERIMENT = Experiment(
    "accuracy",
    "Near/far classification against the CSI's SNR",
    "Table I",
    _units,
    _draw,
    _table,
    _checks,
    (
        "SNR: the user's mean channel power per antenna over the noise's. Maximum likelihood tries every angle and "
        "distance with the exact spherical wave; without prior knowledge of users' positions no classifier is better "
        "on average. The FFT test measures the fraction of the channel's energy that the best plane wave explains.",
    ),
    LEARNED,
)
