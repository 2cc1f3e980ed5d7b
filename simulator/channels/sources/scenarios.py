"""Draw channels of the package's low-altitude scenarios, ``uav`` and ``paper``, with the true user positions.

Channels are those of y = h^H x and are not conjugated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io.errors import NflaeError
from simulator.channels.scenario import Scenario, ScenarioName, scenario
from simulator.channels.sources.registry import Channels, ChannelSet, Request, register
from simulator.channels.sources.shared.frequency_response import subcarrier_offsets
from simulator.channels.spatial import SpatialScenario
from simulator.geometry.near_field import is_near_field
from simulator.geometry.panel_near_field import is_panel_near_field
from simulator.geometry.panels import (
    UniformPlanarArray,
    azimuth_and_depression,
    direction_and_distance,
    parse_panel,
)

_OPTIONS = ("drops", "users", "antennas", "array", "carrier", "bandwidth", "subcarriers")


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
    offsets = tuple(subcarrier_offsets(request.subcarriers, request.bandwidth).tolist())
    scene = replace(scenario(name, users, antennas), offsets=offsets)
    if request.carrier is not None:
        scene = replace(scene, array=replace(scene.array, carrier=request.carrier))
    if request.bandwidth is not None and request.bandwidth >= 2 * scene.array.carrier:
        raise NflaeError(f"a bandwidth of {request.bandwidth:g} Hz does not fit the carrier {scene.array.carrier:g} Hz")
    if request.array in (None, "ula"):
        variables, blocks = _line_variables(scene, drops, request.seed), _blocks(scene, drops, request.seed)
    else:
        spatial = SpatialScenario(_panel(request, scene), scene)
        antennas = spatial.array.antennas
        variables, blocks = _panel_variables(spatial, drops, request.seed), _blocks(spatial, drops, request.seed)
    variables = {key: np.repeat(values, len(offsets), axis=1) for key, values in variables.items()}
    metadata: dict[str, Any] = variables | {
        "carrier_hz": scene.array.carrier,
        "array_height": scene.array.height,
        "array_tilt_rad": scene.array.tilt,
        "scenario": name,
        "noise_power": 0.01,
    }
    if request.array not in (None, "ula"):
        metadata["array"] = request.array
    if request.subcarriers is not None:
        metadata["subcarriers"] = len(offsets)
    remark = f"{100 * float(variables['near_field'].mean()):.0f} % near-field users"
    return ChannelSet(drops * len(offsets), users, antennas, blocks, metadata, remark)


def _panel(request: Request, scene: Scenario) -> UniformPlanarArray:
    panel = replace(parse_panel(request.array or ""), carrier=scene.array.carrier)
    if request.antennas not in (None, panel.antennas):
        raise NflaeError(f"array {panel} has {panel.antennas} antennas, not {request.antennas}: leave out the number")
    return panel


def _blocks(scene: Scenario | SpatialScenario, drops: int, seed: int) -> Iterator[Channels]:
    for block in scene.stream(drops, torch.Generator().manual_seed(seed)):
        yield block.channels.numpy()


def _line_variables(scene: Scenario, drops: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Return positions and labels of the users, in MATLAB order K x S.

    A .mat file holds its small variables before the stream of channels. The users are therefore drawn twice from the
    same seed, here with a single antenna, at negligible cost.
    """
    single_antenna = replace(scene, array=replace(scene.array, antennas=1), offsets=(0.0,))
    blocks = [
        (block.x, block.height, block.angle, block.distance)
        for block in single_antenna.stream(drops, torch.Generator().manual_seed(seed))
    ]
    x, height, angle, distance = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    near = is_near_field(scene.array, angle, distance, scene.near_field_loss)
    columns = {"x": x, "height": height, "angle_rad": angle, "distance": distance, "near_field": near}
    return {name: values.numpy().T for name, values in columns.items()}


def _panel_variables(scene: SpatialScenario, drops: int, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Return positions in three dimensions and labels of the users, in MATLAB order K x S."""
    single = replace(scene, array=replace(scene.array, rows=1, columns=1), plane=replace(scene.plane, offsets=(0.0,)))
    position = torch.cat([block.position for block in single.stream(drops, torch.Generator().manual_seed(seed))])
    direction, distance = direction_and_distance(position, scene.array)
    azimuth, depression = azimuth_and_depression(direction, scene.array)
    columns = {
        "x": position[..., 0],
        "y": position[..., 1],
        "height": position[..., 2],
        "azimuth_rad": azimuth,
        "depression_rad": depression,
        "distance": distance,
        "near_field": is_panel_near_field(scene.array, direction, distance, scene.plane.near_field_loss),
    }
    return {name: values.numpy().T for name, values in columns.items()}
