"""Train one network on several tasks in turn, beside one network per task of the same size and number of steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.plots.style import empty_figure, grid_axes
from nflae_bridge.studies.models import compare_models
from nflae_bridge.studies.reproduction.experiment import Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, train_baseline
from nflae_bridge.tasks.multi import TASKS
from nflae_bridge.tasks.task import find_task

_BATCHES = 6  # of each task's validation
_JOINT, _ALONE = "one network", "one network per task"


def _units(study: Study) -> list[Unit]:
    return [Unit("tasks", partial(_compared, study))]


def _compared(study: Study, note: Note) -> list[Row]:
    steps = study.compute_budget.steps["tiny"]
    joint = find_task("multi").presets["multi-tiny"].recipe
    recipes = {_JOINT: replace(joint, steps=len(TASKS) * steps)}
    for task in TASKS:
        own = next(iter(find_task(task).presets.values())).recipe
        recipes[f"{_ALONE}: {task}"] = replace(own, network=getattr(joint.network, task), steps=steps)
    models = []
    for name, recipe in recipes.items():
        brief = replace(recipe, seed=study.seed, learning_rate=joint.learning_rate, validate_every=recipe.steps)
        checkpoint, _ = train_baseline(name, brief, study.folder / "runs", study.device, note)
        models.append(replace(checkpoint, name=name))
    rows: list[Row] = []
    for judged, merits in compare_models(models, _BATCHES):
        for merit in merits:
            method = _ALONE if merit.method.startswith(_ALONE) else merit.method
            rows.append(
                {
                    "what": judged.name,
                    "method": method,
                    "figure": merit.figure,
                    "guarded": merit.guarded,
                    "fallback": merit.fallback,
                    "parameters": merit.parameters,
                }
            )
    return rows


def _draw(study: Study, rows: pd.DataFrame) -> Figure:
    figure = empty_figure(EXPERIMENT.title, EXPERIMENT.cuts(study), 12, 4.4)
    tasks = list(rows["what"].unique())
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        selected = rows[rows["what"] == task]
        axes.barh(selected["method"], selected["figure"], color="#56B4E9")
        axes.set_title(task, fontsize="medium")
        axes.set_xlabel(find_task(task).figure)
        grid_axes(axes)
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.copy()
    shown.index = pd.Index(shown["what"] + ": " + shown["method"])
    return shown[["figure", "guarded", "fallback"]].rename_axis("task and method")


def _checks(study: Study, rows: pd.DataFrame) -> list[Check]:
    wide = rows.pivot(index="what", columns="method", values="figure")
    margin = wide[_JOINT] - wide[_ALONE]
    return [
        Check(
            "one network for all tasks: at least as good as one per task",
            bool(margin.min() >= 0),
            ", ".join(f"{task} {value:+.3g}" for task, value in margin.items()),
        )
    ]


EXPERIMENT = Experiment(
    "multi-task",
    "One network for precoding, prediction and estimation",
    "a published idea, at another size",
    _units,
    _draw,
    _table,
    _checks,
    (
        "The tasks share one GPT-2 trunk of width 32, with a token, encoder and heads of their own, and are trained in "
        "turn; the networks of one task have the same size and take as many steps of that task. Figures are those of "
        "the networks by themselves on the validation data of each task, then those of the guard's answers.",
    ),
    cut="300 training steps per task instead of 4,000",
)
