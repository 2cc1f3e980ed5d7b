"""``nflae simulate``: channels to try things with, and the truth about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nflae_bridge.cli.terminal import Advance, fact, progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from simulator.scenario import Scenario

# Noise of the channel estimates has a generator of its own: with and without it, users stand in the same places.
_CSI_STREAM = 1 << 40


@click.command(
    "simulate",
    short_help="Simulated near-field channels to try it with.",
    epilog="""\b
    Examples:
      nflae simulate -o channels.mat
      nflae simulate -o paper.mat --scenario paper --users 8 --drops 1000 --seed 7
      nflae simulate -o noisy.mat --csi-snr-db 10
      nflae simulate -o large.mat --drops 200000 --mat-version 7.3

    \b
    In OUT.mat (K users, S drops): H (N x K x S, y = H' x), power and noise_power (W), the users' x, height,
    distance (m), angle_rad (from the array's normal) and true near_field labels (K x S), carrier_hz,
    array_height (m), array_tilt_rad, scenario, seed.
    """,
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT.mat", help="The file to write."
)
@click.option("--drops", type=click.IntRange(min=1), default=100, show_default=True, help="Drops S.")
@click.option("--users", type=click.IntRange(min=1), default=10, show_default=True, help="Users K a drop.")
@click.option("--antennas", type=click.IntRange(min=1), default=256, show_default=True, help="Antennas N.")
@click.option(
    "--scenario",
    "name",
    type=click.Choice(["uav", "paper"]),
    default="uav",
    show_default=True,
    help="uav: drones and ground users, path loss, scattered paths. paper: line of sight, unit-norm channels.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**39),
    default=0,
    show_default=True,
    help="The same seed gives the same file.",
)
@click.option(
    "--csi-snr-db", type=float, help="H is an estimate of this SNR per antenna, dB.  [default: H is the channel]"
)
@click.option(
    "--mat-version",
    type=click.Choice(["6", "7", "7.3"]),
    default="7",
    show_default=True,
    help="7.3 is written block by block and holds any size.",
)
def command(
    output: Path,
    drops: int,
    users: int,
    antennas: int,
    name: str,
    seed: int,
    csi_snr_db: float | None,
    mat_version: str,
) -> None:
    """Simulated low-altitude near-field channels, with users' places and true labels."""
    from matlab_io import write_channels
    from simulator.scenario import scenario

    scene = scenario("paper" if name == "paper" else "uav", users, antennas)
    extra = _truth(scene, drops, seed) | {"scenario": name, "seed": seed, "power": 1.0, "noise_power": 0.01}
    if csi_snr_db is not None:
        extra["csi_snr_db"] = csi_snr_db
    with progress("simulate", drops, "drops") as advance:
        write_channels(
            output,
            _channels(scene, drops, seed, csi_snr_db, advance),
            users=users,
            antennas=antennas,
            drops=drops,
            version=mat_version,
            extra=extra,
        )
    near = 100 * float(extra["near_field"].mean())
    fact("written", f"{output}: H {antennas} x {users} x {drops}, scenario {name}, {near:.0f} % near-field users")


def _channels(
    scene: Scenario, drops: int, seed: int, csi_snr_db: float | None, advance: Advance
) -> Iterator[npt.NDArray[np.complex64]]:
    import torch

    from simulator.channel import noisy_csi

    noise = torch.Generator().manual_seed(_CSI_STREAM + seed)
    done = 0
    for block in scene.stream(drops, torch.Generator().manual_seed(seed)):
        channels = block.channels if csi_snr_db is None else noisy_csi(block.channels, csi_snr_db, noise)
        done += len(channels)
        advance(done, "")
        yield channels.numpy()


def _truth(scene: Scenario, drops: int, seed: int) -> dict[str, Any]:
    """What is true of the users, in MATLAB order K x S, and of the array.

    A .mat file wants its small variables before the stream of channels. So the users are drawn twice from the same
    seed, here before an array of one antenna, which costs next to nothing.
    """
    import torch

    from simulator.near_field import is_near_field

    without_array = replace(scene, array=replace(scene.array, antennas=1))
    blocks = [
        (block.x, block.height, block.angle, block.distance)
        for block in without_array.stream(drops, torch.Generator().manual_seed(seed))
    ]
    x, height, angle, distance = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    near = is_near_field(scene.array, angle, distance, scene.near_field_loss)
    columns = {"x": x, "height": height, "angle_rad": angle, "distance": distance, "near_field": near}
    return {name: values.numpy().T for name, values in columns.items()} | {
        "carrier_hz": scene.array.carrier,
        "array_height": scene.array.height,
        "array_tilt_rad": scene.array.tilt,
    }
