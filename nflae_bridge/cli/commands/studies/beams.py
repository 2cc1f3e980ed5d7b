"""Implement ``nflae beams``: train and evaluate beam forecasts on measured sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nflae_bridge.cli.options.common import refuse_options
from nflae_bridge.cli.terminal import Table, fact, progress, warn

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from matlab_io.sequences import Sequences
    from nflae_bridge.beams.comparison import Choice
    from nflae_bridge.beams.model import BeamModel
    from nflae_bridge.beams.network import NetworkSettings
    from simulator.beams.measures import Measured
    from simulator.beams.registry import State
    from simulator.beams.windows import Windows

_PAST, _AHEAD = 5, 3
_FOLDERS = """\b
    FOLDER holds scenarioN.csv in DeepSense 6G's layout: a row per sample, seq_index, unit1_pwr_60ghz (files of beam
    powers) or unit1_beam, and for positions unit1_loc and unit2_loc or unit2_pos; or it is a .mat file with variables
    of these names, a column per sample. Unusable samples are left out and counted; labels are the strongest powers."""


@click.group(
    "beams",
    short_help="Forecast the best beams of moving users from measured sequences.",
    epilog=f"""\b
    Examples:
      nflae beams evaluate scenario1 scenario2 -o results
      nflae beams train scenario1 scenario2 -o model
      nflae beams evaluate scenario8 -o results --model model

    {_FOLDERS}""",
)
def command() -> None:
    """Forecast the best beams of the next samples from past beam powers and positions, and compare all methods."""


def _names(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split a list of inputs."""
    from nflae_bridge.beams.inputs import INPUTS

    names = tuple(each.strip() for each in value.split(",")) if value else ()
    unknown = [each for each in names if each not in INPUTS]
    if unknown or len(set(names)) < len(names):
        what = f"unknown input {unknown[0]!r}" if unknown else "an input is given twice"
        raise click.BadParameter(f"{what}; there are {', '.join(INPUTS)}")
    return names


def _stages(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, int]:
    """Split a list of stages with their epochs."""
    stages: dict[str, int] = {}
    for part in value.split(",") if value else ():
        name, _, epochs = part.strip().partition(":")
        if name not in ("mask", "align", "task") or not epochs.isdecimal() or name in stages:
            raise click.BadParameter(f"{part!r}; expected stages with epochs, as in mask:5,align:5,task:20")
        stages[name] = int(epochs)
    return stages


def _with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Collect the options of the network in one argument, ``settings``."""

    @wraps(function)
    def collected(
        inputs: tuple[str, ...],
        stages: dict[str, int],
        vision: Path | None,
        anchor: str | None,
        no_positions: bool,
        **others: Any,
    ) -> Any:
        from nflae_bridge.beams.inputs import INPUTS
        from nflae_bridge.beams.network import NetworkSettings

        names = inputs or NetworkSettings.inputs
        placed = [name for name in names if name in ("position", "located")]
        if no_positions and placed:
            raise click.UsageError(f"--no-positions and --inputs {placed[0]}; leave one of them out")
        if anchor is not None and anchor not in names:
            raise click.UsageError(f"--anchor {anchor}: not one of --inputs {','.join(names)}")
        if stages.get("align") and len(names) < 2:
            raise click.UsageError("--stages align: one input alone cannot be aligned; give more --inputs")
        seeing = [name for name in names if INPUTS[name].encoder == "vision"]
        if bool(seeing) != (vision is not None):
            what = f"--inputs {seeing[0]}: give --vision DIR" if seeing else f"--vision {vision}: give --inputs vision"
            raise click.UsageError(f"{what}, a folder with a vision model's config.json and model.safetensors")
        epochs = stages.get("task", NetworkSettings.epochs)
        settings = NetworkSettings(
            names,
            epochs,
            stages.get("mask", 0),
            stages.get("align", 0),
            anchor=anchor or names[0],
            vision=None if vision is None else str(vision),
        )
        return function(settings=settings, positions=not no_positions, **others)

    return collected


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments and options that both commands have."""
    path = click.Path(path_type=Path)
    function = _with_settings(function)
    for option in reversed(
        [
            click.argument("sources", metavar="FOLDER...", nargs=-1, required=True, type=path),
            click.option("-o", "--output", required=True, type=path, metavar="DIR", help="Folder of the results."),
            click.option("--past", type=click.IntRange(2, 100), help="Samples that a forecast uses.  [default: 5]"),
            click.option("--ahead", type=click.IntRange(1, 100), help="Samples to forecast.  [default: 3]"),
            click.option(
                "--split",
                "kind",
                type=click.Choice(["sequence", "site", "random"]),
                default="sequence",
                show_default=True,
                help="Hold out whole sequences of each folder, whole masts, or windows, which flatters.",
            ),
            click.option("--no-positions", is_flag=True, help="Leave positions out."),
            click.option(
                "--inputs",
                callback=_names,
                metavar="LIST",
                help="Inputs of the network, see below.  [default: power]",
            ),
            click.option(
                "--stages",
                callback=_stages,
                metavar="LIST",
                help="Epochs of the network by stage, as mask:5,align:5,task:20.  [default: task:8]",
            ),
            click.option("--vision", type=path, metavar="DIR", help="Vision model of the input vision, not trained."),
            click.option("--anchor", metavar="INPUT", help="Input of stage align.  [default: the first of --inputs]"),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Split and weights."),
        ]
    ):
        function = option(function)
    return function


@click.command(
    "train",
    short_help="Fit all forecasters, choose by validation, write the model.",
    epilog=f"""\b
    Examples:
      nflae beams train scenario1 scenario2 -o model
      nflae beams train scenario1 scenario3 -o model --split site --past 8 --ahead 5

    \b
    DIR receives beams.csv (method, step, top1, top3, loss_db, ends of 95 % intervals over sequences), of the 30 % held
    out, and the model. For each sample ahead it has the forecaster that is best in a cross-validation over three folds
    of the training part, for a single folder another one only if that is better by two standard errors.

    \b
    The network takes any of --inputs: power, beam, prompt (summary of the past beams), position; and from files csi
    and csi-picture (unit1_csi), picture (unit1_rgb), detections (unit1_detections), radar (unit1_radar), points
    (unit1_lidar), located (positions corrected by what moves in unit1_lidar), vision and csi-vision (by the model of
    --vision). It is trained with inputs left out at random and forecasts from those that a folder has. --stages mask
    (reconstruct hidden values) and align (contrastive) train its encoders before the task.

    {_FOLDERS}""",
)
@_options
def train(
    sources: tuple[Path, ...],
    output: Path,
    past: int | None,
    ahead: int | None,
    kind: str,
    seed: int,
    settings: NetworkSettings,
    positions: bool,
) -> None:
    """Fit every beam forecaster, choose by validation, and write model and table."""
    from nflae_bridge.beams.comparison import (
        FOLDS,
        SELECTED,
        all_forecasters,
        choose,
        compare,
        fit_all,
        selected_scores,
    )
    from nflae_bridge.beams.model import save_model
    from nflae_bridge.cli.outputs import make_folder

    folders = _read(sources, positions)
    windows, test = _held_out(folders, past or _PAST, ahead or _AHEAD, kind, seed, settings.inputs)
    part, held = windows.part(~test), windows.part(test)
    methods = all_forecasters(windows.position is not None, settings)
    make_folder(output)
    with progress("beams", (FOLDS + 1) * len(methods), "fits") as advance:
        choice = choose(part, kind, seed, methods, advance)
        states = fit_all(part, seed, methods, lambda done, note: advance(FOLDS * len(methods) + done, note))
    scores = {name: each.scores(held, states[name]) for name, each in methods.items()}
    measured = compare({**scores, SELECTED: selected_scores(choice, held, scores)}, held)
    save_model(_model(output, folders, windows, test, kind, choice, states), choice.validation)
    _report(output, measured, held)
    own = "".join(f"; {folders[number].name}: {name}" for number, name in choice.by_folder.items())
    chosen = choice.default[0] if len(set(choice.default)) == 1 else " / ".join(choice.default)
    fact("selected", f"{chosen}{own} (by validation: {100 * choice.validation[SELECTED]:.1f} % top-1)")
    fact("written", f"{output / 'beams.csv'} and the model {output}")


@click.command(
    "evaluate",
    short_help="Compare all forecasters, or a trained model with those that need no training.",
    epilog=f"""\b
    Examples:
      nflae beams evaluate scenario1 -o results                     fit on 70 %, measure on the other sequences
      nflae beams evaluate scenario8 -o results --model model       a model of nflae beams train, all sequences

    \b
    DIR receives beams.csv (method, step, top1, top3, loss_db, ends of 95 % intervals over sequences).

    {_FOLDERS}""",
)
@_options
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", help="Model of nflae beams train.")
@click.option("--missing", callback=_names, metavar="LIST", help="Inputs to take as absent when the network forecasts.")
def evaluate(
    sources: tuple[Path, ...],
    output: Path,
    past: int | None,
    ahead: int | None,
    kind: str,
    seed: int,
    settings: NetworkSettings,
    positions: bool,
    model: Path | None,
    missing: tuple[str, ...],
) -> None:
    """Compare beam forecasters on held-out sequences, or a model on sequences that it was not trained on."""
    from nflae_bridge.beams.comparison import all_forecasters, compare, fit_all
    from nflae_bridge.cli.outputs import make_folder

    if model is not None:
        fitting = ("kind", "inputs", "stages", "vision", "anchor", "seed")
        refuse_options("belongs to methods that are fitted here: leave it out with --model", fitting)
        measured, held = _evaluated(model, sources, past, ahead, positions, missing)
        make_folder(output)
    else:
        folders = _read(sources, positions)
        windows, test = _held_out(folders, past or _PAST, ahead or _AHEAD, kind, seed, settings.inputs)
        part, held = windows.part(~test), windows.part(test)
        methods = all_forecasters(windows.position is not None, settings, missing)
        make_folder(output)
        with progress("beams", len(methods), "fits") as advance:
            states = fit_all(part, seed, methods, advance)
        measured = compare({name: each.scores(held, states[name]) for name, each in methods.items()}, held)
    _report(output, measured, held)
    fact("written", str(output / "beams.csv"))


def _evaluated(
    folder: Path,
    sources: tuple[Path, ...],
    past: int | None,
    ahead: int | None,
    positions: bool,
    missing: Sequence[str],
) -> tuple[dict[str, Measured], Windows]:
    """Measure a model, and the forecasters that need no training."""
    from nflae_bridge.beams.comparison import SELECTED, all_forecasters, compare
    from nflae_bridge.beams.inputs import available
    from nflae_bridge.beams.model import load_model

    model = load_model(folder)
    for option, given, own in (("--past", past, model.past), ("--ahead", ahead, model.ahead)):
        if given not in (None, own):
            raise click.UsageError(f"{option} {given}: the model {folder} has {own}; leave {option} out")
    folders = _read(sources, positions)
    model.check(folders)
    windows = _windows(folders, model.past, model.ahead, model.inputs())
    untrained = {name: each for name, each in all_forecasters(False).items() if each.fit is None}
    scores = {name: each.scores(windows, {}) for name, each in untrained.items()}
    fact("model", f"{folder}: {', '.join(model.choice.names())}")
    absent = [name for name in model.inputs() if name in missing or name not in available(windows)]
    if absent:
        warn(f"absent inputs of the network: {', '.join(absent)}; it forecasts without")
    return compare({**scores, SELECTED: model.scores(windows, folders, missing)}, windows), windows


def _read(sources: tuple[Path, ...], positions: bool) -> list[Sequences]:
    from matlab_io.sequences import read_sequences

    folders = []
    for source in sources:
        read = read_sequences(source, positions)
        for note in read.notes:
            warn(note)
        folders.append(read)
    some = [each for each in folders if each.user is not None]
    if some and len(some) < len(folders):
        without = next(each for each in folders if each.user is None)
        warn(f"{without.path} has no positions: they are used of no folder")
    return folders


def _windows(folders: list[Sequences], past: int, ahead: int, inputs: Sequence[str]) -> Windows:
    """Cut windows, with the recordings of the inputs that have files, and state what is absent."""
    from nflae_bridge.beams.recordings import read_recorded
    from simulator.beams.windows import cut_windows

    recorded, notes = read_recorded(folders, inputs)
    for note in notes:
        warn(note)
    return cut_windows(folders, past, ahead, recorded)


def _held_out(
    folders: list[Sequences], past: int, ahead: int, kind: str, seed: int, inputs: Sequence[str]
) -> tuple[Windows, npt.NDArray[np.bool_]]:
    """Cut windows, choose the test part, and state what both sides share."""
    import numpy as np

    from simulator.beams.splits import leakage, split

    windows = _windows(folders, past, ahead, inputs)
    test = split(windows, kind, seed)
    flights, sites = leakage(windows, test)
    total = len(np.unique(windows.flight))
    fact("windows", f"{len(windows)} of {total} sequences, {past} past and {ahead} ahead, {windows.beams} beams")
    fact("test part", f"{test.sum()} windows of {len(np.unique(windows.flight[test]))} sequences, split by {kind}")
    if flights:
        warn(f"--split {kind}: {flights} of {total} sequences are on both sides; new ones give worse figures")
    elif sites and len(np.unique(windows.site)) > 1:
        fact("masts", f"{sites} on both sides of the split; --split site measures new ones")
    return windows, test


def _model(
    output: Path,
    folders: list[Sequences],
    windows: Windows,
    test: npt.NDArray[np.bool_],
    kind: str,
    choice: Choice,
    states: dict[str, State],
) -> BeamModel:
    """Return the model with the flights and masts of its training part."""
    import numpy as np

    from nflae_bridge.beams.comparison import all_forecasters
    from nflae_bridge.beams.model import BeamModel
    from simulator.beams.windows import flight_digests

    flights: dict[str, str] = {}
    first, masts, names = 0, [], []
    for number, each in enumerate(folders):
        trained = set(windows.flight[~test & (windows.folder == number)].tolist())
        distinct = np.unique(each.flight)
        digests = {flight: key for key, flight in flight_digests(each).items()}
        known = {int(flight) for at, flight in enumerate(distinct) if at + first in trained}
        flights |= {digests[flight]: f"{each.name}, sequence {flight}" for flight in known if flight in digests}
        first += len(distinct)
        names.append(each.name)
        masts.append(None if each.mast is None or not known else [float(value) for value in each.mast[0]])
    past = windows.past.shape[1]
    positions = any(all_forecasters(True)[name].positions for name in choice.names())
    axes = 0 if windows.position is None else windows.position.shape[-1]
    sizes = (past, windows.ahead, windows.beams, kind, positions, axes)
    return BeamModel(output, *sizes, choice, names, masts, flights, states)


def _report(output: Path, measured: dict[str, Measured], windows: Windows) -> None:
    """Write the table and print it."""
    from nflae_bridge.beams.table import table_cells, table_csv
    from nflae_bridge.network.checkpoint import write_atomically

    write_atomically(output / "beams.csv", table_csv(measured))
    shown = min(4, windows.ahead)
    steps = " / ".join(f"+{step}" for step in range(1, shown + 1))
    last = f"at +{shown}"
    table = Table(("method", f"top-1, %\n{steps}", f"95 %, +-\n{last}", f"top-3, %\n{steps}", f"loss, dB\n{steps}"))
    for name, each in measured.items():
        table.add_row(*table_cells(name, each))
    table.show()


command.add_command(train)
command.add_command(evaluate)
