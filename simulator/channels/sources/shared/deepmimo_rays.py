"""Read the rays of DeepMIMO scenario folders, versions 1 to 4, into one form.

- Version 4: ``params.json``, and one array per property of the rays, e.g. ``power_t001_tx000_r000.npz``.
- Version 3: ``params.mat``, and ``BS1_UE_0-1024.mat``, ... with a cell ``channels`` of one struct per position; the
  rows of its field ``p`` are phase (degrees), delay (s), power (dBm), DoA azimuth and zenith angle, DoD azimuth and
  zenith angle (degrees), line of sight, one column per ray. Of dual-polarised scenarios ``channels_VV`` is read,
  DeepMIMO's default.
- Versions 1 and 2: ``NAME.params.mat``, and ``NAME.1.DoD.mat``, ``NAME.1.CIR.mat``, ..., each one vector: the number of
  positions, then for each its number, its count of rays and four values per ray: number, azimuth, zenith angle, power
  in DoD; number, phase, delay, power (dBm) in CIR.

Powers are relative to the transmit power of the ray tracing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from matlab_io import find_arrays
from matlab_io.errors import NflaeError, reading
from simulator.channels.sources.shared import user_arrays
from simulator.channels.sources.shared.user_arrays import Array

PROPERTIES = ("power", "phase", "delay", "aod_az", "aod_el")

_POWER = re.compile(r"power_(?P<station>t\d+_tx\d+)_(?P<receivers>r\d+)\.(npz|mat|npy)")
_VERSION_3 = re.compile(r"BS(?P<station>\d+)_UE_(?P<first>\d+)-\d+\.mat")
_VERSION_2 = re.compile(r"(?P<scenario>.+)\.(?P<station>\d+)\.DoD\.mat")
_POSITION = re.compile(r"channels(_VV)?\{(\d+)\}\.p")


@dataclass(frozen=True)
class Rays:
    """Hold the rays from one base station to all positions of users.

    Parameters
    ----------
    values
        Property -> float64 (positions, rays), padded with NaN: ``power`` (dB), ``phase`` (degrees), ``delay`` (s),
        ``aod_az`` and ``aod_el`` (degrees from the x- and the z-axis).
    carrier
        Carrier frequency, Hz, if the folder has it.
    """

    values: Mapping[str, Array]
    carrier: float | None


def read_rays(folder: Path, base_station: int | None) -> Rays:
    """Read the rays of a scenario folder.

    Parameters
    ----------
    folder
        Folder of a scenario, or of one scene of a dynamic scenario.
    base_station
        Number of the base station, counted from 1; None for the only one.

    Returns
    -------
    Rays
        Rays from the base station.

    Raises
    ------
    NflaeError
        If the folder has no scenario, no rays to any user, or several base stations and none is given.
    MatFileError
        For a damaged file.
    """
    names = sorted(file.name for file in folder.iterdir())
    if any(_VERSION_3.fullmatch(name) for name in names):
        return _version_3(folder, names, base_station)
    if any(_VERSION_2.fullmatch(name) for name in names):
        return _version_2(folder, names, base_station)
    return _version_4(folder, names, base_station)


def _beside(folder: Path, name: str) -> Path | None:
    """Return a file of the folder or, for one scene of a dynamic scenario, of the folder above."""
    return next((file for file in (folder / name, folder.parent / name) if file.is_file()), None)


def _version_4(folder: Path, names: list[str], base_station: int | None) -> Rays:
    file = _beside(folder, "params.json")
    if file is None:
        raise NflaeError(
            f"{folder}: no params.json (DeepMIMO 4), BS1_UE_...mat (3) or ...1.DoD.mat (1, 2), so no DeepMIMO scenario;"
            " name the folder that has them, of a dynamic scenario one scene's"
        )
    with reading(file):
        params: dict[str, Any] = json.loads(file.read_text())
    # Receiver sets at the positions of base stations hold no users.
    sets = params.get("txrx_sets", params.get("txrx", {}))
    station_sets = {f"r{entry['id']:03}" for entry in sets.values() if entry.get("is_tx")}
    pairs: dict[str, list[str]] = {}
    for match in filter(None, map(_POWER.fullmatch, names)):
        if match["receivers"] not in station_sets:
            pairs.setdefault(match["station"], []).append(match["receivers"])
    if not pairs:
        raise NflaeError(
            f"{folder}: no power_t..._tx..._r... file with the rays to any user; of a dynamic scenario name one scene's"
            " folder"
        )
    station = user_arrays.select_station(folder, list(pairs), base_station)
    values = {
        name: _joined([_property(folder, name, f"{station}_{each}") for each in pairs[station]]) for name in PROPERTIES
    }
    frequency = params.get("rt_params", {}).get("frequency")
    return Rays(values, None if frequency is None else float(frequency))


def _property(folder: Path, name: str, pair: str) -> Array:
    """Return one property of the rays from a base station to a receiver set, float64 (positions, rays)."""
    stem = f"{name}_{pair}"
    for file in (folder / f"{stem}.npz", folder / f"{stem}.mat", folder / f"{stem}.npy"):
        if not file.is_file():
            continue
        if file.suffix == ".mat":
            found = user_arrays.load(file, lambda own: own == name)
        else:
            with reading(file):
                loaded = np.load(file)
                found = {name: loaded} if file.suffix == ".npy" else dict(loaded)
        if name not in found or found[name].ndim != 2:
            raise NflaeError(f"{file}: no matrix {name} (positions x rays) in it, as DeepMIMO 4 writes it")
        return found[name].astype(np.float64)
    raise NflaeError(f"{folder}: has no {stem}.npz or .mat; the channel needs {', '.join(PROPERTIES)} of every ray")


def _version_3(folder: Path, names: list[str], base_station: int | None) -> Rays:
    matches = sorted(filter(None, map(_VERSION_3.fullmatch, names)), key=lambda match: int(match["first"]))
    stations = sorted({int(match["station"]) for match in matches})
    station = user_arrays.select_station(folder, stations, base_station)
    transmit_power, carrier = _parameters(_beside(folder, "params.mat"))
    positions: list[Array] = []
    for match in matches:
        if int(match["station"]) == station:
            positions += _positions_of_version_3(folder / match[0])
    rows = {"phase": 0, "delay": 1, "power": 2, "aod_az": 5, "aod_el": 6}
    values = {name: _padded([rays[row] for rays in positions]) for name, row in rows.items()}
    values["power"] -= transmit_power
    return Rays(values, carrier)


def _positions_of_version_3(file: Path) -> list[Array]:
    """Return p of each position, float64 (8 or more, rays), without columns where no ray arrives."""
    found = find_arrays(file, lambda own: own in ("p", "rx_locs"))
    if "rx_locs" not in found:
        raise NflaeError(f"{file}: no matrix rx_locs (one row per position), as DeepMIMO 3 writes it")
    positions = [np.zeros((8, 0))] * len(found["rx_locs"])
    for name, array in found.items():
        match = _POSITION.fullmatch(name)
        if match is None or int(match[2]) > len(positions):
            continue
        if array.shape[0] < 8:
            raise NflaeError(f"{file}: {name} has {array.shape[0]} rows, expected 8 or more, as DeepMIMO 3 writes it")
        positions[int(match[2]) - 1] = array.astype(np.float64)
    return positions


def _version_2(folder: Path, names: list[str], base_station: int | None) -> Rays:
    matches = list(filter(None, map(_VERSION_2.fullmatch, names)))
    stations = sorted({int(match["station"]) for match in matches})
    station = user_arrays.select_station(folder, stations, base_station)
    scenario = next(match["scenario"] for match in matches if int(match["station"]) == station)
    transmit_power, carrier = _parameters(_beside(folder, f"{scenario}.params.mat"))
    departures, responses = (
        _positions_of_version_2(folder / f"{scenario}.{station}.{kind}.mat") for kind in ("DoD", "CIR")
    )
    if [rays.shape for rays in departures] != [rays.shape for rays in responses]:
        raise NflaeError(f"{folder}: {scenario}.{station}.DoD.mat and .CIR.mat have different positions or rays")
    columns = {"aod_az": (departures, 1), "aod_el": (departures, 2), "phase": (responses, 1), "delay": (responses, 2)}
    columns["power"] = (responses, 3)
    values = {name: _padded([rays[:, column] for rays in table]) for name, (table, column) in columns.items()}
    values["power"] -= transmit_power
    return Rays(values, carrier)


def _positions_of_version_2(file: Path) -> list[Array]:
    """Return the table of each position, float64 (rays, 4)."""
    arrays = find_arrays(file, lambda own: True)
    if len(arrays) != 1:
        raise NflaeError(f"{file}: holds {len(arrays)} arrays, expected one vector, as DeepMIMO 2 writes it")
    vector = next(iter(arrays.values())).reshape(-1, order="F").astype(np.float64)
    count, start = int(vector[0]), 1
    positions: list[Array] = []
    while len(positions) < count and start + 1 < len(vector):
        rays = int(vector[start + 1])
        table = vector[start + 2 : start + 2 + 4 * rays]
        if rays < 0 or len(table) != 4 * rays:
            break
        positions.append(table.reshape(rays, 4))
        start += 2 + 4 * rays
    if len(positions) != count:
        raise NflaeError(f"{file}: ends after {len(positions)} of {count} positions; copy the file again")
    return positions


def _parameters(file: Path | None) -> tuple[float, float | None]:
    """Return the transmit power of the ray tracing, dBm, and the carrier frequency, Hz."""
    found = {} if file is None else find_arrays(file, lambda own: own in ("transmit_power", "carrier_freq"))
    numbers = {name: float(np.real(array).reshape(-1)[0]) for name, array in found.items()}
    return numbers.get("transmit_power", 0.0), numbers.get("carrier_freq")


def _padded(rows: list[Array]) -> Array:
    """Stack vectors as the rows of a matrix, padded with NaN."""
    padded = np.full((len(rows), max((len(row) for row in rows), default=0)), np.nan)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


def _joined(arrays: list[Array]) -> Array:
    """Concatenate receiver sets, padding rays with NaN."""
    rays = max(array.shape[1] for array in arrays)
    widened = [np.pad(array, ((0, 0), (0, rays - array.shape[1])), constant_values=np.nan) for array in arrays]
    return np.concatenate(widened)
