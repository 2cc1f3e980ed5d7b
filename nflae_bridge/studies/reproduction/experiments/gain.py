"""Reproduce Fig. 4: the gain of the far-field beam on a ground user falls with distance, then rises."""

from __future__ import annotations

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.plots.style import empty_figure
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from simulator.geometry.arrays import UniformLinearArray, angle_and_distance
from simulator.geometry.near_field import beam_gain, ground_near_field_region, wavefront_curvature
from simulator.geometry.steering import far_field_steering, near_field_steering

_ARRAY = PUBLISHED.array
_THRESHOLD = 0.9


def _units(study: Study) -> list[Unit]:
    return [Unit("ground", _along_the_ground)]


def exact_beam_gain(array: UniformLinearArray, angle: Tensor, distance: Tensor) -> Tensor:
    """Compute |b^H a|, the far-field beam's amplitude gain on a user, from the exact spherical wave.

    Parameters
    ----------
    array
        The array.
    angle, distance
        Of the users, rad and m, float64 (users,).

    Returns
    -------
    Tensor
        In [0, 1], (users,).
    """
    near, far = near_field_steering(array, angle, distance), far_field_steering(array, angle)
    return (near.conj() * far).sum(-1).abs()


def _along_the_ground(note: Note) -> list[Row]:
    x = torch.cat([torch.arange(0.1, 20, 0.1), torch.arange(20, 200.5, 0.5)]).double()
    angle, distance = angle_and_distance(x, torch.zeros_like(x), _ARRAY)
    exact = exact_beam_gain(_ARRAY, angle, distance)
    closed = beam_gain(wavefront_curvature(_ARRAY, angle, distance).numpy())
    return [
        {"x_m": position, "gain_exact": gain, "gain_closed_form": formula}
        for position, gain, formula in zip(x.tolist(), exact.tolist(), closed.tolist(), strict=True)  # type: ignore[union-attr]
    ]


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("Gain of the far-field beam on a ground user (Fig. 4)", EXPERIMENT.cuts(study))
    axes = figure.subplots()
    axes.plot(rows["x_m"], rows["gain_exact"], color="#D55E00", linewidth=2.2, label=r"$|b^H a|$, exact spherical wave")
    axes.plot(rows["x_m"], rows["gain_closed_form"], color="black", linestyle=":", label=r"$|G(\beta)|$")
    axes.axhline(_THRESHOLD, color="#009E73", linestyle="--", label="threshold 1 - 0.1")
    region = ground_near_field_region(_ARRAY)
    assert region is not None
    axes.axvspan(*region, color="#0072B2", alpha=0.12, label=f"near field: {region[0]:.2f} to {region[1]:.2f} m")
    axes.set_xlim(0, 200)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("distance x of the user on the ground [m]")
    axes.set_ylabel("gain (amplitude)")
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.legend(loc="lower right", frameon=True)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows[rows["x_m"].round(3).isin([0.1, 1.0, 3.0, 5.0, 6.0, 10.0, 20.0, 50.0, 80.0, 100.0, 200.0])]
    return shown.set_index(shown["x_m"].round(1)).drop(columns="x_m").rename_axis("x [m]")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    gain = rows["gain_exact"]
    lowest = rows["x_m"].iloc[int(gain.to_numpy().argmin())]
    falls_and_rises = bool(gain.iloc[0] > _THRESHOLD > gain.min() and gain.iloc[-1] > _THRESHOLD)
    gap = float((gain - rows["gain_closed_form"]).abs().max())
    crossings = int(((gain < _THRESHOLD).astype(int).diff().abs() == 1).sum())
    return [
        Check(
            "the gain falls below the threshold, then rises above it",
            falls_and_rises and crossings == 2,
            f"least {gain.min():.3f} at {lowest:.1f} m",
        ),
        Check("closed form and exact waves agree to 0.02", gap < 0.02, f"{gap:.4f}"),
    ]


EXPERIMENT = Experiment(
    "gain",
    "The far-field beam's gain against distance",
    "Fig. 4",
    _units,
    _draw,
    _table,
    _checks,
    (
        "At large distance the wave is plane and the gain approaches one. Close to the mast the array appears end-on: "
        "its aperture, and with it the curvature, shrinks faster than the distance.",
    ),
)
