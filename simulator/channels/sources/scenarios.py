"""Our own low-altitude scenarios, ``uav`` and ``paper``: spherical waves, and the truth about every user.

The simulator's channels are h with y = h^H x already: nothing is conjugated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from simulator.channels.scenario import Scenario, ScenarioName, scenario
from simulator.channels.sources.registry import Channels, ChannelSet, Request, register
from simulator.geometry.near_field import is_near_field

_TAKES = ("drops", "users", "antennas", "carrier")


@register("uav", _TAKES)
def uav(request: Request) -> ChannelSet:
    """Drones and ground users, path loss, scattered paths."""
    return _drawn("uav", request)


@register("paper", _TAKES)
def paper(request: Request) -> ChannelSet:
    """The publications' users: line of sight, unit-norm channels."""
    return _drawn("paper", request)


def _drawn(name: ScenarioName, request: Request) -> ChannelSet:
    drops, users, antennas = request.size()
    scene = scenario(name, users, antennas)
    if request.carrier is not None:
        scene = replace(scene, array=replace(scene.array, carrier=request.carrier))
    known = _truth(scene, drops, request.seed)
    near = 100 * float(known["near_field"].mean())
    facts = known | {"scenario": name, "noise_power": 0.01}
    return ChannelSet(
        drops, users, antennas, _blocks(scene, drops, request.seed), facts, f"{near:.0f} % near-field users"
    )


def _blocks(scene: Scenario, drops: int, seed: int) -> Iterator[Channels]:
    for block in scene.stream(drops, torch.Generator().manual_seed(seed)):
        yield block.channels.numpy()


def _truth(scene: Scenario, drops: int, seed: int) -> dict[str, Any]:
    """What is true of the users, in MATLAB order K x S, and of the array.

    A .mat file wants its small variables before the stream of channels. So the users are drawn twice from the same
    seed, here before an array of one antenna, which costs next to nothing.
    """
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
