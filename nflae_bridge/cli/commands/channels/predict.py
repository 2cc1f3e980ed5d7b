"""Implement ``nflae predict``: the channels that follow the snapshots of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nflae_bridge.cli.options.common import ChannelOptions, channel_options, device_option, refuse_options
from nflae_bridge.cli.options.prediction import PredictionOptions, prediction_options
from nflae_bridge.cli.outputs import refuse_mat_version
from nflae_bridge.cli.terminal import fact, progress, warn

if TYPE_CHECKING:
    from matlab_io import ChannelFile
    from matlab_io.writing.mat_writer import Value
    from nflae_bridge.files.csi.path_units import PathUnits
    from nflae_bridge.files.csi.predict_file import PredictionSummary
    from nflae_bridge.files.csi.prediction import FilePredictor


@click.command(
    "predict",
    short_help="Predict the channels after the snapshots of a file.",
    epilog="""\b
    Examples:
      nflae simulate -o walk.mat --source cdl --users 6 --antennas 64 --slots 20 --slot-ms 1 --speed 3
      nflae predict walk.mat -o next.mat                          the 4 snapshots after the last
      nflae predict walk.mat -o next.mat --ahead 2 --history 12 --geometry line
      nflae predict walk.mat -o all.mat --rolling                 the 4 snapshots after every one
      nflae predict csi.mat -o next.mat --var H --layout nks --slot-ms 0.25 --csi-snr-db 10
      nflae predict walk.mat -o next.mat --paths                  with each user's Doppler shifts, doppler_hz
      nflae predict band.mat -o next.mat --layout nkfs --paths --slot-ms 0.5 --subcarrier-khz 120
      nflae precode next.mat -o w.mat                             precoders for the predicted channels

    \b
    Variables of OUT.mat (MATLAB order; N antennas, K users, A snapshots ahead, S snapshots of IN.mat):
      H                        N x K x A, with --rolling N x K x A x S; in the convention of IN.mat: direct, K first
      csi_error_db, method     K x A, with --rolling K x A x S
      nflae_info               struct; method indexes nflae_info.methods
    With subcarriers, F stands before A. With --paths (L = 8 paths, the strongest first, filled up with NaN):
      doppler_hz, path_gain    L x K, with --rolling L x K x S; doppler_cycles per snapshot without slot duration
      delay_s                  the same, with subcarriers and --subcarrier-khz

    \b
    The drops of IN.mat are snapshots in order, evenly spaced. Up to a quarter of a user's history may be gaps (NaN, Inf
    or zero at every antenna): those in between are filled from the snapshots around them, those
    after the last known one predicted. One snapshot alone is held.""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT.mat",
    help="File of the predicted channels; replaced once they are complete.",
)
@prediction_options(4, "Snapshots to predict after the last one.")
@click.option("--rolling", is_flag=True, help="Predict after every snapshot, each from those up to it.")
@click.option(
    "--slot-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Time between snapshots, ms, for the report.  [default: by --times, or slot_seconds in the file]",
)
@click.option(
    "--paths",
    is_flag=True,
    help="Write Doppler shifts, powers and, with subcarriers, delays of each user's paths, found by ESPRIT.",
)
@click.option(
    "--subcarrier-khz",
    type=click.FloatRange(min=0, min_open=True),
    help="Subcarrier spacing, kHz, for the delays of --paths.",
)
@channel_options
@click.option(
    "--model",
    default="auto",
    show_default=True,
    metavar="NAME|DIR",
    help="Model of methods nflae and auto: a shipped one for this task (see nflae models), a folder written by nflae"
    " train, or auto.",
)
@device_option
@click.option("--mat-version", type=click.Choice(["6", "7", "7.3"]), help="Version of OUT.mat.  [default: of IN.mat]")
def command(
    source: Path,
    output: Path,
    prediction: PredictionOptions,
    rolling: bool,
    slot_ms: float | None,
    paths: bool,
    subcarrier_khz: float | None,
    reading: ChannelOptions,
    model: str,
    device: str,
    mat_version: str | None,
) -> None:
    """Predict the channels that follow the snapshots in IN.mat, from the last of them or after every one."""
    refuse_mat_version(output)
    if subcarrier_khz is not None and not paths:
        raise click.UsageError("--subcarrier-khz is for the delays of --paths, which is not given.")
    if slot_ms is not None and prediction.times is not None:
        raise click.UsageError("--slot-ms and --times exclude each other")
    if prediction.method not in ("auto", "nflae"):
        refuse_options(f"is of methods auto and nflae: leave it out with --method {prediction.method}.", ("model",))
    with reading.open(source) as file:
        for note in file.notes:
            fact("channels", note)

        from nflae_bridge.engine.devices import drops_per_block
        from nflae_bridge.files.csi.predict_file import predict_file

        predictor = prediction.predictor(file, model, device, paths)
        if device.startswith("cuda"):
            warn(f"--device {device}: a prediction is computed on the CPU")
        spacing = predictor.spacing or _spacing(file, slot_ms)
        _announce(file, predictor, prediction, spacing)
        units = _path_units(predictor, spacing, subcarrier_khz)
        drops = drops_per_block(file.users, file.antennas, predictor.history)
        batch = max(1, drops * predictor.axis.slots // file.drops)
        with progress("predict", predictor.axis.slots if rolling else 1, "snapshots") as advance:
            summary = predict_file(
                file,
                output,
                predictor,
                rolling=rolling,
                batch=batch,
                version=mat_version,
                values=_values(file, predictor, prediction, spacing, rolling),
                advance=advance,
                units=units,
            )
    _report(summary)
    fact("written", f"{output} (version {summary.version})")


def _spacing(file: ChannelFile, slot_ms: float | None) -> float | None:
    """Return the time between snapshots, s: that of the option, else that in the file."""
    from nflae_bridge.files.slots import slot_seconds

    return slot_seconds(file) if slot_ms is None else slot_ms / 1e3


def _path_units(predictor: FilePredictor, spacing: float | None, subcarrier_khz: float | None) -> PathUnits:
    """Return the units of the paths, and state what is left out for the lack of one."""
    from nflae_bridge.files.csi.path_units import PathUnits

    carriers = predictor.axis.subcarrier_axes
    if predictor.finds_paths and spacing is None:
        fact("paths", "Doppler shifts in cycles per snapshot, doppler_cycles; in Hz with --slot-ms")
    if predictor.finds_paths and carriers and subcarrier_khz is None:
        fact("paths", "no delays: their unit is the inverse subcarrier spacing, give --subcarrier-khz")
    if subcarrier_khz is not None and not carriers:
        warn("--subcarrier-khz is ignored: the file has no subcarriers, and the paths have no delays")
    known = subcarrier_khz is not None and max(carriers, default=1) > 1
    return PathUnits(spacing, 1e3 * subcarrier_khz if known and subcarrier_khz is not None else None)


def _announce(
    file: ChannelFile, predictor: FilePredictor, prediction: PredictionOptions, spacing: float | None
) -> None:
    def span(count: int) -> str:
        duration = "" if spacing is None else f" ({1e3 * count * spacing:g} ms)"
        return f"{count} snapshot{'s' if count > 1 else ''}{duration}"

    slots = predictor.axis.slots
    shorter = f" of {prediction.history}: the file has no more" if predictor.history < prediction.history else ""
    fact("history", f"{span(predictor.history)}{shorter}; {span(predictor.ahead)} ahead; the file holds {slots}")
    if predictor.history == 1:
        warn(f"{file.path}: {file.variable}: one snapshot has no past: it is held")
    fact("prediction", prediction.describe())


def _values(
    file: ChannelFile, predictor: FilePredictor, prediction: PredictionOptions, spacing: float | None, rolling: bool
) -> dict[str, Value]:
    """Return the link budget of the input, for `nflae precode`, and the struct that describes the prediction."""
    from matlab_io.version import __version__
    from nflae_bridge.files.budget.carried import carried_budget
    from nflae_bridge.files.csi.prediction import USED_METHODS

    info: dict[str, Value] = {
        "version": __version__,
        "input": str(file.path),
        "variable": file.variable,
        "methods": ",".join(USED_METHODS),
        "drop_axis": "time",
    }
    axis, slots = predictor.axis, (predictor.axis.slots,) if rolling else ()
    values = carried_budget(file, (), (*axis.subcarrier_axes, predictor.ahead, *slots), warn)
    if spacing is not None:
        values["slot_seconds"] = spacing
    return values | {"nflae_info": info | prediction.info() | {"history": predictor.history}}


def _report(summary: PredictionSummary) -> None:
    import numpy as np

    for note in summary.notes:
        warn(note)
    used = ", ".join(f"{name} {100 * count / summary.series:.3g} %" for name, count in summary.methods.items())
    fact("methods", f"{used} of {summary.series} histories")
    error = summary.mean_error_db
    if np.isfinite(error[[0, -1]]).all():
        last = f", {error[-1]:.1f} dB {len(error)} ahead" if len(error) > 1 else ""
        fact("CSI error", f"{error[0]:.1f} dB 1 snapshot ahead{last} (estimated, mean of users)")
    if (error > 0).any():
        first = int((error > 0).argmax()) + 1
        warn(
            f"the estimated error exceeds the channel from {first} ahead on (above 0 dB): such predictions carry no"
            " information; give newer snapshots, or a smaller --ahead"
        )
