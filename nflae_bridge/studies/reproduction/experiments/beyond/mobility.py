"""Evaluate labels and spectral efficiency while a drone flies out of the near field, beyond the papers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import FREE, HELD, PALE, empty_figure, legend_beside, style, symbols
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import NOISE_POWER, PUBLISHED
from nflae_bridge.studies.reproduction.study import SHIPPED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, named
from nflae_bridge.studies.reproduction.work_plan import expected_schemes
from simulator.channels.scenario import Scenario
from simulator.channels.trajectory import fly, waypoints_at_speed
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.geometry.near_field import far_field_test

_SLOTS, _SLOTS_PER_BLOCK = 301, 101
_SPEED = 20.0  # m/s
_STATIC_USERS = ((20.0, 1.5), (45.0, 10.0), (70.0, 1.5), (95.0, 25.0), (120.0, 1.5), (150.0, 20.0), (180.0, 1.5))
_CONSTRAINED = ("optimiser", *SHIPPED)
_SCHEMES = (*_CONSTRAINED, "wmmse", "ldma", "rzf")
_FIELDS = ("precoder", "power", "near_field", "near_field_score", "feasible")


def _units(study: Study) -> list[Unit]:
    point = replace(PUBLISHED, users=1 + len(_STATIC_USERS))
    return [Unit("flight", partial(_flight, study), expected_schemes(study, _SCHEMES, point, _SLOTS))]


def _flight(study: Study, note: Note) -> list[Row]:
    """Precode along the flight of a drone that leaves the near field; networks label the users themselves."""
    drone = waypoints_at_speed([5.0, 155.0], [28.0, 28.0], _SPEED)
    paths = [drone, *(waypoints_at_speed([x, x + 0.1], [height, height], 1.0) for x, height in _STATIC_USERS)]
    scene = Scenario(array=PUBLISHED.array, users=len(paths))
    generator = torch.Generator().manual_seed(study.seed)
    flight = fly(paths, scene, _SLOTS, float(drone.time[-1]) / (_SLOTS - 1), generator)
    budget = LinkBudget(1.0, NOISE_POWER, 0.4, 0.6)
    found = {}
    for name in _SCHEMES:
        scheme = study.scheme(name, PUBLISHED, note)
        labels = flight.near_field if name == "optimiser" else None
        free = LinkBudget(1.0, NOISE_POWER)
        noted = named(note, label(name))
        found[name] = _precoded(scheme, flight.channels, labels, budget if name in _CONSTRAINED else free, noted)
    fft = far_field_test(flight.channels)
    rows: list[Row] = []
    for name, answer in found.items():
        rate = rates(achieved_sinr(flight.channels, answer["precoder"], answer["power"], NOISE_POWER))
        labels = answer["near_field"] if name in _CONSTRAINED else fft
        score = answer["near_field_score"] if name in _CONSTRAINED else fft.double()
        for slot in range(_SLOTS):
            rows.append(
                {
                    "slot": slot,
                    "x_m": float(flight.x[slot, 0]),
                    "distance_m": float(flight.distance[slot, 0]),
                    "scheme": name,
                    "sum_rate": float(rate[slot].sum()),
                    "drone_rate": float(rate[slot, 0]),
                    "drone_is_near": int(flight.near_field[slot, 0]),
                    "drone_label": int(labels[slot, 0]),
                    "drone_score": float(score[slot, 0]),
                    "labels_right": float((labels[slot] == flight.near_field[slot]).double().mean()),
                    "feasible": int(answer["feasible"][slot]),
                }
            )
    return rows


def _precoded(
    scheme: Scheme, channels: Tensor, near_field: Tensor | None, budget: LinkBudget, note: Note
) -> dict[str, Tensor]:
    """Return the answers of a scheme in all slots, on the host, by their fields."""
    answers = []
    for start in range(0, len(channels), _SLOTS_PER_BLOCK):
        part = slice(start, start + _SLOTS_PER_BLOCK)
        answers.append(scheme(ChannelBatch(channels[part], None if near_field is None else near_field[part]), budget))
        note(f"step {start + len(channels[part])} of {len(channels)}")
    return {name: torch.cat([getattr(answer, name).cpu() for answer in answers]) for name in _FIELDS}


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("A drone flies out of the near field, seven users stay", EXPERIMENT.cuts(study), 10.5, 8)
    total, own, score = figure.subplots(3, 1, sharex=True, height_ratios=[2, 2, 1])
    for name in _SCHEMES:
        pale = {} if name in _CONSTRAINED else PALE
        if name in (_SCHEMES[0], _SCHEMES[len(_CONSTRAINED)]):
            total.plot([], [], linestyle="", label=symbols(FREE if pale else HELD))
        selected, look = rows[rows["scheme"] == name], {**style(name), "marker": "", **pale}
        total.plot(selected["x_m"], selected["sum_rate"], label=label(name), **look)
        own.plot(selected["x_m"], selected["drone_rate"], **look)
    for name in SHIPPED:
        selected = rows[rows["scheme"] == name]
        score.plot(selected["x_m"], selected["drone_score"], **{**style(name), "marker": ""})
    truth = rows[rows["scheme"] == "small"]
    near = truth[truth["drone_is_near"] == 1]
    for axes in (total, own, score):
        axes.axvspan(near["x_m"].min(), near["x_m"].max(), color="#0072B2", alpha=0.1)
        axes.grid(color="#DDDDDD", linewidth=0.8)
    total.set_ylabel("sum rate [bps/Hz]")
    own.set_ylabel("the drone's rate [bps/Hz]")
    score.set_ylabel("its near-field\nscore")
    score.set_yticks([0, 0.5, 1])
    score.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    score.set_xlabel("the drone's x [m]; shaded: it is in the near field")
    legend_beside(total)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    grouped = rows.groupby("scheme", sort=False)
    shown = grouped[["sum_rate", "drone_rate", "labels_right"]].mean()
    shown["drone's label right"] = (rows["drone_label"] == rows["drone_is_near"]).groupby(rows["scheme"]).mean()
    shown["slots infeasible"] = grouped["feasible"].apply(lambda feasible: int((feasible == 0).sum()))
    return shown.rename(index=label).rename_axis("mean over the flight")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    checks = []
    for name in SHIPPED:
        selected = rows[rows["scheme"] == name]
        changes = int((selected["drone_label"].diff().abs() == 1).sum())
        truth = int((selected["drone_is_near"].diff().abs() == 1).sum())
        wrong = int((selected["drone_label"] != selected["drone_is_near"]).sum())
        checks.append(
            Check(
                f"{label(name)}: the drone's label changes where the true one does and nowhere else",
                changes == truth,
                f"{changes} changes for {truth}; wrong in {wrong} of {len(selected)} slots",
            )
        )
    return checks


EXPERIMENT = Experiment(
    "mobility",
    "Labels and spectral efficiency along a drone's flight",
    "beyond the papers",
    _units,
    _draw,
    _table,
    _checks,
    (
        "New precoders in every slot. Ours keep alpha_c = 0.4 and R_min = 0.6 bps/Hz by their own labels, "
        "the per-drop optimiser by the true ones. WMMSE, LDMA and RZF have the power limit alone; their labels "
        "are the FFT test's. Signed angles: the drone passes the mirror images of other users' positions, but its "
        "channel never equals theirs.",
    ),
)
