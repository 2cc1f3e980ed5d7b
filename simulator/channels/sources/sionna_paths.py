"""Read impulse responses of Sionna, path coefficients ``a`` and delays ``tau``, from a ``.mat`` or ``.npz`` file.

Supported forms, as Sionna returns them, saved by ``scipy.io.savemat("cir.mat", {"a": a, "tau": tau})`` or
``numpy.savez``:

- Sionna PHY's channel models: ``a`` is [batch, receiver, receive antenna, transmitter, transmit antenna, path, time
  step], ``tau`` [batch, receiver, transmitter, path], or with the antenna axes of ``a``;
- Sionna RT's ``Paths.cir(out_type="numpy")``, 1.x and 2.x: the same without the batch axis.

Transmitters are base stations, receivers are users. The elements of a batch and the time steps are snapshots.

Coefficients are those of y = H x at the carrier: the response is conjugated once, at the end of `sionna`.

References
----------
Sionna, https://nvlabs.github.io/sionna
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from matlab_io import inspect_file
from matlab_io.errors import NflaeError
from simulator.channels.sources.registry import ChannelSet, Request, register
from simulator.channels.sources.shared import user_arrays
from simulator.channels.sources.shared.frequency_response import frequency_response, subcarrier_offsets
from simulator.channels.sources.shared.recordings import drops_of
from simulator.channels.sources.shared.user_arrays import Array

_AXES = "[batch,] receiver, receive antenna, transmitter, transmit antenna, path[, time step]"


@register(
    "sionna",
    ("drops", "users", "bandwidth", "subcarriers", "base_station", "receive_antennas"),
    reads="a .mat or .npz file",
)
def sionna(request: Request) -> ChannelSet:
    """Read impulse responses of Sionna, one drop per snapshot and subcarrier.

    Parameters
    ----------
    request
        Channels requested.

    Returns
    -------
    ChannelSet
        Channels.
    """
    assert request.file is not None
    path = request.file
    coefficients, delays = _with_all_axes(path, *_load(path))
    stations = list(range(coefficients.shape[3]))
    station = user_arrays.select_station(path, stations, request.base_station)
    offsets = subcarrier_offsets(request.subcarriers, request.bandwidth)
    # (receivers, receive antennas, batch, time steps, transmit antennas, paths)
    rays = coefficients[:, :, :, station].transpose(1, 2, 0, 5, 3, 4).astype(np.complex128)
    seconds = delays[:, :, :, station].transpose(1, 2, 0, 5, 3, 4).astype(np.float64)
    response = frequency_response(torch.from_numpy(rays), torch.from_numpy(seconds), offsets).numpy()
    users, receive, batch, steps, antennas, subcarriers = response.shape
    direct = response.reshape(users, receive, batch * steps, antennas, subcarriers).swapaxes(-1, -2)
    return drops_of(np.conjugate(direct).astype(np.complex64), request)


def _load(path: Path) -> tuple[Array, Array, bool]:
    """Return a and tau, and whether trailing axes of length one may have been dropped."""
    found = user_arrays.load(path, lambda own: own in ("a", "tau"))
    if set(found) != {"a", "tau"}:
        missing = " and ".join(sorted({"a", "tau"} - set(found)))
        raise NflaeError(f"{path}: no {missing}; save the coefficients a and the delays tau of Sionna's cir(), both")
    if found["a"].dtype.kind != "c" or found["tau"].dtype.kind == "c":
        raise NflaeError(f"{path}: expected complex coefficients a and real delays tau")
    return found["a"], found["tau"], not any(variable.row_major for variable in inspect_file(path))


def _with_all_axes(path: Path, a: Array, tau: Array, is_trimmed: bool) -> tuple[Array, Array]:
    """Return a with its seven axes, and tau with axes that broadcast to these."""
    fits = []
    for axes in (6, 7):
        full = _padded(a, axes, is_trimmed)
        if full is None:
            continue
        full = full if axes == 7 else full[None]
        each = full.shape[:6]
        for kept in ((0, 1, 2, 3, 4, 5), (0, 1, 3, 5)):  # with and without the antenna axes
            shape = tuple(each[axis] for axis in kept if axis > 0 or axes == 7)
            delays = _padded(tau, len(shape), is_trimmed)
            if delays is not None and delays.shape == shape:
                fits.append((full, delays.reshape([each[axis] if axis in kept else 1 for axis in range(6)] + [1])))
    if not fits or any(full.shape != fits[0][0].shape for full, _ in fits):
        sizes = f"a {' x '.join(map(str, a.shape))} and tau {' x '.join(map(str, tau.shape))}"
        fault = "fit several readings; save them with numpy.savez" if fits else f"do not fit {_AXES}"
        raise NflaeError(f"{path}: {sizes} {fault}")
    return fits[0]


def _padded(array: Array, axes: int, is_trimmed: bool) -> Array | None:
    """Restore trailing axes of length one; None if the array cannot have so many axes."""
    if array.ndim == axes:
        return array
    return array.reshape(array.shape + (1,) * (axes - array.ndim)) if is_trimmed and array.ndim < axes else None
