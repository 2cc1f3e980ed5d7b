"""Ray-traced channels of DeepMIMO: scenario folders of version 4, and the datasets that generators save as ``.mat``.

A **folder** (version 4) holds ``params.json`` and, for each base station and set of places, one array a property of
the rays: ``power`` (dBW), ``phase`` (degrees), ``delay`` (s), ``aod_az`` and ``aod_el`` (degrees from the x- and the
z-axis), (places, rays), NaN where there are fewer rays. From these the channel is computed here as DeepMIMO's
generator does with its defaults, isotropic antennas half a wavelength apart along the y-axis and one at each place:

    h_n(f) = sum_l sqrt(P_l) exp(j phi_l) exp(j pi n sin(el_l) sin(az_l)) exp(-j 2 pi f tau_l),  n = 0 ... N - 1

DeepMIMO counts f from the first of its subcarriers, we from the middle of ours; at the carrier alone f = 0. It divides
by the square root of its number of subcarriers, we don't. For rotated arrays, dipoles or panels let DeepMIMO compute
and save the array, see below.

A **.mat file** is what a generator's dataset was saved to: ``DeepMIMO_dataset{i}.user{j}.channel`` [receive antenna,
antenna, subcarrier] of versions 1 to 3 in MATLAB, or one array ``channel`` (users, receive antennas, antennas,
subcarriers) as versions 3 and 4 in Python have it. Its subcarriers are fixed.

DeepMIMO's channels are those of y = H x: they are conjugated once, at the end of `deepmimo`. Gains include path loss.
Places that no ray reaches are left out.
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
_POWER = re.compile(r"power_(?P<station>t\d+_tx\d+)_(?P<places>r\d+)\.(npz|mat|npy)")
_USER = re.compile(r"(?P<station>.*?)\.?user\{\d+\}\.")
_MOST_USERS = 10  # a drop, unless asked otherwise: scenarios have thousands of places
_PLACES = 1024  # computed at once


@register(
    "deepmimo",
    ("drops", "users", "antennas", "bandwidth", "subcarriers", "base_station"),
    reads="a scenario folder or a .mat file",
)
def deepmimo(request: Request) -> ChannelSet:
    """DeepMIMO's channels; each drop has users at places drawn at random."""
    path, known = request.file, {}
    assert path is not None
    if path.is_dir():
        params = _params(path)
        direct = _of_scenario(path, params, request)
        frequency = params.get("rt_params", {}).get("frequency")
        known = {} if frequency is None else {"carrier_hz": float(frequency)}
    else:
        direct = _of_dataset(path, request)
    return drops_of(np.conjugate(direct), request, known, _MOST_USERS)


def _params(folder: Path) -> dict[str, Any]:
    for file in (folder / "params.json", folder.parent / "params.json"):  # the parent's, for a scene of a dynamic one
        if file.is_file():
            with reading(file):
                params: dict[str, Any] = json.loads(file.read_text())
            return params
    raise NflaeError(f"{folder}: no params.json, so no DeepMIMO 4 scenario; name the folder that has it")


def _of_scenario(folder: Path, params: Mapping[str, Any], request: Request) -> Channels:
    """H of y = H x, complex64 (places, 1, subcarriers, antennas)."""
    # places where base stations stand are none of a user's
    sets = params.get("txrx_sets", params.get("txrx", {}))
    stations_too = {f"r{entry['id']:03}" for entry in sets.values() if entry.get("is_tx")}
    pairs: dict[str, list[str]] = {}
    for match in filter(None, (_POWER.fullmatch(name) for name in sorted(file.name for file in folder.iterdir()))):
        if match["places"] not in stations_too:
            pairs.setdefault(match["station"], []).append(match["places"])
    if not pairs:
        raise NflaeError(
            f"{folder}: no power_t..._tx..._r... file with the rays to any user; of a dynamic scenario name one scene's"
            " folder"
        )
    chosen = user_arrays.chosen(folder, list(pairs), request.base_station)
    rays = {name: _joined([_array(folder, name, f"{chosen}_{places}") for places in pairs[chosen]]) for name in _RAYS}
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    _, _, antennas = request.size()
    blocks = [
        _channels({name: values[start : start + _PLACES] for name, values in rays.items()}, antennas, offsets)
        for start in range(0, len(rays["power"]), _PLACES)
    ]
    return np.concatenate(blocks)[:, None]


def _channels(rays: Mapping[str, Array], antennas: int, offsets: torch.Tensor) -> Channels:
    """The module's formula; rays: (places, rays). Returns complex64 (places, subcarriers, antennas)."""
    there = np.isfinite(rays["power"])
    power, phase, delay, azimuth, elevation = (np.where(there, rays[name], 0.0) for name in _RAYS)
    amplitude = np.where(there, 10 ** (power / 20), 0.0)
    along = np.sin(np.deg2rad(elevation)) * np.sin(np.deg2rad(azimuth))
    angle = np.deg2rad(phase)[:, None] + np.pi * np.arange(antennas)[:, None] * along[:, None]
    coefficients = torch.from_numpy(amplitude[:, None] * np.exp(1j * angle))
    response = frequency_response(coefficients, torch.from_numpy(delay)[:, None], offsets)
    return response.numpy().swapaxes(-1, -2).astype(np.complex64)


def _array(folder: Path, name: str, pair: str) -> Array:
    """One property of a pair's rays, float64 (places, rays)."""
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
            raise NflaeError(f"{file}: no matrix {name} (places x rays) in it, as DeepMIMO 4 writes it")
        return found[name].astype(np.float64)
    raise NflaeError(f"{folder}: has no {stem}.npz or .mat; the channel needs {', '.join(_RAYS)} of every ray")


def _joined(arrays: list[Array]) -> Array:
    """Sets of places one after the other, rays that a set doesn't have NaN."""
    rays = max(array.shape[1] for array in arrays)
    widened = [np.pad(array, ((0, 0), (0, rays - array.shape[1])), constant_values=np.nan) for array in arrays]
    return np.concatenate(widened)


def _of_dataset(path: Path, request: Request) -> Channels:
    """H of y = H x, complex64 (users, 1, subcarriers, antennas)."""
    for option in ("antennas", "subcarriers"):
        if getattr(request, option) is not None:
            raise NflaeError(f"{path}: holds channels, whose {option} are fixed: leave out {option}")
    found = user_arrays.find(path, {"channel": "channels?"})["channel"]
    found = {place: array for place, array in found.items() if "basestation" not in place}
    if not found:
        raise NflaeError(
            f"{path}: no field channel, as in DeepMIMO_dataset{{1}}.user{{1}}.channel; it holds"
            f" {user_arrays.contents(path)}"
        )
    users: dict[str, dict[str, Array]] = {}
    for place, array in found.items():
        match = _USER.match(place)
        users.setdefault(match["station"] if match else place, {})[place if match else ""] = array
    chosen = user_arrays.chosen(path, list(users.values()), request.base_station)
    if "" in chosen:  # one array: users, receive antennas, antennas, subcarriers
        rows = user_arrays.padded(chosen[""], 4, f"{path}: channel")
    else:
        each = {place: user_arrays.padded(array, 3, f"{path}: {place}channel") for place, array in chosen.items()}
        same_length(path, {f"{place}channel": array.shape for place, array in each.items()})
        rows = np.stack(list(each.values()))
    if rows.shape[1] != 1:
        raise NflaeError(
            f"{path}: channel has {rows.shape[1]} receive antennas, and users here have one: save channel(1, :, :), or"
            " generate with one antenna a user"
        )
    return rows.transpose(0, 1, 3, 2).astype(np.complex64)
