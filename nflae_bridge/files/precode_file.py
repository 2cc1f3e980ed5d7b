"""Precode a channel file into a result file, block by block: read, check, precode, write.

While blocks are computed others are read ahead, copied to a GPU, and written; memory holds a few blocks, independent of
the file's size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from matlab_io import ChannelFile, ResultFile
from matlab_io.errors import NflaeError
from matlab_io.result import RECEIVE_COMBINER
from nflae_bridge.engine.cuda_graphs.inputs import LARGEST
from nflae_bridge.engine.devices import drops_per_block
from nflae_bridge.files.blocks import Block, OnBadDrop, drop_name, read_block
from nflae_bridge.files.budget.user_noise import UserNoise
from nflae_bridge.files.csi.prediction import FilePredictor
from nflae_bridge.files.labels import SCHEME_LABELS, UNDECIDED, LabelSource, precode_labelled
from nflae_bridge.files.prefetch import prefetch_map
from nflae_bridge.files.problem import check_together
from nflae_bridge.files.upload import Upload, upload, upload_stream
from nflae_bridge.files.validation import Channels
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import Precoding, Scheme
from simulator.problems.dispatch import ProblemScheme
from simulator.problems.solution import ProblemSolution, solution_arrays

__all__ = ["Summary", "drops_per_file_block", "precode_channels", "precode_file"]

_MAX_WORKERS = 4
_READ_AHEAD = 2


@dataclass
class Summary:
    """Sum up the results over blocks.

    Attributes
    ----------
    drops, skipped : int
        Drops of the file, and bad ones among them, which are not precoded.
    users, near_field_users : int
        Users of the precoded drops, and near-field ones among them.
    sum_rate : float
        Sum rate added over the precoded drops, bps/Hz.
    objective : float
        The objective of a problem beyond the plain sum rate, added over the precoded drops; 0 for the plain one.
    infeasible : int
        Precoded drops in which a user misses the minimum rate; skipped drops are not among them.
    fallback : int
        Precoded drops whose result is that of a classical scheme instead of the network's.
    undecided : int
        Users of the precoded drops whose near-field score is `nflae_bridge.files.labels.UNDECIDED`.
    seconds : float
        Wall-clock time.
    """

    drops: int = 0
    skipped: int = 0
    users: int = 0
    near_field_users: int = 0
    sum_rate: float = 0.0
    objective: float = 0.0
    infeasible: int = 0
    fallback: int = 0
    undecided: int = 0
    seconds: float = 0.0

    def add(self, good: npt.NDArray[np.bool_], results: Mapping[str, npt.NDArray[Any]], objective: float = 0.0) -> None:
        """Add a block.

        Parameters
        ----------
        good : numpy.ndarray
            Bool, (drops,), false for skipped drops.
        results : mapping of str to numpy.ndarray
            Arrays of all drops, from `result_arrays`: NaN and false for skipped ones.
        objective : float
            The problem's objective, added over the good drops.
        """
        self.drops += len(good)
        self.skipped += int((~good).sum())
        self.users += results["near_field"][good].size
        self.near_field_users += int(results["near_field"].sum())
        self.objective += objective
        self.sum_rate += float(results["sum_rate"][good].sum())
        self.infeasible += int((~results["feasible"][good]).sum())
        self.fallback += int(results["fallback"].sum())
        self.undecided += int((results["near_field_score"] == UNDECIDED).sum())

    @property
    def mean_objective(self) -> float:
        """Return the mean of the problem's objective over the precoded drops; NaN if there are none."""
        served = self.drops - self.skipped
        return self.objective / served if served else float("nan")

    @property
    def mean_sum_rate(self) -> float:
        """Return the mean over the precoded drops, bps/Hz; NaN if there are none."""
        served = self.drops - self.skipped
        return self.sum_rate / served if served else float("nan")


def drops_per_file_block(users: int, antennas: int, history: int, device_type: str) -> int:
    """Return the drops of a block of a file: as `drops_per_block` has them, and on a GPU at most those of one graph.

    Parameters
    ----------
    users, antennas, history, device_type
        As for `nflae_bridge.engine.devices.drops_per_block`.

    Returns
    -------
    int
    """
    drops = drops_per_block(users, antennas, history, device_type)
    return min(drops, LARGEST) if device_type == "cuda" else drops


def precode_file(
    file: ChannelFile,
    results: ResultFile,
    scheme: Scheme,
    budget: LinkBudget,
    device: torch.device,
    batch: int,
    on_bad_drop: OnBadDrop,
    advance: Callable[[int, str], None],
    noise: UserNoise | None = None,
    labels: LabelSource = SCHEME_LABELS,
    predictor: FilePredictor | None = None,
) -> Summary:
    """Precode every drop of a channel file into a result file: NaN and false for skipped drops.

    Parameters
    ----------
    file, results, scheme, budget, device, batch
        Open channels and results; precoding scheme, and link budget of every drop; device, and drops per block.
    on_bad_drop : {"error", "skip"}
        Treatment of bad drops, see `read_block`.
    advance : callable
        Function of the number of finished drops and a note, called after each block.
    noise : UserNoise, optional
        Noise power per user or drop; that of `budget` is then their reference.
    labels, predictor : LabelSource, FilePredictor
        Source of the near-field labels, by default the scheme; predictor of channels to precode instead of the drops.

    Returns
    -------
    Summary

    Raises
    ------
    NflaeError
        If a drop is bad and `on_bad_drop` is ``"error"``, or the rates of a drop are not finite.
    """
    read_drops = partial(read_block, file) if predictor is None else predictor.read_block

    def read(start: int) -> tuple[Block, Upload]:
        block = read_drops(start, min(start + batch, file.drops), on_bad_drop, noise, labels.given)
        return block, upload(block.channels, device, upload_stream(device))

    def compute(read: tuple[Block, Upload]) -> tuple[int, npt.NDArray[np.bool_], dict[str, npt.NDArray[Any]], float]:
        block, uploaded = read
        channels = uploaded.arrived()
        return block.start, block.good, *_block_arrays(file, block, channels, scheme, budget, labels)

    summary, started = Summary(), time.perf_counter()
    with (
        _workers(device) as workers,
        prefetch_map(read, range(0, file.drops, batch), ahead=_READ_AHEAD) as read_ahead,
        prefetch_map(compute, read_ahead, workers, ahead=workers + 1) as computed,
    ):
        for start, good, arrays, objective in computed:
            results.write(start, arrays)
            summary.add(good, arrays, objective)
            summary.seconds = time.perf_counter() - started
            advance(summary.drops, f"{summary.mean_sum_rate:.2f} bps/Hz")
    return summary


def _block_arrays(
    file: ChannelFile, block: Block, channels: Tensor, scheme: Scheme, budget: LinkBudget, labels: LabelSource
) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """Precode a block; return the arrays of its drops, NaN and false for skipped ones, and a problem's objective."""
    if isinstance(scheme, ProblemScheme):
        check_together(scheme.problem, file, block)
        scheme = scheme.of_drops(block.start, block.good)
    precoding = _precoding(scheme, channels, budget, labels, block.near_field)
    arrays = solution_arrays(precoding, block.good)
    _check_rates(file, block, arrays["sum_rate"])
    if block.receive_combiner is not None:
        arrays[RECEIVE_COMBINER.name] = block.receive_combiner
    objective = float(precoding.objective.sum()) if isinstance(precoding, ProblemSolution) else 0.0
    return arrays, objective


def _check_rates(file: ChannelFile, block: Block, sum_rate: npt.NDArray[np.float64]) -> None:
    unusable = np.flatnonzero(block.good & ~np.isfinite(sum_rate))
    if len(unusable):
        raise NflaeError(
            f"{file.path}: {file.variable}: {drop_name(file, block.start + int(unusable[0]))}: the rates are not finite"
            " numbers; check the scale of the channels against the power and the noise"
        )


@contextmanager
def _workers(device: torch.device) -> Iterator[int]:
    """Yield the number of blocks to compute at a time, with PyTorch's threads and those of NumPy divided among them.

    Each core of a CPU gets a block of its own: sharing the many small operations on one block gains less, and threads
    of NumPy's products wait actively beside those of the blocks. A GPU is busy with one block.
    """
    if device.type != "cpu":
        yield 1
        return
    threads = torch.get_num_threads()
    workers = min(threads, _MAX_WORKERS)
    torch.set_num_threads(threads // workers)
    try:
        with threadpool_limits(threads // workers, "blas"):
            yield workers
    finally:
        torch.set_num_threads(threads)


def precode_channels(
    scheme: Scheme,
    channels: Channels,
    budget: LinkBudget,
    device: torch.device,
    labels: LabelSource = SCHEME_LABELS,
    given: npt.NDArray[np.bool_] | None = None,
) -> Precoding:
    """Apply a scheme to channels on a device; an empty batch gives an empty result.

    Parameters
    ----------
    scheme : Scheme
        Precoding scheme.
    channels : numpy.ndarray
        Complex64, (drops, users, antennas).
    budget : LinkBudget
        Link budget of every drop.
    device : torch.device
        Device that computes.
    labels : LabelSource
        Source of the near-field labels; by default the scheme.
    given : numpy.ndarray, optional
        Labels of these drops where the source holds labels, bool (drops, users).

    Returns
    -------
    Precoding
    """
    return _precoding(scheme, torch.from_numpy(channels).to(device), budget, labels, given)


def _precoding(
    scheme: Scheme, channels: Tensor, budget: LinkBudget, labels: LabelSource, given: npt.NDArray[np.bool_] | None
) -> Precoding:
    """Apply a scheme to channels on its device, as `precode_channels`."""
    if not len(channels):
        return _no_drops(*channels.shape[1:])
    return precode_labelled(scheme, channels, budget, labels, given)


def _no_drops(users: int, antennas: int) -> Precoding:
    per_user = torch.empty(0, users, dtype=torch.float64)
    per_drop = torch.empty(0, dtype=torch.float64)
    return Precoding(
        precoder=torch.empty(0, users, antennas, dtype=torch.complex64),
        power=per_user,
        uplink_power=per_user,
        feasible=per_drop.bool(),
        fallback=per_drop.bool(),
        compute_labels=lambda: (per_user.bool(), per_user),
        compute_sinr=lambda: per_user,
    )
