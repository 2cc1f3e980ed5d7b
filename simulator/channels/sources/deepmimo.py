"""Compute or read ray-traced channels of DeepMIMO: scenario folders and datasets saved as ``.mat``, versions 1 to 4.

A **folder** holds the rays from base stations to the positions of users; `shared.deepmimo_rays` describes its files.
From the rays' power P_l, phase phi_l, delay tau_l and departure angles (az from the x-axis, el from the z-axis) the
channel is computed as by DeepMIMO's generator with its defaults, isotropic antennas half a wavelength apart along the
y-axis and one antenna per user:

    h_n(f) = sum_l sqrt(P_l) exp(j phi_l) exp(j pi n sin(el_l) sin(az_l)) exp(-j 2 pi f tau_l),  n = 0 ... N - 1

DeepMIMO counts f from its first subcarrier, this module from the middle of the band; at the carrier alone f = 0.
DeepMIMO divides by the square root of its number of subcarriers, this module does not. Versions 1 to 3 take the 5 first
rays of a position by default, this module all. For rotated arrays, dipoles or panels, let DeepMIMO compute the channels
and save them as follows.

A **.mat file** holds the dataset of a generator:

- ``DeepMIMO_dataset{i}.user{j}.channel`` of MATLAB, [receive antenna, antenna, subcarrier] in versions 2 and 3,
  [antenna, subcarrier] in version 1, which has none of the fields ``LoS_status``, ``distance`` and ``pathloss`` beside
  it. With a field ``ToA`` beside it, its third axis counts rays with these delays (time-domain channels);
- or one array ``channel`` (users, receive antennas, antennas, subcarriers) as versions 3 and 4 in Python have it.

Subcarriers in a file are fixed.

DeepMIMO's channels are those of y = H x: they are conjugated once, at the end of `deepmimo`. Gains include path loss.
Positions without rays are left out.

References
----------
A. Alkhateeb, "DeepMIMO: A generic deep learning dataset for millimeter wave and massive MIMO applications", ITA 2019;
https://www.deepmimo.net
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from matlab_io.errors import NflaeError
from simulator.channels.sources.registry import Channels, ChannelSet, Request, register
from simulator.channels.sources.shared import deepmimo_rays, user_arrays
from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets
from simulator.channels.sources.shared.recordings import drops_of, same_length
from simulator.channels.sources.shared.user_arrays import Array

# Fields of `later` are in the datasets of versions 2 and 3, not of 1.
_NAMES = {"channel": r"channels?(_VV)?", "delay": "ToA", "later": "LoS_status|distance|pathloss"}
_USER = re.compile(r"(?P<station>.*?)\.?user\{\d+\}\.")
_MAX_USERS = 10  # per drop by default: scenarios have thousands of positions
_POSITIONS_PER_BLOCK = 1024


@register(
    "deepmimo",
    ("drops", "users", "antennas", "bandwidth", "subcarriers", "base_station", "receive_antennas"),
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
        rays = deepmimo_rays.read_rays(path, request.base_station)
        direct = _of_rays(rays.values, request)
        metadata = {} if rays.carrier is None else {"carrier_hz": rays.carrier}
    else:
        direct = _of_dataset(path, request)
    return drops_of(np.conjugate(direct), request, metadata, _MAX_USERS)


def _of_rays(rays: Mapping[str, Array], request: Request) -> Channels:
    """Return H of y = H x, complex64 (positions, 1, 1, subcarriers, antennas)."""
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    _, _, antennas = request.size()
    blocks = [
        _channels(
            {name: values[start : start + _POSITIONS_PER_BLOCK] for name, values in rays.items()}, antennas, offsets
        )
        for start in range(0, len(rays["power"]), _POSITIONS_PER_BLOCK)
    ]
    return np.concatenate(blocks)[:, None, None]


def _channels(rays: Mapping[str, Array], antennas: int, offsets: torch.Tensor) -> Channels:
    """Evaluate the module's formula for rays (positions, rays); complex64 (positions, subcarriers, antennas)."""
    exists = np.isfinite(rays["power"])
    power, phase, delay, azimuth, elevation = (np.where(exists, rays[name], 0.0) for name in deepmimo_rays.PROPERTIES)
    amplitude = np.where(exists, 10 ** (power / 20), 0.0)
    direction = np.sin(np.deg2rad(elevation)) * np.sin(np.deg2rad(azimuth))
    angle = np.deg2rad(phase)[:, None] + np.pi * np.arange(antennas)[:, None] * direction[:, None]
    coefficients = torch.from_numpy(amplitude[:, None] * np.exp(1j * angle))
    response = frequency_response(coefficients, torch.from_numpy(delay)[:, None], offsets)
    return response.numpy().swapaxes(-1, -2).astype(np.complex64)


def _of_dataset(path: Path, request: Request) -> Channels:
    """Return H of y = H x, complex64 (users, receive antennas, 1, subcarriers, antennas)."""
    if request.antennas is not None:
        raise NflaeError(f"{path}: holds channels, whose antennas are fixed: leave out antennas")
    found = user_arrays.find(path, _NAMES)
    arrays = {location: array for location, array in found["channel"].items() if "basestation" not in location}
    if not arrays:
        raise NflaeError(
            f"{path}: no field channel, as in DeepMIMO_dataset{{1}}.user{{1}}.channel; it holds"
            f" {user_arrays.describe_contents(path)}{_folder_advice(path)}"
        )
    users: dict[str, dict[str, Array]] = {}
    for location, array in arrays.items():
        match = _USER.match(location)
        users.setdefault(match["station"] if match else location, {})[location if match else ""] = array
    selected = user_arrays.select_station(path, list(users.values()), request.base_station)
    if not any(location and location in found["delay"] for location in selected):
        if request.subcarriers is not None:
            raise NflaeError(f"{path}: holds channels, whose subcarriers are fixed: leave out subcarriers")
        direct = _of_frequencies(path, selected, found["later"])
    else:
        direct = _of_impulses(path, selected, found["delay"], request)
    return direct[:, :, None].swapaxes(-1, -2).astype(np.complex64)


def _of_frequencies(path: Path, selected: Mapping[str, Array], later: Mapping[str, Array]) -> Array:
    """Return channels, (users, receive antennas, antennas, subcarriers)."""
    if "" in selected:
        return user_arrays.restore_axes(selected[""], 4, f"{path}: channel")
    each = {}
    for location, array in selected.items():
        is_version_1 = array.ndim == 2 and len(array) > 1 and location not in later
        label = f"{path}: {location}channel"
        each[f"{location}channel"] = array[None] if is_version_1 else user_arrays.restore_axes(array, 3, label)
    same_length(path, {name: array.shape for name, array in each.items()}, "receive antennas, antennas, subcarriers")
    return np.stack(list(each.values()))


def _of_impulses(path: Path, selected: Mapping[str, Array], delays: Mapping[str, Array], request: Request) -> Array:
    """Return channels, (users, receive antennas, antennas, subcarriers), of time-domain channels."""
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    responses = {}
    for location, array in selected.items():
        rays = user_arrays.restore_axes(array, 3, f"{path}: {location}channel")
        delay = np.real(delays.get(location, np.zeros(0))).reshape(-1).astype(np.float64)
        if len(delay) != rays.shape[2]:
            raise NflaeError(
                f"{path}: {location}channel has {rays.shape[2]} rays and its ToA {len(delay)} numbers; expected one per"
                " ray"
            )
        response = frequency_response(torch.from_numpy(rays.astype(np.complex128)), torch.from_numpy(delay), offsets)
        responses[f"{location}channel"] = response.numpy()
    sizes = {name: array.shape for name, array in responses.items()}
    same_length(path, sizes, "receive antennas, antennas, subcarriers")
    return np.stack(list(responses.values()))


def _folder_advice(path: Path) -> str:
    """Return the advice for a file of a scenario folder, or ""."""
    is_scenario = re.search(r"BS\d+_UE_\d+-\d+\.mat|\.(DoD|DoA|CIR|LoS|PL)\.mat|params\.mat", path.name)
    return f"; it is a file of a scenario folder, name the folder: deepmimo:{path.parent}" if is_scenario else ""
