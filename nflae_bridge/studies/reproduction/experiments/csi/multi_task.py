"""Train one network on several tasks in turn, beside one network per task of the same size and number of steps."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.plots.style import OURS, empty_figure, grid_axes
from nflae_bridge.studies.models import compare_models
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note, finished_mark, train_baseline
from nflae_bridge.tasks.multi import TASKS
from nflae_bridge.tasks.task import find_task
from nflae_bridge.training.recipe import Recipe

_BATCHES = 6  # of each task's validation
_JOINT, _ALONE = "one network", "one network per task"

# Times of a training step, s, two cores.
_STEP_SECONDS = {
    _JOINT: 0.020,
    f"{_ALONE}: precode": 0.013,
    f"{_ALONE}: predict": 0.018,
    f"{_ALONE}: estimate": 0.020,
}
_COMPARISON_SECONDS = 2.0


def _units(study: Study) -> list[Unit]:
    expected = [
        Activity(f"training {name}", _STEP_SECONDS[name] * recipe.steps, finished_mark(study.folder / "runs", recipe))
        for name, recipe in _recipes(study).items()
    ]
    return [Unit("tasks", partial(_compared, study), [*expected, Activity("comparison", _COMPARISON_SECONDS)])]


def _recipes(study: Study) -> dict[str, Recipe]:
    steps = study.compute_budget.steps["tiny"]
    joint = find_task("multi").presets["multi-tiny"].recipe
    recipes = {_JOINT: replace(joint, steps=len(TASKS) * steps)}
    for task in TASKS:
        own = next(iter(find_task(task).presets.values())).recipe
        recipes[f"{_ALONE}: {task}"] = replace(own, network=getattr(joint.network, task), steps=steps)
    return {
        name: replace(recipe, seed=study.seed, learning_rate=joint.learning_rate, validate_every=recipe.steps)
        for name, recipe in recipes.items()
    }


def _compared(study: Study, note: Note) -> list[Row]:
    models = []
    for name, recipe in _recipes(study).items():
        checkpoint, _ = train_baseline(name, recipe, study.folder / "runs", study.device, note)
        models.append(replace(checkpoint, name=name))
    note("comparison")
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
        selected = rows[rows["what"] == task].iloc[::-1]
        names = [textwrap.fill(name, 12) for name in selected["method"]]
        colors = [OURS if name in (_JOINT, _ALONE) else "#BBBBBB" for name in selected["method"]]
        axes.bar_label(axes.barh(names, selected["figure"], color=colors), fmt="%.2f", padding=3, fontsize="small")
        axes.set_xlim(0, 1.2 * selected["figure"].max())
        axes.set_title(task, fontsize="medium")
        axes.set_xlabel(textwrap.fill(find_task(task).figure, 30))
        grid_axes(axes)
        axes.grid(visible=False, axis="y")
    return figure


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.copy()
    shown.index = pd.Index(shown["what"] + ": " + shown["method"])
    shown["parameters"] = [f"{count:,.0f}" if count > 0 else "" for count in rows["parameters"]]
    return shown[["figure", "guarded", "fallback", "parameters"]].rename_axis("task and method")


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
        "turn; the networks of one task have the same size and take as many steps of that task, but only the joint "
        "network's estimation has the trunk. Figures are those of the networks by themselves on the validation data of "
        "each task, larger is better (bps/Hz; NMSE in dB with the sign changed), then those of the guard's answers. "
        "`fallback` is the share of the rows on which these are not the network's.",
    ),
    cut="300 training steps per task instead of 4,000",
)
