"""Estimate the channels of a file of received pilots, and write them to another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from matlab_io import ChannelFile
from matlab_io.errors import NflaeError
from matlab_io.result import ESTIMATION_ARRAYS
from matlab_io.writing.mat_writer import DropArray, Value
from matlab_io.writing.output import MatOutput, version_for
from nflae_bridge.api.estimate import first_fault
from nflae_bridge.files.blocks import drop_name
from simulator.csi.estimation.estimate import METHODS
from simulator.csi.estimation.users import EstimationMethod, estimate_users
from simulator.csi.noise_variance import PooledNoise, pooled_noise

__all__ = ["USED_METHODS", "EstimationSummary", "estimate_file", "read_matrix"]

USED_METHODS = tuple(name for name in METHODS if name != "auto")


@dataclass
class EstimationSummary:
    """Sum up what was estimated.

    Attributes
    ----------
    version : str
        Version of the file written.
    methods : Counter of str
        Number of estimates by the method of the largest weight.
    errors : list of numpy.ndarray
        Estimated relative errors, linear; NaN if unknown.
    noise_shares : list of numpy.ndarray
        Estimated noise over received power; none where the noise is stated.
    """

    version: str
    methods: Counter[str] = field(default_factory=Counter)
    errors: list[npt.NDArray[np.float64]] = field(default_factory=list)
    noise_shares: list[npt.NDArray[np.float32]] = field(default_factory=list)

    @property
    def mean_error_db(self) -> float:
        """Return the estimated CSI error, mean over users and drops with a known one, dB; NaN without any."""
        errors = np.concatenate(self.errors)
        known = errors[np.isfinite(errors)]
        return float(10 * np.log10(known.mean())) if known.size else math.nan

    @property
    def noise_share(self) -> float | None:
        """Return the median of the estimated noise over received power; None for a stated noise."""
        return float(np.median(np.concatenate(self.noise_shares))) if self.noise_shares else None


def estimate_file(
    file: ChannelFile,
    output: Path,
    method: EstimationMethod,
    *,
    snapshots: int,
    batch: int,
    version: str | None,
    values: Mapping[str, Value],
    advance: Callable[[int, str], None],
) -> EstimationSummary:
    """Write the channels estimated from every drop of a file.

    A noise variance that is not stated is estimated from all drops first; the file is then read twice.

    Parameters
    ----------
    file : ChannelFile
        Open file of received pilots.
    output : Path
        File to write, in the convention of the input, see `ESTIMATION_ARRAYS`. With a pilot matrix its antenna axis has
        the rows of the matrix.
    method : EstimationMethod
        How to estimate.
    snapshots : int
        Successive drops in which a user has the same directions.
    batch : int
        Drops estimated at a time.
    version : str or None
        Version of the output; None for that of the input.
    values : mapping of str to Value
        Further variables.
    advance : callable
        Function of the number of drops done and a note, called after each block.

    Returns
    -------
    EstimationSummary

    Raises
    ------
    NflaeError
        If a drop is not finite or zero, the snapshots do not divide the drops, or the output cannot be written.
    """
    _check_snapshots(file, snapshots)
    antenna_axes = file.antenna_axes if method.pilots is None else (method.pilots.shape[0],)
    arrays, layout = _axes(file, antenna_axes)
    summary = EstimationSummary(version_for(output, version or file.version))
    stated: dict[str, Value] = {"layout": layout, "convention": file.convention}
    out = MatOutput(output, summary.version, arrays, stated | dict(values), [file.path])
    out.begin()
    try:
        for start, found in _blocks(file, method, snapshots, batch, antenna_axes, summary):
            out.write(start, found)
            advance(start + len(found["H"]), "")
    except BaseException:
        out.discard()
        raise
    out.commit()
    return summary


def _check_snapshots(file: ChannelFile, snapshots: int) -> None:
    if snapshots > 1 and file.drops % snapshots:
        raise NflaeError(
            f"{file.path}: {file.variable}: --snapshots {snapshots} does not divide the {file.drops} drops; give a"
            " divisor"
        )


def _axes(file: ChannelFile, antenna_axes: tuple[int, ...]) -> tuple[list[DropArray], str]:
    """Return the arrays of the output, in the convention of the input, and the layout of H."""
    direct, antennas = file.convention == "direct", "n" * len(antenna_axes)
    block = (file.users, *antenna_axes) if direct else (*antenna_axes, file.users)
    arrays = [
        DropArray(each.name, (file.users,) if each.axes == "k" else block, file.drop_axes, each.dtype)
        for each in ESTIMATION_ARRAYS
    ]
    return arrays, (f"k{antennas}" if direct else f"{antennas}k") + file.drop_letters


def _blocks(
    file: ChannelFile,
    method: EstimationMethod,
    snapshots: int,
    batch: int,
    antenna_axes: tuple[int, ...],
    summary: EstimationSummary,
) -> Iterator[tuple[int, dict[str, npt.NDArray[np.generic]]]]:
    """Yield the first drop and the arrays of successive blocks of drops."""
    groups = max(1, batch // snapshots)
    noise = _noise_of_file(file, method, snapshots, groups)
    for start, rows in _grouped(file, snapshots, groups):
        within = None if noise is None else noise.part(start // snapshots, start // snapshots + len(rows))
        try:
            found = _estimated(rows, method, within, antenna_axes, file.convention == "direct", summary)
        except NflaeError as error:
            raise NflaeError(f"{file.path}: {file.variable}: {error}") from None
        yield start, found


def _noise_of_file(file: ChannelFile, method: EstimationMethod, snapshots: int, groups: int) -> PooledNoise | None:
    """Return the noise of all drops, or None where it is not estimated from all of them."""
    if not method.pools_noise:
        return None
    return pooled_noise((rows.to(method.device) for _, rows in _grouped(file, snapshots, groups)), method.geometry)


def _grouped(file: ChannelFile, snapshots: int, groups: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the first drop and the received pilots of blocks, complex64 (groups, snapshots, users, symbols)."""
    step = groups * snapshots
    for start in range(0, file.drops, step):
        rows = _read(file, start, min(start + step, file.drops))
        yield start, torch.from_numpy(rows).reshape(-1, snapshots, *rows.shape[1:])


def _read(file: ChannelFile, start: int, stop: int) -> npt.NDArray[np.complex64]:
    rows, _ = file.read_combined(start, stop)
    fault = first_fault(rows)
    if fault is not None:
        drop, user, reason = fault
        where = f"{file.path}: {file.variable}: {drop_name(file, start + drop)}, user {user + 1}"
        raise NflaeError(f"{where} {reason}; correct the pilots or leave the drop out of the file")
    return rows


def _estimated(
    received: torch.Tensor,
    method: EstimationMethod,
    noise: PooledNoise | None,
    antenna_axes: tuple[int, ...],
    direct: bool,
    summary: EstimationSummary,
) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of a block of drops."""
    groups, snapshots, users, _ = received.shape
    found = estimate_users(received, method, noise)
    summary.methods.update(found.method)
    error = found.csi_error_db.double().cpu().numpy()
    summary.errors.append(10 ** (error.ravel() / 10))
    if found.noise_share is not None:
        summary.noise_shares.append(found.noise_share.cpu().numpy().ravel())
    # MATLAB's order of the antenna axes is the reverse of NumPy's; a panel's rows are the faster axis of both.
    channels = found.channels.cpu().numpy().reshape(groups * snapshots, users, *reversed(antenna_axes))
    if direct:
        channels = np.moveaxis(channels.conj(), 1, -1)
    used = np.array([USED_METHODS.index(name) + 1.0 for name in found.method]).reshape(error.shape)
    return {
        "H": np.ascontiguousarray(channels),
        "csi_error_db": np.repeat(error, snapshots, 0),
        "method": np.repeat(used, snapshots, 0),
    }


def read_matrix(file: ChannelFile, name: str, option: str) -> npt.NDArray[np.generic]:
    """Read a further numeric array of a channel file.

    Parameters
    ----------
    file : ChannelFile
        Open file.
    name : str
        Variable.
    option : str
        Option that names it, for messages.

    Returns
    -------
    numpy.ndarray
        The array, in MATLAB's order of axes.

    Raises
    ------
    NflaeError
        If there is no such variable or it is not numeric.
    """
    from matlab_io.containers.contents import list_variables
    from matlab_io.containers.variable import NUMERIC_CLASSES
    from matlab_io.reading.layout import parse
    from matlab_io.reading.storage import open_storage

    listed = [] if file.version == "raw" else list_variables(file.path, file.version)
    variable = next((each for each in listed if each.name == name), None)
    if variable is None:
        raise NflaeError(f"{file.path}: no variable {name}; pass {option} with the name of an array in this file")
    if variable.matlab_class not in NUMERIC_CLASSES:
        raise NflaeError(f"{file.path}: {name} ({variable.matlab_class}) is no numeric array, see {option}")
    axes = "nks"[: len(variable.shape)]
    if len(variable.shape) not in (2, 3):
        raise NflaeError(f"{file.path}: {name} has {len(variable.shape)} axes, expected two or three, see {option}")
    layout = parse(axes, variable.shape)
    with closing(open_storage(file.path, file.version, variable, [])) as storage:
        stored, _ = storage.array(variable, layout)
        with closing(stored):
            numbers = stored.read(tuple(slice(0, size) for size in variable.shape))
    return numbers.T if variable.row_major else numbers
