"""Implement ``nflae simulate``: write channels of a source and their ground truth to a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nflae_bridge.cli.options.common import max_inflate_option
from nflae_bridge.cli.options.source import SourceOption
from nflae_bridge.cli.outputs import refuse_mat_version
from nflae_bridge.cli.terminal import Advance, fact, progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simulator.channels.sources import ChannelSet, Request

# The noise of the channel estimates has its own generator, so that it does not change the positions of the users.
_CSI_STREAM = 1 << 40
_CHANNELS = "channels.mat"


@click.command(
    "simulate",
    short_help="Write channels of a scenario or of another tool.",
    epilog="""\b
    Examples:
      nflae simulate -o channels.mat
      nflae simulate -o paper.mat --scenario paper --users 8 --drops 1000 --seed 7
      nflae simulate -o noisy.mat --csi-snr-db 10
      nflae simulate -o panel.mat --array upa:64x64 --users 6
      nflae simulate -o split.mat --carrier-ghz 100 --subcarriers 16 --bandwidth-mhz 5000
      nflae simulate -o large.mat --drops 200000 --mat-version 7.3
      nflae simulate -o flight.mat --trajectory flight.csv --slot-ms 0.5
      nflae simulate --source site --sensors site1 --users 40 --drops 40 --antennas 64
      nflae simulate -o umi.mat --source umi --users 4 --antennas 64 --carrier-ghz 3.5
      nflae simulate -o walk.mat --source cdl --users 6 --slots 20 --slot-ms 1 --speed 3
      nflae simulate -o band.mat --source cdl --subcarriers 12 --bandwidth-mhz 20
      nflae simulate -o town.mat --source quadriga:chan.mat --subcarriers 12 --bandwidth-mhz 20
      nflae simulate -o city.mat --source deepmimo:asu_campus_3p5 --users 8 --antennas 64 --drops 500

    \b
    Sources (docs/how_to/sources.md describes their files and conventions):
      uav, paper          scenarios, also --scenario: UAVs and ground users; the published one
      flight:FILE.csv     users on waypoints, one drop per slot, also --trajectory
      site                drones around a mast among buildings; --sensors records them (docs/how_to/sites.md)
      umi, uma, rma, cdl  3GPP TR 38.901, by Sionna PHY
      deepmimo:PATH       a DeepMIMO scenario folder or a saved dataset, versions 1 to 4
      quadriga:FILE.mat   paths or frequency responses of QuaDRiGa
      matlab5g:FILE.mat   path gains of MATLAB's 5G Toolbox
      sionna:FILE         impulse responses (a, tau) of Sionna PHY and RT, .mat or .npz

    \b
    Variables of OUT.mat (N antennas, K users, S drops):
      H                       N x K x S, y = H' x
      power, noise_power      W
      source, seed
      nflae_info.drop_axis    "time" where drops are snapshots of moving users; slot_seconds, s
      carrier_hz, subcarriers where the source has them
      receive_combiner        R x K x S, with --receive-antennas strongest or eigen
      x, height, distance     K x S, m, of uav, paper and site; x: horizontal distance from the mast
      angle_rad, near_field   K x S, of uav, paper and site: angle from the array normal, true label
      east, north, in_sight   K x S, of site; gps_x, gps_height, gps_east, gps_north: satellite positions with errors
      y, azimuth_rad, depression_rad    K x S, with --array upa instead of angle_rad
      array_height (m), array_tilt_rad    of uav, paper and site; scenario of uav and paper
    """,
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT.mat",
    help="File to write; required without --sensors.  [default: channels.mat in DIR of --sensors]",
)
@click.option("--source", cls=SourceOption, help="Source of the channels, see below.  [default: uav]")
@click.option(
    "--scenario",
    type=click.Choice(["uav", "paper"]),
    help="uav: UAVs and ground users, path loss, scattered paths. paper: line of sight, unit-norm channels.",
)
@click.option(
    "--trajectory",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Waypoints of the users: columns user, x_m, height_m, and time_s or speed_mps.",
)
@click.option(
    "--slot-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Slot duration with --trajectory, --slots or --source site, ms.  [default: 0.5, of site 333]",
)
@click.option(
    "--slots",
    type=click.IntRange(min=1),
    help="Snapshots of moving users of umi, uma, rma and cdl, one drop each.  [default: independent drops]",
)
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Speed of these users, m/s.  [default: 3]")
@click.option(
    "--drops",
    type=click.IntRange(min=1),
    help="Drops S, each with all subcarriers.  [default: 100, or all in the file]",
)
@click.option(
    "--sensors",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder to make in DeepSense 6G's layout, of --source site: beam powers, GPS, pictures, radar, LiDAR and CSI.",
)
@click.option("--users", type=click.IntRange(min=1), help="Users K per drop.  [default: 10, or all in the file]")
@click.option("--antennas", type=click.IntRange(min=1), help="Antennas N.  [default: 256, or those of the file]")
@click.option(
    "--array",
    metavar="ula|upa:RxC[x2]",
    help="Array of uav and paper: a line, or a panel of R rows and C columns in three dimensions, x2 for"
    " cross-polarised pairs.  [default: ula]",
)
@click.option(
    "--carrier-ghz",
    type=click.FloatRange(min=0, min_open=True),
    help="Carrier frequency, GHz.  [default: 30 for uav and paper, 7 for umi, uma, rma and cdl]",
)
@click.option(
    "--subcarriers",
    type=click.IntRange(min=1),
    help="Number of subcarriers, each a drop of its own.  [default: the carrier only]",
)
@click.option(
    "--bandwidth-mhz",
    type=click.FloatRange(min=0, min_open=True),
    help="Bandwidth over which the subcarriers are spread evenly, MHz.",
)
@click.option("--base-station", type=click.IntRange(min=1), help="Base station of a file with several, from 1.")
@click.option(
    "--receive-antennas",
    type=click.Choice(["each", "strongest", "eigen"]),
    help="Users with several receive antennas in a file: every antenna as a user of its own; the strongest; combined by"
    " the dominant left singular vector.",
)
@max_inflate_option
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**39),
    default=0,
    show_default=True,
    help="Seed; the same seed gives the same file.",
)
@click.option(
    "--csi-snr-db", type=float, help="SNR per antenna of the channel estimate H, dB.  [default: H is the channel]"
)
@click.option(
    "--mat-version",
    type=click.Choice(["6", "7", "7.3"]),
    default="7",
    show_default=True,
    help="Version of OUT.mat; 7.3 is written block by block and has no size limit.",
)
def command(
    output: Path | None,
    sensors: Path | None,
    source: str | None,
    scenario: str | None,
    trajectory: Path | None,
    seed: int,
    csi_snr_db: float | None,
    mat_version: str,
    **request: Any,
) -> None:
    """Write channels to OUT.mat: simulated near-field ones, those of 3GPP models, or those of another tool."""
    if source is not None and scenario is not None:
        raise click.UsageError(f"--scenario {scenario} is a source: give it or --source {source}, not both")
    if trajectory is not None and (source or scenario) is not None:
        raise click.UsageError(f"--trajectory {trajectory} is a source: give it without --source or --scenario")
    flight = None if trajectory is None else f"flight:{trajectory}"
    if output is None and sensors is None:
        raise click.UsageError("no output: give -o OUT.mat")
    refuse_mat_version(output)
    name, _, file = (source or scenario or flight or "uav").partition(":")

    from matlab_io.sequences import check_new_folder
    from simulator.channels.sources import draw

    if sensors is not None:
        check_new_folder(sensors)
    drawn = draw(name, _request(Path(file) if file else None, seed, request | {"sensors": sensors is not None}))
    extra: dict[str, Any] = {"power": 1.0} | dict(drawn.metadata) | {"source": name, "seed": seed}
    if csi_snr_db is not None:
        extra["csi_snr_db"] = csi_snr_db
    with progress("simulate", drawn.drops, "drops") as advance:
        blocks = _channels(drawn, seed, csi_snr_db, advance)
        if sensors is None:
            assert output is not None
            _write(output, drawn, blocks, mat_version, extra)
        else:
            _write_sensors(sensors, output, drawn, list(blocks), mat_version, extra)
    size = f"H {drawn.antennas} x {drawn.users} x {drawn.drops}"
    what = "scenario" if "scenario" in extra else "source"
    written = output or (sensors or Path()) / _CHANNELS
    fact("written", f"{written}: {size}, {what} {name}{f', {drawn.remark}' if drawn.remark else ''}")
    if drawn.recording is not None:
        samples = drawn.recording.sequences
        fact("written", f"{sensors}: {len(samples.step)} samples of {drawn.users} flights, {drawn.antennas} beams")


def _write(
    output: Path,
    drawn: ChannelSet,
    blocks: Iterable[npt.NDArray[np.complex64]],
    mat_version: str,
    extra: dict[str, Any],
) -> None:
    from matlab_io import write_channels

    write_channels(
        output,
        blocks,
        users=drawn.users,
        antennas=drawn.antennas,
        drops=drawn.drops,
        version=mat_version,
        extra=extra,
    )


def _write_sensors(
    folder: Path,
    output: Path | None,
    drawn: ChannelSet,
    blocks: list[npt.NDArray[np.complex64]],
    mat_version: str,
    extra: dict[str, Any],
) -> None:
    """Write the folder of the sensors, with the channels of each sample, and the channel file."""
    from matlab_io.sequences import write_folder

    assert drawn.recording is not None
    if output is not None:
        _write(output, drawn, blocks, mat_version, extra)
    csi = [channel[:, None] for user in range(drawn.users) for block in blocks for channel in block[:, user]]
    write_folder(
        folder,
        drawn.recording.sequences,
        recordings={**drawn.recording.files, "unit1_csi": csi},
        beside=lambda part: None if output else _write(part / _CHANNELS, drawn, blocks, mat_version, extra),
    )


def _request(file: Path | None, seed: int, options: dict[str, Any]) -> Request:
    """Return the request of the options, in the units of `Request`."""
    from simulator.channels.sources import Request

    carrier, bandwidth, slot = (options.pop(name) for name in ("carrier_ghz", "bandwidth_mhz", "slot_ms"))
    return Request(
        file=file,
        seed=seed,
        carrier=None if carrier is None else 1e9 * carrier,
        bandwidth=None if bandwidth is None else 1e6 * bandwidth,
        slot_seconds=None if slot is None else slot / 1e3,
        **options,
    )


def _channels(
    drawn: ChannelSet, seed: int, csi_snr_db: float | None, advance: Advance
) -> Iterator[npt.NDArray[np.complex64]]:
    """Yield the channels, or noisy estimates of them, block by block."""
    import torch

    from simulator.csi.impairments import noisy_csi

    noise = torch.Generator().manual_seed(_CSI_STREAM + seed)
    done = 0
    for block in drawn.blocks:
        done += len(block)
        advance(done, "")
        yield block if csi_snr_db is None else noisy_csi(torch.from_numpy(block), csi_snr_db, noise).numpy()
