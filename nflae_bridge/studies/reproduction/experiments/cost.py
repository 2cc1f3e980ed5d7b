"""Reproduce Table II: parameters, and the training and inference times of a batch of 100 drops."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from nflae_bridge.plots.names import label
from nflae_bridge.plots.style import empty_figure, style
from nflae_bridge.studies.reproduction.compute_budget import FULL
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.operating_point import PUBLISHED
from nflae_bridge.studies.reproduction.published_values import MILLISECONDS, PARAMETERS
from nflae_bridge.studies.reproduction.study import LEARNED, SHIPPED, Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, baseline_recipe
from nflae_bridge.studies.reproduction.work_plan import expected_solution, expected_steps, expected_training
from nflae_bridge.training.loop import Trainer
from nflae_bridge.training.presets import recipe
from nflae_bridge.training.recipe import Recipe
from simulator.downlink.precoding import ChannelBatch

_DROPS = 100
_REPEATS = {"full": 30, "quick": 3}


def _units(study: Study) -> list[Unit]:
    networks = [Unit(name, partial(_network, study, name), _expected(study, name)) for name in (*LEARNED, *SHIPPED)]
    solvers = "wmmse", "optimiser"
    return networks + [Unit(name, partial(_solver, study, name), _expected(study, name)) for name in solvers]


def _expected(study: Study, name: str) -> list[Activity]:
    """Return the activities of a network, whose training is timed, or of a solver."""
    drops = _DROPS * (1 + _REPEATS[study.compute_budget.name])
    activities = [Activity(f"{label(name)}: inference", expected_solution(name, drops))]
    if name in LEARNED:
        activities.insert(0, expected_training(study, name, PUBLISHED))
    if name in (*LEARNED, *SHIPPED):
        activities.insert(0, Activity(f"{label(name)}: training", expected_steps(name, drops)))
    return activities


def _network(study: Study, name: str, note: Note) -> list[Row]:
    chosen = recipe(name) if name in SHIPPED else baseline_recipe(name, PUBLISHED, FULL, study.backbone, study.seed)
    note(f"{label(name)}: training")
    training, (trained, total) = _training(chosen, study)
    return [
        {
            "scheme": name,
            "trained_parameters_millions": trained / 1e6,
            "parameters_millions": total / 1e6,
            "training_ms": training,
            "inference_ms": _inference(study, name, note),
            "machine": _machine(study.device),
        }
    ]


def _solver(study: Study, name: str, note: Note) -> list[Row]:
    return [{"scheme": name, "inference_ms": _inference(study, name, note), "machine": _machine(study.device)}]


def _inference(study: Study, name: str, note: Note) -> float:
    """Measure the time from channels to precoders and powers, all in host memory, ms."""
    scheme = study.scheme(name, PUBLISHED, note)
    note(f"{label(name)}: inference")
    drops = PUBLISHED.draw(_DROPS, study.seed)
    batch = ChannelBatch(drops.channels, drops.near_field)

    def infer() -> None:
        answer = scheme(batch, PUBLISHED.constrained)
        answer.precoder.cpu(), answer.power.cpu()

    return _median_ms(infer, study)


def _training(chosen: Recipe, study: Study) -> tuple[float, tuple[int, int]]:
    """Measure an optimiser step on 100 drops with 10 users each, ms; also return the (trained, all) parameters."""
    budget = replace(FULL, train_drops=_DROPS, validation_drops=_DROPS, batch=_DROPS)
    data = baseline_recipe("cnn", PUBLISHED, budget, "", 0).data
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer("cost", replace(chosen, data=data), Path(folder), study.device, resume=False)
        if study.device.type == "cuda":
            trainer.train_one()  # the second step captures a graph
        return _median_ms(lambda: float(trainer.train_one()[0]), study), trainer.network.parameter_counts()


def _median_ms(run: Callable[[], object], study: Study) -> float:
    """Measure the median over a few runs after one to warm up, ms; a run ends with its result on the host."""
    seconds = []
    for _ in range(1 + _REPEATS[study.compute_budget.name]):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return 1e3 * statistics.median(seconds[1:])


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()}), {torch.get_num_threads()} threads"


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure("Cost of a batch of 100 drops (Table II)", EXPERIMENT.cuts(study), 10.5, 4.6)
    sizes, training, inference = figure.subplots(1, 3, sharey=True)
    places = np.arange(len(rows))
    colours = [style(name)["color"] for name in rows["scheme"]]
    machine = rows["machine"].iloc[0]
    published_ms = [MILLISECONDS.get(name, (np.nan, np.nan)) for name in rows["scheme"]]
    for axes, values, published, what in (
        (
            sizes,
            rows["parameters_millions"],
            [PARAMETERS.get(name, (0, np.nan))[1] for name in rows["scheme"]],
            "parameters [million]",
        ),
        (training, rows["training_ms"], [pair[0] for pair in published_ms], "training step [ms]"),
        (inference, rows["inference_ms"], [pair[1] for pair in published_ms], "inference [ms]"),
    ):
        axes.barh(places, values, color=colours)
        axes.plot(
            published,
            places,
            linestyle="",
            marker="|",
            markersize=16,
            markeredgewidth=2.5,
            color="black",
            label="published (RTX 4090)",
        )
        axes.set_xscale("log")
        axes.set_xlabel(what)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
        axes.set_axisbelow(True)
    sizes.set_yticks(places, [label(name) for name in rows["scheme"]])
    sizes.invert_yaxis()
    figure.legend(*sizes.get_legend_handles_labels(), loc="outside upper right", fontsize="small", frameon=False)
    training.set_title(f"times: {machine}", fontsize="small")
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.set_index("scheme").drop(columns="machine")
    published = {name: (*PARAMETERS[name], *MILLISECONDS[name]) for name in LEARNED}
    printed = pd.DataFrame.from_dict(published, orient="index", columns=list(shown.columns))
    printed.index = pd.Index([f"{label(name)}, published" for name in printed.index])
    return pd.concat([shown.rename(index=label), printed]).rename_axis("network")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    sizes = rows.set_index("scheme")[["trained_parameters_millions", "parameters_millions"]]
    checks = []
    for name, published in PARAMETERS.items():
        found = tuple(float(f"{value:.2f}") for value in sizes.loc[name])
        random = name == "paper" and found[0] == found[1]  # trained whole, as a random backbone is
        checks.append(
            Check(
                f"{label(name)}: {published[0]} M trained of {published[1]} M parameters",
                found == published,
                f"{found[0]} M of {found[1]} M" + (" (random backbone, no word embeddings)" if random else ""),
            )
        )
    return checks


EXPERIMENT = Experiment(
    "cost",
    "Parameters, training and inference time per batch of 100 drops",
    "Table II",
    _units,
    _draw,
    _table,
    _checks,
    (
        "Training: an optimiser step, drops in memory. Inference: from channels to precoders and powers, all in host "
        "memory, for ours with the comparison against RZF and the projection onto the constraints. WMMSE runs "
        "200 iterations; after 20 it has 99.9 % of its sum rate, in a tenth of the time. Times are those of the "
        "machine in the table, not of an RTX 4090.",
    ),
    LEARNED,
    "3 repeats per time instead of 30",
)
