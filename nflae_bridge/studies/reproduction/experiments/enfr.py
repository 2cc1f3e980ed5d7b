"""Reproduce Fig. 2: near-field regions by the effective Rayleigh distance and along the ground."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from nflae_bridge.plots.style import empty_figure
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.experiments.gain import exact_beam_gain
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from simulator.geometry.arrays import angle_and_distance
from simulator.geometry.near_field import (
    effective_rayleigh_distance,
    ground_near_field_region,
    is_near_field,
    rayleigh_distance,
)

_ARRAY = PUBLISHED.array
_LOSS = 0.1


def _units(study: Study) -> list[Unit]:
    return [Unit("ground", _ground), Unit("border", _border)]


def _ground(note: Note) -> list[Row]:
    """Compute the region on the ground in closed form, and by the definition on a grid along the ground."""
    region = ground_near_field_region(_ARRAY, _LOSS)
    assert region is not None
    x = torch.linspace(0.01, 150, 150_000, dtype=torch.float64)
    angle, distance = angle_and_distance(x, torch.zeros_like(x), _ARRAY)
    blocks = torch.split(torch.arange(len(x)), 5_000)
    gain = torch.cat([exact_beam_gain(_ARRAY, angle[block], distance[block]) for block in blocks])
    inside = x[1 - gain >= _LOSS]
    return [
        {"what": "ENFR on the ground, closed form", "from_m": region[0], "to_m": region[1]},
        {
            "what": "1 - |b^H a| >= 0.1 on the ground, exact waves",
            "from_m": float(inside[0]),
            "to_m": float(inside[-1]),
        },
        {"what": "Rayleigh distance 2 D^2 / lambda", "from_m": 0.0, "to_m": rayleigh_distance(_ARRAY)},
    ]


def _border(note: Note) -> list[Row]:
    """Compute the effective Rayleigh distance as a curve on the x-z plane."""
    angle = torch.linspace(-math.pi / 2, math.pi / 2, 361, dtype=torch.float64)
    distance = effective_rayleigh_distance(_ARRAY, angle, _LOSS)
    below = angle + _ARRAY.tilt
    x, height = distance * torch.cos(below), _ARRAY.height - distance * torch.sin(below)
    return [
        {"what": "ERD", "angle_deg": math.degrees(a), "distance_m": r, "x_m": u, "height_m": v}
        for a, r, u, v in zip(angle.tolist(), distance.tolist(), x.tolist(), height.tolist(), strict=True)
    ]


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("Near-field regions of 256 antennas at 30 GHz (Fig. 2)", EXPERIMENT.cuts(study), 10.5, 5.4)
    plane, ground = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    x = np.linspace(0.05, 200, 1_600)
    height = np.linspace(0, 30, 240)
    grid = torch.from_numpy(np.stack(np.meshgrid(x, height)))
    near = is_near_field(_ARRAY, *angle_and_distance(grid[0], grid[1], _ARRAY), _LOSS)
    plane.contourf(x, height, near.numpy(), levels=[0.5, 1.5], colors=["#F6C9A8"])
    border = rows[rows["what"] == "ERD"]
    plane.plot(border["x_m"], border["height_m"], color="#D55E00", label="effective Rayleigh distance (ERD)")
    plane.plot(0, _ARRAY.height, marker=">", markersize=11, color="white", markeredgecolor="black", clip_on=False)
    plane.set_xlim(0, 200)
    plane.set_ylim(0, 30)
    plane.set_ylabel("height z [m]")
    plane.text(30, 15, "near field", fontsize="medium")
    plane.text(150, 6, "far field", fontsize="medium")
    enfr = rows.iloc[0]
    plane.plot(
        [enfr["from_m"], enfr["to_m"]],
        [0, 0],
        color="#0072B2",
        linewidth=7,
        solid_capstyle="butt",
        clip_on=False,
        label="effective near-field region (ENFR) on the ground",
    )
    distance = torch.from_numpy(x)
    angle, away = angle_and_distance(distance, torch.zeros_like(distance), _ARRAY)
    reach = effective_rayleigh_distance(_ARRAY, angle, _LOSS)
    ground.plot(x, away, color="black", label="distance r of a ground user")
    ground.plot(x, reach, color="#D55E00", label="ERD in its direction")
    ground.axvspan(enfr["from_m"], enfr["to_m"], color="#0072B2", alpha=0.15)
    for edge in (enfr["from_m"], enfr["to_m"]):
        ground.axvline(edge, color="#0072B2", linewidth=1)
        ground.annotate(f"{edge:.2f} m", (edge, 205), xytext=(4, -10), textcoords="offset points", color="#0072B2")
    ground.set_ylim(0, 210)
    ground.set_xlabel("x [m]")
    ground.set_ylabel("r, ERD [m]")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.dropna(subset="to_m").set_index("what")[["from_m", "to_m"]].rename_axis("region")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    closed, exact = rows.iloc[0], rows.iloc[1]
    gap = max(abs(closed["from_m"] - exact["from_m"]), abs(closed["to_m"] - exact["to_m"]))
    return [Check("the closed form is where the definition puts the region, to 0.1 m", bool(gap < 0.1), f"{gap:.3f} m")]


EXPERIMENT = Experiment(
    "enfr",
    "Near-field regions on the x-z plane and along the ground",
    "Fig. 2",
    _units,
    _draw,
    _table,
    _checks,
    (
        "A user is near-field where the far-field beam in its direction loses at least 10 % of amplitude: inside the "
        "effective Rayleigh distance of that direction. Close to the mast the array appears end-on, so ground users "
        "there are far-field again: the region on the ground does not begin at the mast.",
    ),
)
