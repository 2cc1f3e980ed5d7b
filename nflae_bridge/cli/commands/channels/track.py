"""Implement ``nflae track``: positions and beams of the users of a file of successive snapshots."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nflae_bridge.cli.options.common import ChannelOptions, channel_options, refuse_options
from nflae_bridge.cli.options.plot import WITHOUT_PLOT, figure_options
from nflae_bridge.cli.outputs import SideFile, check_output_path, refuse_mat_version
from nflae_bridge.cli.terminal import fact, warn
from nflae_bridge.plots.look import FigureLook, plot_format

if TYPE_CHECKING:
    from nflae_bridge.files.csi.track_input import TrackInput
    from simulator.tracking.tracker import Track


@click.command(
    "track",
    short_help="Track users: positions, deviations and beams from CSI and GPS.",
    epilog="""\b
    Examples:
      nflae simulate -o flight.mat --trajectory flight.csv --slot-ms 100 --drops 50
      nflae track flight.mat -o track.mat
      nflae track csi.mat -o track.mat --slot-ms 333 --array-height 15 --carrier-ghz 28
      nflae track sweeps.mat -o track.mat --powers p --times t --plot flight.gif
      nflae track sweeps.mat -o track.mat --powers p --times t --model model

    \b
    The drops of IN.mat are snapshots in order, of a linear array with antenna 1 on top. Beside H it may hold gps_x and
    gps_height, K x S, m, detections_angle_deg and detections_distance, D x S, of objects seen by another sensor at the
    array, NaN where missing; array_height, array_tilt_rad, carrier_hz; for powers, beam_angles_deg; and for --plot true
    positions, x and height, K x S.
    Variables of OUT.mat (K users, S snapshots, A snapshots ahead):
      x, height, position_std      K x S, m; position_std is the root of the summed variances
      angle_deg, angle_std_deg     K x S, from the array's normal, positive below it; in sight, of the wave itself
      distance                     K x S, m, from the array's centre
      distance_resolved            K x S, standard deviation of the distance below a quarter of it
      in_sight                     K x S, a plausible wave holds 45 % of the energy or more
      source                       K x S, of the position, indexes nflae_info.sources: prediction, csi, gps, ...
      angle_source                 K x S, and distance_source: of angle and distance
      beam, next_beams             K x S, 3 x K x A x S: beams of N-beam codebook from 1, best first
      beam_source                  K x S, and next_beams_source: index nflae_info.beam_sources
    --model DIR fills next_beams where the model's past is complete; its methods: nflae_info.beam_forecasters.""",
)
@click.argument("source", metavar="IN.mat", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT.mat", help="File to write."
)
@click.option("--ahead", type=click.IntRange(1, 100), default=3, show_default=True, help="Snapshots of next_beams.")
@click.option(
    "--powers", metavar="NAME", help="Variable of linear beam powers, beams x users x snapshots, instead of channels."
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --powers: model of nflae beams train, whose forecasters give next_beams, each where it was the best in"
    " validation.",
)
@click.option(
    "--slot-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Time between snapshots, ms.  [default: slot_seconds in the file]",
)
@click.option("--times", metavar="NAME", help="Variable with the time of every snapshot, s, rising.")
@click.option("--array-height", type=float, help="Height of the array's centre, m.  [default: of the file, else 0]")
@click.option("--tilt-deg", type=float, help="Down-tilt of the array, degrees.  [default: of the file, else 0]")
@click.option(
    "--carrier-ghz",
    type=click.FloatRange(min=0, min_open=True),
    help="Carrier frequency; elements are half a wavelength apart.  [default: of the file, else 30]",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw true, satellite and tracked positions and the beams (.png, .pdf, .svg; .gif: an animation).",
)
@figure_options
@channel_options
@click.option("--mat-version", type=click.Choice(["6", "7", "7.3"]), help="Version of OUT.mat.  [default: of IN.mat]")
def command(
    source: Path,
    output: Path,
    ahead: int,
    powers: str | None,
    model: Path | None,
    slot_ms: float | None,
    times: str | None,
    array_height: float | None,
    tilt_deg: float | None,
    carrier_ghz: float | None,
    plot: Path | None,
    look: FigureLook,
    reading: ChannelOptions,
    mat_version: str | None,
) -> None:
    """Track the users of IN.mat by the waves in their channels, or their beam powers, and by satellite positions."""
    refuse_mat_version(output)
    if slot_ms is not None and times is not None:
        raise click.UsageError("--slot-ms and --times exclude each other")
    if powers is not None and reading != ChannelOptions():
        raise click.UsageError("--powers excludes the options of channels")
    if model is not None and powers is None:
        raise click.UsageError("--model forecasts from beam powers, not from channels: give --powers NAME too")
    _check_plot(plot, look, (source, output))

    from nflae_bridge.files.csi.track_file import find_track, track_doubts, write_track
    from nflae_bridge.files.csi.track_input import Mounting, read_channels, read_powers

    mounting = Mounting(
        None if slot_ms is None else slot_ms / 1e3,
        times,
        array_height,
        None if tilt_deg is None else math.radians(tilt_deg),
        None if carrier_ghz is None else 1e9 * carrier_ghz,
    )
    if powers is not None:
        given = read_powers(source, powers, mounting)
    else:
        with reading.open(source) as file:
            for note in file.notes:
                fact("channels", note)
            given = read_channels(file, mounting)
    for note in given.notes:
        warn(note)
    _check_room(plot, given, look)
    found, forecasters = (find_track(given, ahead), ()) if model is None else _forecast(model, given, ahead)
    for note in track_doubts(found, given):
        warn(note)
    write_track(found, given, output, mat_version, forecasters)
    _report(found)
    fact("written", str(output))
    if plot is not None:
        _drawn(plot, found, given, look).save()
        fact("plotted", str(plot))


def _check_plot(plot: Path | None, look: FigureLook, forbidden: tuple[Path, ...]) -> None:
    """Check, before the work starts, that the plot can be written."""
    if plot is None:
        refuse_options(WITHOUT_PLOT, ("size", "style"))
        return
    if plot.suffix.lower() != ".gif":
        plot_format(plot)
    look.check()
    check_output_path(plot, forbidden)


def _forecast(folder: Path, given: TrackInput, ahead: int) -> tuple[Track, tuple[str, ...]]:
    """Track the users, with the next beams of a model's forecasters; return their names by snapshot ahead, too."""
    from nflae_bridge.beams.model import load_model
    from nflae_bridge.beams.tracks import check_model, forecast_beams
    from nflae_bridge.files.csi.track_file import find_track

    powers = given.seen.powers
    assert powers is not None
    model = load_model(folder)
    check_model(model, given.path, powers.shape[-1], ahead)
    found, share = forecast_beams(model, find_track(given, ahead), powers, given.times)
    forecasters = model.choice.default[:ahead]
    fact("model", f"{folder}: {' / '.join(forecasters)}, next beams of {100 * share:.0f} % of users and snapshots")
    return found, forecasters


def _check_room(plot: Path | None, given: TrackInput, look: FigureLook) -> None:
    """Check, before the users are tracked, that the size has room for the plot, drawn of known positions or a line."""
    if plot is None or look.size is None:
        return
    import numpy as np

    from nflae_bridge.plots.flights import FlightPicture, flight_figure

    steps, users = given.seen.shape
    way = np.stack([np.linspace(10, 100, steps), np.linspace(5, 20, steps)], -1)
    known = next((each for each in (given.true, given.seen.gps) if each is not None), None)
    picture = FlightPicture(
        _title(given, users),
        given.times,
        np.repeat(way[:, None], users, 1) if known is None else np.where(np.isfinite(known), known, way[:, None]),
        np.ones((steps, users)),
        np.ones((steps, users), bool),
        np.zeros((steps, users)),
        (0.0, given.array.height),
        given.array.tilt,
        given.seen.gps,
        given.true,
    )
    look.render(lambda: flight_figure(picture, look.size))


def _title(given: TrackInput, users: int) -> str:
    return f"{given.path.name}: {users} user{'s' * (users > 1)}"


def _drawn(path: Path, found: Track, given: TrackInput, look: FigureLook) -> SideFile:
    """Draw the track as a figure, or an animation by the extension."""
    import numpy as np

    from nflae_bridge.plots.flights import FlightPicture, flight_animation, flight_figure
    from simulator.tracking.tracker import codebook_sines

    sines = given.sines if given.sines is not None else codebook_sines(given.array.antennas).numpy()
    picture = FlightPicture(
        _title(given, found.beam.shape[1]),
        given.times,
        found.position,
        found.deviation,
        found.in_sight,
        np.arcsin(sines[found.beam]),
        (0.0, given.array.height),
        given.array.tilt,
        given.seen.gps,
        given.true,
    )
    if path.suffix.lower() == ".gif":
        return SideFile(path, flight_animation(picture, look))
    return SideFile(path, look.render(lambda: flight_figure(picture, look.size), plot_format(path)))


def _report(found: Track) -> None:
    share = 100 * found.in_sight.mean()
    snapshots, users = (
        f"{count} {name}{'s' * (count != 1)}"
        for count, name in zip(found.beam.shape, ("snapshot", "user"), strict=True)
    )
    if found.conjugated:
        fact("phases", "exp(+j k r): angles and beams are those of the conjugated channels")
    fact("tracked", f"{users}, {snapshots}, in sight {share:.0f} %")
    fact("deviation", f"median {sorted(found.deviation.ravel())[found.deviation.size // 2]:.2f} m (estimated)")
    unresolved = 100 * (1 - found.distance_resolved.mean())
    if unresolved > 0:
        fact("distance", f"unresolved in {unresolved:.0f} % of the snapshots: the wavefront is nearly plane")
