"""Read path gains of MATLAB's 5G Toolbox (``nrCDLChannel``, ``nrTDLChannel``) from a ``.mat`` file.

Supported names, in any case and with or without underscores, as variables or in structs, struct arrays or cells with
one element per user:

- ``pathGains``, [snapshot, path, transmit antenna, receive antenna] as ``[out, pathGains, sampleTimes] = cdl(in)``
  returns it; or one array for all users, with users as fifth axis;
- ``pathDelays``, s, one per path as in ``info(cdl).PathDelays`` (with a fifth axis, optionally one row per user);
- or ``pathFilters``, [sample, path] as ``getPathFilters(cdl)`` returns it, with ``sampleRate``, Hz: the channel is
  then that of the toolbox's own filters, including their delay, as in ``nrPerfectChannelEstimate``. Filters take
  precedence over delays.

The base station transmits (downlink), the fourth axis counts the receive antennas of a user. Without subcarriers
neither delays nor filters are needed: the channel at the carrier is the sum over paths.

Gains are those of y = H x: the response is conjugated once, at the end of `matlab5g`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from matlab_io.errors import NflaeError
from simulator.channels.sources.registry import ChannelSet, Request, register
from simulator.channels.sources.shared import user_arrays
from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets
from simulator.channels.sources.shared.recordings import drops_of, same_length
from simulator.channels.sources.shared.user_arrays import Array

_NAMES = {
    "gains": "path_?gains",
    "delays": "path_?delays",
    "filters": "path_?filters",
    "rate": "sample_?rate",
    "carrier": "carrier_?frequency",
}
_OPTIONS = ("drops", "users", "bandwidth", "subcarriers")


@register("matlab5g", (*_OPTIONS, "receive_antennas"), reads="a .mat file")
def matlab5g(request: Request) -> ChannelSet:
    """Read channels of the 5G Toolbox, one drop per snapshot and subcarrier.

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
    if not found["gains"]:
        raise NflaeError(
            f"{path}: no field pathGains, as nrCDLChannel returns it; it holds {user_arrays.describe_contents(path)}"
        )
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    sizes: dict[str, tuple[int, ...]] = {}
    responses: list[Array] = []
    for location, gains in found["gains"].items():
        all_users = user_arrays.restore_axes(gains, 5, f"{path}: pathGains of {location or 'the user'}")
        for user in range(all_users.shape[4]):
            name = (location or "the user") if all_users.shape[4] == 1 else f"user {user + 1}"
            one_user = all_users[..., user]
            rays = torch.from_numpy(one_user.transpose(3, 0, 2, 1).astype(np.complex128))  # ..., antennas, paths
            response = _response(path, found, location, len(responses), rays, offsets)
            responses.append(response.numpy().swapaxes(-1, -2))
            sizes[name] = (one_user.shape[3], one_user.shape[2], one_user.shape[0])
    same_length(path, sizes, "receive antennas, antennas, snapshots")
    carrier = user_arrays.common_number(found["carrier"])
    metadata = {} if carrier is None else {"carrier_hz": carrier}
    return drops_of(np.conjugate(np.stack(responses)).astype(np.complex64), request, metadata)


def _response(
    path: Path, found: user_arrays.FoundArrays, location: str, user: int, rays: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """Return the response of one user (counted from 0), from path filters if there are any, else from delays."""
    paths, label = rays.shape[-1], f"{path}: pathGains{f' of {location}' if location else ''}"
    filters = user_arrays.array_at(found["filters"], location)
    if filters is not None:
        if filters.shape[1] != paths:
            raise NflaeError(
                f"{label} has {paths} paths and pathFilters {filters.shape[1]} columns; expected one per path"
            )
        rate = user_arrays.array_at(found["rate"], location)
        if rate is None and len(offsets) > 1:
            raise NflaeError(f"{path}: pathFilters without a sampleRate do not determine frequencies: save it too")
        taps = rays @ torch.from_numpy(np.real(filters).T.astype(np.complex128))
        interval = 1.0 if rate is None else 1 / float(np.real(rate).reshape(-1)[0])
        return frequency_response(taps, torch.arange(taps.shape[-1], dtype=torch.float64) * interval, offsets)
    delays = user_arrays.array_at(found["delays"], location)
    if delays is None:
        if len(offsets) > 1:
            raise NflaeError(
                f"{label} has neither pathDelays nor pathFilters beside it; subcarriers need one: save"
                " pathDelays = info(cdl).PathDelays"
            )
        return frequency_response(rays, torch.zeros(paths), offsets)
    own_delays = delays.reshape(-1) if delays.size == paths else delays[min(user, len(delays) - 1)]
    if own_delays.size != paths:
        raise NflaeError(f"{label} has {paths} paths and pathDelays {delays.size} numbers; expected one per path")
    return frequency_response(rays, torch.from_numpy(np.real(own_delays).astype(np.float64)), offsets)
