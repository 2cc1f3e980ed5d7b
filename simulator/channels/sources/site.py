"""Compute channels of drones that fly around a mast among buildings, and record them by sensors (docs/how_to/sites.md).

Channels are those of y = h^H x and are not conjugated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from simulator.channels.sources.registry import Channels, ChannelSet, Request, register, sequence_variables
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import is_near_field
from simulator.sensors.flights import draw_flights, satellite_positions
from simulator.sensors.recording import record
from simulator.sensors.site import Array, Site, draw_site

_STEP_SECONDS = 1 / 3
_CARRIER, _HEIGHT = 30e9, 15.0  # Hz, m
_STEPS_AT_A_TIME = 64


@register("site", ("drops", "users", "antennas", "carrier", "slot_seconds", "sensors"))
def site(request: Request) -> ChannelSet:
    """Draw a site and flights, and compute one drop per step with all drones.

    Parameters
    ----------
    request
        Channels requested; ``drops`` are steps, ``users`` flights.

    Returns
    -------
    ChannelSet
        Channels, true and reported positions, and with ``sensors`` what they record.
    """
    steps, flights, antennas = request.size()
    seconds = request.slot_seconds or _STEP_SECONDS
    array = UniformLinearArray(antennas, request.carrier or _CARRIER, _HEIGHT, 0.0)
    scene = draw_site(array, request.seed)
    positions = draw_flights(scene, flights, steps, seconds, request.seed)
    satellites = satellite_positions(positions, seconds, request.seed)
    metadata = _variables(scene, positions, satellites) | sequence_variables(seconds)
    sight = 100 * float(metadata["in_sight"].mean())
    remark = f"{len(scene.boxes)} buildings, {steps * seconds:.4g} s in steps of {1e3 * seconds:.4g} ms"
    return ChannelSet(
        steps,
        flights,
        antennas,
        _blocks(scene, positions),
        metadata,
        f"{remark}, in sight {sight:.0f} %",
        record(scene, positions, satellites, seconds, request.seed) if request.sensors else None,
    )


def _variables(scene: Site, positions: Array, satellites: Array) -> dict[str, Any]:
    """Return the variables of the channel file, K x S."""
    angle, distance = scene.angle_and_distance(positions)
    found: dict[str, Any] = {
        "x": np.hypot(positions[..., 0], positions[..., 1]),
        "height": positions[..., 2],
        "east": positions[..., 0],
        "north": positions[..., 1],
        "distance": distance.numpy(),
        "angle_rad": angle.numpy(),
        "near_field": is_near_field(scene.array, angle, distance).numpy(),
        "in_sight": ~scene.blocked(positions),
        "gps_x": np.hypot(satellites[..., 0], satellites[..., 1]),
        "gps_height": satellites[..., 2],
        "gps_east": satellites[..., 0],
        "gps_north": satellites[..., 1],
    }
    return found | {
        "carrier_hz": scene.array.carrier,
        "array_height": scene.array.height,
        "array_tilt_rad": scene.array.tilt,
        "noise_power": 0.01,
    }


def _blocks(scene: Site, positions: Array) -> Iterator[Channels]:
    for first in range(0, positions.shape[1], _STEPS_AT_A_TIME):
        part: torch.Tensor = scene.channels(positions[:, first : first + _STEPS_AT_A_TIME].swapaxes(0, 1))
        yield part.numpy()
