"""Read channels of QuaDRiGa from a ``.mat`` file: path coefficients and delays, or frequency responses.

Supported forms, for one user or several, in ``.mat`` files of any version:

- a struct (array or cell of structs) with the properties of ``qd_channel``: ``coeff``, ``delay``, and optionally
  ``center_frequency``; or cells ``coeff`` and ``delay``; or, for one user, these as plain variables;
- the output of ``qd_channel.mat_save``: ``channel_00001_Coeffs``, ``channel_00001_Delays``, ...;
- frequency responses ``fr`` (or ``H``) as ``qd_channel.fr`` returns them, of one user or in a cell of users.

Layout in QuaDRiGa: ``coeff`` is [Rx, Tx, path, snapshot]; ``delay`` is the same, or [path, snapshot] if all antennas
share the delays; a response is [Rx, Tx, carrier, snapshot]. Tx is the base station, Rx are the receive antennas of one
user. An array of users x base stations has one column per base station.

Coefficients are those of y = H x at the centre frequency (a direct ray has phase -2 pi d / lambda): the response is
conjugated once, at the end of `quadriga`. Gains include path loss, as in QuaDRiGa.

References
----------
QuaDRiGa, https://quadriga-channel-model.de
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from matlab_io import inspect_file
from matlab_io.containers.variable import shape_text
from matlab_io.errors import NflaeError
from simulator.channels.sources.registry import ChannelSet, Request, register
from simulator.channels.sources.shared import user_arrays
from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets
from simulator.channels.sources.shared.recordings import drops_of, same_length
from simulator.channels.sources.shared.user_arrays import Array

_NAMES = {
    "coeff": r"coeff|(?P<location>channel_\d+)_Coeffs",
    "delay": r"delay|(?P<location>channel_\d+)_Delays",
    "response": r"fr|freq_response|H",
    "carrier": r"center_frequency|(?P<location>channel_\d+)_CenterFrequency",
    "grid": r"ChannelDims",
}
_OPTIONS = ("drops", "users", "bandwidth", "subcarriers")
_AXES = "receive antennas, antennas, snapshots"


@register("quadriga", (*_OPTIONS, "base_station", "receive_antennas"), reads="a .mat file")
def quadriga(request: Request) -> ChannelSet:
    """Read channels of QuaDRiGa, one drop per snapshot and subcarrier.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels, with the carrier frequency if the file holds it.
    """
    assert request.file is not None
    path = request.file
    found = user_arrays.find(path, _NAMES)
    grid = found["grid"].get("")
    columns = None if grid is None else int(grid.reshape(-1)[1])
    carrier = user_arrays.common_number(found["carrier"])
    if found["coeff"]:
        locations = user_arrays.one_base_station(path, list(found["coeff"]), request.base_station, columns)
        offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
        direct = _from_paths(path, found, locations, offsets)
    elif found["response"]:
        if request.subcarriers is not None:
            raise NflaeError(f"{path}: holds frequency responses, whose carriers are fixed: leave out subcarriers")
        locations = user_arrays.one_base_station(path, list(found["response"]), request.base_station, columns)
        direct = _from_responses(path, found["response"], locations)
    else:
        raise NflaeError(f"{path}: {_missing(path)}")
    metadata = {} if carrier is None else {"carrier_hz": carrier}
    return drops_of(np.conjugate(direct).astype(np.complex64), request, metadata)


def _from_paths(path: Path, found: user_arrays.FoundArrays, locations: list[str], offsets: torch.Tensor) -> np.ndarray:
    """Return H of y = H x, (users, receive antennas, snapshots, subcarriers, antennas)."""
    sizes, responses = {}, []
    for location in locations:
        label = f"{path}: coeff of {location or 'the user'}"
        coeff = user_arrays.restore_axes(found["coeff"][location], 4, label)
        delay = user_arrays.array_at(found["delay"], location)
        if delay is None and len(offsets) > 1:
            raise NflaeError(
                f"{label} has no delay beside it, which a response at several subcarriers needs: save both"
            )
        shared = np.zeros(coeff.shape[2:]) if delay is None else delay
        receive, antennas, _, snapshots = coeff.shape
        # (receive antennas, snapshots, antennas, paths)
        delays = np.broadcast_to(_delays(shared, coeff.shape, label), coeff.shape).transpose(0, 3, 1, 2)
        rays = coeff.transpose(0, 3, 1, 2).astype(np.complex128)
        response = frequency_response(torch.from_numpy(rays), torch.from_numpy(delays.copy()), offsets)
        responses.append(response.numpy().swapaxes(-1, -2))
        sizes[location or "the user"] = (receive, antennas, snapshots)
    same_length(path, sizes, _AXES)
    return np.stack(responses)


def _delays(delay: Array, shape: tuple[int, ...], label: str) -> Array:
    """Return delays as an array that broadcasts to [Rx, Tx, path, snapshot]."""
    if delay.shape + (1,) * (4 - delay.ndim) == shape:
        return np.real(delay).reshape(shape)
    if delay.shape == shape[2:]:
        return np.real(delay)[None, None]
    each, common, actual = (shape_text(sizes) for sizes in (shape, shape[2:], delay.shape))
    raise NflaeError(f"{label} is {each} [Rx, Tx, path, snapshot], and its delay {actual}; expected {each} or {common}")


def _from_responses(path: Path, responses: dict[str, Array], locations: list[str]) -> np.ndarray:
    """Return H of y = H x, (users, receive antennas, snapshots, subcarriers, antennas)."""
    sizes, stacked = {}, []
    for location in locations:
        label = f"{path}: frequency response of {location or 'the user'}"
        response = user_arrays.restore_axes(responses[location], 4, label)
        stacked.append(response.transpose(0, 3, 2, 1))
        receive, antennas, subcarriers, snapshots = response.shape
        sizes[location or "the user"] = (receive, antennas, subcarriers, snapshots)
    same_length(path, sizes, "receive antennas, antennas, subcarriers, snapshots")
    return np.stack(stacked)


def _missing(path: Path) -> str:
    """Return the error message for a file without coefficients and responses."""
    objects = [variable for variable in inspect_file(path) if variable.matlab_class == "qd_channel"]
    if objects:
        name = objects[0].name
        return (
            f"{name} is a qd_channel object, which only MATLAB can open: save it with"
            f" {name}.mat_save('chan.mat'), or as struct('coeff', {{{name}.coeff}}, 'delay', {{{name}.delay}})"
        )
    return (
        "no field coeff (paths, with delay beside it) and no frequency response fr or H; it holds "
        f"{user_arrays.describe_contents(path)}"
    )
