"""Users that move: channels slot by slot along the paths of a CSV file of waypoints (docs/how_to/trajectories.md).

The simulator's channels are h with y = h^H x already: nothing is conjugated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from simulator.channels.scenario import Scenario, scenario
from simulator.channels.sources.registry import Channels, ChannelSet, Request, register
from simulator.channels.trajectory import Waypoints, fly
from simulator.channels.waypoints import flight_seconds, flight_variables, read_waypoints
from simulator.geometry.near_field import is_near_field

_SLOT_SECONDS = 0.5e-3
_SLOTS_AT_A_TIME = 256


@register("flight", ("drops", "antennas", "carrier", "slot_seconds"), reads="a CSV file of waypoints")
def flight(request: Request) -> ChannelSet:
    """Drops are slots, until the last user has arrived or as many as asked. Path loss and scatterers are ``uav``'s."""
    assert request.file is not None
    paths = read_waypoints(request.file)
    length = request.slot_seconds or _SLOT_SECONDS
    slots = request.drops or math.floor(flight_seconds(paths) / length) + 1
    scene = scenario("uav", len(paths), request.antennas or 256)
    if request.carrier is not None:
        scene = replace(scene, array=replace(scene.array, carrier=request.carrier))
    # Small variables come first in a file, so the users fly twice, here before an array of one antenna.
    mast = replace(scene, array=replace(scene.array, antennas=1))
    flown = fly(paths, mast, slots, length, torch.Generator().manual_seed(request.seed))
    near = is_near_field(scene.array, flown.angle, flown.distance, scene.near_field_loss)
    known = flight_variables(replace(flown, near_field=near)) | {
        "carrier_hz": scene.array.carrier,
        "array_height": scene.array.height,
        "array_tilt_rad": scene.array.tilt,
        "scenario": "uav",
        "noise_power": 0.01,
    }
    remark = (
        f"{slots * length:g} s in slots of {1e3 * length:g} ms, {100 * float(near.float().mean()):.0f} % near-field"
    )
    blocks = _blocks(paths, scene, slots, length, request.seed)
    return ChannelSet(slots, len(paths), scene.array.antennas, blocks, known, remark)


def _blocks(paths: list[Waypoints], scene: Scenario, slots: int, slot_seconds: float, seed: int) -> Iterator[Channels]:
    for first in range(0, slots, _SLOTS_AT_A_TIME):
        count = min(_SLOTS_AT_A_TIME, slots - first)
        part = fly(paths, scene, count, slot_seconds, torch.Generator().manual_seed(seed), first)
        yield part.channels.numpy()
