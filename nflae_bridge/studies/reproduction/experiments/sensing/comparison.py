"""Compare a published system with controls of equal training and with simple rivals, over three seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from nflae_bridge.beams.inputs import INPUTS
from nflae_bridge.beams.network import NetworkSettings, network_forecaster
from nflae_bridge.network.config import BackboneConfig
from nflae_bridge.plots.style import empty_figure, grid_axes, legend_beside, style
from nflae_bridge.studies.reproduction.experiment import Activity, Check, Experiment, Row, Unit
from nflae_bridge.studies.reproduction.experiments.sensing.site_windows import AHEAD, draw_windows
from nflae_bridge.studies.reproduction.study import Study
from nflae_bridge.studies.reproduction.trained_baselines import Note
from simulator.beams.measures import measure
from simulator.beams.registry import Forecaster, forecaster
from simulator.beams.splits import split

__all__ = ["System", "experiment_of"]

SEEDS = 3
_ROWS = 32
_FLIGHTS_PER_DROP = 0.3  # flights per test drop of the compute budget
_CERTAIN = 2.0  # standard errors
_STRONGEST = 2  # beams on either side of the strongest that are left out of scatterers' powers
CUT = "60 flights per seed instead of 300; 200 training steps per network instead of 2,666"


@dataclass(frozen=True)
class System:
    """Describe a published system as configurations of the network over several inputs.

    Parameters
    ----------
    variants
        Settings by name: the system, then what it is compared with.
    pairs
        Names of a variant and of its control, which differs in one respect and has as many training steps.
    rivals
        Names of forecasters of the registry.
    scatterers
        Forecast the strongest beam other than those around the line of sight, without future samples' change.
    vision
        The backbone folder is a vision model, not a language model.
    """

    variants: Mapping[str, NetworkSettings]
    pairs: Sequence[tuple[str, str]]
    rivals: Sequence[str] = ("repeat", "velocity-centroid", "knn", "ridge")
    scatterers: bool = False
    vision: bool = False

    def inputs(self) -> tuple[str, ...]:
        """Return the names of all inputs of its variants."""
        return tuple(sorted({name for each in self.variants.values() for name in each.inputs}))


def without_strongest(powers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Set the powers of the strongest beam and of two on either side to nearly 0.

    Parameters
    ----------
    powers
        Linear powers (..., beams).

    Returns
    -------
    numpy.ndarray
        float32 (..., beams).
    """
    distance = np.abs(np.arange(powers.shape[-1]) - powers.argmax(-1)[..., None])
    return np.where(distance <= _STRONGEST, 1e-12, powers).astype(np.float32)


def _units(system: System, study: Study) -> list[Unit]:
    steps = _steps(study)
    trainings = [Activity(name, 0.01 * steps * _weight(each)) for name, each in system.variants.items()]
    rivals = [Activity(name, 0.3) for name in system.rivals]
    expected = [Activity("flights", 0.05 * _flights(study)), *trainings, *rivals]  # s, one core
    return [Unit(f"seed {seed}", partial(_compared, system, study, seed), expected) for seed in range(SEEDS)]


def _weight(settings: NetworkSettings) -> float:
    """Return the time of a training step over that of a network on vectors."""
    return 1 + 1.5 * sum(INPUTS[name].encoder in ("picture", "points") for name in settings.inputs)


def _steps(study: Study) -> int:
    return 2 * study.compute_budget.steps["tiny"] // 3


def _flights(study: Study) -> int:
    return max(10, round(_FLIGHTS_PER_DROP * study.compute_budget.test_drops))


def _compared(system: System, study: Study, number: int, note: Note) -> list[Row]:
    """Measure every variant and rival on flights held out."""
    seed = study.seed + 1000 * number
    note("flights")
    windows = draw_windows(system.inputs(), _flights(study), seed)
    if system.scatterers:
        windows = replace(windows, past=without_strongest(windows.past), future=without_strongest(windows.future))
    test = split(windows, "sequence", seed)
    train, held = windows.part(~test), windows.part(test)
    methods: dict[str, Forecaster] = {
        name: network_forecaster(name, _settings(settings, system, study)) for name, settings in system.variants.items()
    }
    methods |= {name: forecaster(name) for name in system.rivals}
    rows: list[Row] = []
    for name, each in methods.items():
        note(name)
        measured = measure(each.scores(held, each.state(train, seed)), held).values
        for step in range(AHEAD):
            top1, top3, loss_db = (float(each) for each in measured[:, step] * (100, 100, 1))
            row: Row = {"seed": number, "method": name, "ahead": step + 1}
            rows.append({**row, "top1": top1, "top3": top3, "loss_db": loss_db})
    return rows


def _settings(settings: NetworkSettings, system: System, study: Study) -> NetworkSettings:
    """Return settings with the steps of the compute budget, and the backbone folder in its place."""
    settings = replace(settings, rows=_ROWS, least_steps=_steps(study))
    folder = study.backbone if Path(study.backbone).is_dir() else None
    if system.vision:
        if not _sees(settings):
            return settings
        takes_pictures = folder is not None and _takes_pictures(Path(folder))
        return replace(settings, vision=folder if takes_pictures else _random_vision(study))
    if folder is not None:
        settings = replace(settings, backbone=BackboneConfig(source=folder, frozen=True, attention="causal"))
    return settings


def _sees(settings: NetworkSettings) -> bool:
    return any(name.endswith("vision") for name in settings.inputs)


def _takes_pictures(folder: Path) -> bool:
    """Return whether the configuration of a model states a size of pictures."""
    try:
        return "image_size" in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False


def _random_vision(study: Study) -> str:
    """Write a small vision transformer with random weights, and return its folder."""
    import torch
    import transformers

    folder = study.folder / "runs" / f"random-vision-{study.seed}"
    if not (folder / "model.safetensors").is_file():
        config = transformers.ViTConfig(
            hidden_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=192,
            image_size=32,
            patch_size=4,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(study.seed)
            transformers.utils.logging.disable_progress_bar()
            transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


def _means(rows: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Return mean over the seeds by method and sample ahead, in the order of the rows."""
    wide = rows.pivot_table(index="method", columns="ahead", values=figure, aggfunc="mean")
    return wide.loc[rows["method"].unique()]


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    top1, top3, loss = (_means(rows, figure) for figure in ("top1", "top3", "loss_db"))
    average = rows.groupby(["method", "seed"])["top1"].mean().unstack()
    errors = [_standard_error(seeds) for seeds in average.loc[top1.index].to_numpy()]
    return pd.DataFrame(
        {
            "top-1, %, +1 / +2 / +3": [" / ".join(f"{value:.1f}" for value in row) for row in top1.to_numpy()],
            "standard error of their mean": ["-" if math.isnan(value) else f"{value:.1f}" for value in errors],
            "top-3, %, +3": [f"{value:.1f}" for value in top3[AHEAD]],
            "loss, dB, +3": [f"{value:.2f}" for value in loss[AHEAD]],
        },
        index=top1.index.rename("method"),
    )


def gain_of(rows: pd.DataFrame, method: str, control: str) -> tuple[float, float]:
    """Return the mean gain in top-1 over the seeds, and its standard error.

    Parameters
    ----------
    rows
        Rows of the experiment.
    method, control
        Names.

    Returns
    -------
    gain, error : float
        Percentage points, mean over the samples ahead.
    """
    average = rows.groupby(["method", "seed"])["top1"].mean().unstack("method")
    difference = (average[method] - average[control]).to_numpy()
    return float(difference.mean()), _standard_error(difference)


def _standard_error(values: npt.NDArray[np.float64]) -> float:
    """Return the standard error of a mean over the seeds; NaN of one seed."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan


def verdict(gain: float, error: float) -> str:
    """Return a gain in words: "no gain" unless it exceeds two standard errors.

    Parameters
    ----------
    gain, error
        Gain and its standard error, percentage points.

    Returns
    -------
    str
    """
    if math.isnan(error):
        return f"no gain shown: {gain:+.1f} points with one seed"
    word = "gain" if gain > _CERTAIN * error else "no gain"
    return f"{word}: {gain:+.1f} points, standard error {error:.1f}"


def _checks(system: System, study: Study, rows: pd.DataFrame) -> list[Check]:
    means = rows.groupby("method")["top1"].mean()
    rival = str(means[list(system.rivals)].idxmax())
    first = next(iter(system.variants))
    pairs = [*system.pairs, (first, rival)]
    checks = []
    for method, control in pairs:
        gain, error = gain_of(rows, method, control)
        what = f"{method}: above {'the best simple rival, ' if control == rival else ''}{control}"
        checks.append(Check(what, gain > _CERTAIN * error, verdict(gain, error)))
    return checks


def _draw(system: System, title: str, study: Study, rows: pd.DataFrame) -> Figure:
    cuts = study.compute_budget.cuts((), CUT)
    figure = empty_figure(title, [cuts] if cuts else [], 9, 4.6)
    axes = figure.subplots()
    for number, (name, values) in enumerate(_means(rows, "top1").iterrows()):
        look = style(str(name)) if name in system.rivals else {"color": f"C{number}", "marker": "o"}
        axes.plot(values.index, values, label=name, **look)
    axes.set_xlabel("samples ahead")
    axes.set_xticks(range(1, AHEAD + 1))
    axes.set_ylabel("strongest beam found\n[% of the windows]")
    grid_axes(axes)
    legend_beside(axes)
    return figure


def experiment_of(name: str, title: str, source: str, system: System, remark: str) -> Experiment:
    """Return the experiment of a system.

    Parameters
    ----------
    name, title, source
        As in `nflae_bridge.studies.reproduction.experiment.Experiment`.
    system
        The system.
    remark
        Paragraph of the page.

    Returns
    -------
    Experiment
    """
    return Experiment(
        name,
        title,
        source,
        partial(_units, system),
        partial(_draw, system, title),
        _table,
        partial(_checks, system),
        (
            remark,
            "Three synthetic sites, one per seed, of flights of 8 s at three samples a second around a mast with "
            "buildings that block: powers of 64 beams at 30 GHz, satellite positions with errors, pictures, radar maps "
            "and LiDAR points. Five past samples, three ahead; 30 % of the flights are held out. Variants "
            "differ in the respect named and have the same number of training steps. A gain is a mean "
            "difference over the seeds of more than two standard errors.",
        ),
        cut=CUT,
        takes_backbone=True,
    )
