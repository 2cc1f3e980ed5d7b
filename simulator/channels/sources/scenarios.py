"""Draw channels of the package's low-altitude scenarios, ``uav`` and ``paper``, with the true user positions.

Channels are those of y = h^H x and are not conjugated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from simulator.channels.scenario import Scenario, ScenarioName, scenario
from simulator.channels.sources.registry import Channels, ChannelSet, Request, register
from simulator.geometry.near_field import is_near_field

_OPTIONS = ("drops", "users", "antennas", "carrier")


@register("uav", _OPTIONS)
def uav(request: Request) -> ChannelSet:
    """Draw drones and ground users with path loss and scattered paths.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels, user positions and labels.
    """
    return _channel_set("uav", request)


@register("paper", _OPTIONS)
def paper(request: Request) -> ChannelSet:
    """Draw the users of the publications: line of sight, unit-norm channels.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels, user positions and labels.
    """
    return _channel_set("paper", request)


def _channel_set(name: ScenarioName, request: Request) -> ChannelSet:
    drops, users, antennas = request.size()
    scene = scenario(name, users, antennas)
    if request.carrier is not None:
        scene = replace(scene, array=replace(scene.array, carrier=request.carrier))
    metadata = _user_variables(scene, drops, request.seed) | {"scenario": name, "noise_power": 0.01}
    remark = f"{100 * float(metadata['near_field'].mean()):.0f} % near-field users"
    return ChannelSet(drops, users, antennas, _blocks(scene, drops, request.seed), metadata, remark)


def _blocks(scene: Scenario, drops: int, seed: int) -> Iterator[Channels]:
    for block in scene.stream(drops, torch.Generator().manual_seed(seed)):
        yield block.channels.numpy()


def _user_variables(scene: Scenario, drops: int, seed: int) -> dict[str, Any]:
    """Return positions and labels of the users, in MATLAB order K x S, and the array's mounting.

    A .mat file holds its small variables before the stream of channels. The users are therefore drawn twice from the
    same seed, here with a single antenna, at negligible cost.
    """
    single_antenna = replace(scene, array=replace(scene.array, antennas=1))
    blocks = [
        (block.x, block.height, block.angle, block.distance)
        for block in single_antenna.stream(drops, torch.Generator().manual_seed(seed))
    ]
    x, height, angle, distance = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    near = is_near_field(scene.array, angle, distance, scene.near_field_loss)
    columns = {"x": x, "height": height, "angle_rad": angle, "distance": distance, "near_field": near}
    return {name: values.numpy().T for name, values in columns.items()} | {
        "carrier_hz": scene.array.carrier,
        "array_height": scene.array.height,
        "array_tilt_rad": scene.array.tilt,
    }
