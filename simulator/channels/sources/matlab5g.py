"""Path gains of MATLAB's 5G Toolbox (``nrCDLChannel``, ``nrTDLChannel``), saved to a ``.mat`` file.

What is understood, by these names in any case and with or without underscores, as variables, in structs, struct
arrays or cells, one element a user:

- ``pathGains``, [snapshot, path, transmit antenna, receive antenna] as ``[out, pathGains, sampleTimes] = cdl(in)``
  returns it; or one array for all users, with a fifth axis that counts them;
- ``pathDelays``, s, a number a path as in ``info(cdl).PathDelays`` (for a fifth axis, perhaps a row a user);
- or ``pathFilters``, [sample, path] as ``getPathFilters(cdl)`` returns it, with ``sampleRate``, Hz: the channel is
  then that of the toolbox's own filters, its delay included, as in ``nrPerfectChannelEstimate``. They count more than
  delays.

Sent is from the base station (downlink), received by one antenna. Without subcarriers neither delays nor filters are
needed: the channel at the carrier is the sum over paths.

The gains are those of y = H x: the response is conjugated once, at the end of `matlab5g`.
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


@register("matlab5g", ("drops", "users", "bandwidth", "subcarriers"), reads="a .mat file")
def matlab5g(request: Request) -> ChannelSet:
    """The 5G Toolbox's channels; a drop a snapshot (and subcarrier)."""
    assert request.file is not None
    path = request.file
    found = user_arrays.find(path, _NAMES)
    if not found["gains"]:
        raise NflaeError(
            f"{path}: no field pathGains, as nrCDLChannel returns it; it holds {user_arrays.contents(path)}"
        )
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    sizes: dict[str, tuple[int, ...]] = {}
    responses: list[Array] = []
    for place, gains in found["gains"].items():
        whole = user_arrays.padded(gains, 5, f"{path}: pathGains of {place or 'the user'}")
        for user in range(whole.shape[4]):
            name = (place or "the user") if whole.shape[4] == 1 else f"user {user + 1}"
            one = whole[..., user]
            if one.shape[3] != 1:
                raise NflaeError(
                    f"{path}: pathGains of {name} has {one.shape[3]} receive antennas, and users here have one: save"
                    " pathGains(:, :, :, 1), or set ReceiveAntennaArray.Size to [1 1 1 1 1]"
                )
            rays = torch.from_numpy(one[..., 0].swapaxes(1, 2).astype(np.complex128))  # snapshots, antennas, paths
            response = _response(path, found, place, len(responses), rays, offsets)
            responses.append(response.numpy().swapaxes(-1, -2))
            sizes[name] = (one.shape[2], one.shape[0])
    same_length(path, sizes)
    carrier = user_arrays.number(found["carrier"])
    known = {} if carrier is None else {"carrier_hz": carrier}
    return drops_of(np.conjugate(np.stack(responses)).astype(np.complex64), request, known)


def _response(
    path: Path, found: user_arrays.Found, place: str, user: int, rays: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """The response of one user's paths, from filters if there are any, else from delays; user: counted from 0."""
    paths, where = rays.shape[-1], f"{path}: pathGains{f' of {place}' if place else ''}"
    filters = user_arrays.beside(found["filters"], place)
    if filters is not None:
        if filters.shape[1] != paths:
            raise NflaeError(
                f"{where} has {paths} paths and pathFilters {filters.shape[1]} columns; expected one a path"
            )
        rate = user_arrays.beside(found["rate"], place)
        if rate is None and len(offsets) > 1:
            raise NflaeError(f"{path}: pathFilters without a sampleRate say nothing about frequencies: save it too")
        taps = rays @ torch.from_numpy(np.real(filters).T.astype(np.complex128))
        interval = 1.0 if rate is None else 1 / float(np.real(rate).reshape(-1)[0])
        return frequency_response(taps, torch.arange(taps.shape[-1], dtype=torch.float64) * interval, offsets)
    delays = user_arrays.beside(found["delays"], place)
    if delays is None:
        if len(offsets) > 1:
            raise NflaeError(
                f"{where} has neither pathDelays nor pathFilters beside it; subcarriers need one: save"
                " pathDelays = info(cdl).PathDelays"
            )
        return frequency_response(rays, torch.zeros(paths), offsets)
    mine = delays.reshape(-1) if delays.size == paths else delays[min(user, len(delays) - 1)]
    if mine.size != paths:
        raise NflaeError(f"{where} has {paths} paths and pathDelays {delays.size} numbers; expected one a path")
    return frequency_response(rays, torch.from_numpy(np.real(mine).astype(np.float64)), offsets)
