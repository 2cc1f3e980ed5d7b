"""Compute or read ray-traced channels of DeepMIMO: scenario folders of version 4, and datasets saved as ``.mat``.

A **folder** (version 4) holds ``params.json`` and, for each base station and set of receiver positions, one array per
property of the rays: ``power`` (dBW), ``phase`` (degrees), ``delay`` (s), ``aod_az`` and ``aod_el`` (degrees from the
x- and the z-axis), (positions, rays), padded with NaN. From these the channel is computed as by DeepMIMO's generator
with its defaults, isotropic antennas half a wavelength apart along the y-axis and one antenna per user:

    h_n(f) = sum_l sqrt(P_l) exp(j phi_l) exp(j pi n sin(el_l) sin(az_l)) exp(-j 2 pi f tau_l),  n = 0 ... N - 1

DeepMIMO counts f from its first subcarrier, this module from the middle of the band; at the carrier alone f = 0.
DeepMIMO divides by the square root of its number of subcarriers, this module does not. For rotated arrays, dipoles or
panels, let DeepMIMO compute the channels and save them as follows.

A **.mat file** holds the dataset of a generator: ``DeepMIMO_dataset{i}.user{j}.channel`` [receive antenna,
antenna, subcarrier] of versions 1 to 3 in MATLAB, or one array ``channel`` (users, receive antennas, antennas,
subcarriers) as versions 3 and 4 in Python have it. Its subcarriers are fixed.

DeepMIMO's channels are those of y = H x: they are conjugated once, at the end of `deepmimo`. Gains include path loss.
Positions without rays are left out.

References
----------
A. Alkhateeb, "DeepMIMO: A generic deep learning dataset for millimeter wave and massive MIMO applications", ITA 2019;
https://www.deepmimo.net
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from matlab_io import find_arrays
from matlab_io.errors import NflaeError, reading
from simulator.channels.sources.registry import Channels, ChannelSet, Request, register
from simulator.channels.sources.shared import user_arrays
from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets
from simulator.channels.sources.shared.recordings import drops_of, same_length
from simulator.channels.sources.shared.user_arrays import Array

_RAYS = ("power", "phase", "delay", "aod_az", "aod_el")
_POWER = re.compile(r"power_(?P<station>t\d+_tx\d+)_(?P<receivers>r\d+)\.(npz|mat|npy)")
_USER = re.compile(r"(?P<station>.*?)\.?user\{\d+\}\.")
_MAX_USERS = 10  # per drop by default: scenarios have thousands of positions
_POSITIONS_PER_BLOCK = 1024


@register(
    "deepmimo",
    ("drops", "users", "antennas", "bandwidth", "subcarriers", "base_station"),
    reads="a scenario folder or a .mat file",
)
def deepmimo(request: Request) -> ChannelSet:
    """Compute or read channels of DeepMIMO, each drop with users at random positions.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels, with the carrier frequency of a scenario.
    """
    path, metadata = request.file, {}
    assert path is not None
    if path.is_dir():
        params = _params(path)
        direct = _of_scenario(path, params, request)
        frequency = params.get("rt_params", {}).get("frequency")
        metadata = {} if frequency is None else {"carrier_hz": float(frequency)}
    else:
        direct = _of_dataset(path, request)
    return drops_of(np.conjugate(direct), request, metadata, _MAX_USERS)


def _params(folder: Path) -> dict[str, Any]:
    for file in (
        folder / "params.json",
        folder.parent / "params.json",
    ):  # the parent's for a scene of a dynamic scenario
        if file.is_file():
            with reading(file):
                params: dict[str, Any] = json.loads(file.read_text())
            return params
    raise NflaeError(f"{folder}: no params.json, so no DeepMIMO 4 scenario; name the folder that has it")


def _of_scenario(folder: Path, params: Mapping[str, Any], request: Request) -> Channels:
    """Return H of y = H x, complex64 (positions, 1, subcarriers, antennas)."""
    # Receiver sets at the positions of base stations hold no users.
    sets = params.get("txrx_sets", params.get("txrx", {}))
    station_sets = {f"r{entry['id']:03}" for entry in sets.values() if entry.get("is_tx")}
    pairs: dict[str, list[str]] = {}
    for match in filter(None, (_POWER.fullmatch(name) for name in sorted(file.name for file in folder.iterdir()))):
        if match["receivers"] not in station_sets:
            pairs.setdefault(match["station"], []).append(match["receivers"])
    if not pairs:
        raise NflaeError(
            f"{folder}: no power_t..._tx..._r... file with the rays to any user; of a dynamic scenario name one scene's"
            " folder"
        )
    station = user_arrays.select_station(folder, list(pairs), request.base_station)
    rays = {name: _joined([_array(folder, name, f"{station}_{each}") for each in pairs[station]]) for name in _RAYS}
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    _, _, antennas = request.size()
    blocks = [
        _channels(
            {name: values[start : start + _POSITIONS_PER_BLOCK] for name, values in rays.items()}, antennas, offsets
        )
        for start in range(0, len(rays["power"]), _POSITIONS_PER_BLOCK)
    ]
    return np.concatenate(blocks)[:, None]


def _channels(rays: Mapping[str, Array], antennas: int, offsets: torch.Tensor) -> Channels:
    """Evaluate the module's formula for rays (positions, rays); complex64 (positions, subcarriers, antennas)."""
    exists = np.isfinite(rays["power"])
    power, phase, delay, azimuth, elevation = (np.where(exists, rays[name], 0.0) for name in _RAYS)
    amplitude = np.where(exists, 10 ** (power / 20), 0.0)
    direction = np.sin(np.deg2rad(elevation)) * np.sin(np.deg2rad(azimuth))
    angle = np.deg2rad(phase)[:, None] + np.pi * np.arange(antennas)[:, None] * direction[:, None]
    coefficients = torch.from_numpy(amplitude[:, None] * np.exp(1j * angle))
    response = frequency_response(coefficients, torch.from_numpy(delay)[:, None], offsets)
    return response.numpy().swapaxes(-1, -2).astype(np.complex64)


def _array(folder: Path, name: str, pair: str) -> Array:
    """Return one property of the rays from a base station to a receiver set, float64 (positions, rays)."""
    stem = f"{name}_{pair}"
    for file in (folder / f"{stem}.npz", folder / f"{stem}.mat", folder / f"{stem}.npy"):
        if not file.is_file():
            continue
        if file.suffix == ".mat":
            found = find_arrays(file, lambda own: own == name)
        else:
            with reading(file):
                loaded = np.load(file)
                found = {name: loaded} if file.suffix == ".npy" else dict(loaded)
        if name not in found or found[name].ndim != 2:
            raise NflaeError(f"{file}: no matrix {name} (positions x rays) in it, as DeepMIMO 4 writes it")
        return found[name].astype(np.float64)
    raise NflaeError(f"{folder}: has no {stem}.npz or .mat; the channel needs {', '.join(_RAYS)} of every ray")


def _joined(arrays: list[Array]) -> Array:
    """Concatenate receiver sets, padding rays with NaN."""
    rays = max(array.shape[1] for array in arrays)
    widened = [np.pad(array, ((0, 0), (0, rays - array.shape[1])), constant_values=np.nan) for array in arrays]
    return np.concatenate(widened)


def _of_dataset(path: Path, request: Request) -> Channels:
    """Return H of y = H x, complex64 (users, 1, subcarriers, antennas)."""
    for option in ("antennas", "subcarriers"):
        if getattr(request, option) is not None:
            raise NflaeError(f"{path}: holds channels, whose {option} are fixed: leave out {option}")
    found = user_arrays.find(path, {"channel": "channels?"})["channel"]
    found = {location: array for location, array in found.items() if "basestation" not in location}
    if not found:
        raise NflaeError(
            f"{path}: no field channel, as in DeepMIMO_dataset{{1}}.user{{1}}.channel; it holds"
            f" {user_arrays.describe_contents(path)}"
        )
    users: dict[str, dict[str, Array]] = {}
    for location, array in found.items():
        match = _USER.match(location)
        users.setdefault(match["station"] if match else location, {})[location if match else ""] = array
    selected = user_arrays.select_station(path, list(users.values()), request.base_station)
    if "" in selected:  # one array: users, receive antennas, antennas, subcarriers
        rows = user_arrays.restore_axes(selected[""], 4, f"{path}: channel")
    else:
        each = {
            location: user_arrays.restore_axes(array, 3, f"{path}: {location}channel")
            for location, array in selected.items()
        }
        same_length(path, {f"{location}channel": array.shape for location, array in each.items()})
        rows = np.stack(list(each.values()))
    if rows.shape[1] != 1:
        raise NflaeError(
            f"{path}: channel has {rows.shape[1]} receive antennas, and users must have one: save channel(1, :, :), or"
            " generate with one antenna per user"
        )
    return rows.transpose(0, 1, 3, 2).astype(np.complex64)
