"""Compute channels of moving users, slot by slot, along the waypoints of a CSV file (docs/how_to/trajectories.md).

Channels are those of y = h^H x and are not conjugated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from simulator.channels.scenario import Scenario, scenario
from simulator.channels.sources.registry import Channels, ChannelSet, Request, register, sequence_variables
from simulator.channels.trajectory import Waypoints, fly
from simulator.channels.waypoints import flight_seconds, flight_variables, read_waypoints
from simulator.geometry.near_field import is_near_field

_SLOT_SECONDS = 0.5e-3
_SLOTS_AT_A_TIME = 256


@register("flight", ("drops", "antennas", "carrier", "slot_seconds"), reads="a CSV file of waypoints")
def flight(request: Request) -> ChannelSet:
    """Compute the channels of moving users, one drop per slot, with path loss and scatterers of ``uav``.

    Parameters
    ----------
    request
        Channels requested; without ``drops``, slots end at the last waypoint.

    Returns
    -------
    ChannelSet
        Channels, user positions, labels and Doppler shifts.
    """
    assert request.file is not None
    paths = read_waypoints(request.file)
    slot_seconds = request.slot_seconds or _SLOT_SECONDS
    slots = request.drops or math.floor(flight_seconds(paths) / slot_seconds) + 1
    scene = scenario("uav", len(paths), request.antennas or 256)
    if request.carrier is not None:
        scene = replace(scene, array=replace(scene.array, carrier=request.carrier))
    # The small variables come first in a file: the flight is computed twice, here with a single antenna.
    single_antenna = replace(scene, array=replace(scene.array, antennas=1))
    flown = fly(paths, single_antenna, slots, slot_seconds, torch.Generator().manual_seed(request.seed))
    near = is_near_field(scene.array, flown.angle, flown.distance, scene.near_field_loss)
    metadata = flight_variables(replace(flown, near_field=near)) | sequence_variables(slot_seconds)
    metadata |= {
        "carrier_hz": scene.array.carrier,
        "array_height": scene.array.height,
        "array_tilt_rad": scene.array.tilt,
        "scenario": "uav",
        "noise_power": 0.01,
    }
    near_percent = 100 * float(near.float().mean())
    remark = f"{slots * slot_seconds:g} s in slots of {1e3 * slot_seconds:g} ms, {near_percent:.0f} % near-field"
    blocks = _blocks(paths, scene, slots, slot_seconds, request.seed)
    return ChannelSet(slots, len(paths), scene.array.antennas, blocks, metadata, remark)


def _blocks(paths: list[Waypoints], scene: Scenario, slots: int, slot_seconds: float, seed: int) -> Iterator[Channels]:
    for first in range(0, slots, _SLOTS_AT_A_TIME):
        count = min(_SLOTS_AT_A_TIME, slots - first)
        part = fly(paths, scene, count, slot_seconds, torch.Generator().manual_seed(seed), first)
        yield part.channels.numpy()
